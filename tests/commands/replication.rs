//! Replicas and slots: a replica that follows, one that is late, one that is cut off, and WAL that is kept for nobody.

use crate::harness::{SOON, World, severity, words};
use countersign::model::Severity;
use countersign::sql::Value;
use tokio_postgres::Client;

/// Asks PostgreSQL itself until it says yes.
async fn until(client: &Client, sql: &str) {
    let asking = async { while !client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {} };
    tokio::time::timeout(SOON, asking).await.unwrap_or_else(|_| panic!("never: {sql}"));
}

/// A value of a server's row in the section with that column.
async fn value(world: &World, server: &str, column: &str) -> Value {
    let sections = world.sections("replication").await.unwrap();
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
    let primary = world.cluster.connect("postgres").await.unwrap();
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
    assert!(told.contains("primary | sample-replica | 127.0.0.1 | streaming, async | "), "{told}");
    assert!(told.contains("primary | replica | physical | in use | "), "{told}");

    replica.query("SELECT pg_wal_replay_pause()", &[]).await.unwrap();
    until(&replica, "SELECT pg_is_wal_replay_paused()").await;
    write(&primary, 100_000).await;
    let paused = world.until("replication", |answer| words(answer).contains("\nunreplayed | - | 9")).await;
    let told = words(&paused);
    assert!(told.starts_with("WARNING: replica is a replica with paused replay. Resume it: "), "{told}");
    let Value::Int(behind) = value(&world, "primary", "behind_bytes").await else { panic!("no bytes") };
    assert!(behind > 90_000, "{behind}");
    let Value::Float(late) = value(&world, "replica", "late_s").await else { panic!("no time") };
    assert!(late > 1.0, "since the last change that it has: {late}");
    replica.query("SELECT pg_wal_replay_resume()", &[]).await.unwrap();
    settles(&world, "primary", "behind_bytes", Value::Int(0)).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_for_a_missing_replica_are_told() {
    let world = World::start().await;
    let primary = world.cluster.connect("postgres").await.unwrap();
    primary.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'elsewhere'").await.unwrap();
    primary.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    until(&primary, "SELECT current_setting('synchronous_standby_names') = 'elsewhere'").await;
    let waits = "CRITICAL: primary: synchronous_standby_names requires a replica that isn't connected";
    let told = world.until("replication", |answer| severity(answer) == Severity::Critical).await;
    assert!(words(&told).starts_with(waits), "{}", words(&told));
}
