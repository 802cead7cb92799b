-- The series of some metrics, seen along a lineage (ways.sql, own_ways.sql), whose statistics do not tell what is asked: those that are seen in part, in which a step
-- was written twice, or, of `over_ranks`, which several ranks wrote.
SELECT DISTINCT v.view AS view, v.metric AS metric
FROM
(
    SELECT
        l.view AS view, r.metric AS metric, count(DISTINCT r.rank) AS ranks,
        max(r.is_relogged OR (NOT r.is_of_host AND (r.last_step > l.upto OR r.first_step <= l.after))) AS is_marked
    FROM
    (
        SELECT
            w.run AS run, w.metric AS metric, w.rank AS rank,
            arraySort(groupArray((w.first_step, w.last_step))) AS spans,
            bitTest(groupBitOr(w.flags), 2)
                OR arrayExists((a, b) -> b.1 <= a.2, arrayPopBack(spans), arrayPopFront(spans)) AS is_relogged,
            min(w.first_step) AS first_step, max(w.last_step) AS last_step,
            has({host:Array(UInt64)}, w.metric) AS is_of_host
        FROM
        (
            SELECT
                run, metric, rank, writer,
                groupBitOr(flags) AS flags, min(first_step) AS first_step, max(last_step) AS last_step
            FROM series_stats
            WHERE metric IN {metrics:Array(UInt64)}
            GROUP BY run, metric, rank, writer
        ) AS w
        GROUP BY run, metric, rank
    ) AS r
    INNER JOIN ({lineage}) AS l ON r.run = l.key
    WHERE if(r.is_of_host, l.key = l.view, r.first_step <= l.upto AND r.last_step > l.after)
    GROUP BY view, metric
) AS v
WHERE v.is_marked OR (v.ranks > 1 AND v.metric IN {over_ranks:Array(UInt64)})
