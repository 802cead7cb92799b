-- What was found of the checkpoints of one branch within (after, before), the highest step first, in the order of the table.
-- What another look has replaced may be there still: `checked_us` tells which stands.
SELECT
    k.step AS step, k.kind AS kind, k.shard AS shard, k.uri AS uri, k.state AS state, k.detail AS detail,
    k.size_bytes AS size_bytes, k.etag AS etag, k.version AS version,
    toUnixTimestamp64Micro(k.told_at) AS told_us, toUnixTimestamp64Micro(k.checked_at) AS checked_us
FROM checkpoint_checks AS k
PREWHERE k.project = {project:String} AND k.run = {run:UInt64}
    AND k.step > {after:Float64} AND k.step < {before:Float64}
    AND ({kind:String} = '' OR k.kind = {kind:String})
ORDER BY k.step DESC
LIMIT {limit:UInt64}
