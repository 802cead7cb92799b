-- Whether a project has runs, deleted or not.
SELECT count() AS n FROM (SELECT 1 FROM branches WHERE project = {project:String} LIMIT 1)
