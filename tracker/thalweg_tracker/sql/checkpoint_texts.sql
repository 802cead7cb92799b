-- Metrics and metadata of the checkpoints of one branch between two steps, both included: of each kind those of the lowest
-- shard that has any.
SELECT
    c.step AS step, c.kind AS kind,
    argMinIf(c.metrics, c.shard, c.metrics != '') AS metrics, argMinIf(c.metadata, c.shard, c.metadata != '') AS metadata
FROM checkpoints AS c FINAL
WHERE c.project = {project:String} AND c.run = {run:UInt64}
    AND c.step >= {low:Float64} AND c.step <= {high:Float64}
    AND (c.metrics != '' OR c.metadata != '')
GROUP BY step, kind
ORDER BY step, kind
