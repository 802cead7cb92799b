-- How the series of some runs and metrics must be read: which are there, over which steps, by how many ranks,
-- whether a step was written twice (flag 4, or two writers whose steps overlap), and whether rows may be there twice (or flag 2).
WITH
    by_writer AS
    (
        SELECT
            s.run AS run, s.metric AS metric, s.rank AS rank, s.writer AS writer,
            groupBitOr(s.flags) AS flags, min(s.first_step) AS first_step, max(s.last_step) AS last_step
        FROM series_stats AS s
        WHERE s.run IN {runs:Array(UInt64)} AND s.metric IN {metrics:Array(UInt64)}
        GROUP BY run, metric, rank, writer
    ),
    by_rank AS
    (
        SELECT
            w.run AS run, w.metric AS metric, w.rank AS rank,
            groupBitOr(w.flags) AS flags,
            arraySort(groupArray((w.first_step, w.last_step))) AS spans,
            min(w.first_step) AS first_step, max(w.last_step) AS last_step
        FROM by_writer AS w
        GROUP BY run, metric, rank
    )
SELECT
    r.run AS run, r.metric AS metric,
    count() AS ranks,
    max(bitTest(r.flags, 2) OR arrayExists((a, b) -> b.1 <= a.2, arrayPopBack(r.spans), arrayPopFront(r.spans)))
        AS is_relogged,
    is_relogged OR max(bitTest(r.flags, 1)) AS has_copies,
    min(r.first_step) AS first_step, max(r.last_step) AS last_step
FROM by_rank AS r
GROUP BY run, metric
