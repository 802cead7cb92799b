-- Seconds per step over the latest points of one branch: of its metric of the training with the highest step.
SELECT (r.last_us - r.first_us) / 1e6 / (r.last_step - r.first_step) AS seconds_per_step
FROM
(
    SELECT
        min(q.step) AS first_step, max(q.step) AS last_step,
        argMin(q.time_us, q.step) AS first_us, argMax(q.time_us, q.step) AS last_us
    FROM
    (
        SELECT p.step AS step, toUnixTimestamp64Micro(p.time) AS time_us
        FROM points AS p
        WHERE (p.run, p.metric, p.rank) IN (
            SELECT s.run, s.metric, s.rank
            FROM series_stats AS s
            WHERE s.run = {run:UInt64} AND s.metric IN (
                SELECT metric FROM run_metrics WHERE run = {run:UInt64} AND NOT startsWith(name, 'system/'))
            ORDER BY s.last_step DESC, s.metric, s.rank
            LIMIT 1)
        ORDER BY p.step DESC
        LIMIT 1000
    ) AS q
) AS r
WHERE r.last_step > r.first_step AND r.last_us > r.first_us
