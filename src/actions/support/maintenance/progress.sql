-- How far the session is: $1 pid.
SELECT p.phase, (100.0 * p.heap_blks_scanned / NULLIF(p.heap_blks_total, 0))::float8 AS share
FROM pg_stat_progress_vacuum p WHERE p.pid = $1
UNION ALL
SELECT p.phase, (100.0 * p.sample_blks_scanned / NULLIF(p.sample_blks_total, 0))::float8
FROM pg_stat_progress_analyze p WHERE p.pid = $1
UNION ALL
-- The rows, then the indexes.
SELECT p.phase, (60.0 * p.heap_blks_scanned / NULLIF(p.heap_blks_total, 0)
                 + 40.0 * p.index_rebuild_count / (SELECT NULLIF(count(*), 0) FROM pg_index i WHERE i.indrelid = p.relid))::float8
FROM pg_stat_progress_cluster p WHERE p.pid = $1
UNION ALL
-- Its two scans, and the waiting behind each.
SELECT p.phase || COALESCE(', behind session ' || NULLIF(p.current_locker_pid, 0), ''),
       CASE WHEN p.phase = 'building index: loading tuples in tree' THEN 40 + 20.0 * p.tuples_done / NULLIF(p.tuples_total, 0)
            WHEN p.phase LIKE 'building index%' THEN 40.0 * p.blocks_done / NULLIF(p.blocks_total, 0)
            WHEN p.phase = 'waiting for writers before validation' THEN 60
            WHEN p.phase LIKE 'index validation%' THEN 60 + 30.0 * p.blocks_done / NULLIF(p.blocks_total, 0)
            WHEN p.phase IN ('waiting for old snapshots', 'waiting for readers before marking dead',
                             'waiting for readers before dropping') THEN 90 END::float8
FROM pg_stat_progress_create_index p WHERE p.pid = $1
UNION ALL
SELECT 'waiting for a lock', NULL FROM pg_stat_activity a WHERE a.pid = $1 AND a.wait_event_type = 'Lock'
LIMIT 1
