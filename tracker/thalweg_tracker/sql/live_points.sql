-- Points of some series after a time, the oldest first. {which} has for each run the least step and time that can be new.
SELECT run, metric, rank, step, toUnixTimestamp64Micro(time) AS time_us, value
FROM points
WHERE metric IN {metrics:Array(UInt64)} AND run IN {runs:Array(UInt64)} AND ({which})
ORDER BY time, run, metric, rank, step
LIMIT {limit:UInt32}
