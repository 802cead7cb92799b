-- The writers of a run, in the order of their start.
SELECT
    writer, any(rank) AS rank, max(primary) AS primary, max(host) AS host, max(pid) AS pid,
    max(started_at) AS started_at, max(last_seen_at) AS last_seen_at, max(ended) AS ended,
    maxMap(counters) AS counters
FROM writers
WHERE project = {project:String} AND run = {run:UInt64}
GROUP BY writer
ORDER BY started_at, writer
