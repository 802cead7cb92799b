-- How the branches of some runs began; with `all`, of the whole project. Long lineages only of branches of some numbers: a run that
-- is restarted all day has thousands of branches.
SELECT
    run_id, branch, kind, parent_run_id, parent_branch, fork_step, attempt,
    toUnixTimestamp64Micro(created_at) AS created_us,
    {all:Bool} OR length(b.lineage_run_id) <= 32 OR branch IN {numbers:Array(UInt32)} AS is_wanted,
    if(is_wanted, b.lineage_run_id, []) AS lineage_run_id,
    if(is_wanted, b.lineage_branch, []) AS lineage_branch,
    if(is_wanted, b.lineage_upto, []) AS lineage_upto
FROM branches AS b FINAL
WHERE has_origin AND project = {project:String} AND ({all:Bool} OR run_id IN {run_ids:Array(String)})
ORDER BY created_at, run_id, branch
