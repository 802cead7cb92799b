-- The latest saves of some branches, or with `all` of a project, that told for how long they held the training up: kinds
-- one after the other, shards side by side.
SELECT s.run AS run, s.step AS step, sum(s.blocked_s) AS blocked_s, max(s.told_us) AS told_us
FROM
(
    SELECT c.run AS run, c.step AS step, c.kind AS kind, max(c.blocked_s) AS blocked_s,
        max(toUnixTimestamp64Micro(c.time)) AS told_us
    FROM checkpoints AS c FINAL
    WHERE c.project = {project:String} AND ({all:Bool} OR c.run IN {runs:Array(UInt64)})
    GROUP BY run, step, kind
) AS s
GROUP BY run, step
ORDER BY told_us DESC
LIMIT {limit:UInt64}
