-- Points. One row is identified by (run, metric, rank, step); of several, the one with the greatest time
-- stays. Merges remove the others some time; until then readers of series that hold copies use FINAL.
-- All metrics of a frame share its time: in blocks of 1 MiB the times of one metric tell those of the next ones, which saves a
-- sixth of what many trainings take on disk (0015).
CREATE TABLE points
(
    run    UInt64                 CODEC(ZSTD(1)),
    metric UInt64                 CODEC(ZSTD(1)),
    rank   UInt16                 CODEC(ZSTD(1)),
    step   Float64                CODEC(DoubleDelta, ZSTD(1)),
    time   DateTime64(6, 'UTC')   CODEC(Delta, ZSTD(1))
           SETTINGS (min_compress_block_size = 1048576, max_compress_block_size = 1048576),
    value  Float64                CODEC(Gorilla, ZSTD(1))
)
ENGINE = ReplacingMergeTree(time)
ORDER BY (run, metric, rank, step);

-- What is known of a series without reading its points, by writer. Every aggregate is idempotent: a batch
-- that was sent twice changes nothing. `flags` (model/series_flags.py) says which numbers cannot be relied on.
-- Tuples compare from the left, and are much cheaper to read than states: `first` and `last` are (step, time in
-- microseconds, value), of `first` the time is negative; `least` and `greatest` are (value, step), of `greatest` the step is.
CREATE TABLE series_stats
(
    metric     UInt64,
    run        UInt64,
    rank       UInt16,
    writer     UInt64,
    flags      SimpleAggregateFunction(groupBitOr, UInt8),
    first_step SimpleAggregateFunction(min, Float64),
    last_step  SimpleAggregateFunction(max, Float64),
    last_time  SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    first      SimpleAggregateFunction(min, Tuple(Float64, Int64, Float64)),
    last       SimpleAggregateFunction(max, Tuple(Float64, Int64, Float64)),
    least      SimpleAggregateFunction(min, Tuple(Float64, Float64)),
    greatest   SimpleAggregateFunction(max, Tuple(Float64, Float64))
)
ENGINE = AggregatingMergeTree
ORDER BY (metric, run, rank, writer)
SETTINGS index_granularity = 1024;

-- The ingest reduces a batch to one row a series and inserts plain numbers here; the view makes the tuples. It groups nothing:
-- the table does, and to do it twice took twice the time of all the rest.
CREATE TABLE series_stats_feed
(
    run        UInt64,
    metric     UInt64,
    rank       UInt16,
    writer     UInt64,
    flags      UInt8,
    first_step Float64,
    first_time DateTime64(6, 'UTC'),
    first      Float64,
    last_step  Float64,
    last_time  DateTime64(6, 'UTC'),
    last       Float64,
    min        Float64,
    argmin     Float64,
    max        Float64,
    argmax     Float64
)
ENGINE = Null;

CREATE MATERIALIZED VIEW series_stats_view TO series_stats AS
SELECT
    f.run AS run,
    f.metric AS metric,
    f.rank AS rank,
    f.writer AS writer,
    f.flags AS flags,
    f.first_step AS first_step,
    f.last_step AS last_step,
    f.last_time AS last_time,
    (f.first_step, -toUnixTimestamp64Micro(f.first_time), f.first) AS first,
    (f.last_step, toUnixTimestamp64Micro(f.last_time), f.last) AS last,
    (f.min, f.argmin) AS least,
    (f.max, -f.argmax) AS greatest
FROM series_stats_feed AS f;

-- Names behind the metric keys of a project.
CREATE TABLE metric_names
(
    project String,
    metric  UInt64,
    name    String
)
ENGINE = ReplacingMergeTree
ORDER BY (project, metric);

-- Names of the metrics that branches have themselves. One may be there before its first point is.
CREATE TABLE run_metrics
(
    run    UInt64,
    name   String,
    metric UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (run, name);

-- Branches of runs: `run` is the key that points carry. One row tells that its writers greeted, since the first of them, and one
-- how it began, of those that continue another or were named by their launcher (`has_origin`).
-- `lineage_*` is the way from the root to the branch itself: the points of the i-th with upto[i - 1] < step <= upto[i] are
-- seen from here. It is stored, so that reading walks no ancestors, and written again when an ancestor comes later.
-- The greatest `version` stands: of greetings the earliest, of registrations the first, then the latest repair.
-- Forks come one by one: to merge them with each other every few rows took a quarter of the time that they take.
CREATE TABLE branches
(
    project         String,
    run_id          String,
    branch          UInt32,
    has_origin      UInt8,
    run             UInt64,
    created_at      DateTime64(6, 'UTC'),
    kind            String,
    parent_run_id   String,
    parent_branch   Int64,
    fork_step       Float64,
    attempt         String,
    lineage_run_id  Array(String),
    lineage_branch  Array(UInt32),
    lineage_run     Array(UInt64),
    lineage_upto    Array(Float64),
    version         UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (project, run_id, branch, has_origin)
SETTINGS index_granularity = 256, merge_selector_base = 20;

-- Writing processes: began, last heard of, ended, highest sequence committed, counters, and the steps of their points but for
-- those of the host: inf and -inf where there are none. `ended` is JSON that begins with its time, so
-- that the later word is the greater text; empty while the writer lives.
CREATE TABLE writers
(
    project      String,
    run          UInt64,
    writer       UInt64,
    rank         UInt16,
    primary      SimpleAggregateFunction(max, UInt8),
    host         SimpleAggregateFunction(max, String),
    pid          SimpleAggregateFunction(max, UInt32),
    started_at   SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    last_seen_at SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    ended        SimpleAggregateFunction(max, String),
    sequence     SimpleAggregateFunction(max, UInt64),
    counters     SimpleAggregateFunction(maxMap, Map(String, UInt64)),
    first_step   SimpleAggregateFunction(min, Float64),
    last_step    SimpleAggregateFunction(max, Float64)
)
ENGINE = AggregatingMergeTree
ORDER BY (project, run, writer, rank)
SETTINGS index_granularity = 256;

-- Attributes of runs: a JSON value at a path. `number` is the value where it is a number, for filters; NaN
-- where it is not. Empty `json`: the attribute was removed.
CREATE TABLE attributes
(
    project String,
    run     UInt64,
    path    String,
    json    String CODEC(ZSTD(3)),
    number  Float64,
    time    DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(time)
ORDER BY (project, run, path);
