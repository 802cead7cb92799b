-- Numbers that change whenever something is stored of some branches, and not by merges: the latest word of their writers, by the
-- server's clock, and their attributes.
SELECT
    (
        SELECT toUnixTimestamp64Micro(max(last_seen_at)) FROM writers
        WHERE project = {project:String} AND run IN {runs:Array(UInt64)}
    ) AS seen_us,
    (
        SELECT sum(w.latest) FROM
        (
            SELECT max(sequence) AS latest FROM writers
            WHERE project = {project:String} AND run IN {runs:Array(UInt64)}
            GROUP BY run, writer
        ) AS w
    ) AS sequences,
    (
        SELECT groupBitXor(cityHash64(run, path, json, time)) FROM attributes FINAL
        WHERE project = {project:String} AND run IN {runs:Array(UInt64)}
    ) AS attributes
