-- Attributes of a run as they stand.
SELECT path, json
FROM attributes FINAL
WHERE project = {project:String} AND run = {run:UInt64} AND json != ''
ORDER BY path
