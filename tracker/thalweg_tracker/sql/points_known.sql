-- The same as known_series, from the points of some pairs of run and metric between two steps of their run's.
SELECT
    r.run AS run, r.metric AS metric,
    groupArray(r.rank) AS ranks, max(r.has_number) AS has_number,
    min(r.first_step) AS first_step, max(r.last_step) AS last_step, max(r.last_time) AS last_time,
    arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = last_step, groupArray((r.last_step, r.last))))) AS last,
    min(r.least).1 AS min, min(r.least).2 AS argmin, max(r.greatest).1 AS max, -max(r.greatest).2 AS argmax
FROM
(
    SELECT
        p.run AS run, p.metric AS metric, p.rank AS rank,
        countIf(NOT isNaN(p.value)) > 0 AS has_number,
        min(p.step) AS first_step, max(p.step) AS last_step, max(p.time) AS last_time,
        max((p.step, p.value)).2 AS last,
        if(has_number, minIf((p.value, p.step), NOT isNaN(p.value)), (inf, inf)) AS least,
        if(has_number, maxIf((p.value, -p.step), NOT isNaN(p.value)), (-inf, -inf)) AS greatest
    FROM points AS p FINAL
    INNER JOIN
    (
        SELECT segment.1 AS run, segment.2 AS after, segment.3 AS upto
        FROM (SELECT arrayJoin(arrayZip(
            {segments:Array(UInt64)}, {segments_after:Array(Float64)}, {segments_upto:Array(Float64)})) AS segment)
    ) AS g ON p.run = g.run
    WHERE (p.run, p.metric) IN (
            SELECT pair.1, pair.2 FROM (SELECT arrayJoin(arrayZip({runs:Array(UInt64)}, {metrics:Array(UInt64)})) AS pair))
        AND p.step > g.after AND p.step <= g.upto
    GROUP BY run, metric, rank
) AS r
GROUP BY run, metric
