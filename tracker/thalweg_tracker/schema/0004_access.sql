-- Tokens: who may do what. The token itself is never stored, but the SHA-256 of it, which is as good for 256 random bits. `project`
-- empty: all of them. `limits` is JSON. Times of 1970: it does not expire, is not revoked. The greatest `version` stands: a token is
-- made, and may be revoked.
CREATE TABLE tokens
(
    id         String,
    hash       String,
    project    String,
    role       String,
    name       String,
    limits     String,
    created_at DateTime64(6, 'UTC'),
    created_by String,
    expires_at DateTime64(6, 'UTC'),
    revoked_at DateTime64(6, 'UTC'),
    version    UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id;

-- What was asked of the server that only an administrator may, and what became of it.
CREATE TABLE audit
(
    time    DateTime64(6, 'UTC'),
    actor   String,
    address String,
    project String,
    action  String,
    path    String,
    status  UInt16
)
ENGINE = ReplacingMergeTree
ORDER BY (time, actor, action, path);
