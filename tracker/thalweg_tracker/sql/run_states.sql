-- What writers last said of some branches, or of all of the project with `all`. The status of a branch is that of the latest
-- training process of each rank, the worst of them over ranks: running before lost, killed, failed, finished.
SELECT
    r.run AS run,
    argMin(r.status, indexOf(['running', 'lost', 'killed', 'failed', 'finished'], r.status)) AS status,
    max(r.seen) AS last_seen_at,
    max(toUInt64OrZero(JSONExtractString(r.word, 'time_us'))) AS ended_us
FROM
(
    SELECT
        w.run AS run, w.rank AS rank, argMax(w.word, w.started) AS word, argMax(w.seen, w.started) AS seen,
        multiIf(
            word != '', JSONExtractString(word, 'outcome'),
            seen >= fromUnixTimestamp64Micro({lost_before:Int64}), 'running',
            'lost') AS status
    FROM
    (
        SELECT
            run, writer, any(rank) AS rank, max(primary) AS is_primary, max(started_at) AS started,
            max(last_seen_at) AS seen, max(ended) AS word
        FROM writers
        WHERE project = {project:String} AND ({all:Bool} OR run IN {runs:Array(UInt64)})
        GROUP BY run, writer
        HAVING is_primary
    ) AS w
    GROUP BY run, rank
) AS r
GROUP BY run
