-- Whether some runs were deleted. One may come several times: the latest word stands.
SELECT run_id, state, reason, deleted_at, purge_at, time
FROM deletions
PREWHERE project = {project:String} AND run_id IN {keys:Array(String)}
