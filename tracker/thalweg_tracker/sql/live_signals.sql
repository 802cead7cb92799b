-- Numbers that change with each commit, also with one that was overtaken by a later one: they are of the rows as they are stored, not
-- of what these say together. Merges change them too: then a reader looks in vain. The row of a writer is the last of a commit.
SELECT
    run, writer, count() AS rows, sum(toUnixTimestamp64Micro(last_seen_at)) AS seen_us,
    toUnixTimestamp64Micro(max(started_at)) AS started_us
FROM writers
WHERE project IN {projects:Array(String)} AND run IN {runs:Array(UInt64)}
GROUP BY run, writer
