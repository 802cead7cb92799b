-- Branches of a project, oldest first, after the place that (created_after, id_after, branch_after) names. `kind` is empty for
-- those that began from nothing.
SELECT
    run_id, branch, max(b.run) AS key, min(b.created_at) AS created_at, max(b.kind) AS kind,
    max(if(b.kind IN ('', 'start'), '', b.lineage_run_id[-2])) AS parent_run_id,
    max(if(b.kind IN ('', 'start'), 0, b.lineage_branch[-2])) AS parent_branch,
    minIf(b.fork_step, has_origin) AS fork_step
FROM branches AS b FINAL
WHERE project = {project:String} AND run_id NOT IN ({include:deleted})
GROUP BY run_id, branch
HAVING (toUnixTimestamp64Micro(created_at), run_id, branch) > ({created_after:Int64}, {id_after:String}, {branch_after:Int64})
ORDER BY created_at, run_id, branch
LIMIT {limit:UInt32}
