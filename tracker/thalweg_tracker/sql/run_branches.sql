-- The branches of some runs, from both places where they are known: a branch may come twice. `kind` is empty where nothing is
-- said of its origin. Lineages only for branches of some numbers, and for the newest of each run.
SELECT
    run_id, branch, min(created_at) AS created_at,
    '' AS kind, '' AS parent_run_id, toUInt32(0) AS parent_branch, 0. AS fork_step,
    emptyArrayString() AS lineage_run_id, emptyArrayUInt32() AS lineage_branch, emptyArrayFloat64() AS lineage_upto
FROM runs
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
GROUP BY run_id, branch
UNION ALL
SELECT
    b.run_id, b.branch, b.created_at, b.kind,
    if(length(b.lineage_run_id) > 1, b.lineage_run_id[-2], '') AS parent_run_id,
    b.lineage_branch[-2] AS parent_branch, b.fork_step,
    if(is_wanted, b.lineage_run_id, []), if(is_wanted, b.lineage_branch, []), if(is_wanted, b.lineage_upto, [])
FROM
(
    SELECT
        *,
        branch IN {numbers:Array(UInt32)} OR (run_id, branch) IN (
            SELECT run_id, argMax(branch, (branch > 0, created_at, branch))
            FROM branches
            WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
            GROUP BY run_id) AS is_wanted
    FROM branches FINAL
    WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
) AS b
