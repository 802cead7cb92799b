-- Keys of the metrics that branches have themselves.
SELECT run, groupUniqArray(metric) AS metrics
FROM run_metrics
WHERE run IN {runs:Array(UInt64)}
GROUP BY run
