-- What is known of some metrics along a lineage (ways.sql, own_ways.sql), from their statistics alone; marked_series.sql says where
-- that is not enough. Those of the host are not inherited. The values are put in by query/facts.py.
SELECT
    r.view AS run, r.metric AS metric, max(r.last_step) AS last_step, min(r.first_step) AS first_step,
    {over_ranks}
FROM
(
    SELECT
        l.view AS view, s.metric AS metric, s.rank AS rank,
        bitTest(groupBitOr(s.flags), 0) AS has_number,
        min(s.first_step) AS first_step, max(s.last_step) AS last_step,
        {of_rank}
    FROM series_stats AS s
    INNER JOIN ({lineage}) AS l ON s.run = l.key
    WHERE s.metric IN {metrics:Array(UInt64)} 
        AND if(has({host:Array(UInt64)}, s.metric), l.key = l.view, s.first_step <= l.upto AND s.last_step > l.after)
        AND (l.view, s.metric) NOT IN (SELECT pair.1, pair.2 FROM (SELECT arrayJoin(arrayZip(
            {marked_views:Array(UInt64)}, {marked_metrics:Array(UInt64)})) AS pair))
    GROUP BY view, metric, rank
) AS r
GROUP BY run, metric
