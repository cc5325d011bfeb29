//! The checked list of functions against a real server: whatever is on it is PostgreSQL's own, open to everybody, and does nothing
//! but compute and look.

use crate::scene::servers;
use countersign::catalog::fence::{KEYWORDS, listed};
use std::collections::BTreeMap;

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

/// Every signature in pg_catalog of the names: the name, whether it is volatile, and what else speaks against it.
const SIGNATURES: &str = "
    SELECT p.proname::text, p.provolatile = 'v', p.oid::regprocedure::text,
           NOT has_function_privilege('public', p.oid, 'EXECUTE') OR p.prokind NOT IN ('f', 'a', 'w')
           OR p.prosecdef OR l.lanname NOT IN ('internal', 'sql')
           OR p.prorettype = ANY (ARRAY['trigger', 'event_trigger', 'internal']::regtype[])
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ($1)";

#[tokio::test(flavor = "multi_thread")]
async fn every_listed_function_is_there_and_only_computes_or_looks() {
    let client = servers().await.cluster.connect("postgres").await.unwrap();
    let version = client.query_one("SELECT current_setting('server_version_num')::int / 10000", &[]).await;
    let major = u32::try_from(version.unwrap().get::<_, i32>(0)).unwrap();
    let listed: BTreeMap<&str, u32> = listed().collect();
    let names: Vec<&str> = listed.keys().copied().collect();
    let rows = client.query(SIGNATURES, &[&names]).await.unwrap();
    let mut wrong: Vec<String> = Vec::new();
    for (name, since) in &listed {
        let there = rows.iter().any(|row| row.get::<_, &str>(0) == *name);
        if there != (major >= *since) {
            wrong.push(format!("{name}: {} on {major}", if there { "is there" } else { "is not there" }));
        }
    }
    for row in &rows {
        let (name, volatile, signature): (&str, bool, &str) = (row.get(0), row.get(1), row.get(2));
        if row.get(3) {
            wrong.push(format!("{signature} is not everybody's, or no plain function"));
        }
        if volatile != VOLATILE.iter().any(|(known, _)| *known == name) {
            wrong.push(format!("{signature}: volatile is {volatile}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() > 300, "{} signatures", rows.len());
}

/// `position(…)` is a function's name too: whoever quotes it calls that.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyword_that_is_a_functions_name_only_computes() {
    let client = servers().await.cluster.connect("postgres").await.unwrap();
    let rows = client.query(SIGNATURES, &[&KEYWORDS.as_slice()]).await.unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        assert!(!row.get::<_, bool>(1) && !row.get::<_, bool>(3), "{}", row.get::<_, &str>(2));
    }
}

/// A row's column may be a function that takes the row: `t.purge`. With pg_catalog alone on the path these are all that can be.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_like_a_column_only_computes() {
    let client = servers().await.cluster.connect("postgres").await.unwrap();
    let sql = "SELECT p.oid::regprocedure::text FROM pg_proc p
               WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.provolatile = 'v' AND p.prokind = 'f'
                 AND p.pronargs - p.pronargdefaults <= 1 AND p.pronargs >= 1
                 AND p.proargtypes[0] = ANY (ARRAY['\"any\"', 'anyelement', 'record', 'anynonarray', 'anycompatible',
                                                   'anycompatiblenonarray']::regtype[])";
    let rows = client.query(sql, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), [""; 0]);
}
