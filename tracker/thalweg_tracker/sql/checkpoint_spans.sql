-- Which of some branches have checkpoints, and between which steps.
SELECT c.run AS run, min(c.step) AS first_step, max(c.step) AS last_step
FROM checkpoints AS c
WHERE c.project = {project:String} AND c.run IN {runs:Array(UInt64)}
GROUP BY run
