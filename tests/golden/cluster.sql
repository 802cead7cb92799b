CREATE TABLE IF NOT EXISTS `thalweg`.`migrations_local` ON CLUSTER `main`
(number UInt32, name String, sha256 String)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}') ORDER BY number
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`migrations` ON CLUSTER `main` AS `thalweg`.`migrations_local`
ENGINE = Distributed('main', 'thalweg', 'migrations_local', cityHash64(number));

CREATE TABLE IF NOT EXISTS `thalweg`.`points_local` ON CLUSTER `main`
(
    run    UInt64                 CODEC(ZSTD(1)),
    metric UInt64                 CODEC(ZSTD(1)),
    rank   UInt16                 CODEC(ZSTD(1)),
    step   Float64                CODEC(DoubleDelta, ZSTD(1)),
    time   DateTime64(6, 'UTC')   CODEC(Delta, ZSTD(1))
           SETTINGS (min_compress_block_size = 1048576, max_compress_block_size = 1048576),
    value  Float64                CODEC(Gorilla, ZSTD(1))
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', time)
ORDER BY (run, metric, rank, step)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`points` ON CLUSTER `main` AS `thalweg`.`points_local`
ENGINE = Distributed('main', 'thalweg', 'points_local', run);

CREATE TABLE IF NOT EXISTS `thalweg`.`series_stats_local` ON CLUSTER `main`
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
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
ORDER BY (metric, run, rank, writer)
SETTINGS replicated_deduplication_window = 0, index_granularity = 1024;

CREATE TABLE IF NOT EXISTS `thalweg`.`series_stats` ON CLUSTER `main` AS `thalweg`.`series_stats_local`
ENGINE = Distributed('main', 'thalweg', 'series_stats_local', run);

CREATE TABLE IF NOT EXISTS `thalweg`.`series_stats_feed_local` ON CLUSTER `main`
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

CREATE TABLE IF NOT EXISTS `thalweg`.`series_stats_feed` ON CLUSTER `main` AS `thalweg`.`series_stats_feed_local`
ENGINE = Distributed('main', 'thalweg', 'series_stats_feed_local', run);

CREATE MATERIALIZED VIEW IF NOT EXISTS `thalweg`.`series_stats_view` ON CLUSTER `main` TO `thalweg`.`series_stats_local` AS
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
FROM `thalweg`.`series_stats_feed_local` AS f;

CREATE TABLE IF NOT EXISTS `thalweg`.`metric_names_local` ON CLUSTER `main`
(
    project String,
    metric  UInt64,
    name    String
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
ORDER BY (project, metric)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`metric_names` ON CLUSTER `main` AS `thalweg`.`metric_names_local`
ENGINE = Distributed('main', 'thalweg', 'metric_names_local', cityHash64(project));

CREATE TABLE IF NOT EXISTS `thalweg`.`run_metrics_local` ON CLUSTER `main`
(
    run    UInt64,
    name   String,
    metric UInt64
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
ORDER BY (run, name)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`run_metrics` ON CLUSTER `main` AS `thalweg`.`run_metrics_local`
ENGINE = Distributed('main', 'thalweg', 'run_metrics_local', run);

CREATE TABLE IF NOT EXISTS `thalweg`.`branches_local` ON CLUSTER `main`
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)
ORDER BY (project, run_id, branch, has_origin)
SETTINGS replicated_deduplication_window = 0, index_granularity = 256, merge_selector_base = 20;

CREATE TABLE IF NOT EXISTS `thalweg`.`branches` ON CLUSTER `main` AS `thalweg`.`branches_local`
ENGINE = Distributed('main', 'thalweg', 'branches_local', run);

CREATE TABLE IF NOT EXISTS `thalweg`.`writers_local` ON CLUSTER `main`
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
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
ORDER BY (project, run, writer, rank)
SETTINGS replicated_deduplication_window = 0, index_granularity = 256;

CREATE TABLE IF NOT EXISTS `thalweg`.`writers` ON CLUSTER `main` AS `thalweg`.`writers_local`
ENGINE = Distributed('main', 'thalweg', 'writers_local', run);

CREATE TABLE IF NOT EXISTS `thalweg`.`attributes_local` ON CLUSTER `main`
(
    project String,
    run     UInt64,
    path    String,
    json    String CODEC(ZSTD(3)),
    number  Float64,
    time    DateTime64(6, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', time)
ORDER BY (project, run, path)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`attributes` ON CLUSTER `main` AS `thalweg`.`attributes_local`
ENGINE = Distributed('main', 'thalweg', 'attributes_local', run);

CREATE TABLE IF NOT EXISTS `thalweg`.`checkpoints_local` ON CLUSTER `main`
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', time)
ORDER BY (project, run, step, kind, shard)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`checkpoints` ON CLUSTER `main` AS `thalweg`.`checkpoints_local`
ENGINE = Distributed('main', 'thalweg', 'checkpoints_local', run);

CREATE TABLE IF NOT EXISTS `thalweg`.`checkpoint_checks_local` ON CLUSTER `main`
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', checked_at)
ORDER BY (project, run, step, kind, shard)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`checkpoint_checks` ON CLUSTER `main` AS `thalweg`.`checkpoint_checks_local`
ENGINE = Distributed('main', 'thalweg', 'checkpoint_checks_local', run);

CREATE TABLE IF NOT EXISTS `thalweg`.`custom_metrics_local` ON CLUSTER `main`
(
    project     String,
    name        String,
    expression  String,
    description String,
    created_at  DateTime64(6, 'UTC'),
    updated_at  DateTime64(6, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', updated_at)
ORDER BY (project, name)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`custom_metrics` ON CLUSTER `main` AS `thalweg`.`custom_metrics_local`
ENGINE = Distributed('main', 'thalweg', 'custom_metrics_local', cityHash64(project));

CREATE TABLE IF NOT EXISTS `thalweg`.`tokens_local` ON CLUSTER `main`
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
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)
ORDER BY id
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`tokens` ON CLUSTER `main` AS `thalweg`.`tokens_local`
ENGINE = Distributed('main', 'thalweg', 'tokens_local', cityHash64(id));

CREATE TABLE IF NOT EXISTS `thalweg`.`audit_local` ON CLUSTER `main`
(
    time    DateTime64(6, 'UTC'),
    actor   String,
    address String,
    project String,
    action  String,
    path    String,
    status  UInt16
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
ORDER BY (time, actor, action, path)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`audit` ON CLUSTER `main` AS `thalweg`.`audit_local`
ENGINE = Distributed('main', 'thalweg', 'audit_local', cityHash64(time));

CREATE TABLE IF NOT EXISTS `thalweg`.`deletions_local` ON CLUSTER `main`
(
    project    String,
    run_id     String,
    state      String,
    reason     String,
    deleted_at DateTime64(6, 'UTC'),
    purge_at   DateTime64(6, 'UTC'),
    time       DateTime64(6, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', time)
ORDER BY (project, run_id)
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`deletions` ON CLUSTER `main` AS `thalweg`.`deletions_local`
ENGINE = Distributed('main', 'thalweg', 'deletions_local', cityHash64(project));

CREATE TABLE IF NOT EXISTS `thalweg`.`retentions_local` ON CLUSTER `main`
(
    project    String,
    keep_s     UInt64,
    updated_at DateTime64(6, 'UTC')
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', updated_at)
ORDER BY project
SETTINGS replicated_deduplication_window = 0;

CREATE TABLE IF NOT EXISTS `thalweg`.`retentions` ON CLUSTER `main` AS `thalweg`.`retentions_local`
ENGINE = Distributed('main', 'thalweg', 'retentions_local', cityHash64(project));

ALTER TABLE `thalweg`.`points_local` ON CLUSTER `main` MODIFY SETTING max_parts_to_merge_at_once = 32, parts_to_delay_insert = 300, max_delay_to_insert = 10;

ALTER TABLE `thalweg`.`series_stats_local` ON CLUSTER `main` MODIFY SETTING max_parts_to_merge_at_once = 16;

ALTER TABLE `thalweg`.`migrations_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`points_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`series_stats_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`metric_names_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`run_metrics_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`branches_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`writers_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`attributes_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`checkpoints_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`checkpoint_checks_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`custom_metrics_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`tokens_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`audit_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`deletions_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`retentions_local` ON CLUSTER `main` MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;

ALTER TABLE `thalweg`.`points_local` ON CLUSTER `main` MODIFY SETTING min_bytes_for_wide_part = 134217728, number_of_free_entries_in_pool_to_lower_max_size_of_merge = 2,
    max_bytes_to_merge_at_min_space_in_pool = 1;

ALTER TABLE `thalweg`.`points_local` ON CLUSTER `main` MODIFY COLUMN run CODEC(LZ4), MODIFY COLUMN metric CODEC(LZ4), MODIFY COLUMN rank CODEC(LZ4),
    MODIFY COLUMN step CODEC(Delta, LZ4), MODIFY COLUMN time CODEC(Delta, ZSTD(1, 21));

ALTER TABLE `thalweg`.`points_local` ON CLUSTER `main` MODIFY COLUMN time MODIFY SETTING min_compress_block_size = 2097152, max_compress_block_size = 2097152;
