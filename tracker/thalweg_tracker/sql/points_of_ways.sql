-- The same as points_of_lineage where each segment is seen from one view only: looking it up takes half the time of a join.
-- Few have points of their own at or before `after`: whether they do, is put in.
SELECT
    transform(p.run, {segments:Array(UInt64)}, {views:Array(UInt64)}, toUInt64(0)) AS run,
    p.metric AS metric, p.rank AS rank, p.step AS step, p.time AS time, p.value AS value
FROM points AS p {final}
WHERE {which}
    AND p.step <= transform(p.run, {segments:Array(UInt64)}, {upto:Array(Float64)}, -inf)
