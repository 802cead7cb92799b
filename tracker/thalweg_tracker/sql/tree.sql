-- Branches of a project, oldest first, after the place that (created_after, id_after, branch_after) names.
WITH
    page AS
    (
        SELECT run_id, branch, max(run) AS key, min(created_at) AS created
        FROM known_branches
        WHERE project = {project:String}
        GROUP BY run_id, branch
        HAVING (toUnixTimestamp64Micro(created), run_id, branch)
            > ({created_after:Int64}, {id_after:String}, {branch_after:Int64})
        ORDER BY created, run_id, branch
        LIMIT {limit:UInt32}
    ),
    branch_keys AS (SELECT run_id, key FROM page),
    {include:run_states}
SELECT
    page.run_id AS run_id, page.branch AS branch, page.key AS key, page.created AS created_at,
    if(b.kind = '', 'start', b.kind) AS kind, b.parent_run_id AS parent_run_id, b.parent_branch AS parent_branch,
    b.fork_step AS fork_step,
    states.status AS status,
    labels.name AS name,
    labels.tags AS tags
FROM page
LEFT JOIN
(
    SELECT run_id, branch, kind, fork_step,
        if(kind = 'start', '', lineage_run_id[-2]) AS parent_run_id, lineage_branch[-2] AS parent_branch
    FROM branches FINAL
    WHERE project = {project:String}
) AS b ON b.run_id = page.run_id AND b.branch = page.branch
INNER JOIN branch_states AS states ON states.key = page.key
LEFT JOIN labels ON labels.run_id = page.run_id
ORDER BY page.created, page.run_id, page.branch
