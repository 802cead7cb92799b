-- Up to where the series of some runs and metrics go, by writer. Flag 4: a step was written twice.
SELECT
    run, metric, rank, writer,
    toUnixTimestamp64Micro(max(last_time)) AS last_us, min(first_step) AS first_step, max(last_step) AS last_step,
    bitTest(groupBitOr(flags), 2) AS is_relogged
FROM series_stats
WHERE run IN {runs:Array(UInt64)} AND metric IN {metrics:Array(UInt64)}
GROUP BY run, metric, rank, writer
