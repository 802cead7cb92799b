-- The runs of a project that were deleted.
SELECT run_id FROM deletions FINAL WHERE project = {project:String} AND state != ''
