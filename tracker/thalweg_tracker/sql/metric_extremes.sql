-- Min and max of metrics in which steps were written twice: from the points as they stand.
SELECT
    metric,
    if(countIf(NOT isNaN(value)) = 0, nan, minIf(value, NOT isNaN(value))) AS min,
    if(countIf(NOT isNaN(value)) = 0, nan, maxIf(value, NOT isNaN(value))) AS max,
    if(countIf(NOT isNaN(value)) = 0, nan, argMinIf(step, (value, step), NOT isNaN(value))) AS argmin,
    if(countIf(NOT isNaN(value)) = 0, nan, argMaxIf(step, (value, -step), NOT isNaN(value))) AS argmax
FROM points FINAL
WHERE run = {run:UInt64} AND metric IN {metrics:Array(UInt64)}
GROUP BY metric
