-- Branches of some runs and numbers with their lineages. One may come several times: the greatest version stands.
SELECT
    run_id, branch, kind, parent_run_id, parent_branch, fork_step, attempt,
    toUnixTimestamp64Micro(created_at) AS created_us,
    lineage_run_id, lineage_branch, lineage_upto, version
FROM branches
PREWHERE has_origin AND project = {project:String} AND run_id IN {run_ids:Array(String)} AND branch IN {numbers:Array(UInt32)}
