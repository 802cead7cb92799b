-- The runs of a project that were not deleted, each on its newest branch, as its origin tells: the clocks of writers may differ.
-- `keys`: of all branches.
SELECT run_id, newest.3 AS branch, newest.4 AS run, created_at, keys
FROM
(
    SELECT
        run_id,
        max((branch > 0, if(has_origin, began, toDateTime64(0, 6, 'UTC')), branch, run)) AS newest,
        min(began) AS created_at,
        groupUniqArray(run) AS keys
    FROM
    (
        SELECT run_id, branch, run, created_at AS began, has_origin
        FROM branches FINAL
        WHERE project = {project:String} AND run_id NOT IN ({include:deleted})
    )
    GROUP BY run_id
    SETTINGS group_by_two_level_threshold = 0, group_by_two_level_threshold_bytes = 0
)
