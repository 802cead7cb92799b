-- How the branches of some runs began, and since when their writers greeted. One may come several times: the greatest version stands.
-- Of lineages the last 129.
SELECT
    run_id, branch, has_origin, created_at, kind, version,
    arraySlice(b.lineage_run_id, -129) AS lineage_run_id,
    arraySlice(b.lineage_branch, -129) AS lineage_branch,
    arraySlice(b.lineage_upto, -129) AS lineage_upto
FROM branches AS b
PREWHERE project = {project:String} AND run_id IN {keys:Array(String)}
