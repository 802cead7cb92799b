-- Attributes of some paths as runs see them; what the way from the root to each is, is put in by query/seen_attributes.py, and
-- the columns: a JSON text a path.
SELECT {view} AS run, {columns}
FROM
(
    SELECT run AS key, path, json, time
    FROM attributes
    WHERE project = {project:String} AND path IN {paths:Array(String)}
) AS a {lineage}
WHERE {condition}
GROUP BY run
