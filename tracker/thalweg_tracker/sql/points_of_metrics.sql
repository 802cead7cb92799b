-- Stored points of some metrics, in some runs of a project or in all of them.
SELECT count() AS points
FROM points
WHERE metric IN {metrics:Array(UInt64)} AND run IN (
    SELECT run FROM branches WHERE project = {project:String} AND ({all:Bool} OR run_id IN {run_ids:Array(String)}))
