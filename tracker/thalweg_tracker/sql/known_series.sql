-- What is known of the series of some runs and metrics from their statistics, whether several writers wrote them, and whether a
-- step was written twice (flag 4), so that this may be stale. Tuples: see series_stats.
SELECT
    s.run AS run, s.metric AS metric,
    groupUniqArray(s.rank) AS ranks, min(s.writer) < max(s.writer) AS is_shared,
    bitTest(groupBitOr(s.flags), 2) AS is_relogged, bitTest(groupBitOr(s.flags), 0) AS has_number,
    min(s.first_step) AS first_step, max(s.last_step) AS last_step, max(s.last_time) AS last_time,
    max(s.last).3 AS last,
    min(s.least).1 AS min, min(s.least).2 AS argmin, max(s.greatest).1 AS max, -max(s.greatest).2 AS argmax
FROM series_stats AS s
WHERE s.run IN {runs:Array(UInt64)} AND s.metric IN {metrics:Array(UInt64)}
GROUP BY run, metric
