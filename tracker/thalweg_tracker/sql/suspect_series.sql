-- The branches of a project with series, of some metrics, whose statistics may not tell all: in which a step was written twice,
-- or to which several processes wrote. marked_series.sql looks closer. With two-level tables ten thousand groups take
-- twice as long.
SELECT DISTINCT run
FROM
(
    SELECT run
    FROM series_stats
    WHERE metric IN {metrics:Array(UInt64)} AND run IN (SELECT run FROM branches WHERE project = {project:String})
    GROUP BY run, metric
    HAVING bitTest(groupBitOr(flags), 2) OR min(writer) < max(writer)
    SETTINGS group_by_two_level_threshold = 0, group_by_two_level_threshold_bytes = 0
)
