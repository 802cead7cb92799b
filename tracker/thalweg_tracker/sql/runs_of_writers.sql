-- Which of some branches some writers have written to, and the highest sequence number that was committed for each.
SELECT run, writer, max(sequence) AS sequence
FROM writers
WHERE project = {project:String} AND run IN {runs:Array(UInt64)} AND writer IN {writers:Array(UInt64)}
GROUP BY run, writer
