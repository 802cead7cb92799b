-- Runs of a project that nobody has said a word of since a time: no writer, and none of their branches began since. Those that
-- were brought back by hand once are left alone.
SELECT b.run_id AS run_id
FROM branches AS b
LEFT JOIN
(
    SELECT run, max(last_seen_at) AS seen FROM writers WHERE project = {project:String} GROUP BY run
) AS w ON b.run = w.run
WHERE b.project = {project:String} AND b.run_id NOT IN (SELECT run_id FROM deletions WHERE project = {project:String})
GROUP BY run_id
HAVING toUnixTimestamp64Micro(max(greatest(b.created_at, w.seen))) < {before:Int64}
ORDER BY run_id
