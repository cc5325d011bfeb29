//! Spellings of calls that custom SQL may not make.

/// A call in column notation; it would draw from the sequence `alarm`.
const COLUMN: &str = "('public.alarm'::regclass).nextval";

/// Places of an expression: the spellings are these, with [`COLUMN`] for `{}`.
const PLACES: [&str; 40] = [
    "SELECT {} AS a",
    "SELECT 1 AS a WHERE {} > 0",
    "SELECT 1 AS a ORDER BY {}",
    "SELECT count(*) FROM pg_class GROUP BY {}",
    "SELECT count(*) FROM pg_class HAVING {} > 0",
    "WITH c AS (SELECT {} AS a) SELECT a FROM c",
    "SELECT l.a FROM (VALUES (1)) AS v (x), LATERAL (SELECT {} AS a) AS l",
    "SELECT count(*) FILTER (WHERE {} > 0) FROM pg_class",
    "SELECT count(*) OVER (ORDER BY {}) FROM pg_class",
    "SELECT count(*) OVER w FROM pg_class WINDOW w AS (PARTITION BY {})",
    "SELECT (ARRAY[1, 2])[({})::int]",
    "SELECT (ARRAY[1, 2])[1:({})::int]",
    "SELECT ARRAY[{}]",
    "SELECT CASE WHEN true THEN {} END",
    "SELECT CASE {} WHEN 1 THEN 2 END",
    "SELECT * FROM (VALUES ({})) AS v (x)",
    "SELECT 1 AS a FROM pg_class AS b JOIN pg_class AS c ON {} > 0",
    "SELECT 1 AS a LIMIT ({})",
    "SELECT 1 AS a OFFSET ({})",
    "SELECT ROW({}, 1) < ROW(2, 3)",
    "SELECT ROW({}, 1)",
    "SELECT coalesce({}, 1)",
    "SELECT greatest({}, 1)",
    "SELECT nullif({}, 1)",
    "SELECT ({})::text",
    "SELECT 'a' || {}",
    "SELECT {} BETWEEN 1 AND 2",
    "SELECT {} IN (1, 2)",
    "SELECT 1 IN (SELECT {})",
    "SELECT 1 = ANY (ARRAY[{}])",
    "SELECT EXISTS (SELECT {})",
    "SELECT (SELECT {})",
    "SELECT abs({})",
    "SELECT max({})",
    "SELECT string_agg('a', ',' ORDER BY {})",
    "SELECT DISTINCT ON ({}) 1 AS a",
    "SELECT 1 AS a UNION SELECT {}",
    "SELECT {} IS NULL",
    "SELECT NOT ({} > 0)",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ({})::float8)",
];

/// Other column notations.
const NOTATIONS: [&str; 17] = [
    "SELECT ('public.alarm'::regclass).\"nextval\" AS a",
    "SELECT ('public.alarm'::regclass).NEXTVAL AS a",
    "SELECT ('public.alarm'::regclass) /* a */ . -- b\n nextval AS a",
    "SELECT (ARRAY['public.alarm'::regclass])[1].nextval AS a",
    "SELECT ((ARRAY['public.alarm'::regclass])[1]).nextval AS a",
    "SELECT (SELECT 'public.alarm'::regclass).nextval AS a",
    "SELECT (CAST('public.alarm' AS regclass)).nextval AS a",
    "SELECT (:'table'::regclass).nextval AS a",
    "SELECT (to_regclass('public.alarm')).nextval AS a",
    // A function's row that is one value is that value: no parenthesis at all.
    "SELECT g.nextval FROM to_regclass('public.alarm') AS g",
    "SELECT g.\"nextval\" AS a FROM to_regclass('public.alarm') AS g",
    "SELECT (g).nextval FROM to_regclass('public.alarm') AS g",
    "SELECT g.pg_try_advisory_lock FROM abs(4711::int8) AS g",
    "SELECT (4711::int8).pg_try_advisory_lock AS a",
    "SELECT g.ts_stat FROM lower('select to_tsvector(''simple'', public.evil(''x''))') AS g",
    "SELECT ('select to_tsvector(''simple'', public.evil(''x''))'::text).ts_stat::text AS a",
    "SELECT (pid).pg_terminate_backend, pid FROM pg_stat_activity WHERE usename = 'countersign_read' AND pid <> pg_backend_pid()",
];

/// Calls by a type, a cast, an operator, an aggregate, a view or a table.
const OBJECTS: [&str; 57] = [
    "SELECT 'x'::public.evil_domain AS a",
    "SELECT CAST('x' AS public.evil_domain) AS a",
    "SELECT public.evil_domain 'x' AS a",
    "SELECT NULL::public.evil_domain AS a",
    "SELECT 'x'::public.evil_nested AS a",
    "SELECT 'x'::text::public.evil_domain AS a",
    "SELECT :'table'::public.evil_domain AS a",
    "SELECT '{x}'::public.evil_domain[] AS a",
    "SELECT ARRAY['x']::public.evil_domain[] AS a",
    "SELECT '{x}'::text::public.evil_domain[] AS a",
    "SELECT ARRAY['x'::public.evil_domain] AS a",
    "SELECT (ROW('x')::public.evil_row)::text AS a",
    "SELECT ('(x)'::public.evil_row)::text AS a",
    "SELECT ('(x)'::text::public.evil_row)::text AS a",
    "SELECT ('{\"(x)\"}'::public.evil_row[])::text AS a",
    "SELECT ('[a,b]'::public.evil_range)::text AS a",
    "SELECT (json_populate_record(NULL::public.evil_row, '{\"d\": \"x\"}'))::text AS a",
    "SELECT r::text AS a FROM jsonb_to_record('{\"d\": \"x\"}') AS r (d public.evil_domain)",
    "SELECT coalesce('x', NULL::public.evil_domain) AS a",
    "SELECT CASE WHEN true THEN 'x' ELSE NULL::public.evil_domain END AS a",
    "SELECT 'x'::public.evil_domain UNION SELECT 'y'",
    // The literal takes the column's type, and is read by it while the statement is analysed.
    "SELECT 1 AS a FROM public.evil_arrays WHERE a = '{x}'",
    "SELECT 1 AS a FROM public.evil_arrays WHERE '{x}' <> a",
    "SELECT 1 AS a FROM public.evil_arrays WHERE a IS DISTINCT FROM '{x}'",
    "SELECT 1 AS a FROM public.evil_arrays WHERE r = '(x)'",
    "SELECT 1 AS a FROM public.evil_arrays WHERE r IN ('(x)', '(y)')",
    "SELECT 1 AS a FROM public.evil_arrays WHERE a[1] = 'x'",
    "SELECT coalesce(a, '{x}')::text AS a FROM public.evil_arrays",
    "SELECT * FROM public.evil_arrays",
    "SELECT ('happy'::public.mood)::integer AS a",
    "SELECT mood::integer AS a FROM public.notes",
    "SELECT 'a' OPERATOR(public.@@@) 'b' AS a",
    "SELECT 1 AS a ORDER BY 'a'::text OPERATOR(public.@@@) 'b'",
    "SELECT 'a' OPERATOR(public.@@@) ANY (ARRAY['b']) AS a",
    "SELECT public.evil_any('a') AS a",
    "SELECT * FROM public.evil_view",
    "SELECT count(*) FROM public.evil_outer_view",
    "SELECT EXISTS (SELECT FROM public.evil_outer_view) AS a",
    "SELECT id FROM public.evil_policy",
    "SELECT id FROM public.evil_index WHERE id = 'x'",
    "SELECT id FROM public.evil_check WHERE id = 'x'",
    "SELECT id FROM public.evil_generated",
    "SELECT d FROM public.evil_domained",
    // A partition's rows are what the keys of the tables above it say.
    "SELECT id FROM public.keyed_partition WHERE id > 100",
    // What writes JSON looks for a cast.
    "SELECT to_json(j)::text AS a FROM public.written_as_json",
    "SELECT to_jsonb(j)::text AS a FROM public.written_as_json",
    "SELECT to_json('a'::public.evil_json)::text AS a",
    "SELECT row_to_json(w)::text AS a FROM public.written_as_json AS w",
    "SELECT row_to_json(s)::text AS a FROM (SELECT j FROM public.written_as_json) AS s",
    "SELECT to_json(ROW(j))::text AS a FROM public.written_as_json",
    "SELECT to_json(d)::text AS a FROM public.written_as_json",
    "SELECT to_json(r)::text AS a FROM public.written_as_json",
    "SELECT array_to_json(a)::text AS a FROM public.written_as_json",
    "SELECT json_agg(j)::text AS a FROM public.written_as_json",
    "SELECT jsonb_agg(ARRAY[j])::text AS a FROM public.written_as_json",
    "SELECT json_build_object('a', j)::text AS a FROM public.written_as_json",
    "SELECT json_object_agg(1, j)::text AS a FROM public.written_as_json",
];

/// Plain calls.
const CALLS: [&str; 21] = [
    "SELECT nextval('public.alarm') AS a",
    "SELECT pg_catalog.nextval('public.alarm') AS a",
    "SELECT public.evil('x') AS a",
    "SELECT a FROM public.evil('x') AS a",
    "SELECT setval('public.alarm', 7) AS a",
    "SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', public.evil(''x''))')",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT public.evil(''x'')::tsquery, ''b''::tsquery')::text AS a",
    "SELECT query_to_xml('SELECT public.evil(''x'')', true, true, '')::text AS a",
    "SELECT database_to_xml(true, true, '')::text AS a",
    "SELECT cursor_to_xml('c', 1, true, true, '')::text AS a",
    "SELECT set_config('search_path', 'public', false) AS a",
    "SELECT lo_create(4711) AS a",
    "SELECT lo_from_bytea(4711, '')",
    "SELECT pg_read_file('PG_VERSION') AS a",
    "SELECT pg_sleep(60)::text AS a",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'countersign_read' AND pid <> pg_backend_pid()",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'countersign_read' AND pid <> pg_backend_pid()",
    "SELECT pg_advisory_lock(4711)::text AS a",
    "SELECT pg_try_advisory_lock(4711) AS a",
    "SELECT pg_notify('a', 'b')::text AS a",
    "SELECT pg_logical_emit_message(true, 'a', 'b')::text AS a",
];

/// Statements that would change rows.
const CHANGES: [&str; 36] = [
    "INSERT INTO public.notes (note) VALUES ('a') RETURNING {}",
    "INSERT INTO public.notes (id) VALUES ({})",
    "INSERT INTO public.notes (id) SELECT {}",
    "INSERT INTO public.notes (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = {}",
    "INSERT INTO public.notes (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 1 WHERE {} > 0",
    "UPDATE public.notes SET id = {}",
    "UPDATE public.notes SET (id, note) = (SELECT {}, 'a')",
    "UPDATE public.notes SET note = 'a' WHERE {} > 0",
    "UPDATE public.notes SET note = 'a' FROM (SELECT {} AS b) AS c WHERE c.b = notes.id",
    "UPDATE public.notes SET note = 'a' RETURNING {}",
    "DELETE FROM public.notes WHERE {} > 0",
    "DELETE FROM public.notes USING (SELECT {} AS b) AS c WHERE c.b = notes.id",
    "DELETE FROM public.notes RETURNING {}",
    "WITH c AS (SELECT {} AS b) DELETE FROM public.notes WHERE id IN (SELECT b FROM c)",
    "INSERT INTO public.evil_check VALUES ('a')",
    "INSERT INTO public.evil_generated (id) VALUES ('a')",
    "INSERT INTO public.evil_default (id) VALUES (1)",
    "UPDATE public.evil_default SET d = DEFAULT",
    "INSERT INTO public.evil_domained (id) VALUES (1)",
    "INSERT INTO public.evil_arrays (a) VALUES ('{x}')",
    "INSERT INTO public.evil_triggered VALUES (1)",
    "UPDATE public.evil_triggered SET id = 2",
    "DELETE FROM public.evil_triggered",
    "UPDATE public.evil_ruled SET id = 2",
    "DELETE FROM public.parent",
    "INSERT INTO public.partitioned VALUES (1)",
    "INSERT INTO public.keyed_partition VALUES (1)",
    "UPDATE public.keyed_partition SET id = 2",
    "DELETE FROM public.keyed_partition",
    // The two ends of a foreign key are compared.
    "INSERT INTO public.converted_key VALUES (2, 'a')",
    "UPDATE public.converted_key SET n = 'b'",
    "UPDATE public.numbers SET id = 3 WHERE id = 2",
    "INSERT INTO public.indexed_child VALUES (1, 1)",
    "UPDATE public.indexed_child SET parent = 2",
    "DELETE FROM public.plain_parent",
    "UPDATE public.plain_parent SET id = 3 WHERE id = 2",
];

/// Statements that read and are asked.
pub const READS: [&str; 16] = [
    "SELECT id, note, mood::text AS mood, mail::text AS mail, at FROM public.notes",
    "SELECT * FROM public.notes_by_mood WHERE mood = 'happy'",
    "SELECT count(*) FROM public.notes WHERE mood = 'sad'::public.mood OR mail = 'b@example.com'",
    "SELECT 'c@example.com'::public.email AS a",
    "SELECT note FROM public.notes WHERE lower(note) LIKE 'o%' ESCAPE '!' AND note SIMILAR TO 'o(n|m)e' AND note IS DISTINCT FROM 'two'",
    "SELECT extract(year FROM at)::int AS a, at AT TIME ZONE 'UTC' > timestamp '2020-01-01' AS b FROM public.notes",
    "SELECT id FROM public.notes WHERE at > now() - interval '1 day' AND :'table' <> '' ORDER BY id LIMIT 3",
    "SELECT (date '2026-01-01', date '2026-02-01') OVERLAPS (date '2026-01-15', date '2026-03-01') AS a",
    "SELECT n.note, row_number() OVER (PARTITION BY n.mood ORDER BY n.at DESC) AS a FROM public.notes AS n",
    "WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3) SELECT sum(n)::int AS a FROM c",
    "SELECT v.key, v.value FROM jsonb_each_text('{\"a\": 1}'::jsonb) AS v",
    "SELECT string_agg(note, ', ' ORDER BY note) FILTER (WHERE id IN (1, 2)) AS a FROM public.notes GROUP BY GROUPING SETS ((mood), ())",
    "SELECT c.relname::text AS a, pg_size_pretty(pg_total_relation_size(c.oid)) AS b FROM pg_class AS c WHERE c.relname = 'notes'",
    "SELECT name, setting FROM pg_settings WHERE name = 'max_connections'",
    "SELECT d.* FROM (SELECT a.n, b.n AS m FROM generate_series(1, 2) AS a (n) LEFT JOIN generate_series(2, 3) AS b (n) USING (n)) AS d",
    "SELECT ('{1,2}'::int[])[1] AS a, ROW(1, 'a') < ROW(2, 'b') AS b, coalesce(NULL, 'x') AS c, overlay('abc' placing 'x' from 2) AS d",
];

/// Statements that change rows and are done.
pub const ACTS: [&str; 7] = [
    "INSERT INTO public.notes (note) VALUES ('two')",
    "INSERT INTO public.notes (note, mood, mail) SELECT 'three', 'sad', 'c@example.com' RETURNING id",
    "INSERT INTO public.notes (id, note) VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET note = excluded.note",
    "UPDATE public.notes AS n SET note = 'x' || n.note, at = DEFAULT WHERE n.mood = 'sad'",
    "WITH old AS (SELECT id FROM public.notes WHERE note = 'b') DELETE FROM public.notes WHERE id IN (SELECT old.id FROM old)",
    "DELETE FROM public.evil_ruled WHERE id > 5",
    "DELETE FROM public.indexed_child",
];

fn with_column(places: &[&str]) -> Vec<String> {
    places.iter().map(|place| place.replace("{}", COLUMN)).collect()
}

/// Statements that read, each refused.
pub fn reads() -> Vec<String> {
    let others = [NOTATIONS.as_slice(), &OBJECTS, &CALLS].concat().into_iter().map(str::to_owned);
    with_column(&PLACES).into_iter().chain(others).collect()
}

/// Statements that change rows, each refused.
pub fn changes() -> Vec<String> {
    with_column(&CHANGES)
}
