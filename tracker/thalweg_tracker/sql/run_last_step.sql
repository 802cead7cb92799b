-- First and last step of the own points of some branches, those of host metrics left out: inf and -inf where there are none.
SELECT run, min(first_step) AS first_step, max(last_step) AS last_step
FROM writers
PREWHERE project = {project:String} AND run IN {keys:Array(UInt64)}
GROUP BY run
