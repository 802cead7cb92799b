-- The value of a metric that the checkpoints of one branch tell themselves, between two steps, both included.
SELECT c.step AS step, argMax(JSONExtractFloat(c.metrics, {metric:String}), c.time) AS value
FROM checkpoints AS c FINAL
WHERE c.project = {project:String} AND c.run = {run:UInt64}
    AND c.step >= {low:Float64} AND c.step <= {high:Float64}
    AND JSONType(c.metrics, {metric:String}) IN ('Int64', 'UInt64', 'Double')
GROUP BY step
