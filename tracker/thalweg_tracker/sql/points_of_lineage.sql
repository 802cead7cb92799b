-- Points of some views: each view's segments lie in the own points of other branches.
-- `run` is the key of the view. {final} is FINAL where rows may be there twice.
SELECT s.view AS run, p.metric AS metric, p.rank AS rank, p.step AS step, p.time AS time, p.value AS value
FROM points AS p {final}
INNER JOIN
(
    SELECT segment.1 AS view, segment.2 AS run, segment.3 AS after, segment.4 AS upto
    FROM (SELECT arrayJoin(arrayZip(
        {views:Array(UInt64)}, {segments:Array(UInt64)}, {after:Array(Float64)}, {upto:Array(Float64)})) AS segment)
) AS s ON p.run = s.run
WHERE {which}
    AND p.step > s.after AND p.step <= s.upto
