-- What was deleted: of one project, or of all if it is empty; that of states, by project and run.
SELECT project, run_id, state, reason, deleted_at, purge_at
FROM deletions FINAL
WHERE ({project:String} = '' OR project = {project:String}) AND state IN {states:Array(String)}
ORDER BY project, run_id
