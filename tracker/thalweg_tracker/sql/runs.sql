-- Runs of a project, newest first, after the place that (created_before, id_before) names.
SELECT run_id, run, created_at, keys
FROM ({include:newest_branches})
WHERE (toUnixTimestamp64Micro(created_at), run_id) < ({created_before:Int64}, {id_before:String})
ORDER BY created_at DESC, run_id DESC
LIMIT {limit:UInt32}
