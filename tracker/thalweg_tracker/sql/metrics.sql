-- What is known of the series of some metrics of a run. Where several ranks write a metric, its last value is
-- the mean over those at the highest step; min and max are over all ranks.
-- `relogged`: a step was written twice, by one writer (flag 4) or by two whose steps overlap.
WITH
    by_writer AS
    (
        SELECT
            s.metric AS metric, s.rank AS rank, s.writer AS writer,
            groupBitOr(s.flags) AS flags,
            min(s.first_step) AS first_step, max(s.last_step) AS last_step, max(s.last_time) AS last_time,
            argMaxMergeState(s.last) AS last, argMinMergeState(s.argmin) AS argmin, argMaxMergeState(s.argmax) AS argmax,
            min(s.min) AS min, max(s.max) AS max
        FROM series_stats AS s
        WHERE s.run = {run:UInt64} AND s.metric IN {metrics:Array(UInt64)}
        GROUP BY metric, rank, writer
    ),
    by_rank AS
    (
        SELECT
            w.metric AS metric, w.rank AS rank,
            groupBitOr(w.flags) AS flags,
            arraySort(groupArray((w.first_step, w.last_step))) AS spans,
            min(w.first_step) AS first_step, max(w.last_step) AS last_step, max(w.last_time) AS last_time,
            argMaxMerge(w.last) AS last,
            min(w.min) AS min, max(w.max) AS max,
            argMinMerge(w.argmin) AS argmin, argMaxMerge(w.argmax) AS argmax
        FROM by_writer AS w
        GROUP BY metric, rank
    ),
    by_metric AS
    (
        SELECT
            r.metric AS metric,
            count() AS ranks,
            max(bitTest(r.flags, 0)) AS has_number,
            max(bitTest(r.flags, 2) OR arrayExists((a, b) -> b.1 <= a.2, arrayPopBack(r.spans), arrayPopFront(r.spans)))
                AS relogged,
            min(r.first_step) AS first_step, max(r.last_step) AS last_step, max(r.last_time) AS last_time,
            arrayAvg(arrayMap(p -> p.2, arrayFilter(p -> p.1 = last_step, groupArray((r.last_step, r.last))))) AS last,
            min(r.min) AS min, max(r.max) AS max,
            argMin(r.argmin, (r.min, r.argmin)) AS argmin, argMax(r.argmax, (r.max, -r.argmax)) AS argmax
        FROM by_rank AS r
        GROUP BY metric
    )
SELECT
    metric, ranks, relogged, first_step, last_step, last_time, last,
    if(has_number, min, nan) AS min, if(has_number, max, nan) AS max,
    if(has_number, argmin, nan) AS argmin, if(has_number, argmax, nan) AS argmax
FROM by_metric
