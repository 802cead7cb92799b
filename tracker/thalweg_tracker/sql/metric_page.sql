-- Metrics of a branch by name, after `after`: its own, and those of its ancestors that have points in their segments, but for
-- those of the host.
SELECT DISTINCT metric, name
FROM metric_names
WHERE project = {project:String}
    AND (metric IN (SELECT DISTINCT metric FROM series_stats WHERE run = {own:UInt64})
        OR (NOT startsWith(name, 'system/') AND metric IN (
            SELECT DISTINCT s.metric
            FROM series_stats AS s
            INNER JOIN
            (
                SELECT segment.1 AS run, segment.2 AS after, segment.3 AS upto
                FROM (SELECT arrayJoin(arrayZip(
                    {segments:Array(UInt64)}, {segments_after:Array(Float64)}, {segments_upto:Array(Float64)})) AS segment)
            ) AS g ON s.run = g.run
            WHERE s.run IN {segments:Array(UInt64)} AND s.first_step <= g.upto AND s.last_step > g.after)))
    AND name > {after:String}
    AND startsWith(name, {prefix:String})
    AND ({pattern:String} = '' OR match(name, {pattern:String}))
ORDER BY name
LIMIT {limit:UInt32}
