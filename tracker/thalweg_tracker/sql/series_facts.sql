-- What is known of some metrics, seen along a lineage (ways.sql, own_ways.sql), from their statistics alone (marked_series.sql says where that is not enough).
-- Where several ranks wrote a metric, its first and last value are means over those at that step. Those of the host are not inherited.
SELECT
    r.view AS run, r.metric AS metric,
    max(r.last_step) AS last_step, min(r.first_step) AS oldest,
    toNullable(arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = last_step, groupArray((r.last_step, r.last)))))) AS last,
    toNullable(arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = oldest, groupArray((r.first_step, r.first)))))) AS first,
    if(max(r.has_number), toNullable(min(r.min)), nan) AS min, if(max(r.has_number), toNullable(max(r.max)), nan) AS max,
    if(max(r.has_number), toNullable(argMin(r.argmin, (r.min, r.argmin))), nan) AS argmin,
    if(max(r.has_number), toNullable(argMax(r.argmax, (r.max, -r.argmax))), nan) AS argmax
FROM
(
    SELECT
        l.view AS view, s.metric AS metric, s.rank AS rank,
        bitTest(groupBitOr(s.flags), 0) AS has_number,
        min(s.first_step) AS first_step, max(s.last_step) AS last_step,
        argMaxMerge(s.last) AS last, argMinMerge(s.first) AS first, min(s.min) AS min, max(s.max) AS max,
        argMinMerge(s.argmin) AS argmin, argMaxMerge(s.argmax) AS argmax
    FROM series_stats AS s
    INNER JOIN ({lineage}) AS l ON s.run = l.key
    WHERE s.metric IN {metrics:Array(UInt64)} 
        AND if(has({host:Array(UInt64)}, s.metric), l.key = l.view, s.first_step <= l.upto AND s.last_step > l.after)
        AND (l.view, s.metric) NOT IN (SELECT pair.1, pair.2 FROM (SELECT arrayJoin(arrayZip(
            {marked_views:Array(UInt64)}, {marked_metrics:Array(UInt64)})) AS pair))
    GROUP BY view, metric, rank
) AS r
GROUP BY run, metric
