-- The same as known_series for series that several writers wrote: over ranks; a step was also written twice where the steps of
-- two writers of a rank overlap. `last` is the mean over the ranks that have a point at the last step.
SELECT
    r.run AS run, r.metric AS metric,
    groupArray(r.rank) AS ranks, max(r.is_relogged) AS is_relogged, max(r.has_number) AS has_number,
    min(r.first_step) AS first_step, max(r.last_step) AS last_step, max(r.last_time) AS last_time,
    arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = last_step, groupArray((r.last_step, r.last))))) AS last,
    min(r.least).1 AS min, min(r.least).2 AS argmin, max(r.greatest).1 AS max, -max(r.greatest).2 AS argmax
FROM
(
    SELECT
        w.run AS run, w.metric AS metric, w.rank AS rank,
        arraySort(groupArray((w.first_step, w.last_step))) AS spans,
        bitTest(groupBitOr(w.flags), 2)
            OR arrayExists((a, b) -> b.1 <= a.2, arrayPopBack(spans), arrayPopFront(spans)) AS is_relogged,
        bitTest(groupBitOr(w.flags), 0) AS has_number,
        min(w.first_step) AS first_step, max(w.last_step) AS last_step, max(w.last_time) AS last_time,
        max(w.last).3 AS last, min(w.least) AS least, max(w.greatest) AS greatest
    FROM
    (
        SELECT
            run, metric, rank, writer, groupBitOr(s.flags) AS flags,
            min(s.first_step) AS first_step, max(s.last_step) AS last_step, max(s.last_time) AS last_time,
            max(s.last) AS last, min(s.least) AS least, max(s.greatest) AS greatest
        FROM series_stats AS s
        WHERE run IN {runs:Array(UInt64)} AND metric IN {metrics:Array(UInt64)}
        GROUP BY run, metric, rank, writer
    ) AS w
    GROUP BY run, metric, rank
) AS r
GROUP BY run, metric
