-- Pointers, of whatever project, to places below a begin of URIs, or to a place that it lies in.
SELECT DISTINCT c.project AS project, c.run AS run, c.step AS step, c.uri AS uri
FROM checkpoints AS c FINAL
WHERE startsWith(c.uri, {begin:String}) OR startsWith({begin:String}, c.uri)
