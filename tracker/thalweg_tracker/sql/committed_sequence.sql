-- Highest sequence number that was committed for a writer; 0 if it is new.
SELECT max(sequence) AS sequence
FROM writers
WHERE project = {project:String} AND run = {run:UInt64} AND writer = {writer:UInt64}
