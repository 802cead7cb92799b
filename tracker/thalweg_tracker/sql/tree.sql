-- Branches of a project, oldest first, after the place that (created_after, id_after, branch_after) names. `kind` is empty for
-- those that began from nothing.
SELECT
    n.run_id AS run_id, n.branch AS branch, max(n.run) AS key, min(n.created_at) AS created_at,
    max(n.kind) AS kind, max(n.parent_run_id) AS parent_run_id, max(n.parent_branch) AS parent_branch,
    minIf(n.fork_step, n.kind != '') AS fork_step
FROM
(
    SELECT run_id, branch, run, created_at, '' AS kind, '' AS parent_run_id, toUInt32(0) AS parent_branch, 0. AS fork_step
    FROM runs
    WHERE project = {project:String}
    UNION ALL
    SELECT
        run_id, branch, run, created_at, kind,
        if(kind = 'start', '', lineage_run_id[-2]), if(kind = 'start', 0, lineage_branch[-2]), fork_step
    FROM branches FINAL
    WHERE project = {project:String}
) AS n
GROUP BY run_id, branch
HAVING (toUnixTimestamp64Micro(created_at), run_id, branch) > ({created_after:Int64}, {id_after:String}, {branch_after:Int64})
ORDER BY created_at, run_id, branch
LIMIT {limit:UInt32}
