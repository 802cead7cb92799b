-- Runs of which a branch continues a run, and began since a time.
SELECT DISTINCT run_id
FROM branches
WHERE project = {project:String} AND parent_run_id = {run_id:String}
    AND toUnixTimestamp64Micro(created_at) >= {since:Int64}
