-- Numbers that change when a run gets a branch, or the way to one of its branches is written anew.
SELECT project, run_id, count() AS rows, max(version) AS version
FROM branches
WHERE has_origin AND project IN {projects:Array(String)} AND run_id IN {run_ids:Array(String)}
GROUP BY project, run_id
