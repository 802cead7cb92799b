-- What is known of some metrics of branches: series_facts.sql where nothing has to be put together. The values are put in by
-- query/facts.py. With two-level tables the tuples of ten thousand groups take three times as long.
SELECT *
FROM
(
    SELECT
        s.run AS run,
        {values}
    FROM series_stats AS s
    WHERE s.metric IN {metrics:Array(UInt64)} AND {condition}
    GROUP BY run
    SETTINGS group_by_two_level_threshold = 0, group_by_two_level_threshold_bytes = 0
)
