-- Those of some runs that are there.
SELECT DISTINCT run_id, run
FROM runs
WHERE project = {project:String} AND run_id IN {run_ids:Array(String)}
