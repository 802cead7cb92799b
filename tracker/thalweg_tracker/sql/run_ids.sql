-- All runs of a project that were not deleted.
SELECT DISTINCT run_id
FROM branches
WHERE project = {project:String} AND run_id NOT IN ({include:deleted})
ORDER BY run_id
