-- The same as points_of_lineage where each segment is seen from one view only: looking it up takes half the time of a join.
SELECT
    transform(p.run, {segments:Array(UInt64)}, {views:Array(UInt64)}, toUInt64(0)) AS run,
    p.metric AS metric, p.rank AS rank, p.step AS step, p.time AS time, p.value AS value
FROM points AS p {final}
WHERE {which}
    AND p.step > transform(p.run, {segments:Array(UInt64)}, {after:Array(Float64)}, inf)
    AND p.step <= transform(p.run, {segments:Array(UInt64)}, {upto:Array(Float64)}, -inf)
    AND p.step >= {from_step:Float64} AND p.step <= {to_step:Float64}
