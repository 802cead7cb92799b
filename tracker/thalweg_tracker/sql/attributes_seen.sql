-- Attributes of some paths as they are seen from views: of the branches on the way from the root, the last that says something.
-- What is not config is not inherited from other runs. The lineage gives view, depth, key, is_own; the columns a JSON text a path.
SELECT l.view AS run, {columns}
FROM
(
    SELECT run AS key, path, json, time
    FROM attributes
    WHERE project = {project:String} AND path IN {paths:Array(String)}
) AS a
INNER JOIN ({lineage}) AS l ON a.key = l.key
WHERE l.is_own OR startsWith(a.path, 'config.')
GROUP BY run
