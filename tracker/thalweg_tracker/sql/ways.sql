-- The branches on the way from the root to each run of a project: the points of `key` with after < step <= upto are seen from `view`.
SELECT view, way.1 AS depth, way.2 AS key, depth >= own_from AS is_own, way.3 AS after, way.4 AS upto
FROM
(
    SELECT
        n.run AS view,
        indexOf(o.lineage_run_id, n.run_id) AS own_from,
        arrayJoin(if(empty(o.lineage_run), [(toUInt32(1), n.run, -inf, inf)], arrayZip(
            arrayEnumerate(o.lineage_run), o.lineage_run, arrayPushFront(arrayPopBack(o.lineage_upto), -inf), o.lineage_upto))) AS way
    FROM ({include:newest_branches}) AS n
    LEFT JOIN
    (
        SELECT run, lineage_run_id, lineage_run, lineage_upto FROM branches FINAL WHERE has_origin AND project = {project:String}
    ) AS o ON n.run = o.run
)
