-- Parts of up to 128 MiB of points, which are those that inserts make and their first merges, are one file of data instead of one a column:
-- half the files to make, to sync and to remove, and merges hold a fifth less of them in memory.
-- And one place in the pool of merges, of four where the engine is embedded, is left to other tables: under full load points have always
-- something to merge, and every question reads the small tables, of which hundreds of parts were waiting.
ALTER TABLE points MODIFY SETTING min_bytes_for_wide_part = 134217728, number_of_free_entries_in_pool_to_lower_max_size_of_merge = 2,
    max_bytes_to_merge_at_min_space_in_pool = 1;
