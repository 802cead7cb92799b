-- The manifests of one checkpoint, by kind and shard.
SELECT c.kind AS kind, c.shard AS shard, c.uri AS uri, c.files AS files
FROM checkpoints AS c FINAL
WHERE c.project = {project:String} AND c.run = {run:UInt64} AND c.step = {step:Float64} AND c.files != ''
