//! What the reader's login can't do on a real server, and which fence refuses it: privileges hold whatever the session
//! sets; read only is a second net that any SQL can switch off.

use crate::harness::servers;
use tokio_postgres::Client;

/// What stops a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    /// PostgreSQL's privileges, with or without a read-only transaction.
    Privilege,
    /// Privileges, but said as a warning: the statement succeeds and does nothing.
    Skipped,
    /// Only the read-only transaction: without it the statement would succeed.
    ReadOnly,
    /// Nothing; and why that hurts nobody.
    Nothing(&'static str),
}
use Fence::{Nothing, Privilege, ReadOnly, Skipped};

const OWN: &str = "it is the reader's own, and holds nobody's data";

/// Statement by fence. `{other}` is the pid of a service's session, `{own}` one of the reader's own.
const MATRIX: &[(&str, Fence)] = &[
    // a customer's rows
    ("SELECT count(*) FROM asset_versions", Privilege),
    ("INSERT INTO asset_versions DEFAULT VALUES", Privilege),
    ("UPDATE asset_versions SET comment = ''", Privilege),
    ("DELETE FROM asset_versions", Privilege),
    ("TRUNCATE asset_versions", Privilege),
    ("MERGE INTO asset_versions USING (SELECT 1) AS x ON true WHEN MATCHED THEN DELETE", Privilege),
    ("COPY asset_versions TO STDOUT", Privilege),
    ("SELECT * FROM \"_prisma_migrations\" FOR UPDATE", Privilege),
    ("UPDATE \"_prisma_migrations\" SET finished_at = now()", Privilege),
    ("LOCK TABLE asset_versions IN ACCESS EXCLUSIVE MODE", Privilege),
    ("LOCK TABLE \"_prisma_migrations\" IN SHARE MODE", Privilege),
    // the schema
    ("CREATE TABLE public.mine (id int)", Privilege),
    ("CREATE SCHEMA mine", Privilege),
    ("DROP TABLE asset_versions", Privilege),
    ("ALTER TABLE asset_versions ADD mine int", Privilege),
    ("CREATE INDEX ON asset_versions (version)", Privilege),
    ("DROP DATABASE auth_service_db", Privilege),
    ("CREATE DATABASE mine", Privilege),
    ("CREATE EXTENSION dblink", Privilege),
    ("CREATE SUBSCRIPTION mine CONNECTION 'host=127.0.0.1' PUBLICATION p", Privilege),
    ("CREATE TEMP TABLE mine (id int)", ReadOnly),
    ("CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", ReadOnly),
    // roles
    ("CREATE ROLE mine", Privilege),
    ("GRANT pg_signal_backend TO countersign_read", Privilege),
    ("ALTER ROLE asset_svc PASSWORD 'x'", Privilege),
    ("ALTER ROLE countersign_read SUPERUSER", Privilege),
    ("ALTER ROLE countersign_read RESET statement_timeout", ReadOnly),
    ("SET ROLE asset_svc", Privilege),
    ("SET ROLE pg_signal_backend", Privilege),
    ("SET SESSION AUTHORIZATION asset_svc", Privilege),
    // other sessions
    ("SELECT pg_terminate_backend({other})", Privilege),
    ("SELECT pg_cancel_backend({other})", Privilege),
    (
        "SELECT pg_terminate_backend({own})",
        Nothing("it ends a session of Countersign's reader, which connects again"),
    ),
    // maintenance
    ("VACUUM asset_versions", Skipped),
    ("VACUUM FULL asset_versions", Skipped),
    ("ANALYZE asset_versions", Skipped),
    ("REINDEX TABLE asset_versions", Privilege),
    ("REINDEX TABLE CONCURRENTLY asset_versions", Privilege),
    ("REINDEX DATABASE asset_service_db", Privilege),
    ("REINDEX SYSTEM asset_service_db", Privilege),
    ("CLUSTER asset_versions USING asset_versions_pkey", Privilege),
    ("CHECKPOINT", Privilege),
    ("ALTER SYSTEM SET work_mem = '1GB'", Privilege),
    ("SET log_statement = 'none'", Privilege),
    ("SELECT pg_reload_conf()", Privilege),
    ("SELECT pg_rotate_logfile()", Privilege),
    ("SELECT pg_switch_wal()", Privilege),
    ("SELECT pg_create_restore_point('mine')", Privilege),
    ("SELECT pg_create_physical_replication_slot('mine')", Privilege),
    ("SELECT pg_promote()", Privilege),
    ("SELECT pg_stat_reset()", Privilege),
    ("SELECT pg_stat_statements_reset()", Privilege),
    // files and programs
    ("COPY (SELECT 1) TO PROGRAM 'true'", Privilege),
    ("COPY (SELECT 1) TO '/tmp/mine'", Privilege),
    ("SELECT pg_read_file('/etc/passwd')", Privilege),
    ("SELECT pg_read_binary_file('PG_VERSION')", Privilege),
    ("SELECT pg_ls_dir('/')", Privilege),
    ("SELECT pg_stat_file('PG_VERSION')", Privilege),
    ("SELECT lo_import('/etc/passwd')", Privilege),
    // what PostgreSQL lets everybody do
    ("DO $$ BEGIN PERFORM 1; END $$", Nothing("it runs with the reader's privileges")),
    (
        "SET statement_timeout = 0",
        Nothing("Countersign stops waiting by its own clock and drops the connection"),
    ),
    ("SELECT pg_advisory_lock(1)", Nothing("only reviewed SQL runs, and the lock ends with its connection")),
    ("NOTIFY mine", Nothing("a message to whoever listens; it changes nothing")),
];

struct Environments {
    other: i32,
    own: i32,
}

/// How a statement ends: its SQLSTATE, or none.
async fn outcome(client: &Client, sql: &str) -> Option<String> {
    let ended = client.batch_execute(sql).await;
    ended.err().map(|error| error.code().map_or("-".to_owned(), |code| code.code().to_owned()))
}

/// Whether the statement may stand in a transaction that is rolled back.
fn in_transaction(sql: &str) -> bool {
    let alone =
        ["VACUUM", "REINDEX", "CREATE DATABASE", "DROP DATABASE", "ALTER SYSTEM", "CREATE SUBSCRIPTION"];
    !alone.iter().any(|beginning| sql.starts_with(beginning))
}

async fn tried(reader: &Client, sql: &str, read_only: bool) -> Option<String> {
    let mode = if read_only { "on" } else { "off" };
    reader.batch_execute(&format!("SET default_transaction_read_only = {mode}")).await.unwrap();
    if !in_transaction(sql) {
        return outcome(reader, sql).await;
    }
    reader.batch_execute("BEGIN").await.unwrap();
    let ended = outcome(reader, sql).await;
    reader.batch_execute("ROLLBACK").await.unwrap();
    ended
}

/// The fence that the two attempts show.
fn fence(with_read_only: Option<&str>, without: Option<&str>) -> String {
    match (with_read_only, without) {
        (Some(_), Some("42501")) => "Privilege".to_owned(),
        (Some("25006"), None) => "ReadOnly".to_owned(),
        (None, None) => "Nothing".to_owned(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fence_of_the_reader_stands() {
    let servers = servers().await;
    let (service, account) = servers.team.service("asset-service").unwrap();
    let database = &service.database;
    let connect = async |name: &str| {
        servers.cluster.connect_as(servers.team.reader.login(database, name)).await.unwrap()
    };
    let session = servers.cluster.connect_as(account.login(database, "asset-worker")).await.unwrap();
    let pid = async |client: &Client| {
        client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get::<_, i32>(0)
    };
    let reader = connect("reader").await;
    let major = servers.cluster.version_num() / 10_000;
    let mut wrong = Vec::new();
    for (statement, expected) in MATRIX {
        let mut ends = [None, None];
        for (at, read_only) in [(0, true), (1, false)] {
            let own = connect("reader-to-end").await;
            let targets = Environments { other: pid(&session).await, own: pid(&own).await };
            let sql = statement
                .replace("{other}", &targets.other.to_string())
                .replace("{own}", &targets.own.to_string());
            ends[at] = tried(&reader, &sql, read_only).await;
        }
        let found = fence(ends[0].as_deref(), ends[1].as_deref());
        let expected = match expected {
            Nothing(why) => {
                assert!(!why.is_empty());
                "Nothing"
            }
            Skipped if major >= 19 => "Privilege",
            Skipped => "Nothing",
            Privilege => "Privilege",
            ReadOnly => "ReadOnly",
        };
        if found != expected {
            wrong.push(format!("{statement}: {expected} expected, found {found}: {ends:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    session.batch_execute("SELECT count(*) FROM asset_versions").await.unwrap();
}

/// VACUUM by somebody without the right is a warning, and nothing happens.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_skipped_did_not_happen() {
    let servers = servers().await;
    let (service, _) = servers.team.service("asset-service").unwrap();
    let login = servers.team.reader.login(&service.database, "reader");
    let reader = servers.cluster.connect_as(login).await.unwrap();
    let superuser = servers.cluster.connect(&service.database).await.unwrap();
    let file = "SELECT pg_relation_filenode('asset_versions')::int8, \
                (SELECT vacuum_count + analyze_count FROM pg_stat_user_tables WHERE relname = 'asset_versions')";
    let look = async || {
        let row = superuser.query_one(file, &[]).await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let before = look().await;
    for sql in ["VACUUM asset_versions", "VACUUM FULL asset_versions", "ANALYZE asset_versions"] {
        assert_eq!(tried(&reader, sql, false).await, None);
    }
    assert_eq!(look().await, before);
}

/// Large objects: refused inside a read-only transaction from 16 on, and not before. {OWN}.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_is_the_readers_own() {
    let servers = servers().await;
    let (service, _) = servers.team.service("asset-service").unwrap();
    let reader =
        servers.cluster.connect_as(servers.team.reader.login(&service.database, "reader")).await.unwrap();
    let refused = tried(&reader, "SELECT lo_create(0)", true).await;
    let expected = (servers.cluster.version_num() >= 160_000).then(|| "25006".to_owned());
    assert_eq!(refused, expected, "{OWN}");
    assert_eq!(tried(&reader, "SELECT lo_create(0)", false).await, None, "{OWN}");
    let superuser = servers.cluster.connect(&service.database).await.unwrap();
    let theirs: u32 = superuser.query_one("SELECT lo_from_bytea(0, 'secret')", &[]).await.unwrap().get(0);
    for sql in [format!("SELECT lo_get({theirs})"), format!("SELECT lo_unlink({theirs})")] {
        assert_eq!(tried(&reader, &sql, false).await.as_deref(), Some("42501"), "{sql}");
    }
    superuser.query_one("SELECT lo_unlink($1)", &[&theirs]).await.unwrap();
}
