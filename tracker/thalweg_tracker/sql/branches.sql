-- How the branches of some runs began, and those that continue the run `children_of` since a time; with `all`, of the project.
SELECT
    run_id, branch, kind, parent_run_id, parent_branch, fork_step, attempt,
    toUnixTimestamp64Micro(created_at) AS created_us,
    lineage_run_id, lineage_branch, lineage_upto
FROM branches FINAL
WHERE project = {project:String}
    AND ({all:Bool} OR run_id IN {run_ids:Array(String)}
        OR run_id IN (
            SELECT run_id
            FROM branches
            WHERE project = {project:String} AND {children_of:String} != '' AND parent_run_id = {children_of:String}
                AND toUnixTimestamp64Micro(created_at) >= {children_since:Int64}))
ORDER BY created_at, run_id, branch
