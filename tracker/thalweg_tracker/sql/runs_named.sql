-- The branches of some runs that writers have greeted from. One may come several times: the earliest time stands.
SELECT
    run_id, branch, created_at,
    '' AS kind, '' AS parent_run_id, toUInt32(0) AS parent_branch, 0. AS fork_step, toUInt64(0) AS version
FROM runs
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
