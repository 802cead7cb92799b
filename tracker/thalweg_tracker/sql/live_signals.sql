-- Numbers that change with each commit, also with one that was overtaken: of the stored rows of each writer, not of what they say
-- together. Merges change them too: a reader looks once in vain. The row of a writer is the last of a commit.
SELECT run, writer, count() AS rows, sum(sequence) AS sequences, toUnixTimestamp64Micro(max(started_at)) AS started_us
FROM writers
WHERE project IN {projects:Array(String)} AND run IN {runs:Array(UInt64)}
GROUP BY run, writer
