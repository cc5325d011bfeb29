-- How far the session is: $1 pid.
SELECT p.phase, (100.0 * p.heap_blks_scanned / NULLIF(p.heap_blks_total, 0))::float8 AS share
FROM pg_stat_progress_vacuum p WHERE p.pid = $1
UNION ALL
SELECT p.phase, (100.0 * p.sample_blks_scanned / NULLIF(p.sample_blks_total, 0))::float8
FROM pg_stat_progress_analyze p WHERE p.pid = $1
LIMIT 1
