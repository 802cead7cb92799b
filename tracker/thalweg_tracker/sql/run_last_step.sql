-- Highest step of a run's own metrics, those of the host left out.
SELECT max(last_step) AS last_step, count() AS series
FROM series_stats
WHERE run = {run:UInt64} AND metric NOT IN (
    SELECT metric FROM metric_names WHERE project = {project:String} AND startsWith(name, 'system/'))
