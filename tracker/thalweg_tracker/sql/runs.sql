-- Runs of a project, newest first, after the place that (created_before, id_before) names. `run_id` is the one asked for,
-- or empty for all. Status and times are those of one branch: `branch`, or the newest where that is -1.
WITH
    page AS
    (
        SELECT
            b.run_id AS run_id,
            if({branch:Int64} < 0,
                argMax(b.run, (b.branch > 0, b.began, b.branch)), anyIf(b.run, b.branch = {branch:Int64})) AS key,
            groupArray(b.run) AS keys,
            min(b.began) AS created
        FROM
        (
            SELECT run_id, branch, max(run) AS run, min(created_at) AS began
            FROM known_branches
            WHERE project = {project:String} AND ({run_id:String} = '' OR run_id = {run_id:String})
            GROUP BY run_id, branch
        ) AS b
        GROUP BY run_id
        HAVING (toUnixTimestamp64Micro(created), run_id) < ({created_before:Int64}, {id_before:String})
        ORDER BY created DESC, run_id DESC
        LIMIT {limit:UInt32}
    ),
    branch_keys AS (SELECT run_id, arrayJoin(keys) AS key FROM page),
    {include:run_states}
SELECT
    page.run_id AS run_id,
    page.key AS key,
    page.created AS created_at,
    b.status AS status,
    b.last_seen_at AS last_seen_at,
    b.ended_us AS ended_us,
    labels.name AS name,
    labels.tags AS tags
FROM page
INNER JOIN branch_states AS b ON b.key = page.key
LEFT JOIN labels ON labels.run_id = page.run_id
ORDER BY page.created DESC, page.run_id DESC
