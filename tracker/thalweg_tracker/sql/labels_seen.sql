-- Name, notes and tags of runs, from all their branches: what was set last stands. The columns are a JSON text a path.
SELECT b.run_id AS run_id, {columns}
FROM
(
    SELECT run AS key, path, json, time FROM attributes WHERE project = {project:String} AND path IN {paths:Array(String)}
) AS a
INNER JOIN (SELECT DISTINCT run_id, run AS key FROM branches WHERE project = {project:String}) AS b ON a.key = b.key
GROUP BY run_id
