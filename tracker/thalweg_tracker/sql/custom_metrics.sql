-- The custom metrics of a project by name: it is the key.
SELECT project, name, expression, description, created_at, updated_at
FROM custom_metrics FINAL
WHERE project IN {keys:Array(String)} AND project = {project:String} AND expression != ''
ORDER BY name
