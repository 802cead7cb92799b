-- Numbers that change when a run gets a branch, the way to one of its branches is written anew, or the run is deleted.
SELECT project, run_id, sum(o.rows) AS rows, max(o.version) AS version
FROM
(
    SELECT project, run_id, count() AS rows, max(version) AS version
    FROM branches
    WHERE has_origin AND project IN {projects:Array(String)} AND run_id IN {run_ids:Array(String)}
    GROUP BY project, run_id
    UNION ALL
    SELECT project, run_id, toUInt64(max(toUnixTimestamp64Micro(time))) AS rows, toUInt64(0) AS version
    FROM deletions
    WHERE project IN {projects:Array(String)} AND run_id IN {run_ids:Array(String)}
    GROUP BY project, run_id
) AS o
GROUP BY project, run_id
