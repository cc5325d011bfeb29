//! A purge whose process is gone goes on by itself: not beside another, not in a process that ends, and never forgotten.

use crate::backup::locked;
use crate::harness::{ANA, BEN, Scene, Twist, found};
use crate::process::{Process, kinds};
use crate::purge::{DATABASE, card, newest, servers, tables};
use crate::purge_interruption::{left, slow};
use countersign::audit::{AuditLog, EventDetails};
use countersign::demo::fake_slack::Message;
use countersign::model::{EventKind, Run, RunId, RunState};
use countersign::store::{AppendOutcome, Deadline, NewEvent, NewRun, OpenOutcome, Store};
use std::sync::Arc;
use tokio_postgres::Client;

async fn scene(instead: Vec<(&str, &str)>) -> Scene {
    Scene::without_bot(Twist { servers: Some(servers().await), instead, ..Twist::default() }).await
}

/// Approved, and some of it done.
async fn begun(scene: &Scene, superuser: &Client, name: &str) -> Message {
    let asked = card(scene, &format!("{name} --column at --older-than 90d")).await;
    scene.click_button(BEN, &asked.at(), "Approve").await;
    let all = left(superuser, name).await;
    found("rows to go", async || (left(superuser, name).await < all).then_some(())).await;
    asked
}

async fn append(scene: &Scene, run: RunId, happening: EventKind) {
    let approval = scene.stage.checked().unwrap().approval;
    let runs = AuditLog { store: Arc::new(scene.store()), approval };
    let run = scene.store().get(run).await.unwrap().unwrap();
    let appended = runs.append(&run, happening, EventDetails::with_reason("a test")).await.unwrap();
    assert!(matches!(appended, AppendOutcome::Done(_)), "{appended:?}");
}

/// Somebody else's run, as another process has recorded it.
async fn another(
    scene: &Scene,
    (run, command): (&Run, &str),
    (resource_locks, state): (&[String], RunState),
) -> RunId {
    let first = &run.events[0];
    let mut request = run.request.clone();
    request.command = command.to_owned();
    let first = NewEvent {
        kind: first.kind,
        by: first.by.clone(),
        facts: first.facts.clone(),
        texts: first.texts.clone(),
        state,
        deadline: Deadline::None,
    };
    let delivery_id = countersign::model::random_token().expect("randomness");
    let new = NewRun {
        request,
        delivery_id,
        resource_locks: resource_locks.to_vec(),
        first_event: first,
        late_event: None,
        cards: Vec::new(),
        unless_break_glass_within: None,
        unless_frozen: false,
    };
    match scene.store().open(new).await.unwrap() {
        OpenOutcome::New(run) => run.id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_go_on_beside_another_purge_of_the_table() {
    let scene = scene(Vec::new()).await;
    let superuser = tables(&scene, &slow("purged_twice", 100_000, "0.00005")).await;
    let process = Process::start(&scene).await;
    let asked = begun(&scene, &superuser, "purged_twice").await;
    process.kill().await;
    let run = newest(&scene).await;
    append(&scene, run.id, EventKind::Interrupted).await;
    let table = [format!("purge of {DATABASE}: public.purged_twice")];
    let other = another(&scene, (&run, "purge"), (&table, RunState::Pending)).await;
    // More than a page of runs that nobody will ever know of.
    for _ in 0..60 {
        another(&scene, (&run, "forgotten"), (&[], RunState::Interrupted)).await;
    }

    let _again = Process::start(&scene).await;
    let waits = format!("It resumes when #{other}, which holds the lock, has ended.");
    scene.until(&asked.at(), &waits).await;
    let jobs = scene.asks(ANA, "jobs").await.plain();
    assert!(jobs.contains(&format!("interrupted: {waits}")), "{jobs}");
    let now = scene.store().get(run.id).await.unwrap().unwrap();
    assert_eq!((now.state, kinds(&now).contains(&"resumed")), (RunState::Interrupted, false));
    append(&scene, other, EventKind::Withdrawn).await;
    scene.until(&asked.at(), " were deleted, in ").await;
    assert_eq!(left(&superuser, "purged_twice").await, 0);
    // It holds the table again while it is at it, and not any longer.
    let last = scene.store().get(run.id).await.unwrap().unwrap();
    assert!(kinds(&last).contains(&"resumed") && last.state == RunState::Succeeded, "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_takes_up_nobodys_purge() {
    let scene = scene(vec![("[store]", "finish_within = \"15s\"\n[store]")]).await;
    let superuser = tables(&scene, &slow("purged_over", 100_000, "0.00005")).await;
    let _blocker = locked(&scene).await;
    let ending = Process::start(&scene).await;
    scene.say(ANA, "backup asset-service --env staging").await;
    found("the backup", async || {
        let runs = scene.runs_of("backup").await;
        runs.iter().any(|run| run.state == RunState::Running).then_some(())
    })
    .await;
    let working = Process::start(&scene).await;
    let asked = begun(&scene, &superuser, "purged_over").await;
    ending.terminate();
    ending.logs("waiting for running commands to finish", 1).await;
    working.kill().await;
    ending.ended().await;
    let run = newest(&scene).await;
    assert_eq!((run.state, kinds(&run).contains(&"resumed")), (RunState::Interrupted, false), "{run:?}");

    let _next = Process::start(&scene).await;
    scene.until(&asked.at(), " were deleted, in ").await;
    assert_eq!(left(&superuser, "purged_over").await, 0);
}
