-- What was found of the checkpoints of one branch between two steps, both included.
SELECT
    k.step AS step, k.kind AS kind, k.shard AS shard, k.uri AS uri, k.state AS state, k.detail AS detail,
    k.size_bytes AS size_bytes, k.etag AS etag, k.version AS version,
    toUnixTimestamp64Micro(k.told_at) AS told_us, toUnixTimestamp64Micro(k.checked_at) AS checked_us
FROM checkpoint_checks AS k FINAL
WHERE k.project = {project:String} AND k.run = {run:UInt64}
    AND k.step >= {low:Float64} AND k.step <= {high:Float64}
    AND ({kind:String} = '' OR k.kind = {kind:String})
