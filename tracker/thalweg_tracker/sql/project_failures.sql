-- For how long the trainings of a project were seen to run, and how often they failed, by the primary writers of rank 0.
-- What Ctrl-C ended did not fail; what was silent since `lost_before` did.
SELECT
    sum(greatest(0, w.until_us - w.started_us)) / 1e6 AS observed_s,
    countIf(
        w.outcome IN ('failed', 'lost')
        OR (w.outcome = 'killed' AND w.by_signal != 2)
        OR (w.outcome = '' AND w.seen_us < {lost_before:Int64})) AS failures
FROM
(
    SELECT
        v.run AS run, v.writer AS writer,
        max(v.ended) AS word,
        toUnixTimestamp64Micro(max(v.started_at)) AS started_us,
        toUnixTimestamp64Micro(max(v.last_seen_at)) AS seen_us,
        JSONExtractString(word, 'outcome') AS outcome,
        JSONExtractInt(word, 'signal') AS by_signal,
        if(word != '', toInt64OrZero(JSONExtractString(word, 'time_us')), seen_us) AS until_us
    FROM writers AS v
    WHERE v.project = {project:String} AND v.rank = 0
    GROUP BY run, writer
    HAVING max(v.primary) AND started_us > 0
) AS w
