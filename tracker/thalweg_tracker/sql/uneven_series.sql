-- Runs in which some metrics do not all begin, or end, at one step: by what is known of them (series_facts.sql).
SELECT run FROM ({facts}) GROUP BY run HAVING min({step}) < max({step})
