-- How many training processes of a rank have written to a branch of a run.
SELECT uniqExact(writer) AS writers
FROM writers
WHERE project = {project:String} AND run = {run:UInt64} AND rank = {rank:UInt16} AND primary = 1
