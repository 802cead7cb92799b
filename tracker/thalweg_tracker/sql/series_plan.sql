-- How the series of some runs and metrics must be read: which are there, over which steps, whether several writers wrote them,
-- whether a step was written twice (flag 4), and whether rows may be there twice (or flag 2).
SELECT
    run, metric,
    1 AS ranks, min(writer) < max(writer) AS is_shared,
    bitTest(groupBitOr(flags), 2) AS is_relogged, is_relogged OR bitTest(groupBitOr(flags), 1) AS has_copies,
    min(first_step) AS first_step, max(last_step) AS last_step
FROM series_stats
WHERE run IN {runs:Array(UInt64)} AND metric IN {metrics:Array(UInt64)}
GROUP BY run, metric
