-- The branches of some runs, from both places where they are known, without lineages: a branch may come several times, the
-- greatest version of `branches` stands. `kind` is empty where nothing is said of its origin.
SELECT
    run_id, branch, created_at,
    '' AS kind, '' AS parent_run_id, toUInt32(0) AS parent_branch, 0. AS fork_step, toUInt64(0) AS version
FROM runs
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
UNION ALL
SELECT run_id, branch, created_at, kind, lineage_run_id[-2], lineage_branch[-2], fork_step, version
FROM branches
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
