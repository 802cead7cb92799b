-- First and highest step of the own metrics of some branches, those of the host left out.
SELECT run, min(first_step) AS first_step, max(last_step) AS last_step
FROM series_stats
WHERE run IN {runs:Array(UInt64)} AND metric NOT IN (
    SELECT metric FROM metric_names WHERE project = {project:String} AND startsWith(name, 'system/'))
GROUP BY run
