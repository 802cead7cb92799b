-- The last value of a metric at or before each of some steps, after the one before it: the mean over the ranks that have it.
-- Steps without a point of their own are left out.
SELECT r.checkpoint AS checkpoint, arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = newest, pairs))) AS value
FROM
(
    SELECT b.checkpoint AS checkpoint, groupArray((b.last_step, b.value)) AS pairs, max(b.last_step) AS newest
    FROM
    (
        SELECT c.step AS checkpoint, p.rank AS rank, max(p.step) AS last_step, argMax(p.value, p.step) AS value
        FROM ({include:points_of_lineage}) AS p
        ASOF INNER JOIN (SELECT {metric:UInt64} AS metric, arrayJoin({steps:Array(Float64)}) AS step) AS c
            ON p.metric = c.metric AND p.step <= c.step
        GROUP BY checkpoint, rank
    ) AS b
    GROUP BY checkpoint
) AS r
