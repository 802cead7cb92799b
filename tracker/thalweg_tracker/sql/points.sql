-- Points of some series. {final} is FINAL where rows may be there twice. Which points, is put in.
SELECT p.run AS run, p.metric AS metric, p.rank AS rank, p.step AS step, p.time AS time, p.value AS value
FROM points AS p {final}
WHERE {which}
