-- Which of some branches of a run a writer has written to.
SELECT DISTINCT run
FROM writers
WHERE project = {project:String} AND run IN {runs:Array(UInt64)} AND writer = {writer:UInt64}
