SELECT time, actor, address, project, action, path, status
FROM audit
ORDER BY time DESC
LIMIT {limit:UInt32}
