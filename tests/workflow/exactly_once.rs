//! Exactly once: whoever clicks, however often, through whichever process.

use crate::harness::{ANA, BEN, CARA, Scene, Twist, found};
use crate::process::{Counter, Process, all_runs, becomes, kinds, the_run};
use crate::replicas::{log_database, scene_on_one_log, shared_log};
use countersign::demo::fake_slack::{Account, Kind, Message};
use countersign::demo::harness::INCIDENT;
use countersign::model::{EventKind, RunId, RunRequest, RunState};
use countersign::store::postgres::PostgresStore;
use countersign::store::{Deadline, Filter, NewEvent, NewRun, OpenOutcome, Store};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const DUPLICATE: &str = "dropped duplicate delivery";
const RECORDED: &str = "dropped recorded delivery";

/// What only this person sees in the channel.
fn told(scene: &Scene, who: &str) -> Vec<Message> {
    let mut seen = scene.workspace().visible_messages(who, INCIDENT);
    seen.retain(|message| message.ephemeral_to.as_deref() == Some(who));
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_approvers_at_the_same_moment_over_two_processes_start_it_once() {
    let counter = Counter::new("fifty").await;
    let crowd: Vec<(String, String)> =
        (10..60).map(|n| (format!("U0CROWD{n}"), format!("crowd-{n}"))).collect();
    let mut more = String::new();
    for (account, name) in &crowd {
        let entry =
            format!("[[people]]\nname = \"{name}\"\nslack = [\"{account}\"]\nroles = [\"approver\"]\n\n");
        more.write_str(&entry).unwrap();
    }
    let acts = counter.acts();
    let scene =
        Scene::without_bot(Twist { more: &more, commands: vec![("count.sql", &acts)], ..Twist::default() })
            .await;
    for (account, name) in &crowd {
        scene.workspace().add_person(Account::new(account, name, Kind::Member));
    }
    let processes = [Process::start(&scene).await, Process::start(&scene).await];
    let card = scene.asks(ANA, "count --env production").await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());

    let clicks = crowd.iter().enumerate().map(|(n, (account, _))| {
        let (workspace, card) = (processes[n % 2].of(&scene), card.clone());
        async move { workspace.click_stale_button(account, &card, "Approve").await }
    });
    for ack in futures::future::join_all(clicks).await {
        assert!(ack.ok(), "{ack:?}");
    }

    let record = scene.store();
    let run = becomes(&record, "count", RunState::Succeeded).await;
    assert_eq!(kinds(&run), ["requested", "approved", "started", "succeeded"]);
    let winner = run.event(EventKind::Approved).and_then(|event| event.by.clone()).expect("an approver").id;
    let losers: Vec<_> = crowd.iter().filter(|(_, name)| *name != winner).collect();
    assert_eq!(losers.len(), 49);
    for (account, name) in losers {
        let heard = found(&format!("{name} to be told"), async || told(&scene, account).pop()).await;
        let words = format!("This request is already decided: approved by {winner}");
        assert!(heard.plain().contains(&words), "{name}: {}", heard.plain());
        assert_eq!(told(&scene, account).len(), 1);
    }
    let done = scene.until(&card.at(), " ran on ").await;
    assert!(done.plain().contains(&format!("approved by {winner}")), "{}", done.plain());
    let winner = crowd.iter().find(|(_, name)| *name == winner).expect("one of them");
    assert_eq!(told(&scene, &winner.0), []);
    assert_eq!(counter.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_comes_again_is_carried_out_once_and_answered_once() {
    let counter = Counter::new("again").await;
    let acts = counter.acts();
    let looks = counter.looks();
    let commands = vec![("count.sql", acts.as_str()), ("counted.sql", looks.as_str())];
    let scene = Scene::without_bot(Twist { commands, ..Twist::default() }).await;
    let (first, second) = (Process::start(&scene).await, Process::start(&scene).await);

    scene.workspace().connect_bot(&first.url);
    let card = scene.asks(ANA, "count --env production").await;
    let answer = scene.asks(ANA, "counted --env production").await;
    assert!(answer.plain().contains("Counted 0."), "{}", answer.plain());
    for delivery in [0, 1] {
        assert!(first.of(&scene).redeliver(delivery).await.ok());
        assert!(second.of(&scene).redeliver(delivery).await.ok());
    }
    first.logs(DUPLICATE, 2).await;
    second.logs(RECORDED, 2).await;
    first.kill().await;
    let third = Process::start(&scene).await;
    for delivery in [0, 1] {
        assert!(third.of(&scene).redeliver(delivery).await.ok());
    }
    third.logs(RECORDED, 2).await;
    let seen = scene.workspace().visible_messages(ANA, INCIDENT);
    assert_eq!(seen.len(), 2, "{}", scene.workspace().transcript());
    let record = scene.store();
    let run = the_run(&record, "count").await.expect("a run");
    assert_eq!((run.state, run.version), (RunState::Pending, 1));
    assert_eq!(kinds(&the_run(&record, "counted").await.expect("a run")), ["started", "succeeded"]);

    assert!(third.of(&scene).click_button(BEN, &card.at(), "Approve").await.ok());
    scene.until(&card.at(), " ran on ").await;
    let click = scene.workspace().deliveries().len() - 1;
    assert!(third.of(&scene).redeliver(click).await.ok());
    third.logs(DUPLICATE, 1).await;
    assert_eq!(told(&scene, BEN), []);
    assert!(second.of(&scene).redeliver(click).await.ok());
    let heard = found("an answer", async || told(&scene, BEN).pop()).await;
    assert!(heard.plain().contains("already decided: approved by ben"), "{}", heard.plain());
    assert_eq!(kinds(&the_run(&record, "count").await.expect("a run")).len(), 4);
    assert_eq!(counter.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_click_on_a_row_is_a_request_of_its_own_and_the_session_ends_once() {
    let scene = Scene::without_bot(Twist::default()).await;
    let (first, second) = (Process::start(&scene).await, Process::start(&scene).await);
    let (_holder, pid) = crate::pid_reuse::holds_up(&scene, "twice").await;
    let listing = scene.asks(ANA, "blocked --env production").await;
    let button = crate::pid_reuse::button_of(&listing, pid);
    let before = scene.count(ANA);
    for workspace in [first.of(&scene), second.of(&scene)] {
        assert!(workspace.click_button(ANA, &listing.at(), &button).await.ok());
    }
    // The second click's own delivery comes again: it made a request already.
    let click = scene.workspace().deliveries().len() - 1;
    scene.next(ANA, before + 1, "two cards").await;
    assert!(first.of(&scene).redeliver(click).await.ok());
    first.logs(RECORDED, 1).await;
    let record = scene.store();
    assert_eq!(all_runs(&record, "kill").await.len(), 2);
    let cards = scene.workspace().visible_messages(ANA, INCIDENT).split_off(before);
    assert_eq!(cards.len(), 2);

    scene.click_button(BEN, &cards[0].at(), "Approve").await;
    scene.until(&cards[0].at(), &format!("Session {pid} ended.")).await;
    scene.click_button(CARA, &cards[1].at(), "Approve").await;
    scene.until(&cards[1].at(), "The session that was shown is gone").await;
    let mut states: Vec<_> = all_runs(&record, "kill").await.iter().map(|run| run.state).collect();
    states.sort_by_key(|state| format!("{state:?}"));
    assert_eq!(states, [RunState::Invalidated, RunState::Succeeded]);
    assert!(!scene.is_there(pid).await);
}

/// Two bots that share an audit log on a PostgreSQL server: one takes the request, both take an approval, one of those counts.
#[tokio::test(flavor = "multi_thread")]
async fn two_bots_on_one_server_carry_a_request_out_once() {
    let scene = scene_on_one_log(Twist::default()).await;
    let (first, second) = (scene.stage.bot().await.unwrap(), scene.stage.bot().await.unwrap());
    let (_victim, pid) = scene.session("asset-worker-7").await;

    scene.workspace().connect_bot(&first.url);
    let card = scene.asks(ANA, &format!("kill {pid} --env production --reason \"it blocks\"")).await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    let clicks = [(BEN, &second), (CARA, &first)].map(|(who, bot)| {
        let (workspace, card) = (scene.workspace().with_bot(&bot.url), card.clone());
        async move { workspace.click_stale_button(who, &card, "Approve").await }
    });
    for ack in futures::future::join_all(clicks).await {
        assert!(ack.ok(), "{ack:?}");
    }
    let done = scene.until(&card.at(), &format!("Session {pid} ended")).await;
    assert!(done.buttons().is_empty(), "{}", done.plain());
    assert!(!scene.is_there(pid).await);

    let record = shared_log(&scene).await;
    let runs = record.list(Filter::default()).await.unwrap().runs;
    assert_eq!(runs.len(), 1);
    assert_eq!(kinds(&runs[0]), ["requested", "approved", "started", "succeeded"]);
    let winner =
        runs[0].event(EventKind::Approved).and_then(|event| event.by.clone()).expect("an approver").id;
    assert!(done.plain().contains(&format!("approved by {winner}")), "{}", done.plain());
    let loser = if winner == "ben" { CARA } else { BEN };
    let heard = found("the other to be told", async || told(&scene, loser).pop()).await;
    assert!(heard.plain().contains(&format!("already decided: approved by {winner}")), "{}", heard.plain());

    // What an instance began that is taken for dead, the others close.
    let first_event = NewEvent {
        kind: EventKind::Started,
        by: None,
        facts: serde_json::Value::Null,
        texts: BTreeMap::new(),
        state: RunState::Running,
        deadline: Deadline::None,
    };
    let begun = begin(&record, runs[0].request.clone(), first_event).await;
    let (_, audit) = log_database(&scene).await;
    let mark = "SELECT countersign.mark_dead(i.id, i.beat) FROM countersign.instances i JOIN countersign.runs r ON r.owner = i.id
        WHERE r.id = $1";
    let interrupted = found("the end of what it began", async || {
        audit.query(mark, &[&begun]).await.unwrap();
        record.get(begun).await.unwrap().filter(|run| run.state == RunState::Interrupted)
    });
    assert_eq!(kinds(&interrupted.await), ["started", "interrupted"]);
    assert_eq!(record.verify().await.unwrap().first_error, None);
}

async fn begin(record: &PostgresStore, request: RunRequest, first_event: NewEvent) -> RunId {
    let new = NewRun {
        request,
        delivery_id: "begun by another".into(),
        resource_locks: Vec::new(),
        first_event,
        late_event: None,
        cards: Vec::new(),
        unless_break_glass_within: None,
        unless_frozen: false,
    };
    let OpenOutcome::New(run) = record.open(new).await.unwrap() else { panic!("it wasn't opened") };
    run.id
}
