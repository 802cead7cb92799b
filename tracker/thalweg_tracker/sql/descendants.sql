-- Runs that continue some runs, or what continues those, each with all of these that it sees.
SELECT DISTINCT run_id, arrayJoin(arrayFilter(one -> one IN {run_ids:Array(String)}, lineage_run_id)) AS of
FROM branches FINAL
WHERE has_origin AND project = {project:String} AND run_id NOT IN {run_ids:Array(String)}
ORDER BY run_id
