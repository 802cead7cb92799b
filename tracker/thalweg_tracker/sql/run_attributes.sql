-- Attributes as they stand of some branches, each for itself. Empty `json`: removed there.
SELECT run, path, json
FROM attributes FINAL
PREWHERE project = {project:String} AND run IN {keys:Array(UInt64)}
ORDER BY path
