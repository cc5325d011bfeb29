//! A session that is idle in its transaction: what it holds, who waits for it, and how to end it.

use crate::harness::{World, severity, words};
use countersign::model::{Severity, TokenPurpose};
use countersign::sql::{Answer, present};
use tokio_postgres::Client;

async fn connect(world: &World, application: &str) -> Client {
    let (asset, account) = world.team.service("asset-service").unwrap();
    world.cluster.connect_as(account.login(&asset.database, application)).await.unwrap()
}

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

/// Holds a table with a name in mixed case and one of the same name in another schema.
const HOLD: &str = "BEGIN; UPDATE assets SET description = 'jane.doe@example.com' WHERE id IN (SELECT id FROM assets LIMIT 1);
    SELECT count(*) FROM \"User\"; LOCK TABLE \"My stuff\".\"User\" IN SHARE MODE; SELECT pg_advisory_xact_lock(72707369)";

async fn two_users(world: &World) -> Client {
    let client = connect(world, "asset-worker-7").await;
    client
        .batch_execute("CREATE SCHEMA \"My stuff\"; CREATE TABLE \"My stuff\".\"User\" (id int)")
        .await
        .unwrap();
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_tells_what_is_held_and_offers_the_end() {
    let world = World::start().await;
    assert_eq!(severity(&world.ask("Ana Example", "idle").await.unwrap()), Severity::Ok);
    let holder = two_users(&world).await;
    holder.batch_execute(HOLD).await.unwrap();
    let held = pid(&holder).await;
    holder.batch_execute("SELECT 'a last word'").await.unwrap();

    // The databases are asked about the same sessions as the server, whenever each of them answers.
    let row = format!("\n{held} | ");
    let idle = world.until("idle --over 1s", |told| words(told).contains(&row)).await;
    let told = words(&idle);
    let verdict = format!(
        "WARNING: 1 session has been idle in a transaction for 1.0 s or longer; the longest is pid {held} (asset-worker-7) of \
         asset_service_db, for "
    );
    assert!(told.starts_with(&verdict), "{told}");
    for (table, lock, holds_up) in [
        ("assets", "RowExclusive", "schema changes, CREATE INDEX"),
        ("\"User\"", "AccessShare", "schema changes"),
        ("\"My stuff\".\"User\"", "Share", "writes"),
    ] {
        let row = format!("\nasset-service | {held} | {table} | {lock} | {holds_up}\n");
        assert!(told.contains(&row), "no {row} in {told}");
    }
    assert!(!told.contains("jane.doe") && !told.contains("a last word"), "{told}");
    let superuser = world.cluster.connect("postgres").await.unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE pid = $1 AND granted AND locktype <> 'virtualxid'";
    let locks: i64 = superuser.query_one(locks, &[&held]).await.unwrap().get(0);
    let row = told.lines().find(|line| line.starts_with(&format!("{held} | "))).unwrap();
    assert!(row.contains(&format!(" | {locks} | ")), "{row} of {locks}");
    assert!(told.ends_with(&format!("end it and roll back its open transaction: kill {held}\n")), "{told}");

    let [(_, TokenPurpose::RunCommand { command, arguments, .. })] = idle.button_purposes.as_slice() else {
        panic!("{told}")
    };
    assert_eq!((command.as_str(), &arguments["pid"]), ("kill", &held.to_string()));
    let same = "SELECT backend_start = $2::text::timestamptz FROM pg_stat_activity WHERE pid = $1";
    let same = superuser.query_one(same, &[&held, &arguments["backend_start"]]).await.unwrap();
    assert!(same.get::<_, bool>(0), "to the microsecond: {arguments:?}");

    // Between the two questions a session may cross the limit.
    let mut sections = world.sections("idle --over 1s").await.unwrap();
    (sections[0].rows, sections[0].columns) = Default::default();
    let command = world.app.catalog.find("idle").unwrap();
    let told = words(&present(command, &world.app.catalog, "production", &sections));
    assert!(told.starts_with("OK: No session has been idle in a transaction for that long"), "{told}");

    let waiter = connect(&world, "asset-api").await;
    let waiting =
        tokio::spawn(async move { waiter.batch_execute("ALTER TABLE assets ADD COLUMN x int").await });
    let idle = world.until("idle --over 1s", |told| severity(told) == Severity::Critical).await;
    let told = words(&idle);
    assert!(
        told.starts_with(&format!(
            "CRITICAL: pid {held} (asset-worker-7) of asset_service_db has been idle "
        )),
        "{told}"
    );
    assert!(told.lines().next().unwrap().ends_with(" and blocks 1 session."), "{told}");
    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    world.until("idle --over 1s", |told| severity(told) == Severity::Ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_judged_once_for_all_sections() {
    let world = World::start().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute("ALTER ROLE countersign_read SET log_statement = 'all'").await.unwrap();
    world.ask("Ana Example", "idle").await.unwrap();
    let log = std::fs::read_to_string(world.cluster.log_path()).unwrap();
    assert_eq!(log.matches("state LIKE 'idle in transaction%'").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_of_the_holder_of_the_waiter_and_of_nobody() {
    let world = World::start().await;
    let holder = two_users(&world).await;
    holder.batch_execute(HOLD).await.unwrap();
    let (held, waiter) = (pid(&holder).await, connect(&world, "asset-api").await);
    let waits = pid(&waiter).await;
    let who = format!("pid {held} (asset-worker-7) of asset_service_db is idle in transaction and holds ");

    let told = world.told(&format!("locks {held}")).await;
    assert!(
        told.starts_with(&format!("NEUTRAL: {who}")) && told.contains("; no session waits for it.\n"),
        "{told}"
    );
    for row in [
        "assets | RowExclusive | holds",
        "\"My stuff\".\"User\" | Share | holds",
        "advisory lock 72707369 | Exclusive | holds",
    ] {
        assert!(told.contains(&format!("\nasset-service | {row}\n")), "no {row} in {told}");
    }
    assert!(!told.contains("jane.doe"), "{told}");
    // One number, however it is asked for: in the verdict, as the sum of its rows, in `idle`, and on the card of a kill.
    let number = told.split(" and holds ").nth(1).unwrap().split(' ').next().unwrap();
    let rows: Vec<&str> = told.lines().filter(|line| line.ends_with(" | holds")).collect();
    let others = |row: &&&str| row.contains(" others (");
    let other =
        rows.iter().find(others).and_then(|row| row.split(" | ").nth(1)?.split(' ').next()?.parse().ok());
    let sum: usize = rows.iter().filter(|row| !others(row)).count() + other.unwrap_or(0);
    assert_eq!(number, sum.to_string(), "{told}");
    let idle = world.until("idle --over 1s", |told| words(told).contains(&format!("\n{held} | "))).await;
    let idle = words(&idle);
    let row = idle.lines().find(|line| line.starts_with(&format!("{held} | "))).unwrap();
    assert!(row.contains(&format!(" | {number} | ")), "{number}: {row}");
    let plan = world.plan(&format!("kill {held}")).await.unwrap();
    let on_card = format!("holds {number} locks");
    assert!(plan.context.iter().any(|(_, fact)| fact.ends_with(&on_card)), "{on_card}: {:?}", plan.context);

    let waiting =
        tokio::spawn(async move { waiter.batch_execute("SELECT pg_advisory_lock(72707369)").await });
    // The two questions of one answer are asked at the same time: either may be a moment ahead.
    let waits_there = "\nasset-service | advisory lock 72707369 | Exclusive | waits\n";
    let both = |told: &Answer| severity(told) != Severity::Neutral && words(told).contains(waits_there);
    let locks = world.until(&format!("locks {waits}"), both).await;
    let told = words(&locks);
    assert!(
        told.starts_with(&format!("WARNING: pid {waits} (asset-api) of asset_service_db has waited ")),
        "{told}"
    );
    assert!(
        told.contains(&format!(" for pid {held} (asset-worker-7). blocked shows the whole queue.\n")),
        "{told}"
    );
    assert!(locks.button_purposes.is_empty(), "who waits is a victim: {told}");
    let locks = world.ask("Ana Example", &format!("locks {held}")).await.unwrap();
    let told = words(&locks);
    assert!(
        told.starts_with(&format!("WARNING: {who}"))
            && told.contains("; 1 session waits for it, the longest for "),
        "{told}"
    );
    assert_eq!(locks.button_purposes.len(), 1, "{told}");

    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    // No server has as many processes.
    let nobody = world.told("locks 2147483647").await;
    assert!(nobody.starts_with("NEUTRAL: No session has this pid: it may have ended. "), "{nobody}");
    let refused = world.ask("Ana Example", "locks 0").await.unwrap_err().to_string();
    assert!(refused.starts_with("0 is no session"), "{refused}");
}
