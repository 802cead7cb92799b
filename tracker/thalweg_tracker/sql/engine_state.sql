-- What the engine does at this moment, by name.
SELECT 'merges' AS name, toInt64(count()) AS value FROM system.merges WHERE database = currentDatabase()
UNION ALL
SELECT 'merge_rows' AS name, toInt64(sum(rows_read)) AS value FROM system.merges WHERE database = currentDatabase()
UNION ALL
SELECT transform(metric, ['Query', 'MemoryTracking'], ['queries', 'memory_bytes'], '') AS name, toInt64(value) AS value
FROM system.metrics
WHERE metric IN ('Query', 'MemoryTracking')
