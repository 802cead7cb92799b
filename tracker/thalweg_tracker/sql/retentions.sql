-- For how long projects keep their runs: of one, or of all if it is empty.
SELECT project, keep_s
FROM retentions FINAL
WHERE ({project:String} = '' OR project = {project:String}) AND keep_s > 0
ORDER BY project
