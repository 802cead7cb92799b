-- Those of some branches that were made as forks.
SELECT DISTINCT run
FROM branches
WHERE project = {project:String} AND kind = 'fork' AND run IN {runs:Array(UInt64)}
