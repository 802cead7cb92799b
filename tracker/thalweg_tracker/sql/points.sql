-- Points of some series between two steps, both included. {final} is FINAL where rows may be there twice.
SELECT run, metric, rank, step, time, value
FROM points {final}
WHERE (run, metric) IN (
        SELECT pair.1, pair.2 FROM (SELECT arrayJoin(arrayZip({runs:Array(UInt64)}, {metrics:Array(UInt64)})) AS pair))
    AND step >= {from_step:Float64} AND step <= {to_step:Float64}
