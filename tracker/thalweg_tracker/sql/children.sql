-- What continues a branch itself: forks and rewinds, oldest first.
SELECT run_id, branch, kind, fork_step, created_at
FROM branches FINAL
WHERE project = {project:String} AND run_id NOT IN ({include:deleted}) AND length(lineage_run_id) > 1
    AND lineage_run_id[-2] = {run_id:String} AND lineage_branch[-2] = {branch:UInt32}
ORDER BY created_at, run_id, branch
