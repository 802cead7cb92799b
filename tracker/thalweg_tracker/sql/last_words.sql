-- What the writers of some branches last said, and up to where they delivered.
SELECT
    run, writer, any(rank) AS rank, max(primary) AS is_primary, toUnixTimestamp64Micro(max(started_at)) AS started_us,
    toUnixTimestamp64Micro(max(last_seen_at)) AS seen_us, max(ended) AS word, max(sequence) AS sequence
FROM writers
WHERE project = {project:String} AND run IN {runs:Array(UInt64)}
GROUP BY run, writer
