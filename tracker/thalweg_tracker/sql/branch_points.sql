-- Up to where the branches of a run are seen from others, be they forks, rewinds, or forks of those.
SELECT DISTINCT seen.2 AS branch, seen.3 AS fork_step
FROM
(
    SELECT arrayJoin(arrayZip(lineage_run_id, lineage_branch, lineage_upto)) AS seen
    FROM branches FINAL
    WHERE project = {project:String} AND has(lineage_run_id, {run_id:String}) AND run_id NOT IN ({include:deleted})
)
WHERE seen.1 = {run_id:String} AND isFinite(seen.3)
ORDER BY branch, fork_step
