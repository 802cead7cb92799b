-- Whether a run of a project sees the points of another branch.
SELECT count() > 0 AS has_lineages FROM branches WHERE project = {project:String} AND length(lineage_run) > 1
