-- Points of some series between two steps, both included. {final} is FINAL where rows may be there twice. Which series, is put in.
SELECT p.run AS run, p.metric AS metric, p.rank AS rank, p.step AS step, p.time AS time, p.value AS value
FROM points AS p {final}
WHERE {which} AND p.step >= {from_step:Float64} AND p.step <= {to_step:Float64}
