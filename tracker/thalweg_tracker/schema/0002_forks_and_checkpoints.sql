-- Pointers to saved states, one row a shard. A time of 1970 is one that nobody told. `files`, `metrics` and `metadata` are JSON.
CREATE TABLE checkpoints
(
    project    String,
    run        UInt64,
    step       Float64,
    kind       String,
    shard      UInt32,
    shards     UInt32,
    uri        String,
    state      String,
    size_bytes UInt64,
    digest     String,
    files      String CODEC(ZSTD(3)),
    staged_at  DateTime64(6, 'UTC'),
    saved_at   DateTime64(6, 'UTC'),
    blocked_s  Float64,
    metrics    String,
    metadata   String,
    time       DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(time)
ORDER BY (project, run, step, kind, shard);

-- What became of the objects behind them, when somebody looked. `told_at` is the time of the pointer that was looked at: of
-- one that was told anew nothing is known.
CREATE TABLE checkpoint_checks
(
    project    String,
    run        UInt64,
    step       Float64,
    kind       String,
    shard      UInt32,
    uri        String,
    state      String,
    detail     String,
    size_bytes UInt64,
    etag       String,
    version    String,
    told_at    DateTime64(6, 'UTC'),
    checked_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(checked_at)
ORDER BY (project, run, step, kind, shard);
