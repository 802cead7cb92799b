-- The series of some metrics, in any project, whose statistics may not tell all: in which a step was written twice, or
-- to which several processes wrote. marked_series.sql looks closer.
SELECT run, metric
FROM series_stats
WHERE metric IN {metrics:Array(UInt64)}
GROUP BY run, metric
HAVING bitTest(groupBitOr(flags), 2) OR min(writer) < max(writer)
LIMIT 1
