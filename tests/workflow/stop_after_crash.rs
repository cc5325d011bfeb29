//! A run whose process is gone, or was told to end: what a stop says of it, and what is recorded of its end.

use crate::harness::{ANA, BEN, CARA, Scene, Twist, found};
use crate::process::{Counter, PATIENT, Process, becomes, kinds};
use crate::purge::{card, checksum, newest, servers, tables};
use countersign::audit::{AuditLog, EventDetails};
use countersign::model::{EventKind, RunState};
use countersign::store::AppendOutcome;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn more_than_an_interrupted_purge_noted_can_be_gone_and_is_said_to_be() {
    let scene = Scene::without_bot(Twist { servers: Some(servers().await), ..Twist::default() }).await;
    let superuser = tables(
        &scene,
        "CREATE TABLE purged_stopped (id bigint PRIMARY KEY, at timestamptz);
         INSERT INTO purged_stopped SELECT n, now() - interval '200 days' FROM generate_series(1, 30000) n;
         GRANT SELECT, DELETE ON purged_stopped TO countersign_act",
    )
    .await;
    let process = Process::start(&scene).await;
    let asked = card(&scene, "purged_stopped --column at --older-than 90d").await;
    // The third batch waits for a row; only now and then a batch is noted.
    let holder = scene.servers.cluster.connect(crate::purge::DATABASE).await.unwrap();
    holder.batch_execute("BEGIN; SELECT 1 FROM purged_stopped WHERE id = 25000 FOR UPDATE").await.unwrap();
    scene.click_button(BEN, &asked.at(), "Approve").await;
    found("two batches", async || {
        let left: i64 = superuser.query_one("SELECT count(*) FROM purged_stopped", &[]).await.unwrap().get(0);
        (left == 10_000).then_some(())
    })
    .await;
    // Else it would go on by itself.
    scene.asks(CARA, "freeze").await;
    process.kill().await;
    holder.batch_execute("COMMIT").await.unwrap();
    let _again = Process::start(&scene).await;
    let run = found("it to be interrupted", async || {
        Some(newest(&scene).await).filter(|run| run.state == RunState::Interrupted)
    })
    .await;
    let noted = run.event(EventKind::Checkpoint).unwrap().facts["deleted"].as_i64().unwrap();

    let told = scene.asks(BEN, &format!("stop {}", run.id)).await.plain();
    let words = format!(
        "Stopped while it was interrupted. At least {},000 rows of 30,000 were deleted; more rows may be.",
        noted / 1000
    );
    assert!(told.contains(&words), "{told}");
    let shown = scene.until(&asked.at(), &words).await.plain();
    assert!(shown.contains(&format!("--continue {}", run.id)), "{shown}");
    let run = newest(&scene).await;
    assert_eq!((run.state, kinds(&run).last()), (RunState::Stopped, Some(&"stopped")));
    let left = checksum(&superuser, "purged_stopped").await;
    let left: i64 = left.split(' ').next().unwrap().parse().unwrap();
    assert!(30_000 - left >= noted, "{left} are left, {noted} were noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_outcome_is_kept_though_the_run_was_marked_as_interrupted_a_moment_before() {
    let counter = Counter::new("marked").await;
    let acts = counter.acts();
    let twist = Twist { commands: vec![("count.sql", &acts)], instead: vec![PATIENT], ..Twist::default() };
    let scene = Scene::with(twist).await;
    let card = scene.card(ANA, "count --env production").await;
    // Its row waits for another of the same name, in the transaction that acts.
    let (superuser, holder) = (scene.superuser().await, scene.superuser().await);
    superuser.batch_execute("CREATE UNIQUE INDEX ON counted_marked (by)").await.unwrap();
    holder.batch_execute("BEGIN; INSERT INTO counted_marked VALUES ('countersign #1 ana')").await.unwrap();
    scene.click_button(BEN, &card.at(), "Approve").await;
    let waits =
        "SELECT FROM pg_stat_activity WHERE query LIKE '%counted_marked%' AND wait_event = 'transactionid'";
    found("a row that waits", async || superuser.query_opt(waits, &[]).await.unwrap()).await;
    let record = scene.store();
    let run = becomes(&record, "count", RunState::Running).await;
    let audit =
        AuditLog { store: Arc::new(scene.store()), approval: scene.stage.checked().unwrap().approval };
    let marked = audit.append(&run, EventKind::Interrupted, EventDetails::with_reason("shut down")).await;
    assert!(matches!(marked, Ok(AppendOutcome::Done(_))), "{marked:?}");
    holder.batch_execute("ROLLBACK").await.unwrap();
    let closed = becomes(&record, "count", RunState::Succeeded).await;
    assert_eq!(kinds(&closed), ["requested", "approved", "started", "interrupted", "succeeded"]);
    assert_eq!(counter.rows().await, 1);
}
