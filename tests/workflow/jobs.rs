//! Long work: seen, stopped, ended with the process, and looked at when its process is gone.

use crate::backup::locked;
use crate::harness::{ANA, BEN, DAN, Scene, Servers, Twist, found};
use crate::process::{Process, becomes, kinds};
use countersign::audit::{AuditLog, EventDetails};
use countersign::model::{EventKind, Person, Run, RunState};
use countersign::store::{AppendOutcome, Store};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Waits until the dump waits for the table.
async fn waits(scene: &Scene) {
    let superuser = scene.superuser().await;
    let sql = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'countersign #%'
               AND query LIKE 'LOCK TABLE%' AND wait_event_type = 'Lock'";
    found("pg_dump to wait for the lock", async || superuser.query_opt(sql, &[]).await.expect("an answer"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_is_seen_and_stopped() {
    let scene = Scene::with(Twist { servers: Some(Servers::alone(60).await), ..Twist::default() }).await;
    let nothing = scene.asks(ANA, "jobs").await.plain();
    assert!(nothing.contains("No runs are in progress."), "{nothing}");
    let blocker = locked(&scene).await;
    let card = scene.asks(ANA, "backup asset-service --env staging").await;
    waits(&scene).await;
    let run = becomes(&scene.store(), "backup", RunState::Running).await.id;

    let jobs = scene.asks(BEN, "jobs").await.plain();
    for words in [
        "1 run in progress",
        &format!("#{run}"),
        "backup asset-service",
        "staging",
        "ana",
        "asset_service_db",
    ] {
        assert!(jobs.contains(words), "{words} is missing: {jobs}");
    }
    scene.refused(DAN, &format!("stop {run}"), "You may").await;
    scene.refused(ANA, "stop 4711", "There is no run #4711").await;
    assert_eq!(scene.store().get(run).await.unwrap().unwrap().state, RunState::Running);

    let told = scene.asks(BEN, &format!("stop {run}")).await.plain();
    assert!(told.contains(&format!("Run #{run} has ended: stopped. Stopped: no backup was made")), "{told}");
    scene.until(&card.at(), "Stopped: no backup was made, and no files are left behind").await;
    let stopped = scene.store().get(run).await.unwrap().unwrap();
    assert_eq!(
        (stopped.state, kinds(&stopped)),
        (RunState::Stopped, vec!["started", "stop_requested", "stopped"])
    );
    assert_eq!(stopped.event(EventKind::StopRequested).unwrap().by.as_ref().unwrap().id, "ben");
    drop(blocker);
    let superuser = scene.superuser().await;
    let dumping = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'countersign #%' AND query LIKE '%asset_versions%'";
    found("pg_dump's end", async || {
        superuser.query_opt(dumping, &[]).await.expect("an answer").is_none().then_some(())
    })
    .await;
    let backups = scene.asks(ANA, "backups asset-service --env staging").await.plain();
    assert!(backups.contains("has no backup here"), "{backups}");
    scene.refused(ANA, &format!("stop {run}"), "has already ended: stopped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_started_is_not_stopped_but_taken_back() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.kill_card(pid).await;
    let run = scene.only_run("kill").await;
    scene.refused(BEN, &format!("stop {}", run.id), "withdraw").await;
    assert_eq!(scene.only_run("kill").await.version, run.version);
}

/// As if the process had died between its claim and the signal: both are recorded, nothing was sent.
async fn claimed_by_a_dead_process(scene: &Scene) -> Run {
    let approval = scene.stage.checked().unwrap().approval;
    let runs = AuditLog { store: Arc::new(scene.store()), approval };
    let run = scene.only_run("kill").await;
    let ben = Person { id: "ben".to_owned(), account: None };
    let AppendOutcome::Done(run) =
        runs.append(&run, EventKind::Approved, EventDetails::by_person(&ben)).await.unwrap()
    else {
        panic!("not approved")
    };
    let AppendOutcome::Done(run) =
        runs.append(&run, EventKind::Started, EventDetails::default()).await.unwrap()
    else {
        panic!("not claimed")
    };
    *run
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_kill_is_looked_at_and_never_repeated() {
    for gone in [false, true] {
        let scene = Scene::usual().await;
        let (victim, pid) = scene.session("asset-worker-7").await;
        let card = scene.kill_card(pid).await;
        if gone {
            drop(victim);
            found("its end", async || (!scene.is_there(pid).await).then_some(())).await;
        }
        let run = claimed_by_a_dead_process(&scene).await;
        let (words, state) = match gone {
            true => ("The session has ended", RunState::Succeeded),
            false => ("The session has not ended", RunState::Failed),
        };
        let told = scene.until(&card.at(), words).await.plain();
        assert!(
            told.contains("Countersign was interrupted and can't tell whether that is its work"),
            "{told}"
        );
        let run = scene.store().get(run.id).await.unwrap().unwrap();
        assert_eq!(run.state, state);
        assert_eq!(kinds(&run)[..4], ["requested", "approved", "started", "interrupted"]);
        assert_eq!(scene.is_there(pid).await, !gone);
        assert_eq!(scene.store().verify().await.unwrap().first_error, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_run_left_on_postgresql_is_named_and_can_be_ended() {
    let scene = Scene::with(Twist { servers: Some(Servers::alone(60).await), ..Twist::default() }).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.kill_card(pid).await;
    let run = claimed_by_a_dead_process(&scene).await;
    let operator = &scene.servers.team.operator;
    let (left, left_pid) =
        scene.session_by(operator.login("postgres", &format!("countersign #{} ana", run.id))).await;
    let sleeping = tokio::spawn(async move { left.simple_query("SELECT pg_sleep(600)").await });
    let superuser = scene.superuser().await;
    let asleep = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
    found("the statement", async || superuser.query_opt(asleep, &[&left_pid]).await.expect("an answer"))
        .await;
    becomes(&scene.store(), "kill", RunState::Interrupted).await;

    let jobs = scene.asks(ANA, "jobs").await.plain();
    assert!(jobs.contains("1 interrupted run is still working on PostgreSQL"), "{jobs}");
    let told = scene.asks(BEN, &format!("stop {}", run.id)).await.plain();
    assert!(
        told.contains(&format!("1 session of the interrupted run #{} got the signal to end", run.id)),
        "{told}"
    );
    assert!(sleeping.await.unwrap().is_err());
    assert!(scene.is_there(pid).await, "nobody else may be hurt");
    // Only now the session that it was to end is looked at.
    let closed = becomes(&scene.store(), "kill", RunState::Failed).await;
    assert!(closed.text("verdict").unwrap().contains("has not ended"), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_told_to_end_lets_its_work_finish() {
    let scene =
        Scene::without_bot(Twist { servers: Some(Servers::alone(60).await), ..Twist::default() }).await;
    let blocker = locked(&scene).await;
    let process = Process::start(&scene).await;
    scene.say(ANA, "backup asset-service --env staging").await;
    waits(&scene).await;
    // Whoever never sends the rest of a request keeps nobody.
    let mut half = TcpStream::connect(process.url.trim_start_matches("http://")).await.unwrap();
    let head = b"POST /slack/commands HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";
    half.write_all(head).await.unwrap();
    process.terminate();
    process.logs("waiting for running commands to finish", 1).await;
    drop(blocker);
    process.ended().await;
    let run = scene.only_run("backup").await;
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_takes_too_long_for_the_end_is_marked() {
    let impatient = vec![("[store]", "finish_within = \"1s\"\n[store]")];
    let scene = Scene::without_bot(Twist {
        servers: Some(Servers::alone(60).await),
        instead: impatient,
        ..Twist::default()
    })
    .await;
    let _blocker = locked(&scene).await;
    let process = Process::start(&scene).await;
    scene.say(ANA, "backup asset-service --env staging").await;
    waits(&scene).await;
    process.terminate();
    process.ended().await;
    let run = scene.only_run("backup").await;
    assert_eq!((run.state, kinds(&run)), (RunState::Interrupted, vec!["started", "interrupted"]));
    let why = &run.events.last().unwrap().facts["why"];
    assert_eq!(why, "Countersign was told to end while it ran");
}
