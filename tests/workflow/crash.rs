//! SIGKILL at the worst moments: nothing is repeated, nothing is claimed to be known that isn't, and every card says so.

use crate::harness::{ANA, BEN, CARA, Scene, Twist, found};
use crate::maintenance_harness;
use crate::process::{Counter, PATIENT, Process, all_runs, becomes, kinds, noted, the_run};
use countersign::demo::fake_slack::{Fault, Message, MessageRef};
use countersign::model::{EventKind, Run, RunState};
use countersign::store::{Filter, Store};
use rusqlite::Connection;

const UNKNOWN: &str = "its outcome is unknown. It will not be repeated";

async fn counting(counter: &Counter) -> Scene {
    let acts = counter.acts();
    let commands = vec![("count.sql", acts.as_str())];
    Scene::without_bot(Twist { commands, instead: vec![PATIENT], ..Twist::default() }).await
}

async fn asked(scene: &Scene) -> Message {
    let card = scene.asks(ANA, "count --env production").await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    card
}

/// The record's write lock, as another process would take it.
fn locks_the_record(scene: &Scene) -> Connection {
    let connection = Connection::open(scene.directory.path().join("record.db")).expect("the record");
    connection.busy_timeout(std::time::Duration::from_secs(30)).expect("patience");
    connection.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    connection
}

/// Makes somebody known to a process, so that it needn't ask Slack about them for a while.
async fn introduces(scene: &Scene, who: &str) {
    let answer = scene.asks(who, "sizes --env production").await;
    assert!(answer.plain().contains("databases take"), "{}", answer.plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_claim_and_the_effect() {
    let counter = Counter::new("claimed").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    let process = Process::start(&scene).await;
    let card = asked(&scene).await;
    let holder = counter.held().await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    let waiting = counter.is_waited_for().await;
    becomes(&record, "count", RunState::Running).await;
    process.kill().await;
    counter.ends(waiting).await;
    holder.batch_execute("COMMIT").await.unwrap();

    let _again = Process::start(&scene).await;
    let told = scene.until(&card.at(), UNKNOWN).await;
    assert!(told.button("Approve").is_none(), "{}", told.plain());
    let run = the_run(&record, "count").await.expect("the run");
    assert_eq!(
        (run.state, kinds(&run)),
        (RunState::Interrupted, vec!["requested", "approved", "started", "interrupted"])
    );
    assert_eq!(counter.rows().await, 0);
    // A click on the card as it was before the crash.
    let before = scene.count(CARA);
    assert!(scene.workspace().click_stale_button(CARA, &card, "Approve").await.ok());
    let told = scene.next(CARA, before, "an answer").await;
    assert!(told.plain().contains("already decided: approved by ben"), "{}", told.plain());
    assert_eq!(the_run(&record, "count").await.expect("the run").version, 4);
    assert_eq!(counter.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_effect_and_the_end_of_the_record() {
    let counter = Counter::new("done").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    let process = Process::start(&scene).await;
    let card = asked(&scene).await;
    let holder = counter.held().await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    counter.is_waited_for().await;
    becomes(&record, "count", RunState::Running).await;
    let lock = locks_the_record(&scene);
    holder.batch_execute("COMMIT").await.unwrap();
    found("the effect", async || (counter.rows().await == 1).then_some(())).await;
    process.kill().await;
    drop(lock);

    let again = Process::start(&scene).await;
    let told = scene.until(&card.at(), UNKNOWN).await;
    assert!(told.button("Approve").is_none(), "{}", told.plain());
    let run = the_run(&record, "count").await.expect("the run");
    assert_eq!(
        (run.state, kinds(&run)),
        (RunState::Interrupted, vec!["requested", "approved", "started", "interrupted"])
    );
    // Another start finds nothing to do, and answers.
    again.kill().await;
    let _third = Process::start(&scene).await;
    introduces(&scene, ANA).await;
    assert_eq!(the_run(&record, "count").await.expect("the run").version, 4);
    assert_eq!(counter.rows().await, 1, "it must not be repeated");
    assert_eq!(record.verify().await.unwrap().first_error, None);
}

/// Approved through a process that is killed before it claims the run: it asks Slack about the requester first, and that is
/// held up.
async fn killed_before_the_claim(scene: &Scene, other_lives: bool) -> Message {
    let record = scene.store();
    let first = Process::start(scene).await;
    let card = asked(scene).await;
    noted(&record, &becomes(&record, "count", RunState::Pending).await).await;
    let second = Process::start(scene).await;
    introduces(scene, BEN).await;
    let first = match other_lives {
        true => Some(first),
        false => {
            first.kill().await;
            None
        }
    };
    scene.workspace().fault("users.info U0ANA", Fault::Held);
    scene.click_button(BEN, &card.at(), "Approve").await;
    becomes(&record, "count", RunState::Approved).await;
    second.kill().await;
    scene.workspace().fault("users.info U0ANA", Fault::Clear);
    let _alive = match first {
        Some(first) => first,
        None => Process::start(scene).await,
    };
    let words = "The approval was revoked: Countersign was interrupted before it started. Nothing was done.";
    let told = scene.until(&card.at(), words).await;
    assert!(told.button("Approve").is_none(), "{}", told.plain());
    let run = the_run(&record, "count").await.expect("the run");
    assert_eq!((run.state, kinds(&run)), (RunState::Revoked, vec!["requested", "approved", "revoked"]));
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_approval_and_started_again() {
    let counter = Counter::new("approved").await;
    let scene = counting(&counter).await;
    let told = killed_before_the_claim(&scene, false).await;
    assert!(told.plain().contains("approved by ben"), "{}", told.plain());
    assert_eq!(counter.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_the_approval_while_another_process_lives() {
    let counter = Counter::new("approved_beside").await;
    let scene = counting(&counter).await;
    killed_before_the_claim(&scene, true).await;
    assert_eq!(counter.rows().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_decision_and_the_edit_of_the_card() {
    let counter = Counter::new("unedited").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    let process = Process::start(&scene).await;
    let done = asked(&scene).await;
    noted(&record, &becomes(&record, "count", RunState::Pending).await).await;
    scene.workspace().fault("chat.update", Fault::Held);
    scene.click_button(BEN, &done.at(), "Approve").await;
    let run = becomes(&record, "count", RunState::Succeeded).await;
    let before = scene.count(ANA);
    scene.say(ANA, "count --env staging").await;
    let denied = scene.next(ANA, before, "the second card").await;
    noted(&record, &record.get(run.id + 1).await.unwrap().expect("the second run")).await;
    scene.click_button(CARA, &denied.at(), "Deny").await;
    let other = found("the denial", async || {
        let run = record.get(run.id + 1).await.expect("the record")?;
        (run.state == RunState::Denied).then_some(run)
    })
    .await;
    process.kill().await;
    for card in [&done, &denied] {
        let shown = scene.workspace().message(&card.at()).expect("a card");
        assert!(shown.plain().contains("Needs approval from"), "{}", shown.plain());
    }
    scene.workspace().fault("chat.update", Fault::Clear);

    let _again = Process::start(&scene).await;
    let shown = scene.until(&done.at(), " ran on ").await;
    assert!(
        shown.plain().contains("approved by ben") && shown.button("Approve").is_none(),
        "{}",
        shown.plain()
    );
    let shown = scene.until(&denied.at(), "Denied by cara. Nothing was done.").await;
    assert!(shown.button("Approve").is_none(), "{}", shown.plain());
    assert_eq!(record.get(run.id).await.unwrap().unwrap().version, run.version);
    assert_eq!(record.get(other.id).await.unwrap().unwrap().version, other.version);
    assert_eq!(counter.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_card_was_posted() {
    let counter = Counter::new("unposted").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    let process = Process::start(&scene).await;
    scene.workspace().fault("chat.postMessage", Fault::Hang);
    let before = scene.count(ANA);
    scene.say(ANA, "count --env production").await;
    let pending = becomes(&record, "count", RunState::Pending).await;
    found("the card to be on its way", async || {
        (scene.workspace().calls("chat.postMessage") > 0).then_some(())
    })
    .await;
    process.kill().await;
    assert_eq!(scene.count(ANA), before);
    scene.workspace().fault("chat.postMessage", Fault::Clear);

    let _again = Process::start(&scene).await;
    let card = scene.next(ANA, before, "the card").await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ran on ").await;
    assert_eq!(scene.count(ANA), before + 1, "one card");
    assert_eq!(the_run(&record, "count").await.expect("the run").id, pending.id);
    assert_eq!(counter.rows().await, 1);
}

/// What the card says of a run that stands so.
fn words_of(state: RunState) -> &'static str {
    match state {
        RunState::Pending => "Needs approval from",
        RunState::Succeeded => " ran on ",
        RunState::Revoked => "The approval was revoked",
        RunState::Interrupted => UNKNOWN,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_twenty_random_moments_of_an_approval() {
    let counter = Counter::new("random").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    let mut process = Process::start(&scene).await;
    let mut cards = Vec::new();
    for _ in 0..20 {
        let card = asked(&scene).await;
        let run = record.list(Filter::default()).await.expect("the runs").runs.remove(0).id;
        noted(&record, &record.get(run).await.unwrap().expect("the run")).await;
        let workspace = process.of(&scene);
        let (message, clicked) = (card.clone(), tokio::time::Instant::now());
        let click =
            tokio::spawn(async move { drop(workspace.click_stale_button(BEN, &message, "Approve").await) });
        // From before the click is read until after the card is edited.
        let mut random = [0_u8; 2];
        getrandom::fill(&mut random).expect("randomness");
        let moment = std::time::Duration::from_micros(u64::from(u16::from_le_bytes(random)) * 3);
        tokio::time::sleep_until(clicked + moment).await;
        process.kill().await;
        click.abort();
        cards.push((run, card));
        process = Process::start(&scene).await;
    }
    let rows = counter.by().await;
    for (run, card) in cards {
        let run = found("its end", async || {
            let run = record.get(run).await.expect("the record")?;
            let settled = run.state == RunState::Pending || !run.state.is_open();
            let cards = record.run_cards(run.id).await.expect("the copies");
            (settled && cards.iter().all(|card| card.shown_version == run.version)).then_some(run)
        })
        .await;
        let started = run.events.iter().filter(|event| event.kind == EventKind::Started).count();
        let done = rows.get(&format!("countersign #{} ana", run.id)).copied().unwrap_or_default();
        assert!(started <= 1 && done <= 1, "{run:#?}");
        assert!(done == 0 || started == 1, "{run:#?}");
        assert!(run.state != RunState::Succeeded || done == 1, "{run:#?}");
        scene.until(&card.at(), words_of(run.state)).await;
    }
    assert_eq!(record.verify().await.unwrap().first_error, None);
}

/// The verdict of a vacuum of so many tables, after it is made sure that it fits how the run stands.
fn verdict_of(run: &Run, tables: i64) -> String {
    let verdict = run.text("verdict").unwrap_or_else(|| panic!("no verdict: {run:#?}")).to_owned();
    let fits = match (run.state, run.event(EventKind::Interrupted).is_some()) {
        (RunState::Succeeded, false) => format!("{tables} tables are vacuumed and analyzed, in "),
        (RunState::Partial, false) => format!(" of {tables} tables are vacuumed and analyzed, in "),
        (RunState::Failed, false) => format!("None of {tables} tables was vacuumed and analyzed."),
        (RunState::Succeeded, true) => {
            format!("{tables} tables are vacuumed and analyzed since it began. Countersign")
        }
        (RunState::Partial, true) => {
            format!(" vacuumed and analyzed since it began, of {tables}. Countersign was interrupted")
        }
        (RunState::Failed, true) => "No table is vacuumed and analyzed since it began".to_owned(),
        (other, _) => panic!("{other:?}: {run:#?}"),
    };
    assert!(verdict.contains(&fits), "{:?}, and “{verdict}”", run.state);
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_twenty_random_moments_of_a_vacuum() {
    let (scene, superuser) = maintenance_harness::without_bot("asset-service").await;
    // A second or so in all, so that most moments are within it, and PostgreSQL goes on without the bot.
    let slow = "ALTER ROLE countersign_maintain IN DATABASE asset_service_db SET vacuum_cost_delay = '5ms';
                ALTER ROLE countersign_maintain IN DATABASE asset_service_db SET vacuum_cost_limit = 1";
    superuser.batch_execute(slow).await.unwrap();
    let at_work = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'countersign_maintain' AND datname = current_database()
                   AND state = 'active' AND query LIKE 'VACUUM%'";
    let record = scene.store();
    let mut process = Process::start(&scene).await;
    let mut outlived = 0;
    for _ in 0..20 {
        scene.say(ANA, "vacuum asset-service --env staging").await;
        let asked = tokio::time::Instant::now();
        let mut random = [0_u8; 2];
        getrandom::fill(&mut random).expect("randomness");
        // From before it is recorded until after the last table is done.
        let moment = std::time::Duration::from_micros(u64::from(u16::from_le_bytes(random)) * 20);
        tokio::time::sleep_until(asked + moment).await;
        process.kill().await;
        outlived += maintenance_harness::one::<i64>(&superuser, at_work).await.min(1);
        process = Process::start(&scene).await;
    }
    let runs = found("every run to be closed", async || {
        let runs = all_runs(&record, "vacuum").await;
        let closed = |run: &Run| !run.state.is_open() && run.state != RunState::Interrupted;
        (!runs.is_empty() && runs.iter().all(closed)).then_some(runs)
    })
    .await;
    let tables: i64 = maintenance_harness::one(&superuser, "SELECT count(*) FROM pg_stat_user_tables").await;
    let oldest = "SELECT min(last_vacuum) FROM pg_stat_user_tables";
    let vacuumed: Option<std::time::SystemTime> = maintenance_harness::one(&superuser, oldest).await;
    for run in &runs {
        let started: Vec<_> = run.events.iter().filter(|event| event.kind == EventKind::Started).collect();
        assert_eq!(started.len(), 1, "{run:#?}");
        let since = std::time::SystemTime::from(started[0].at);
        assert!(run.state != RunState::Succeeded || vacuumed.is_some_and(|at| at >= since), "{run:#?}");
        let verdict = verdict_of(run, tables);
        let cards = found("its card", async || {
            let cards = record.run_cards(run.id).await.expect("the copies");
            cards
                .iter()
                .all(|card| card.message.is_some() && card.shown_version == run.version)
                .then_some(cards)
        })
        .await;
        assert!(!cards.is_empty(), "{run:#?}");
        for card in cards {
            let at = MessageRef { channel: card.conversation.id, ts: card.message.expect("a message") };
            let shown = scene.until(&at, &verdict).await.plain();
            assert!(!shown.contains("Running"), "{shown}");
        }
    }
    // Nothing twice: of each table PostgreSQL counts at most one VACUUM for each run, and one for each that was not interrupted.
    let counts = "SELECT min(vacuum_count), max(vacuum_count) FROM pg_stat_user_tables";
    let row = superuser.query_one(counts, &[]).await.unwrap();
    let (least, most): (i64, i64) = (row.get(0), row.get(1));
    let whole = runs
        .iter()
        .filter(|run| run.state == RunState::Succeeded && run.event(EventKind::Interrupted).is_none())
        .count();
    assert!(most <= runs.len() as i64 && least >= whole as i64, "{least} to {most}: {runs:#?}");
    let interrupted = runs.iter().filter(|run| run.event(EventKind::Interrupted).is_some()).count();
    println!(
        "{} runs, {interrupted} interrupted, {outlived} outlived, {least} to {most} vacuums",
        runs.len()
    );
    assert!(interrupted >= 5 && outlived >= 1, "{interrupted} interrupted, {outlived} outlived: {runs:#?}");
    assert_eq!(record.verify().await.unwrap().first_error, None);
}
