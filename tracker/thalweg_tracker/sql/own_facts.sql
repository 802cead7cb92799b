-- What is known of some metrics of branches: series_facts.sql where nothing has to be put together. The values are put in by
-- query/facts.py.
SELECT
    s.run AS run,
    {values}
FROM series_stats AS s
WHERE s.metric IN {metrics:Array(UInt64)} AND {condition}
GROUP BY run
