//! Replicas and slots: a replica that follows, one that is late, one that is cut off, and WAL that is kept for nobody.

use crate::harness::{SOON, World, severity, words};
use countersign::config::{LoginCredentials, PostgresStoreSettings, Server, Tls};
use countersign::demo::postgres::Cluster;
use countersign::model::Severity;
use countersign::sql::{Answer, Value};
use countersign::store::postgres::PostgresStore;
use std::time::Duration;
use tokio_postgres::Client;

/// Asks PostgreSQL itself until it says yes.
pub async fn until(client: &Client, sql: &str) {
    let asking = async { while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {} };
    tokio::time::timeout(SOON, asking).await.unwrap_or_else(|_| panic!("never: {sql}"));
}

/// A value of a server's row in the section of `replication` with that column.
async fn value(world: &World, server: &str, column: &str) -> Value {
    value_of("replication", world, server, column).await
}

async fn value_of(command: &str, world: &World, server: &str, column: &str) -> Value {
    let sections = world.sections(command).await.unwrap();
    let section = sections.iter().find(|section| section.columns.iter().any(|name| name == column)).unwrap();
    let at = section.columns.iter().position(|name| name == column).unwrap();
    section.rows.iter().find(|row| row.target.server == server).unwrap().values[at].clone()
}

async fn settles(world: &World, server: &str, column: &str, expected: Value) {
    let asking = async { while value(world, server, column).await != expected {} };
    let settled = tokio::time::timeout(SOON, asking).await;
    assert!(settled.is_ok(), "{server}.{column} is {:?}", value(world, server, column).await);
}

/// Writes a change of so many bytes, and returns when it has left the server's memory.
async fn write(client: &Client, bytes: i32) {
    let sql = "SELECT pg_logical_emit_message(true, 'test', repeat('x', $1))";
    client.query(sql, &[&bytes]).await.unwrap();
    until(client, "SELECT pg_current_wal_lsn() >= pg_current_wal_insert_lsn()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_follows_an_idle_primary_and_is_late_only_when_it_is() {
    let mut world = World::start().await;
    world.add_replica().await;
    world.heal().await;
    let primary = world.cluster.connect("postgres").await.unwrap();
    refuses_the_audit_log(world.replica.as_ref().unwrap()).await;
    let replica = world.replica.as_ref().unwrap().connect("postgres").await.unwrap();
    write(&primary, 10).await;
    // The primary has been idle for a while: the age of the last change is no lag.
    until(
        &replica,
        "SELECT COALESCE(clock_timestamp() - pg_last_xact_replay_timestamp() > interval '1 s', false)",
    )
    .await;
    settles(&world, "replica", "late_s", Value::Float(0.0)).await;
    settles(&world, "primary", "lag_s", Value::Float(0.0)).await;
    let good = world.until("replication", |answer| severity(answer) == Severity::Ok).await;
    let told = words(&good);
    assert!(
        told.starts_with("OK: primary: 1 replica is connected, and the only slot is in use.\n"),
        "{told}"
    );
    assert!(told.contains("[Servers] server | primary | replica\nrole | primary | replica\n"), "{told}");
    assert!(told.contains("\nreceiver | - | streaming\n"), "{told}");
    assert!(told.contains("primary | sample-replica | replica | 127.0.0.1 | streaming, async | "), "{told}");
    assert!(told.contains("primary | replica | physical | in use | "), "{told}");

    replica.query("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    until(&replica, "SELECT pg_is_wal_replay_paused()").await;
    let idle = "SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > interval '4 s'";
    until(&replica, idle).await;
    let written = std::time::Instant::now();
    write(&primary, 100_000).await;
    let paused = world.until("replication", |answer| words(answer).contains("\nunreplayed | - | 9")).await;
    let told = words(&paused);
    assert!(told.starts_with("WARNING: replica is a replica with paused replay. Resume it: "), "{told}");
    let Value::Int(behind) = value(&world, "primary", "behind_bytes").await else { panic!("no bytes") };
    assert!(behind > 90_000, "{behind}");
    // The change is missing since it was written, or what autovacuum wrote a moment earlier; not since the one 4 s before.
    let measured = [
        ("replication", "primary", "lag_s"),
        ("replication", "replica", "late_s"),
        ("health", "primary", "lag_s"),
        ("health", "replica", "lag_s"),
    ];
    for (command, server, column) in measured {
        let since: f64 = f64::from(u32::try_from(written.elapsed().as_millis()).unwrap()) / 1_000.0;
        let Value::Float(late) = value_of(command, &world, server, column).await else { panic!("no time") };
        assert!(
            late <= written.elapsed().as_secs_f64() + 3.0 && late >= since - 2.0,
            "{column}: {late} of {since}"
        );
    }
    let health = world.told("health").await;
    let says = "WARNING: replica is a replica with paused replay. replication shows it.\n";
    assert!(health.starts_with(says) && health.contains(" | streaming, replay paused, "), "{health}");
    replica.query("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
    settles(&world, "primary", "behind_bytes", Value::Int(0)).await;
    until(&replica, "SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > interval '1 s'").await;
    let health = |answer: &Answer| {
        words(answer).contains("\nReplication | 1 replica, 0 B behind | streaming, 0.0 s behind\n")
    };
    assert_eq!(severity(&world.until("health", health).await), Severity::Ok);

    // Without a slot it is known by its name.
    let conninfo = "SELECT current_setting('primary_conninfo') || ' application_name=''my standby'''";
    let conninfo: String = replica.query_one(conninfo, &[]).await.unwrap().get(0);
    set(&replica, "primary_slot_name", "").await;
    set(&replica, "primary_conninfo", &conninfo).await;
    let renamed = "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = 'my standby' AND state = 'streaming'";
    until(&primary, renamed).await;
    settles(&world, "replica", "late_s", Value::Float(0.0)).await;
    replica.query("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    until(&replica, "SELECT pg_is_wal_replay_paused()").await;
    write(&primary, 100_000).await;
    world.until("replication", |answer| words(answer).contains("\nlate | - | ")).await;
    assert!(matches!(value(&world, "replica", "late_s").await, Value::Float(late) if late > 0.0));
}

/// A replica can't be written: the store of the audit log says so at the start.
async fn refuses_the_audit_log(replica: &Cluster) {
    let settings = PostgresStoreSettings {
        server: Server { name: "audit log".into(), host: replica.host().into(), port: replica.port() },
        database: "postgres".into(),
        login: LoginCredentials {
            user: replica.superuser().into(),
            password: Some(replica.superuser_password().to_owned().into()),
        },
        tls: Tls::Off,
    };
    let refused = PostgresStore::open(settings, Duration::from_secs(10)).await.err().unwrap();
    assert!(refused.to_string().contains("its server is a replica, which can't be written"), "{refused:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_never_shows_no_lag() {
    let mut world = World::start().await;
    world.add_replica().await;
    world.until("replication", |answer| severity(answer) == Severity::Ok).await;
    let primary = world.cluster.connect("postgres").await.unwrap();
    let replica = world.replica.as_ref().unwrap().connect("postgres").await.unwrap();
    write(&primary, 10).await;
    until(&replica, "SELECT pg_last_xact_replay_timestamp() IS NOT NULL").await;
    replica.batch_execute("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'").await.unwrap();
    replica.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    let slot = "primary | replica | physical | no consumer | ";
    // The primary forgets the connection a moment later.
    let seen = |told: &str| told.contains(slot) && !told.contains("sample-replica");
    let cut = world
        .until("replication", |answer| severity(answer) == Severity::Critical && seen(&words(answer)))
        .await;
    let told = words(&cut);
    assert!(
        told.starts_with("CRITICAL: replica is a replica that has lost its primary (receiver: "),
        "{told}"
    );
    assert!(told.contains("): its last change is from 20"), "{told}");
    assert!(!told.contains("\nlate |") && !told.contains("\nunreplayed |"), "nobody knows: {told}");
    assert!(told.contains("\nprimary: slot replica has no consumer and retains "), "{told}");
    // What a naive answer takes for "no lag" is true at this very moment.
    until(&replica, "SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()").await;
    let health = world.told("health").await;
    assert!(health.contains("replica is a replica that has lost its primary"), "{health}");

    world.cluster.stop().unwrap();
    let dead = world.told("replication").await;
    assert!(dead.starts_with("CRITICAL: No whole answer from primary.\n"), "{dead}");
    assert!(
        dead.contains("\nreplica is a replica that has lost its primary (receiver: not connected)"),
        "{dead}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_for_nobody_is_told_with_what_it_keeps_until_it_is_lost() {
    let world = World::start().await;
    let primary = world.cluster.connect("postgres").await.unwrap();
    let none = world.told("replication").await;
    assert!(none.starts_with("OK: primary: no replica is connected, and there are no slots.\n"), "{none}");
    primary.query("SELECT pg_create_physical_replication_slot('left_over', true)", &[]).await.unwrap();
    write(&primary, 3_000_000).await;
    let told = world.told("replication").await;
    assert!(told.starts_with("WARNING: primary: slot left_over has no consumer and retains "), "{told}");
    assert!(told.contains("can drop it: SELECT pg_drop_replication_slot('left_over')\n"), "{told}");
    let Value::Int(kept) = value(&world, "primary", "kept_bytes").await else { panic!("{told}") };
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots";
    let true_now: i64 = primary.query_one(sql, &[]).await.unwrap().get(0);
    assert!(kept >= 3_000_000 && kept <= true_now, "{kept} of {true_now}");

    primary.batch_execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await.unwrap();
    primary.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    until(&primary, "SELECT current_setting('max_slot_wal_keep_size') = '1MB'").await;
    for _ in 0..3 {
        write(&primary, 10).await;
        primary.query("SELECT pg_switch_wal()", &[]).await.unwrap();
    }
    primary.batch_execute("CHECKPOINT").await.unwrap();
    until(&primary, "SELECT wal_status = 'lost' FROM pg_replication_slots").await;
    let told = world.told("replication").await;
    assert!(told.starts_with("CRITICAL: primary: slot left_over is invalidated"), "{told}");
    assert!(told.contains("\nleft_over | physical | invalidated"), "{told}");
    assert!(!told.contains("retains 0 B"), "{told}");
}

/// Sets a parameter of the server, and returns when its sessions see it.
async fn set(client: &Client, name: &str, value: &str) {
    let sql = format!("ALTER SYSTEM SET {name} = {}", literal(value));
    client.batch_execute(&sql).await.unwrap();
    client.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    let there = format!("SELECT current_setting('{name}') = {}", literal(value));
    until(client, &there).await;
}

fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// What synchronous_standby_names asks for beside one replica, `sample-replica`, and how many it misses.
const NAMES: [(&str, u32, u32); 11] = [
    ("\"sample-replica\"", 1, 0),
    ("*", 1, 0),
    ("FIRST 1 (\"sample-replica\", nope)", 1, 0),
    ("ANY 1 (nope, \"sample-replica\")", 1, 0),
    ("1 (\"sample-replica\", \"any 2 (\")", 1, 0),
    ("nope", 1, 1),
    ("first 2 (\"sample-replica\", nope)", 2, 1),
    ("2(nope, \"sample-replica\")", 2, 1),
    ("any 2 (*)", 2, 1),
    ("ANY 3 (a, b, c)", 3, 3),
    ("FIRST 2 (\"sample-replica\", \"sample-replica\", b)", 2, 1),
];

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_for_a_missing_replica_are_told() {
    let mut world = World::start().await;
    world.add_replica().await;
    let primary = world.cluster.connect("postgres").await.unwrap();
    let replica = world.replica.as_ref().unwrap().connect("postgres").await.unwrap();
    set(&primary, "synchronous_commit", "on").await;
    until(&primary, "SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'").await;
    for (names, needed, missing) in NAMES {
        set(&primary, "synchronous_standby_names", names).await;
        let (plural, present) = (
            if needed == 1 { "" } else { "s" },
            match needed - missing {
                0 => "none is".to_owned(),
                present => format!("{present} is"),
            },
        );
        let waits = format!(
            "CRITICAL: primary: synchronous_standby_names requires {needed} synchronous standby{plural}, of which {present} connected, so every commit waits.\n"
        );
        // A walsender heeds the setting a moment after it is shown.
        let says = |answer: &Answer| match missing {
            0 => severity(answer) == Severity::Ok,
            _ => words(answer).starts_with(&waits),
        };
        world.until("replication", says).await;
    }
    let writer = world.cluster.connect("postgres").await.unwrap();
    let writing = tokio::spawn(async move { writer.batch_execute("CREATE TABLE waited (i int)").await });
    let waiting =
        |answer: &Answer| words(answer).contains("so every commit waits; 1 session is waiting now.\n");
    world.until("replication", waiting).await;

    // What waits by its own setting alone.
    set(&primary, "synchronous_commit", "off").await;
    let some = "so commits wait where a role, a database or a session has set synchronous_commit; 1 session is waiting now.\n";
    world.until("replication", |answer| words(answer).contains(some)).await;
    set(&primary, "synchronous_standby_names", "").await;
    writing.await.unwrap().unwrap();
    set(&primary, "synchronous_standby_names", "nope").await;
    let told = world.told("replication").await;
    let unused = "WARNING: primary: synchronous_standby_names requires 1 synchronous standby, of which none is connected; no commit waits, because";
    assert!(told.starts_with(unused), "{told}");
    primary.batch_execute("ALTER ROLE asset_svc SET synchronous_commit = 'remote_write'").await.unwrap();
    let told = world.told("replication").await;
    assert!(told.starts_with("CRITICAL: ") && told.contains("so commits wait where a role"), "{told}");

    // A standby that is connected and does not do what commits wait for.
    set(&primary, "synchronous_standby_names", "*").await;
    replica.query("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    let writer = world.cluster.connect("postgres").await.unwrap();
    let sql = "SET synchronous_commit = 'remote_apply'; CREATE TABLE applied (i int)";
    let writing = tokio::spawn(async move { writer.batch_execute(sql).await });
    let waits =
        "primary: 1 session is waiting for a synchronous standby that is connected, the longest for at most ";
    world.until("replication", |answer| words(answer).contains(waits)).await;
    replica.query("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
    writing.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cascaded_replica_is_as_late_as_its_upstream() {
    let mut world = World::start().await;
    world.add_replica().await;
    world.add_cascaded_replica().await;
    let primary = world.cluster.connect("postgres").await.unwrap();
    let (upstream, port) = world.replica.as_ref().map(|r| (r.connect("postgres"), r.port())).unwrap();
    let upstream = upstream.await.unwrap();
    let cascaded = world.cascaded.as_ref().unwrap().connect("postgres").await.unwrap();
    write(&primary, 10).await;
    settles(&world, "cascaded", "late_s", Value::Float(0.0)).await;
    let good = words(&world.until("replication", |answer| severity(answer) == Severity::Ok).await);
    assert!(good.contains("\nupstream | - | primary | replica\n"), "{good}");

    upstream.batch_execute("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'").await.unwrap();
    upstream.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    until(&upstream, "SELECT count(*) = 0 FROM pg_stat_wal_receiver WHERE status = 'streaming'").await;
    write(&primary, 200_000).await;
    let cut =
        words(&world.until("replication", |answer| words(answer).contains("\nbehind primary | ")).await);
    assert!(cut.starts_with("CRITICAL: replica is a replica that has lost its primary (receiver: "), "{cut}");
    assert!(cut.contains(" KiB of WAL behind primary. "), "{cut}");
    assert_eq!(value(&world, "cascaded", "receiver").await, Value::Text("streaming".into()), "it can't know");
    assert_eq!(value(&world, "cascaded", "unreplayed_bytes").await, Value::Int(0));
    assert_eq!(value(&world, "cascaded", "late_s").await, Value::Null, "no all-clear");
    let Value::Int(behind) = value(&world, "cascaded", "behind primary_bytes").await else { panic!("{cut}") };
    assert!(behind > 190_000, "{behind}");
    let Value::Float(late) = value(&world, "cascaded", "late at most_s").await else { panic!("{cut}") };
    assert!(late > 0.0, "{late}");
    drop(cascaded);
    let health = world.told("health").await;
    assert!(health.contains("streaming, at most "), "{health}");

    // Without the primary nobody knows more than the upstream does.
    world
        .change(|config| {
            let servers = &mut config.environments[0].servers;
            servers.retain(|server| server.name == "cascaded");
        })
        .await;
    let alone = world.told("replication").await;
    let says = format!(
        "OK: cascaded: the replica has replayed everything that its upstream (127.0.0.1:{port}) has sent; how far that is behind the primary is unknown.\n"
    );
    assert!(alone.starts_with(&says), "{alone}");
    assert!(!alone.contains("\nlate | "), "{alone}");
    let health = world.told("health").await;
    assert!(health.contains("\nReplication | streaming, all replayed\n"), "{health}");
}

/// A program of PostgreSQL's, which ends with the test.
struct Program(std::process::Child);

impl Program {
    /// Under the name of a replica.
    fn start(world: &World, program: &str, args: &[&str]) -> Program {
        let cluster = &world.cluster;
        let child = std::process::Command::new(cluster.bin_dir().join(program))
            .args(["-w", "-h", cluster.host(), "-p", &cluster.port().to_string(), "-U", cluster.superuser()])
            .args(args)
            .env("PGPASSWORD", cluster.superuser_password())
            .env("PGAPPNAME", "sample-replica")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap_or_else(|why| panic!("{program}: {why}"));
        Program(child)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_receives_wal_is_named_by_what_it_does() {
    let mut world = World::start().await;
    world.add_replica().await;
    let primary = world.cluster.connect("postgres").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(directory.path().join("wal")).unwrap();
    primary.batch_execute("CREATE PUBLICATION p").await.unwrap();
    primary.query("SELECT pg_create_logical_replication_slot('changes', 'pgoutput')", &[]).await.unwrap();
    let _receiver = Program::start(&world, "pg_receivewal", &["-D", &path("wal")]);
    let decode = [
        "-d",
        "postgres",
        "--start",
        "--slot",
        "changes",
        "-f",
        "-",
        "-o",
        "proto_version=1",
        "-o",
        "publication_names=p",
    ];
    let _decoder = Program::start(&world, "pg_recvlogical", &decode);
    let copy = ["-D", &path("copy"), "-X", "none", "-c", "fast", "--max-rate=32"];
    let _copier = Program::start(&world, "pg_basebackup", &copy);
    let all = "SELECT count(*) FILTER (WHERE state = 'streaming') = 3 AND count(*) FILTER (WHERE state = 'backup') = 1 FROM pg_stat_replication";
    until(&primary, all).await;
    write(&primary, 10).await;
    settles(&world, "replica", "late_s", Value::Float(0.0)).await;
    let told = words(&world.until("replication", |answer| severity(answer) == Severity::Ok).await);
    let says = "OK: primary: 1 replica is connected, and 1 receiver of WAL that replays nothing, and 1 logical receiver, and 1 base backup, and all 2 slots are in use.\n";
    assert!(told.starts_with(says), "{told}");
    let count = |part: &str| {
        told.lines()
            .filter(|line| line.starts_with("primary | sample-replica | ") && line.ends_with(part))
            .count()
    };
    assert_eq!(
        count(" | receiver of WAL | 127.0.0.1 | streaming, async | - | -"),
        1,
        "no number where there is none: {told}"
    );
    assert_eq!(count(" | base backup | 127.0.0.1 | backup, async | - | -"), 1, "{told}");
    assert_eq!(told.matches(" | replica | 127.0.0.1 | ").count(), 1, "{told}");
    assert_eq!(told.matches(" | logical receiver | 127.0.0.1 | streaming | ").count(), 1, "{told}");
}
