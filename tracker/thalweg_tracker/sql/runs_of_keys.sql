-- The branches of runs that have these keys: one each, or a collision.
SELECT DISTINCT run, project, run_id, branch
FROM branches
WHERE run IN {runs:Array(UInt64)}
