-- What is known of some metrics of runs, from their statistics alone; marked_series.sql says where that is not enough. Which runs
-- see which series, and the values, are put in by query/facts.py.
SELECT
    r.view AS run, r.metric AS metric, max(r.last_step) AS last_step, min(r.first_step) AS first_step,
    {over_ranks}
FROM
(
    SELECT
        {view} AS view, s.metric AS metric, s.rank AS rank,
        bitTest(groupBitOr(s.flags), 0) AS has_number,
        min(s.first_step) AS first_step, max(s.last_step) AS last_step,
        {of_rank}
    FROM series_stats AS s {lineage}
    WHERE s.metric IN {metrics:Array(UInt64)} AND {condition}
    GROUP BY view, metric, rank
) AS r
GROUP BY run, metric
