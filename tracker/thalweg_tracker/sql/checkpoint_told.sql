-- What the shards of one checkpoint tell of their files and of themselves.
SELECT c.kind AS kind, c.shard AS shard, c.uri AS uri, c.files AS files, c.metrics AS metrics, c.metadata AS metadata
FROM checkpoints AS c FINAL
PREWHERE c.project = {project:String} AND c.run = {run:UInt64} AND c.step = {step:Float64}
ORDER BY kind, shard
