-- How the branches of some runs began, and those that continue the run `children_of` since a time; with `all`, of the project.
-- Lineages of the runs themselves only for branches of some numbers: there may be thousands, as long as they are many.
SELECT
    run_id, branch, kind, parent_run_id, parent_branch, fork_step, attempt,
    toUnixTimestamp64Micro(created_at) AS created_us,
    {all:Bool} OR branch IN {numbers:Array(UInt32)} OR (is_child AND parent_run_id = {children_of:String}) AS is_wanted,
    if(is_wanted, lineage_run_id, []) AS lineage_run_id,
    if(is_wanted, lineage_branch, []) AS lineage_branch,
    if(is_wanted, lineage_upto, []) AS lineage_upto
FROM
(
    SELECT *, {children_of:String} != '' AND toUnixTimestamp64Micro(created_at) >= {children_since:Int64} AS is_child
    FROM branches FINAL
    WHERE project = {project:String}
        AND ({all:Bool} OR run_id IN {run_ids:Array(String)}
            OR run_id IN (
                SELECT run_id
                FROM branches
                WHERE project = {project:String} AND {children_of:String} != '' AND parent_run_id = {children_of:String}
                    AND toUnixTimestamp64Micro(created_at) >= {children_since:Int64}))
) AS b
ORDER BY created_at, run_id, branch
