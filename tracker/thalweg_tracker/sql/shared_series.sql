-- The same as series_plan for series that several writers wrote: by how many ranks, and whether a step was written twice, also
-- by two writers of a rank, whose steps overlap.
SELECT
    w.run AS run, w.metric AS metric,
    uniqExact(w.rank) AS ranks,
    arraySort(groupArray((w.rank, w.first_step, w.last_step))) AS spans,
    bitTest(groupBitOr(w.flags), 2)
        OR arrayExists((a, b) -> a.1 = b.1 AND b.2 <= a.3, arrayPopBack(spans), arrayPopFront(spans)) AS is_relogged,
    is_relogged OR bitTest(groupBitOr(w.flags), 1) AS has_copies,
    min(w.first_step) AS first_step, max(w.last_step) AS last_step
FROM
(
    SELECT
        run, metric, rank, writer,
        groupBitOr(flags) AS flags, min(first_step) AS first_step, max(last_step) AS last_step
    FROM series_stats
    WHERE run IN {runs:Array(UInt64)} AND metric IN {metrics:Array(UInt64)}
    GROUP BY run, metric, rank, writer
) AS w
GROUP BY run, metric
