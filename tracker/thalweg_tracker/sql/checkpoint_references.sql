-- Pointers, of whatever project, to places below a begin of URIs, or to a place that it lies in, in any spelling: the begin
-- is one of `comparable` forms (objects/keys.py), and so is `place`, but for "..", with which all are taken.
SELECT DISTINCT r.project AS project, r.run AS run, r.step AS step, r.uri AS uri
FROM
(
    SELECT c.project AS project, c.run AS run, c.step AS step, c.uri AS uri,
        replaceRegexpAll(decodeURLComponent(c.uri), '(/[.]?)+/', '/') AS short,
        replaceRegexpOne(short, '(?i)^file:/(localhost/)?', 'file:/') AS place
    FROM checkpoints AS c FINAL
) AS r
WHERE startsWith(r.place, {begin:String}) OR startsWith({begin:String}, r.place) OR position(r.place, '/..') > 0
