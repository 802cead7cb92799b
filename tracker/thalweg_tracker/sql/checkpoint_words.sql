-- What was said of the checkpoints of one branch within (after, before), the highest step first, in the order of the table.
-- A word that another has replaced may be there still: `time_us` tells which stands.
SELECT
    c.step AS step, c.kind AS kind, c.shard AS shard, c.shards AS shards, c.uri AS uri, c.state AS state,
    c.size_bytes AS size_bytes, c.digest AS digest, c.blocked_s AS blocked_s,
    toUnixTimestamp64Micro(c.staged_at) AS staged_us, toUnixTimestamp64Micro(c.saved_at) AS saved_us,
    toUnixTimestamp64Micro(c.time) AS time_us
FROM checkpoints AS c
PREWHERE c.project = {project:String} AND c.run = {run:UInt64}
    AND c.step > {after:Float64} AND c.step < {before:Float64}
    AND ({kind:String} = '' OR c.kind = {kind:String})
ORDER BY c.step DESC
LIMIT {limit:UInt64}
