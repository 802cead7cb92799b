-- What was inserted is on the disk before it is acknowledged, and what was merged is before the parts that it was merged from are
-- removed: a loss of power takes nothing that was acknowledged. The engine by itself leaves both to the system, which may write
-- half a minute later, and removes merged parts at once where it is embedded.
ALTER TABLE migrations MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE points MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE series_stats MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE metric_names MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE run_metrics MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE branches MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE writers MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE attributes MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE checkpoints MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE checkpoint_checks MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE custom_metrics MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE tokens MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE audit MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE deletions MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
ALTER TABLE retentions MODIFY SETTING fsync_after_insert = 1, min_rows_to_fsync_after_merge = 1, fsync_part_directory = 1;
