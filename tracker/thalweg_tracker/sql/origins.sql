-- How the branches of some runs began, without lineages. One may come several times: the greatest version stands.
SELECT
    run_id, branch, created_at, kind,
    lineage_run_id[-2] AS parent_run_id, lineage_branch[-2] AS parent_branch, fork_step, version
FROM branches
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
