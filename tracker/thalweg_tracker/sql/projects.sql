-- Projects after `after`, by name, with the number of their runs; if `only` is not empty, that one alone.
SELECT
    project,
    uniqExact(run_id) AS runs,
    max(created_at) AS last_created_at
FROM
(
    SELECT project, run_id, min(created_at) AS created_at
    FROM branches
    WHERE project > {after:String} AND ({only:String} = '' OR project = {only:String})
        AND (project, run_id) NOT IN (SELECT project, run_id FROM deletions FINAL WHERE state != '')
    GROUP BY project, run_id
)
GROUP BY project
ORDER BY project
LIMIT {limit:UInt32}
