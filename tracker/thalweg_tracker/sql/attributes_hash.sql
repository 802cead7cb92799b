-- A number that changes with each attribute of some branches, and not by merges.
SELECT groupBitXor(cityHash64(run, path, json, time)) AS hash
FROM attributes FINAL
WHERE project = {project:String} AND run IN {runs:Array(UInt64)}
