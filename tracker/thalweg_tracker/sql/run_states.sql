-- Part of a WITH clause, over `page` (a branch's key, created) and `branch_keys` (run_id, key): what became of each branch,
-- and name and tags of each run. The status of a branch is that of the latest writer of each rank, the worst of them over
-- ranks: running before lost, killed, failed, finished. Without a word of a primary writer it counts from its creation;
-- a fork that has none is 'created'.
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
    branch_states AS
    (
        SELECT
            page.key AS key,
            multiIf(
                states.status != '', states.status,
                page.key IN (SELECT run FROM branches WHERE project = {project:String} AND kind = 'fork'), 'created',
                toUnixTimestamp64Micro(page.created) >= {lost_before:Int64}, 'running',
                'lost') AS status,
            states.last_seen_at AS last_seen_at,
            if(status IN ('created', 'running', 'lost'), 0, states.ended_us) AS ended_us
        FROM page
        LEFT JOIN states ON states.run = page.key
    ),
    labels AS
    (
        SELECT
            run_id,
            anyIf(json, path = 'run.name') AS name,
            groupArrayIf(substring(path, 6), startsWith(path, 'tags.')) AS tags
        FROM
        (
            SELECT k.run_id AS run_id, a.path AS path, argMax(a.json, a.time) AS json
            FROM attributes AS a
            INNER JOIN branch_keys AS k ON a.run = k.key
            WHERE a.project = {project:String} AND a.run IN (SELECT key FROM branch_keys)
                AND (a.path = 'run.name' OR startsWith(a.path, 'tags.'))
            GROUP BY run_id, path
        )
        WHERE json != ''
        GROUP BY run_id
    )
