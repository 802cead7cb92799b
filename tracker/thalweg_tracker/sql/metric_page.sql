-- Metrics of a run by name, after `after`.
SELECT DISTINCT metric, name
FROM metric_names
WHERE project = {project:String}
    AND metric IN (SELECT DISTINCT metric FROM series_stats WHERE run = {run:UInt64})
    AND name > {after:String}
    AND startsWith(name, {prefix:String})
    AND ({pattern:String} = '' OR match(name, {pattern:String}))
ORDER BY name
LIMIT {limit:UInt32}
