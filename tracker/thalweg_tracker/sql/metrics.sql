-- What is known of some metrics, together over the pairs of (run, metric) in which their points lie; with `by_run`, of each
-- run apart. Pairs whose statistics hold are answered from them, (points_runs, points_metrics) from the points of their
-- segments: those that are seen in part, or in which a step was written twice. Where several ranks write a metric, its last value is the mean over those at the
-- highest step; min and max are over all ranks.
WITH
    by_writer AS
    (
        SELECT
            s.run AS run, s.metric AS metric, s.rank AS rank, s.writer AS writer,
            groupBitOr(s.flags) AS flags,
            min(s.first_step) AS first_step, max(s.last_step) AS last_step, max(s.last_time) AS last_time,
            max(s.last) AS last, min(s.least) AS least, max(s.greatest) AS greatest
        FROM series_stats AS s
        WHERE (s.run, s.metric) IN (
            SELECT pair.1, pair.2 FROM (SELECT arrayJoin(arrayZip({runs:Array(UInt64)}, {metrics:Array(UInt64)})) AS pair))
        GROUP BY run, metric, rank, writer
    ),
    parts AS
    (
        SELECT
            w.run AS run, w.metric AS metric, w.rank AS rank,
            toUInt8(max(bitTest(w.flags, 0))) AS has_number,
            min(w.first_step) AS first_step, max(w.last_step) AS last_step, max(w.last_time) AS last_time,
            max(w.last).3 AS last,
            min(w.least).1 AS min, max(w.greatest).1 AS max,
            min(w.least).2 AS argmin, -max(w.greatest).2 AS argmax
        FROM by_writer AS w
        GROUP BY run, metric, rank
        UNION ALL
        SELECT
            p.run AS run, p.metric AS metric, p.rank AS rank,
            toUInt8(countIf(NOT isNaN(p.value)) > 0) AS has_number,
            min(p.step) AS first_step, max(p.step) AS last_step, max(p.time) AS last_time,
            argMax(p.value, p.step) AS last,
            if(has_number, minIf(p.value, NOT isNaN(p.value)), inf) AS min,
            if(has_number, maxIf(p.value, NOT isNaN(p.value)), -inf) AS max,
            if(has_number, argMinIf(p.step, (p.value, p.step), NOT isNaN(p.value)), inf) AS argmin,
            if(has_number, argMaxIf(p.step, (p.value, -p.step), NOT isNaN(p.value)), inf) AS argmax
        FROM points AS p FINAL
        INNER JOIN
        (
            SELECT segment.1 AS run, segment.2 AS after, segment.3 AS upto
            FROM (SELECT arrayJoin(arrayZip(
                {segments:Array(UInt64)}, {segments_after:Array(Float64)}, {segments_upto:Array(Float64)})) AS segment)
        ) AS g ON p.run = g.run
        WHERE (p.run, p.metric) IN (
                SELECT pair.1, pair.2
                FROM (SELECT arrayJoin(arrayZip({points_runs:Array(UInt64)}, {points_metrics:Array(UInt64)})) AS pair))
            AND p.step > g.after AND p.step <= g.upto
        GROUP BY run, metric, rank
    ),
    by_rank AS
    (
        SELECT
            if({by_run:Bool}, q.run, 0) AS run, q.metric AS metric, q.rank AS rank, max(q.has_number) AS has_number,
            min(q.first_step) AS first_step, max(q.last_step) AS last_step, max(q.last_time) AS last_time,
            argMax(q.last, q.last_step) AS last,
            min(q.min) AS min, max(q.max) AS max,
            argMin(q.argmin, (q.min, q.argmin)) AS argmin, argMax(q.argmax, (q.max, -q.argmax)) AS argmax
        FROM parts AS q
        GROUP BY run, metric, rank
    ),
    by_metric AS
    (
        SELECT
            r.run AS run, r.metric AS metric,
            count() AS ranks,
            max(r.has_number) AS has_number,
            min(r.first_step) AS first_step, max(r.last_step) AS last_step, max(r.last_time) AS last_time,
            arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = last_step, groupArray((r.last_step, r.last))))) AS last,
            min(r.min) AS min, max(r.max) AS max,
            argMin(r.argmin, (r.min, r.argmin)) AS argmin, argMax(r.argmax, (r.max, -r.argmax)) AS argmax
        FROM by_rank AS r
        GROUP BY run, metric
    )
SELECT
    run, metric, ranks, first_step, last_step, last_time, last,
    if(has_number, min, nan) AS min, if(has_number, max, nan) AS max,
    if(has_number, argmin, nan) AS argmin, if(has_number, argmax, nan) AS argmax
FROM by_metric
