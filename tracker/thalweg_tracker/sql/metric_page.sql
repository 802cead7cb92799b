-- Names of the own metrics of some branches, after `after`; of all but `own` without those of the host.
SELECT DISTINCT name, metric
FROM run_metrics
WHERE run IN {runs:Array(UInt64)}
    AND (run = {own:UInt64} OR NOT startsWith(name, 'system/'))
    AND name > {after:String}
    AND startsWith(name, {prefix:String})
    AND ({pattern:String} = '' OR match(name, {pattern:String}))
ORDER BY name
LIMIT {limit:UInt32}
