-- Name and tags of some branches, or of all of the project with `all`, as each set them last. Empty `json`: removed there.
SELECT a.run AS run, a.path AS path, max((a.time, a.json)).2 AS json, max(a.time) AS time
FROM attributes AS a
WHERE project = {project:String} AND ({all:Bool} OR run IN {runs:Array(UInt64)})
    AND (path = 'run.name' OR startsWith(path, 'tags.'))
GROUP BY run, path
