//! The throwaway servers and the sample team on them are what the demo and the other tests believe they are.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use countersign::demo::postgres::{Cluster, ConnectionParameters, Options};
use countersign::demo::sample::{ROLES_SQL, Sample, SampleIncident, Team, Traffic};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// For what is awaited and must come: ample for a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The newest installed server, or the one that `COUNTERSIGN_TEST_PG_BIN` names, so that the same tests check each major.
fn options() -> Options {
    Options { bin_dir: std::env::var_os("COUNTERSIGN_TEST_PG_BIN").map(Into::into), ..Options::default() }
}

#[tokio::test]
async fn a_cluster_answers_and_leaves_nothing_behind() {
    let cluster = Cluster::start(options()).await.unwrap();
    let dir = cluster.log_path().parent().unwrap().to_owned();
    let client = cluster.connect("postgres").await.unwrap();
    let row = client.query_one("SELECT current_setting('shared_preload_libraries'), current_user::text", &[]);
    let row = row.await.unwrap();
    assert_eq!((row.get(0), row.get(1)), ("pg_stat_statements", "azuresu"));
    assert!(cluster.version_num() >= 130_000);
    let wrong = ConnectionParameters {
        user: "azuresu",
        password: "wrong",
        database: "postgres",
        application_name: "test",
    };
    assert!(cluster.connect_as(wrong).await.is_err(), "a wrong password must not do");

    drop(cluster);

    assert!(!dir.exists());
    assert!(client.simple_query("SELECT 1").await.is_err());
}

#[tokio::test]
async fn a_cluster_can_hang_crash_and_come_back() {
    let mut cluster = Cluster::start(options()).await.unwrap();
    let client = cluster.connect("postgres").await.unwrap();
    let frozen = cluster.freeze().unwrap();
    let mut answer = Box::pin(client.simple_query("SELECT 1"));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut answer).await.is_err(), "it is frozen");
    drop(frozen);
    tokio::time::timeout(SOON, answer).await.expect("an answer once thawed").unwrap();

    let port = cluster.port();
    cluster.stop().unwrap();
    assert!(cluster.connect("postgres").await.is_err());
    cluster.restart().await.unwrap();
    cluster.connect("postgres").await.unwrap();
    assert_eq!(cluster.port(), port);
}

/// The test starts itself once more, in a process that it kills.
#[tokio::test]
async fn a_cluster_ends_with_a_killed_process() {
    const ROLE: &str = "COUNTERSIGN_TEST_TO_BE_KILLED";
    if std::env::var_os(ROLE).is_some() {
        let cluster = Cluster::start(options()).await.unwrap();
        println!("\ndirectory {}", cluster.log_path().parent().unwrap().display());
        return std::future::pending().await;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_cluster_ends_with_a_killed_process", "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let dir = lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("directory ")?.to_owned()));
    let dir = std::path::PathBuf::from(dir.expect("the child says where its server is"));
    assert!(dir.join("data/postmaster.pid").exists());

    child.kill().unwrap();
    child.wait().unwrap();

    let gone = async {
        while dir.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the watcher stops the server and removes its directory");
}

async fn light_sample() -> (Cluster, Team) {
    Sample::light().start(options()).await.unwrap()
}

async fn blockers(client: &Client, pid: i32) -> Vec<i32> {
    client.query_one("SELECT pg_blocking_pids($1)", &[&pid]).await.unwrap().get(0)
}

async fn until_gone(client: &Client, pid: i32) {
    let gone = async {
        while client
            .query_opt("SELECT FROM pg_stat_activity WHERE pid = $1", &[&pid])
            .await
            .unwrap()
            .is_some()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the session ends");
}

async fn assert_tree_is_as_promised(client: &Client, incident: &SampleIncident) {
    let pids = incident.pids();
    assert_eq!(blockers(client, pids.head).await, [0; 0]);
    assert_eq!(blockers(client, pids.alter).await, [pids.head]);
    assert_eq!(pids.readers.len(), 4);
    for reader in &pids.readers {
        assert_eq!(blockers(client, *reader).await, [pids.alter]);
    }
    assert_eq!(blockers(client, pids.report).await, [0; 0]);
    let blocked =
        "SELECT pid FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 ORDER BY pid";
    let blocked: Vec<i32> = client.query(blocked, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let mut promised = [vec![pids.alter], pids.readers].concat();
    promised.sort_unstable();
    assert_eq!(blocked, promised, "nobody else is blocked");
}

#[tokio::test]
async fn the_incident_blocks_exactly_whom_it_promises_and_comes_back() {
    let (cluster, team) = light_sample().await;
    let traffic = Traffic::start(&cluster, &team);
    let mut incident = SampleIncident::start(&cluster, &team).await.unwrap();
    let operator = cluster.connect_as(team.operator.login("asset_service_db", "test")).await.unwrap();
    assert_tree_is_as_promised(&operator, &incident).await;
    let first = incident.pids();
    let sql =
        "SELECT application_name, usename::text, datname::text, state FROM pg_stat_activity WHERE pid = $1";
    let head = operator.query_one(sql, &[&first.head]).await.unwrap();
    let head: [&str; 4] = [0, 1, 2, 3].map(|column| head.get(column));
    assert_eq!(head, ["asset-worker-7", "asset_svc", "asset_service_db", "idle in transaction"]);

    operator.execute("SELECT pg_terminate_backend($1)", &[&first.head]).await.unwrap();
    for pid in [first.head, first.alter].iter().chain(&first.readers) {
        until_gone(&operator, *pid).await;
    }
    incident.restart().await.unwrap();

    assert_tree_is_as_promised(&operator, &incident).await;
    let second = incident.pids();
    assert_ne!(second.head, first.head);
    assert_eq!((second.report, &second.pool), (first.report, &first.pool), "who lives is kept");

    operator.execute("SELECT pg_terminate_backend($1)", &[&second.readers[1]]).await.unwrap();
    until_gone(&operator, second.readers[1]).await;
    incident.restart().await.unwrap();
    assert_tree_is_as_promised(&operator, &incident).await;
    assert_eq!(incident.pids().head, second.head);

    let pids = incident.pids();
    drop(incident);
    for pid in [pids.head, pids.alter, pids.report].iter().chain(&pids.readers).chain(&pids.pool) {
        until_gone(&operator, *pid).await;
    }
    drop(traffic);
    let working = "SELECT FROM pg_stat_activity WHERE application_name LIKE '%-service'";
    let stopped = async {
        while !operator.query(working, &[]).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, stopped).await.expect("the traffic stops");
}

#[tokio::test]
async fn the_services_work_under_their_own_names() {
    let (cluster, team) = light_sample().await;
    let superuser = cluster.connect("postgres").await.unwrap();
    let _traffic = Traffic::start(&cluster, &team);
    let seen = "SELECT count(DISTINCT (d.datname, r.rolname)) FROM pg_stat_statements s
                JOIN pg_database d ON d.oid = s.dbid JOIN pg_roles r ON r.oid = s.userid
                WHERE r.rolname = replace(d.datname, '_service_db', '_svc') AND s.query LIKE 'UPDATE \"User\"%'";
    superuser.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let all = async {
        while superuser.query_one(seen, &[]).await.unwrap().get::<_, i64>(0) < 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, all).await.expect("all ten services at work");
    for account in [&team.admin, &team.reader, &team.operator, &team.services[0].1] {
        let leaked = "SELECT count(*) FROM pg_stat_statements WHERE strpos(query, $1) > 0";
        let leaked: i64 = superuser.query_one(leaked, &[&account.password]).await.unwrap().get(0);
        assert_eq!(leaked, 0, "the password of {}", account.user);
    }
}

#[tokio::test]
async fn the_logins_may_do_their_part_and_no_more() {
    let (cluster, team) = light_sample().await;
    let reader = cluster.connect_as(team.reader.login("asset_service_db", "test")).await.unwrap();
    let operator = cluster.connect_as(team.operator.login("asset_service_db", "test")).await.unwrap();
    let (asset, account) = team.service("asset-service").unwrap();
    let victim = cluster.connect_as(account.login(&asset.database, "victim")).await.unwrap();
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);

    reader.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    for refused in [
        format!("SELECT pg_terminate_backend({pid})"),
        format!("SELECT pg_cancel_backend({pid})"),
        "SELECT count(*) FROM assets".into(),
        r#"UPDATE "_prisma_migrations" SET logs = NULL"#.into(),
        "SELECT pg_stat_statements_reset()".into(),
        "CREATE ROLE more".into(),
    ] {
        let error = reader.batch_execute(&refused).await.expect_err(&refused);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{refused}");
    }
    let query = "SELECT state FROM pg_stat_activity WHERE pid = $1";
    assert_eq!(reader.query_one(query, &[&pid]).await.unwrap().get::<_, &str>(0), "idle");
    for allowed in [r#"SELECT * FROM "_prisma_migrations""#, "SELECT last_value FROM asset_versions_id_seq"] {
        assert!(!reader.query(allowed, &[]).await.unwrap().is_empty(), "{allowed}");
    }
    let settings: String = reader
        .query_one(
            "SELECT concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), \
             current_setting('TimeZone'))",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(settings, "15s 2s UTC");

    let error = operator.batch_execute("DELETE FROM assets").await.expect_err("the operator owns nothing");
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    operator.query("SELECT count(*) FROM assets", &[]).await.expect("a dump reads every table");
    let signalled: bool =
        operator.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.unwrap().get(0);
    assert!(signalled);
    until_gone(&operator, pid).await;
    assert!(victim.simple_query("SELECT 1").await.is_err());
}

/// What the roles may do, as text; grants included.
async fn roles_of(client: &Client) -> Vec<String> {
    let sql = "
        SELECT concat_ws(' ', rolname, rolcanlogin, rolsuper, rolconnlimit, rolconfig) FROM pg_roles
        WHERE rolname LIKE 'countersign%'
        UNION ALL
        SELECT concat_ws(' ', roleid::regrole, member::regrole) FROM pg_auth_members
        UNION ALL
        SELECT concat_ws(' ', oid::regclass, relacl) FROM pg_class WHERE relacl::text LIKE '%countersign%'
        UNION ALL
        SELECT concat_ws(' ', oid::regprocedure, proacl) FROM pg_proc WHERE proacl::text LIKE '%countersign%'
        ORDER BY 1";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn roles_sql_can_be_run_again_and_reports_what_it_may_not() {
    let (cluster, team) = light_sample().await;
    let superuser = cluster.connect("asset_service_db").await.unwrap();
    let admin = cluster.connect_as(team.admin.login("asset_service_db", "test")).await.unwrap();
    let before = roles_of(&superuser).await;
    assert!(before.iter().any(|role| role.starts_with("countersign_read t f 24")), "{before:#?}");

    admin.batch_execute(ROLES_SQL).await.unwrap();

    assert_eq!(roles_of(&superuser).await, before);

    // The first table here is the superuser's, and the admin may not pass it on: all else is still done.
    let postgres = cluster.connect("postgres").await.unwrap();
    postgres
        .batch_execute(
            "CREATE SCHEMA theirs;
             CREATE TABLE theirs.\"_prisma_migrations\" (id int);
             CREATE TABLE \"_prisma_migrations\" (id int);
             ALTER TABLE \"_prisma_migrations\" OWNER TO dbadmin",
        )
        .await
        .unwrap();
    let admin = cluster.connect_as(team.admin.login("postgres", "test")).await.unwrap();
    admin.batch_execute(ROLES_SQL).await.unwrap();
    let granted = "SELECT has_table_privilege('countersign_read', 'theirs.\"_prisma_migrations\"', 'SELECT'),
                          has_table_privilege('countersign_read', '\"_prisma_migrations\"', 'SELECT')";
    let granted = postgres.query_one(granted, &[]).await.unwrap();
    assert_eq!((granted.get(0), granted.get(1)), (false, true));
    let log = std::fs::read_to_string(cluster.log_path()).unwrap();
    // PostgreSQL's own words, where the admin may use a thing and not pass it on.
    for refused in ["theirs", "_prisma_migrations"] {
        let told = format!("WARNING:  no privileges were granted for \"{refused}\"");
        assert!(log.contains(&told), "{told}: {log}");
    }
}
