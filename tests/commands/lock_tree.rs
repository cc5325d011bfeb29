//! Who waits for whom, drawn exactly: every true edge and no other, each session once.

use crate::harness::World;
use std::collections::BTreeSet;
use tokio_postgres::Client;

/// A session of the asset service in its own transaction, and its pid.
async fn session(world: &World, application: &str) -> (Client, i32) {
    let (service, account) = world.team.service("asset-service").unwrap();
    let client = world.cluster.connect_as(account.login(&service.database, application)).await.unwrap();
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    client.batch_execute("BEGIN").await.unwrap();
    (client, pid)
}

/// One more session, which runs into a lock; returns when it waits.
async fn waiter(world: &World, application: &str, sql: &'static str) -> i32 {
    let (client, pid) = session(world, application).await;
    tokio::spawn(async move { client.batch_execute(sql).await });
    let observer = world.cluster.connect("postgres").await.unwrap();
    let waits = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
    while observer.query_opt(waits, &[&pid]).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    pid
}

/// The rows of the answer: the pid, how deep it hangs, and whom it waits for.
fn drawn(told: &str) -> Vec<(i32, usize, BTreeSet<i32>)> {
    let rows = told.lines().skip_while(|line| !line.starts_with("[] session")).skip(1);
    let rows = rows.map_while(|line| {
        let mut cells = line.split(" | ");
        let session = cells.next()?;
        let pid = session.trim_start_matches(['│', '└', ' ']).parse().ok()?;
        let depth = session.matches(['│', '└']).count();
        let above = cells.next()?.split(", ").filter_map(|pid| pid.parse().ok()).collect();
        Some((pid, depth, above))
    });
    rows.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_incident_has_seven_edges() {
    const UPDATE: &str =
        "UPDATE assets SET description = description WHERE id = (SELECT min(id) FROM assets)";
    let world = World::start().await;
    let (head, head_pid) = session(&world, "asset-api").await;
    head.batch_execute(UPDATE).await.unwrap();
    let row = waiter(&world, "asset-worker-1", UPDATE).await;
    let tuple = waiter(&world, "asset-worker-2", UPDATE).await;
    let alter = waiter(&world, "migration", "ALTER TABLE assets ADD COLUMN note text").await;
    let reader = waiter(&world, "asset-report", "SELECT count(*) FROM assets").await;
    let (prisma, prisma_pid) = session(&world, "prisma-1").await;
    prisma.batch_execute("SELECT pg_advisory_xact_lock(72707369)").await.unwrap();
    let second = waiter(&world, "prisma-2", "SELECT pg_advisory_xact_lock(72707369)").await;

    let told = world.told("blocked").await;
    assert!(told.starts_with("CRITICAL: 5 sessions are blocked in 2 queues, the longest for "), "{told}");
    let root =
        format!("; the root blocker of the largest queue is pid {head_pid} (asset-api) of asset_service_db.");
    assert!(told.lines().next().unwrap().ends_with(&root), "{told}");
    let expected = [
        (head_pid, 0, BTreeSet::new()),
        (row, 1, BTreeSet::from([head_pid])),
        (tuple, 2, BTreeSet::from([row])),
        (alter, 3, BTreeSet::from([head_pid, row, tuple])),
        (reader, 4, BTreeSet::from([alter])),
        (prisma_pid, 0, BTreeSet::new()),
        (second, 1, BTreeSet::from([prisma_pid])),
    ];
    assert_eq!(drawn(&told), expected, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_is_one_row_a_session() {
    let world = World::start().await;
    let (head, head_pid) = session(&world, "asset-api").await;
    head.batch_execute("LOCK TABLE assets").await.unwrap();
    let mut queue = vec![head_pid];
    for _ in 0..22 {
        queue.push(waiter(&world, "asset-worker", "LOCK TABLE assets").await);
    }
    let told = world.told("blocked").await;
    let drawn = drawn(&told);
    assert_eq!(drawn.iter().map(|(pid, ..)| *pid).collect::<Vec<_>>(), queue, "{told}");
    let ahead =
        drawn.iter().enumerate().all(|(at, (_, _, above))| *above == queue[..at].iter().copied().collect());
    assert!(ahead, "each waits for all who came before: {told}");
}
