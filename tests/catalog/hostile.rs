//! The mistakes of custom SQL, each with its place and its words; and statements that are accepted.

use super::{built_in, mistakes, team};
use countersign::catalog::Body;
use countersign::catalog::allowlist::{self, Purpose};
use countersign::catalog::bind::bind_names;
use countersign::model::Risk;
use std::path::Path;

const ARGS: &str = r#"args    = [{ name = "table", type = "text", help = "one" }]"#;

/// A command that reads; its SQL begins on line 9.
fn reads(sql: &str) -> String {
    format!(
        "/*\nsummary = \"Mine\"\ngroup   = \"team\"\nrisk    = \"read\"\nscope   = \"database\"\n{ARGS}\n\
         example = \"mine\"\n*/\n{sql}\n"
    )
}

const PREVIEW: &str = "-- ## Preview [preview]\nSELECT count(*) AS count FROM public.t\n-- ## Act\n";

/// A command that acts; what stands behind its header begins on line 10.
fn danger(sql: &str) -> String {
    let header = reads(sql).replace("\"read\"", "\"danger\"");
    header.replace("example =", "login   = \"operator\"\nexample =")
}

/// Statements that read; the place counts from the statement's own line, which is line 1.
const READS: [(&str, &str, &str); 75] = [
    // functions that do something
    ("SELECT pg_terminate_backend(4711)", "1:8", "`pg_terminate_backend` is not among the functions"),
    ("SELECT pg_cancel_backend(pid) FROM pg_stat_activity", "1:8", "`pg_cancel_backend`"),
    ("SELECT 1 WHERE pg_sleep(60) IS NULL", "1:16", "`pg_sleep`"),
    ("SELECT set_config('role', 'postgres', false)", "1:8", "`set_config`"),
    ("SELECT lo_unlink(1)", "1:8", "`lo_unlink`"),
    ("SELECT lo_import('/etc/passwd')", "1:8", "`lo_import`"),
    ("SELECT pg_advisory_lock(1)", "1:8", "`pg_advisory_lock`"),
    ("SELECT pg_try_advisory_xact_lock(1)", "1:8", "`pg_try_advisory_xact_lock`"),
    ("SELECT dblink('host=elsewhere', 'DROP TABLE t')", "1:8", "`dblink`"),
    ("SELECT dblink_exec('DROP TABLE t')", "1:8", "`dblink_exec`"),
    ("SELECT pg_read_file('pg_hba.conf')", "1:8", "`pg_read_file`"),
    ("SELECT * FROM pg_ls_dir('.')", "1:15", "`pg_ls_dir`"),
    ("SELECT nextval('public.t_id_seq')", "1:8", "`nextval`"),
    ("SELECT setval('public.t_id_seq', 1)", "1:8", "`setval`"),
    ("SELECT query_to_xml('DELETE FROM public.t RETURNING id', true, true, '')", "1:8", "`query_to_xml`"),
    ("SELECT * FROM ts_stat('SELECT x FROM public.t')", "1:15", "`ts_stat`"),
    ("SELECT ts_rewrite('a'::tsquery, 'SELECT 1')", "1:8", "`ts_rewrite`"),
    ("SELECT pg_notify('deploy', 'now')", "1:8", "`pg_notify`"),
    ("SELECT pg_logical_emit_message(true, 'a', 'b')", "1:8", "`pg_logical_emit_message`"),
    ("SELECT pg_create_restore_point('x')", "1:8", "`pg_create_restore_point`"),
    ("SELECT pg_drop_replication_slot('x')", "1:8", "`pg_drop_replication_slot`"),
    ("SELECT pg_stat_reset()", "1:8", "`pg_stat_reset`"),
    ("SELECT pg_stat_statements_reset()", "1:8", "`pg_stat_statements_reset`"),
    ("SELECT pg_reload_conf(), pg_switch_wal()", "1:8", "`pg_reload_conf`"),
    ("SELECT pg_current_xact_id()", "1:8", "`pg_current_xact_id`"),
    // other spellings of a call
    ("SELECT pg_catalog.pg_sleep(60)", "1:8", "`pg_catalog.pg_sleep`"),
    ("SELECT PG_SLEEP (60)", "1:8", "`pg_sleep`"),
    ("SELECT \"pg_sleep\"(60)", "1:8", "`pg_sleep`"),
    ("SELECT \"pg_catalog\" . \"pg_sleep\" /* now */ (60)", "1:8", "`pg_catalog.pg_sleep`"),
    ("SELECT pg_sleep -- really\n(60)", "1:8", "`pg_sleep`"),
    ("SELECT public.lower('a')", "1:8", "`public.lower`"),
    ("SELECT \"LOWER\"('a')", "1:8", "`LOWER`"),
    ("SELECT purge_everything()", "1:8", "`purge_everything`"),
    ("SELECT t.x FROM public.t CROSS JOIN LATERAL purge(t.id) AS p(n)", "1:45", "`purge`"),
    ("SELECT * FROM ROWS FROM (pg_sleep(1)) AS x", "1:20", "it can't be read as"),
    ("SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM public.t", "1:31", "`pg_sleep`"),
    ("SELECT count(*) OVER (ORDER BY pg_sleep(1)) FROM public.t", "1:32", "`pg_sleep`"),
    ("SELECT 1 ORDER BY pg_sleep(1)", "1:19", "`pg_sleep`"),
    ("SELECT 1 LIMIT (SELECT 1 FROM pg_sleep(1))", "1:31", "`pg_sleep`"),
    ("SELECT CASE WHEN true THEN lo_create(0) END", "1:28", "`lo_create`"),
    ("SELECT ARRAY[lower(upper(chr(lo_create(0)::int)))]", "1:30", "`lo_create`"),
    ("WITH lower(x) AS (SELECT 1) SELECT mine(2)", "1:36", "`mine`"),
    ("SELECT money(1), regclass('public.t')", "1:8", "`money`"),
    ("SELECT 1 OPERATOR(public.+) 1", "1:10", "`operator`"),
    ("SELECT * FROM public.t TABLESAMPLE mine(5)", "1:36", "`mine`"),
    ("SELECT :'table'::text, pg_sleep(1)", "1:24", "`pg_sleep`"),
    // a column that is a function
    (
        "SELECT (pid).pg_terminate_backend FROM pg_stat_activity",
        "1:14",
        "`pg_terminate_backend` behind a value",
    ),
    ("SELECT 1 WHERE (3.0::float8).\"pg_sleep\" IS NULL", "1:30", "`\"pg_sleep\"` behind a value"),
    ("SELECT (ARRAY[1.0::float8])[1] . pg_sleep", "1:34", "`pg_sleep` behind a value"),
    ("SELECT ('x'::text) /* a */ . -- b\n ts_stat", "2:2", "`ts_stat` behind a value"),
    ("SELECT (SELECT 1.0::float8).pg_sleep", "1:29", "`pg_sleep` behind a value"),
    ("SELECT (:'table').ts_stat", "1:19", "`ts_stat` behind a value"),
    (
        "SELECT ARRAY(SELECT 1 ORDER BY (4711::int8).pg_advisory_lock)",
        "1:45",
        "`pg_advisory_lock` behind a value",
    ),
    // what two readers read differently
    ("SELECT 1 *-- '\n + pg_sleep(1) --'", "2:4", "`pg_sleep`"),
    ("SELECT 1 -- quiet\rFROM pg_sleep(1)", "1:10", "carriage return"),
    ("SELECT 1 /* a /* b */ */", "1:10", "a comment inside a comment"),
    ("SELECT E'a\\' || pg_sleep(1) --'", "1:9", "write a plain string"),
    ("SELECT U&'\\0061'", "1:10", "write a plain string"),
    ("SELECT U&\"\\0070g_sleep\"(1)", "1:10", "are refused"),
    ("SELECT $$x$$", "1:8", "a dollar quote"),
    ("SELECT x$a$ FROM pg_class WHERE $a$ b $a$ = ''", "1:8", "looks like a dollar quote"),
    ("SELECT pg_sleep\u{a0}(1)", "1:16", "letters beyond a to z"),
    ("SELECT 1pg_sleep(1)", "1:8", "a blank is missing after the number"),
    ("SELECT $1::text", "1:8", "written as :'name'"),
    ("SELECT (1", "1:10", "it can't be read as PostgreSQL's SQL"),
    ("SELECT FROM WHERE FROM", "1:19", "it can't be read as PostgreSQL's SQL"),
    // statements and clauses
    ("VACUUM FULL public.t", "1:1", "`VACUUM` is refused: what reads is a SELECT"),
    ("DELETE FROM public.t", "1:1", "`DELETE` is refused"),
    ("SELECT * INTO public.copy FROM public.t", "1:10", "SELECT … INTO makes a table"),
    ("SELECT id FROM public.t FOR UPDATE", "1:25", "it locks rows"),
    ("SELECT id FROM public.t FOR NO KEY UPDATE", "1:25", "it locks rows"),
    ("WITH d AS (DELETE FROM public.t RETURNING id) SELECT count(*) FROM d", "1:12", "may not change rows"),
    (
        "WITH m AS (MERGE INTO public.t USING public.u ON true WHEN MATCHED THEN DELETE) SELECT 1",
        "1:12",
        "`MERGE`",
    ),
    ("SELECT * FROM audit_logs", "1:15", "write it as `public.audit_logs`"),
    ("SELECT * FROM elsewhere.public.t", "1:15", "written as `schema.table`"),
];

/// Statements that act.
const ACTS: [(&str, &str, &str); 27] = [
    ("DO $$ BEGIN DELETE FROM public.t; END $$", "1:4", "a dollar quote"),
    ("DO 'BEGIN END'", "1:1", "`DO` is refused: what acts is"),
    ("CALL public.purge()", "1:1", "`CALL`"),
    ("COPY public.t TO PROGRAM 'sh'", "1:1", "`COPY`"),
    ("SET ROLE postgres", "1:1", "`SET`"),
    ("EXECUTE purge", "1:1", "`EXECUTE`"),
    ("PREPARE purge AS SELECT 1", "1:1", "`PREPARE`"),
    ("COMMIT", "1:1", "`COMMIT`"),
    ("TRUNCATE public.t", "1:1", "`TRUNCATE`"),
    ("DROP TABLE public.t", "1:1", "`DROP`"),
    ("ALTER TABLE public.t ADD x int", "1:1", "`ALTER`"),
    ("CREATE TABLE public.x AS SELECT 1", "1:1", "`CREATE`"),
    ("GRANT ALL ON public.t TO PUBLIC", "1:1", "`GRANT`"),
    ("REINDEX TABLE public.t", "1:1", "`REINDEX`"),
    ("LOCK TABLE public.t", "1:1", "`LOCK`"),
    ("MERGE INTO public.t USING public.u ON true WHEN MATCHED THEN DELETE", "1:1", "`MERGE`"),
    ("EXPLAIN ANALYZE DELETE FROM public.t", "1:1", "`EXPLAIN`"),
    ("DELETE FROM public.t; DELETE FROM public.u", "1:21", "one statement under each title"),
    ("DELETE FROM t", "1:13", "write it as `public.t`"),
    ("DELETE FROM public.t WHERE id = nextval('public.s')", "1:33", "`nextval`"),
    ("DELETE FROM public.t RETURNING pg_notify('gone', id::text)", "1:32", "`pg_notify`"),
    ("UPDATE public.t SET x = set_config('role', 'x', false)", "1:25", "`set_config`"),
    ("UPDATE pg_settings SET setting = 'x' WHERE name = 'role'", "1:8", "what PostgreSQL itself keeps"),
    ("DELETE FROM pg_catalog.pg_depend", "1:13", "what PostgreSQL itself keeps"),
    ("INSERT INTO public.t (id) SELECT purge(id) FROM public.t", "1:34", "`purge`"),
    (
        "WITH gone AS (DELETE FROM public.t RETURNING id) INSERT INTO public.u (id) SELECT id FROM gone",
        "1:15",
        "its rows are not counted",
    ),
    (
        "INSERT INTO public.t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET x = pg_sleep(1)",
        "1:73",
        "`pg_sleep`",
    ),
];

/// `1:8` of a statement is `9:8` of a file that has it on line 9.
fn moved(place: &str, first: usize) -> String {
    let (line, column) = place.split_once(':').unwrap();
    format!("mine.sql:{}:{column}: ", line.parse::<usize>().unwrap() + first - 1)
}

#[test]
fn what_is_hostile_is_refused_with_its_place() {
    let mut unlike = Vec::new();
    let reading = READS.iter().map(|case| (case, reads(case.0), 9));
    let acting = ACTS.iter().map(|case| (case, danger(&format!("{PREVIEW}{}", case.0)), 13));
    for ((sql, place, words), file, first) in reading.chain(acting) {
        let found = mistakes("mine.sql", &file);
        if !found.iter().any(|one| one.starts_with(&moved(place, first)) && one.contains(words)) {
            unlike.push(format!("{sql}\n  wanted {} {words}\n  found {found:?}", moved(place, first)));
        }
    }
    assert!(unlike.is_empty(), "{}", unlike.join("\n"));
}

/// Statements that read, and nothing else.
const HARMLESS: [&str; 14] = [
    "SELECT count(*), max(x) FILTER (WHERE x > 1) FROM public.t AS t(x, y) GROUP BY GROUPING SETS ((y), ())",
    "WITH old(id) AS MATERIALIZED (SELECT id FROM public.t) SELECT o.id FROM old AS o WHERE o.id IN (SELECT id FROM old)",
    "SELECT date_trunc('day', created_at AT TIME ZONE ('UTC')), extract(epoch FROM now() - created_at)::numeric(10, 2) FROM public.t",
    "SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS g(n, at) JOIN LATERAL (SELECT n + 1) AS s(m) ON (true)",
    "SELECT pg_size_pretty(pg_catalog.pg_total_relation_size('public.t'::regclass)), \"lower\"('X')",
    "SELECT row_number() OVER (PARTITION BY y ORDER BY x DESC NULLS LAST), lag(x) OVER w FROM public.t WINDOW w AS (ORDER BY x)",
    "SELECT coalesce(nullif(:'table', ''), 'none')::varchar(20), greatest(1, 2), CAST('1' AS int), '{1}'::int[]",
    "SELECT 'pg_sleep(1)', \"pg_sleep\", t.\"update\", t.delete -- pg_sleep(1)\nFROM public.t /* ; DROP TABLE t */ ;",
    "SELECT details ->> 'ip', details #>> '{a,b}', details @> '{}' FROM public.t WHERE x ~* '^a' AND x = ANY (ARRAY['a', 'b'])",
    "SELECT trim(both 'x' FROM y), substring(y FROM 2 FOR 3), position('a' IN y), overlay(y PLACING 'x' FROM 1) FROM public.t",
    "SELECT x FROM public.t UNION ALL (SELECT 1.5e3 LIMIT 1) EXCEPT SELECT 2 ORDER BY 1 FETCH FIRST 3 ROWS ONLY",
    "SELECT relname FROM pg_class JOIN information_schema.tables ON (table_name = relname) WHERE EXISTS (SELECT FROM public.t)",
    "SELECT string_agg(DISTINCT x, ', ' ORDER BY x), percentile_cont(0.5) WITHIN GROUP (ORDER BY y) FROM public.t",
    "SELECT x FROM public.t WHERE (created_at, id) < (now() - interval '90 days', 1) AND y NOT BETWEEN 1 AND (2)",
];

/// Statements that act on what they say.
const USEFUL: [&str; 6] = [
    "DELETE FROM public.t AS t USING public.u AS u WHERE t.id = u.id AND u.x < :'table'::int RETURNING t.id",
    "UPDATE public.t SET (x, y) = (SELECT 1, 2), z = lower(z) FROM public.u WHERE t.id = u.id",
    "INSERT INTO public.t AS x (id, y) VALUES (1, now()) ON CONFLICT (id) DO UPDATE SET y = excluded.y",
    "INSERT INTO public.t DEFAULT VALUES",
    "WITH doomed AS (SELECT id FROM public.t ORDER BY id LIMIT 10 FOR UPDATE SKIP LOCKED) DELETE FROM public.t WHERE id IN (SELECT id FROM doomed)",
    "DELETE FROM \"Analytics\".events WHERE \"createdAt\" < now()",
];

#[test]
fn what_is_harmless_is_let_through() {
    for sql in HARMLESS {
        team(&[("mine.sql", &reads(sql))]).unwrap_or_else(|wrong| panic!("{sql}\n{wrong:?}"));
    }
    for sql in USEFUL {
        let catalog = team(&[("mine.sql", &danger(&format!("{PREVIEW}{sql}")))]);
        let catalog = catalog.unwrap_or_else(|wrong| panic!("{sql}\n{wrong:?}"));
        let sections = catalog.find("mine").unwrap().sections(15).to_vec();
        assert_eq!(
            sections.iter().map(|s| (s.preview, s.changes_data)).collect::<Vec<_>>(),
            [(true, false), (false, true)]
        );
    }
}

/// What reviewed commands call and a team's may not: the first makes any amount of text, the others are volatile.
const REVIEWED_ONLY: [&str; 7] = [
    "repeat",
    "pg_control_checkpoint",
    "pg_control_system",
    "pg_sequence_last_value",
    "pg_is_wal_replay_paused",
    "pg_xact_commit_timestamp",
    "pg_safe_snapshot_blocking_pids",
];

/// The list is wide enough for a whole runbook: the built-in one.
#[test]
fn every_built_in_command_that_reads_would_pass() {
    let catalog = built_in();
    let mut checked = 0;
    for command in catalog.iter().filter(|command| command.header.risk == Risk::Read) {
        let Body::Sql(variants) = &command.body else { continue };
        for section in variants.iter().flat_map(|variant| &variant.sections) {
            // It runs SQL that it is given as text, since the table may be missing: reviewed, and for no team's own.
            if section.sql.contains("query_to_xml(") {
                continue;
            }
            let bound = bind_names(&section.sql).unwrap();
            let wrong = allowlist::check(&section.sql, &bound, Purpose::Read).err().unwrap_or_default();
            let wrong =
                wrong.iter().map(|error| &error.reason).filter(|why| !why.contains("written as :'name'"));
            let mut wrong =
                wrong.filter(|why| !REVIEWED_ONLY.iter().any(|name| why.starts_with(&format!("`{name}`"))));
            assert_eq!(wrong.next(), None, "{}:\n{}", command.name, section.sql);
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} statements");
}

#[test]
fn a_command_of_a_team_is_whole() {
    let act = "DELETE FROM public.t";
    let counted = |preview: &str| danger(&format!("-- ## P [preview]\n{preview}\n-- ## Act\n{act}"));
    let keyed = |text: String| text.replace("example =", "preview_columns = [\"id\"]\nexample =");
    for (file, words) in [
        (danger(act), "what changes rows counts them first"),
        (danger("-- ## P [preview]\nSELECT 1 AS count"), "has only a preview"),
        (danger(&format!("{PREVIEW}{act}\n-- ## Q [preview]\nSELECT 1 AS count")), "there is one preview"),
        (reads("-- ## P [preview]\nSELECT 1 AS count\n-- ## Q\nSELECT 1 AS x"), "a preview goes with danger"),
        (counted("SELECT 1 AS n"), "has a column `count`"),
        (counted("SELECT *, 1 AS count FROM public.t"), "names each of its columns"),
        (counted("SELECT count(*) OVER (), email FROM public.t"), "`email` is not among `preview_columns`"),
        (keyed(counted("SELECT 1 AS count")), "no column `id`"),
        (counted("SELECT count(*) FROM public.t FOR UPDATE"), "it locks rows"),
        (counted("INSERT INTO public.t VALUES (1)"), "a preview is a SELECT"),
        (keyed(reads("SELECT 1 AS x")), "`preview_columns` go with a preview"),
        (danger(&format!("{PREVIEW}{act}")).replace("\"operator\"", "\"reader\""), "needs another login"),
        (danger(&format!("{PREVIEW}{act}")).replace("## Act", "## Act [server]"), "nothing in brackets but"),
        (
            danger(&format!("{PREVIEW}{act}")).replace("## Act", "## Act [database if table]"),
            "nothing in brackets",
        ),
        (reads("SELECT 1 AS x").replace("\"database\"", "\"none\""), "each server or database"),
        (reads("SELECT 1 AS x").replace("example", "while_frozen = true\nexample"), "a freeze stops"),
        (
            reads("SELECT 1 AS x").replace("example", "allow_any_operator = true\nexample"),
            "the configuration says who",
        ),
        (reads("SELECT 1 AS x").replace("example", "posts_progress = true\nexample"), "only built-in code"),
        (
            danger(&format!("{PREVIEW}{act}")).replace("example", "timeout = \"2h\"\nexample"),
            "an hour at most",
        ),
    ] {
        let found = mistakes("mine.sql", &file);
        assert!(found.iter().any(|one| one.contains(words)), "wanted {words}\nfound {found:?}\n{file}");
    }
    team(&[("mine.sql", &keyed(counted("SELECT count(*) OVER (), t.id FROM public.t LIMIT 5")))]).unwrap();
}

#[test]
fn a_variant_is_checked_like_its_file() {
    let mine = reads("SELECT 1 AS x");
    let wrong = team(&[("mine.sql", &mine), ("mine@17.sql", "SELECT pg_sleep(1)")]).expect_err("a mistake");
    assert_eq!(wrong.0.iter().map(ToString::to_string).collect::<Vec<_>>().len(), 1);
    assert!(wrong.0[0].to_string().starts_with("mine@17.sql:1:8: `pg_sleep`"), "{wrong:?}");
    let act = danger(&format!("{PREVIEW}DELETE FROM public.t"));
    let wrong = team(&[("mine.sql", &act), ("mine@17.sql", "DELETE FROM public.t")]).expect_err("no preview");
    assert!(wrong.0[0].to_string().contains("counts them first"), "{wrong:?}");
}

#[test]
fn all_mistakes_of_a_directory_are_told_at_once() {
    let two = reads("SELECT pg_sleep(1), lo_create(0) FROM t");
    let wrong = team(&[("one.sql", "SELECT 1"), ("two.sql", &two)]).expect_err("mistakes");
    let told: Vec<String> = wrong.0.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    assert!(told[1].starts_with("two.sql:9:8: ") && told[2].starts_with("two.sql:9:21: "), "{told:#?}");
}

#[test]
fn a_very_long_statement_is_read_too() {
    let long = vec!["1"; 20_000].join(" + ");
    team(&[("mine.sql", &reads(&format!("SELECT {long} AS x")))]).unwrap();
    let deep = format!("SELECT {}1{} AS x", "(".repeat(5_000), ")".repeat(5_000));
    assert!(mistakes("mine.sql", &reads(&deep))[0].contains("can't be read"));
}

#[test]
fn the_examples_of_the_deployment_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/commands");
    let catalog = built_in().with_directory(&examples).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    assert!(catalog.find("trim-audit-log").is_some_and(|command| command.custom));
}
