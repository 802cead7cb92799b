-- The branches of a project, each for itself: its own points are seen (as ways.sql has it).
SELECT DISTINCT run AS view, toUInt32(1) AS depth, run AS key, true AS is_own, -inf AS after, inf AS upto
FROM known_branches
WHERE project = {project:String}
