-- Runs of a project, newest first, after the place that (created_before, id_before) names. `run_ids` are those asked for,
-- or empty for all. `key` is that of `branch`, or of the newest branch where that is -1; `keys` are those of all branches.
-- Which branch is the newest is told by their origins: the clocks of writers may differ.
SELECT
    b.run_id AS run_id,
    if({branch:Int64} < 0,
        max((b.branch > 0, if(b.has_origin, b.began, toDateTime64(0, 6, 'UTC')), b.branch, b.run)).4,
        anyIf(b.run, b.branch = {branch:Int64})) AS key,
    groupUniqArray(b.run) AS keys,
    min(b.began) AS created_at
FROM
(
    SELECT run_id, branch, run, created_at AS began, false AS has_origin
    FROM runs
    WHERE project = {project:String} AND (empty({run_ids:Array(String)}) OR run_id IN {run_ids:Array(String)})
    UNION ALL
    SELECT run_id, branch, run, created_at AS began, true AS has_origin
    FROM branches FINAL
    WHERE project = {project:String} AND (empty({run_ids:Array(String)}) OR run_id IN {run_ids:Array(String)})
) AS b
GROUP BY run_id
HAVING (toUnixTimestamp64Micro(created_at), run_id) < ({created_before:Int64}, {id_before:String})
ORDER BY created_at DESC, run_id DESC
LIMIT {limit:UInt32}
