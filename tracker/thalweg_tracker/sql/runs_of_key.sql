-- The branches of runs that have a key: one, or a collision.
SELECT DISTINCT project, run_id, branch
FROM branches
WHERE run = {run:UInt64}
