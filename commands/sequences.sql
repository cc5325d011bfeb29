/*
summary = "Sequences, and how much of their range is used"
group = "databases"
risk = "read"
scope = "database"
needs = ["sequences"]
args = [{ name = "service", type = "service", positional = true, help = "one service; all services if omitted" }]
example = "sequences asset-service"
details = "A sequence goes from its start to its own limit or that of a column that takes its numbers, whichever comes first: an integer column ends at 2,147,483,647 even if its sequence goes further. Columns that reference such a column count too; numbers that only triggers or programs take are not known here. The numbers left are counted in steps of the increment. At the limit every insert fails, unless the sequence cycles. Changing a column to bigint rewrites its table and blocks reads and writes meanwhile, so plan it."
sort = "_rank"
top = 15
verdict_empty = "No sequences found."
verdict = "{_says}"
rows_severity = "ok"
next = "Plan a migration in time: {_step}. `sizes {service}` shows how large its table is."
row_action_if = "_next"

[thresholds]
used_pct = { warning = 75, critical = 90, message = "" }
_used_pct = { warning = 75, critical = 90, message = "{target}: {sequence} has used {value} of its range; {left} numbers are left.", next = "`sizes {service}` shows how large its table is." }
_locked = { warning = 1, in_part = true, message = "{target}: {_unread} locked by another session and could not be read: `blocked` shows who waits. Try again." }
_hidden = { warning = 1, in_part = true, message = "{target} {_shortfall}: `{_fix}`. Not read: {_sequences}." }

[on_error]
XX000 = "reported an internal error (XX000), as when a sequence is dropped while it is being read: try again"
55P03 = "had a sequence locked while it was being read: try again"
*/
-- Looked at: sequences
SELECT sequence, used_pct, CASE WHEN NOT cycles AND last IS NOT NULL THEN least(left_over, 9223372036854775807)::bigint END AS left, "column",
       CASE WHEN NOT allowed THEN 'no privilege' WHEN locked THEN 'locked by another session'
            WHEN elsewhere THEN 'unlogged: not on a replica' WHEN cycles THEN 'cycles'
            WHEN last IS NULL THEN 'unused since its start' END AS note,
       CASE WHEN nth = 1 AND NOT cycles THEN used_pct END AS _used_pct,
       CASE WHEN nth = 1 THEN NULLIF(hidden, 0) END AS _hidden, hidden || ' of ' || sequences || ' sequences' AS _sequences,
       CASE WHEN nth = 1 THEN NULLIF(unread, 0) END AS _locked,
       unread || ' of ' || sequences || CASE sequences WHEN 1 THEN ' sequence is' ELSE ' sequences are' END AS _unread,
       CASE WHEN used_pct IS NULL THEN 'No readable sequence has been used since its start.'
            WHEN cycles THEN 'Only sequences that cycle have been used: none of them ends.'
            ELSE 'No sequence is near its limit: ' || sequence || ' is the closest, with ' || round(used_pct) || ' % used.' END AS _says,
       used_pct >= 75 AND NOT cycles AND (NOT by_column OR narrow IS NOT NULL) AS _next,
       CASE WHEN by_column AND child THEN 'change ' || narrow || ' to bigint'
            WHEN by_column THEN 'change ' || narrow || ', its sequence and every column that references it to bigint'
            ELSE 'widen the range of ' || sequence || ' (ALTER SEQUENCE), and every column that stores its numbers' END AS _step,
       rank AS _rank, sequences AS _total
FROM json_to_recordset(:'sequences'::json)
  AS s(sequence text, "column" text, narrow text, child boolean, cycles boolean, allowed boolean, locked boolean, elsewhere boolean, by_column boolean,
       last numeric, left_over numeric, used_pct float8, nth int, hidden int, unread int, sequences int, rank float8)
ORDER BY rank DESC, sequence
