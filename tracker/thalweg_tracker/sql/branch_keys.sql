-- The keys of all branches of some runs.
SELECT DISTINCT run
FROM branches
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
ORDER BY run
