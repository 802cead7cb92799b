-- Runs that continue some runs, or what continues those, with the run of these that each sees last.
SELECT DISTINCT run_id, arrayFilter(one -> one IN {run_ids:Array(String)}, lineage_run_id)[-1] AS of
FROM branches FINAL
WHERE has_origin AND project = {project:String} AND hasAny(lineage_run_id, {run_ids:Array(String)})
    AND run_id NOT IN {run_ids:Array(String)}
ORDER BY run_id
