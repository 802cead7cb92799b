-- The branches of some runs, from both places where they are known: a branch may come twice. `kind` is empty where nothing is
-- said of its origin.
SELECT
    run_id, branch, min(created_at) AS created_at,
    '' AS kind,
    emptyArrayString() AS lineage_run_id, emptyArrayUInt32() AS lineage_branch, emptyArrayFloat64() AS lineage_upto
FROM runs
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
GROUP BY run_id, branch
UNION ALL
SELECT run_id, branch, created_at, kind, lineage_run_id, lineage_branch, lineage_upto
FROM branches FINAL
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
