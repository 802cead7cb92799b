-- How the branches of runs began: one row for each that continues another or was named by its launcher. A branch
-- without a row began from nothing.
-- `lineage_*` is the way from the root to the branch itself: the points of the i-th with upto[i - 1] < step <= upto[i] are
-- seen from here. It is stored, so that reading walks no ancestors, and written again when an ancestor comes later.
-- The greatest `version` stands: the first of several registrations, then the latest repair.
CREATE TABLE branches
(
    project         String,
    run_id          String,
    branch          UInt32,
    run             UInt64,
    kind            String,
    parent_run_id   String,
    parent_branch   Int64,
    fork_step       Float64,
    attempt         String,
    created_at      DateTime64(6, 'UTC'),
    lineage_run_id  Array(String),
    lineage_branch  Array(UInt32),
    lineage_run     Array(UInt64),
    lineage_upto    Array(Float64),
    version         UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (project, run_id, branch)
SETTINGS index_granularity = 256;

-- All branches of runs, some of them several times: those that writers have greeted from, and those with an origin.
CREATE VIEW known_branches AS
SELECT project, run_id, branch, run, created_at, false AS has_origin FROM runs
UNION ALL
SELECT project, run_id, branch, run, created_at, true AS has_origin FROM branches;

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
