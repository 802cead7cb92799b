-- The custom metrics of a project by name.
SELECT name, expression, description, created_at, updated_at
FROM custom_metrics FINAL
WHERE project = {project:String} AND expression != ''
ORDER BY name
