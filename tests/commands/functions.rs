//! The checked list of functions on each major version of PostgreSQL: whatever is on it is PostgreSQL's own, open to everybody,
//! and does nothing but compute and look.

use crate::installed::servers;
use countersign::catalog::allowlist::{KEYWORDS, listed};
use countersign::demo::postgres::{Cluster, Options};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// What PostgreSQL calls volatile, and why it may be called nevertheless.
const VOLATILE: [(&str, &str); 15] = [
    ("clock_timestamp", "tells the time"),
    ("gen_random_uuid", "draws, and keeps no seed that a session could set"),
    ("pg_blocking_pids", "looks at the locks"),
    ("pg_current_wal_lsn", "looks at the log's end"),
    ("pg_database_size", "adds up files"),
    ("pg_indexes_size", "adds up files"),
    ("pg_is_in_recovery", "tells a replica"),
    ("pg_last_wal_receive_lsn", "looks at a replica's progress"),
    ("pg_last_wal_replay_lsn", "looks at a replica's progress"),
    ("pg_last_xact_replay_timestamp", "looks at a replica's progress"),
    ("pg_relation_size", "adds up files"),
    ("pg_table_size", "adds up files"),
    ("pg_tablespace_size", "adds up files"),
    ("pg_total_relation_size", "adds up files"),
    ("random", "draws; setseed is not on the list"),
];

/// What PostgreSQL called volatile up to that major version, and calls stable since, unchanged in what it does.
const ONCE_VOLATILE: [(&str, u32, &str); 1] = [(
    "timezone(text,time with time zone)",
    14,
    "reads the clock, since a zone's offset depends on the date",
)];

/// Every signature in pg_catalog of the names: the name, whether it is volatile, and what else speaks against it.
const SIGNATURES: &str = "
    SELECT p.proname::text, p.provolatile = 'v', p.oid::regprocedure::text,
           NOT has_function_privilege('public', p.oid, 'EXECUTE') OR p.prokind NOT IN ('f', 'a', 'w')
           OR p.prosecdef OR l.lanname NOT IN ('internal', 'sql')
           OR p.prorettype = ANY (ARRAY['trigger', 'event_trigger', 'internal']::regtype[])
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ($1)";

#[tokio::test(flavor = "multi_thread")]
async fn on_all_majors_a_teams_sql_can_only_compute_and_look() {
    let mut wrong = Vec::new();
    for bin_dir in servers() {
        let cluster = Cluster::start(Options { bin_dir: Some(bin_dir), ..Options::default() }).await.unwrap();
        let (client, major) = (cluster.connect("postgres").await.unwrap(), cluster.version_num() / 10_000);
        let found =
            [listed_functions(&client, major).await, keywords(&client).await, like_columns(&client).await];
        wrong.extend(found.concat().into_iter().map(|what| format!("PostgreSQL {major}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each name is there, is everybody's, and is called volatile only where that is known.
async fn listed_functions(client: &Client, major: u32) -> Vec<String> {
    let listed: BTreeMap<&str, u32> = listed().collect();
    let names: Vec<&str> = listed.keys().copied().collect();
    let rows = client.query(SIGNATURES, &[&names]).await.unwrap();
    assert!(rows.len() > 300, "{} signatures", rows.len());
    let mut wrong = Vec::new();
    for (name, since) in &listed {
        let there = rows.iter().any(|row| row.get::<_, &str>(0) == *name);
        if there != (major >= *since) {
            wrong.push(format!("{name} is {}there", if there { "" } else { "not " }));
        }
    }
    for row in &rows {
        let (name, volatile, signature): (&str, bool, &str) = (row.get(0), row.get(1), row.get(2));
        if row.get(3) {
            wrong.push(format!("{signature} is not everybody's, or no plain function"));
        }
        let once = ONCE_VOLATILE.iter().any(|(known, until, _)| *known == signature && major <= *until);
        if volatile != (once || VOLATILE.iter().any(|(known, _)| *known == name)) {
            wrong.push(format!("{signature}: volatile is {volatile}"));
        }
    }
    wrong
}

/// `position(…)` is a function's name too: whoever quotes it calls that.
async fn keywords(client: &Client) -> Vec<String> {
    let rows = client.query(SIGNATURES, &[&KEYWORDS.as_slice()]).await.unwrap();
    assert!(!rows.is_empty());
    let acts = rows.iter().filter(|row| row.get::<_, bool>(1) || row.get::<_, bool>(3));
    acts.map(|row| row.get(2)).collect()
}

/// What a function ends with that takes names with values and is given one thing, a row: before it does anything.
const NOT_IN_PAIRS: &str = "variadic arguments must be name/value pairs";

/// A row's column may be a function that takes the row: `t.purge`. With pg_catalog alone on the path these are all that can be;
/// each that acts must refuse a row, even from a superuser.
async fn like_columns(client: &Client) -> Vec<String> {
    let sql = "SELECT p.proname::text, p.oid::regprocedure::text FROM pg_proc p
               WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.provolatile = 'v' AND p.prokind = 'f'
                 AND p.pronargs - p.pronargdefaults <= 1 AND p.pronargs >= 1
                 AND p.proargtypes[0]::regtype::text IN ('\"any\"', 'anyelement', 'record', 'anynonarray', 'anycompatible',
                                                         'anycompatiblenonarray')";
    let mut wrong = Vec::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let (name, signature): (&str, String) = (row.get(0), row.get(1));
        client.batch_execute("BEGIN").await.unwrap();
        let ended = client.batch_execute(&format!("SELECT c.{name} FROM pg_class c LIMIT 1")).await;
        client.batch_execute("ROLLBACK").await.unwrap();
        let refused = ended.err().and_then(|why| why.as_db_error().map(|why| why.message().to_owned()));
        if refused.as_deref() != Some(NOT_IN_PAIRS) {
            wrong.push(format!("{signature} takes a row: {refused:?}"));
        }
    }
    wrong
}
