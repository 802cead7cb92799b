-- Names that some metric keys of a project have.
SELECT metric, name
FROM metric_names
WHERE project = {project:String} AND metric IN {keys:Array(UInt64)}
