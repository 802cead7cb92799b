-- The branches on the way from the root to each run of a project: the points of `key` with after < step <= upto are seen from `view`.
SELECT view, way.1 AS depth, way.2 AS key, way.3 AS is_own, way.4 AS after, way.5 AS upto
FROM
(
    SELECT
        n.run AS view,
        arrayJoin(if(empty(o.lineage_run_id), [(toUInt32(1), n.run, true, -inf, inf)], arrayMap(
            (place, run_id, branch, before, upto) -> (
                place, xxh3(concat({project:String}, char(0), run_id, char(0), toString(branch))), run_id = n.run_id, before, upto),
            arrayEnumerate(o.lineage_run_id), o.lineage_run_id, o.lineage_branch,
            arrayPushFront(arrayPopBack(o.lineage_upto), -inf), o.lineage_upto))) AS way
    FROM ({include:newest_branches}) AS n
    LEFT JOIN
    (
        SELECT run, lineage_run_id, lineage_branch, lineage_upto FROM branches FINAL WHERE project = {project:String}
    ) AS o ON n.run = o.run
)
