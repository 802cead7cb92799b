-- Runs of a project, newest first, after the place that (created_before, id_before) names. A run's status is
-- that of the latest writer of each rank, the worst of them over ranks: running before lost, killed, failed, finished.
-- A run without a word of a primary writer counts from its creation. `run_id` is the one asked for, or empty for all.
WITH
    page AS
    (
        SELECT run_id, max(run) AS key, min(created_at) AS created
        FROM runs
        WHERE project = {project:String} AND ({run_id:String} = '' OR run_id = {run_id:String})
        GROUP BY run_id
        HAVING (toUnixTimestamp64Micro(created), run_id) < ({created_before:Int64}, {id_before:String})
        ORDER BY created DESC, run_id DESC
        LIMIT {limit:UInt32}
    ),
    latest AS
    (
        SELECT run, writer, any(rank) AS rank, max(primary) AS is_primary, max(started_at) AS started,
            max(last_seen_at) AS seen, max(ended) AS word
        FROM writers
        WHERE project = {project:String} AND run IN (SELECT key FROM page)
        GROUP BY run, writer
    ),
    ranks AS
    (
        SELECT
            run, rank, argMax(word, started) AS last_word, argMax(seen, started) AS last_seen,
            multiIf(
                last_word != '', JSONExtractString(last_word, 'outcome'),
                last_seen >= fromUnixTimestamp64Micro({lost_before:Int64}), 'running',
                'lost') AS status
        FROM latest
        WHERE is_primary
        GROUP BY run, rank
    ),
    states AS
    (
        SELECT
            run,
            argMin(status, indexOf(['running', 'lost', 'killed', 'failed', 'finished'], status)) AS status,
            max(last_seen) AS last_seen_at,
            max(toUInt64OrZero(JSONExtractString(last_word, 'time_us'))) AS ended_us
        FROM ranks
        GROUP BY run
    ),
    labels AS
    (
        SELECT
            run,
            anyIf(json, path = 'run.name') AS name,
            groupArrayIf(substring(path, 6), startsWith(path, 'tags.')) AS tags
        FROM attributes FINAL
        WHERE project = {project:String} AND run IN (SELECT key FROM page) AND json != ''
            AND (path = 'run.name' OR startsWith(path, 'tags.'))
        GROUP BY run
    )
SELECT
    page.run_id AS run_id,
    page.key AS key,
    page.created AS created_at,
    multiIf(
        states.status != '', states.status,
        toUnixTimestamp64Micro(page.created) >= {lost_before:Int64}, 'running',
        'lost') AS status,
    states.last_seen_at AS last_seen_at,
    if(status IN ('running', 'lost'), 0, states.ended_us) AS ended_us,
    labels.name AS name,
    labels.tags AS tags
FROM page
LEFT JOIN states ON states.run = page.key
LEFT JOIN labels ON labels.run = page.key
ORDER BY page.created DESC, page.run_id DESC
