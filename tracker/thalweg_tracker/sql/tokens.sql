SELECT id, hash, project, role, name, limits, created_at, created_by, expires_at, revoked_at
FROM tokens FINAL
ORDER BY created_at DESC, id
