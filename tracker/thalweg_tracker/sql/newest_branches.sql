-- The runs of a project, each on its newest branch, as its origin tells: the clocks of writers may differ.
SELECT
    b.run_id AS run_id,
    argMax(b.run, (b.branch > 0, b.branch_began, b.branch)) AS run,
    argMax(b.branch, (b.branch > 0, b.branch_began, b.branch)) AS branch,
    min(b.began) AS created_at
FROM
(
    SELECT run_id, branch, max(run) AS run, min(created_at) AS began, minIf(created_at, has_origin) AS branch_began
    FROM known_branches
    WHERE project = {project:String}
    GROUP BY run_id, branch
) AS b
GROUP BY run_id
