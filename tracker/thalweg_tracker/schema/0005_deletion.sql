-- Runs that were deleted; the latest word stands. `state`: `deleted`, hidden until it is brought back or `purge_at` has come;
-- `purging`, its data are being removed; `purged`, only this row is left of it, so that a late writer does not begin it anew;
-- empty, it is not deleted any more. A row without `run_id` is of a whole project: when no run of it is left, what belongs to the
-- project itself is purged too.
CREATE TABLE deletions
(
    project    String,
    run_id     String,
    state      String,
    reason     String,
    deleted_at DateTime64(6, 'UTC'),
    purge_at   DateTime64(6, 'UTC'),
    time       DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(time)
ORDER BY (project, run_id);

-- For how long projects keep runs after their last word, in seconds. 0: for ever.
CREATE TABLE retentions
(
    project    String,
    keep_s     UInt64,
    updated_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY project;
