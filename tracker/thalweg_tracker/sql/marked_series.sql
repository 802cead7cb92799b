-- The series of some metrics whose statistics do not tell what is asked: those that a run sees in part, in which a step was written
-- twice, or, of `over_ranks`, which several ranks wrote. Which runs see which series is put in by query/facts.py.
SELECT v.view AS view, v.metric AS metric
FROM
(
    SELECT
        {view} AS view, s.metric AS metric, length(arrayDistinct(arrayFlatten(groupArray(s.ranks)))) AS ranks,
        max(s.is_relogged OR {in_part}) AS is_marked
    FROM
    (
        SELECT
            w.run AS run, w.metric AS metric,
            groupUniqArray(w.rank) AS ranks,
            arraySort(groupArray((w.rank, w.first_step, w.last_step))) AS spans,
            bitTest(groupBitOr(w.flags), 2)
                OR arrayExists((a, b) -> a.1 = b.1 AND b.2 <= a.3, arrayPopBack(spans), arrayPopFront(spans)) AS is_relogged,
            min(w.first_step) AS first_step, max(w.last_step) AS last_step
        FROM
        (
            SELECT
                run, metric, rank, writer,
                groupBitOr(flags) AS flags, min(first_step) AS first_step, max(last_step) AS last_step
            FROM series_stats
            WHERE metric IN {metrics:Array(UInt64)} AND {among}
            GROUP BY run, metric, rank, writer
        ) AS w
        GROUP BY run, metric
    ) AS s {lineage}
    WHERE {condition}
    GROUP BY view, metric
) AS v
WHERE v.is_marked OR (v.ranks > 1 AND v.metric IN {over_ranks:Array(UInt64)})
