-- How many parts one merge takes, of a hundred by default. It holds a few blocks of each: of 4 MiB in all of `series_stats`, of 2 of
-- `points`. Where parts come faster than they are merged, four such merges took half a gigabyte.
-- And how many parts of points may wait for their merges before inserts are slowed down, of a thousand by default: each is looked into
-- by every query of a run.
ALTER TABLE points MODIFY SETTING max_parts_to_merge_at_once = 32, parts_to_delay_insert = 300, max_delay_to_insert = 10;
ALTER TABLE series_stats MODIFY SETTING max_parts_to_merge_at_once = 16;
