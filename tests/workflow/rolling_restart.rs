//! Three replicas behind a balancer are replaced one after another, while people type and click: nothing is lost, nothing is done twice.

use crate::balancer::Retries;
use crate::harness::{ANA, BEN, Twist, found};
use crate::process::{Counter, all_runs, kinds};
use crate::replicas::{Replicas, log_database, log_server, scene_on_one_log, shared_log};
use countersign::demo::fake_slack::{Account, Channel, Kind, Settings, Workspace};
use countersign::model::RunState;
use countersign::store::Store;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const REPLICAS: usize = 3;
/// Each of them in a channel of their own, since a channel takes one message a second.
const PEOPLE: usize = 6;

/// Each asks again as soon as it is acknowledged, so that a replica which is gone is asked before a probe finds out.
const READERS: usize = 8;

/// How often every replica is replaced.
fn rounds() -> usize {
    let rounds = std::env::var("COUNTERSIGN_TEST_ROUNDS").ok();
    rounds.map_or(1, |rounds| rounds.parse().expect("COUNTERSIGN_TEST_ROUNDS is a number"))
}

/// The people's side: what was acknowledged.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    requested: AtomicUsize,
    read: AtomicUsize,
}

impl Load {
    /// Requests a count and lets it be approved, again and again.
    async fn run(&self, workspace: &Workspace, number: usize) {
        let (who, channel) = (account(number), channel(number));
        let mut turn = 0;
        while !self.is_over.load(Ordering::SeqCst) {
            turn += 1;
            let reason = format!("turn {turn} of {who}");
            let ack = workspace
                .say(&who, &channel, &format!("/db count --env production --reason \"{reason}\""))
                .await;
            assert!(ack.ok(), "{reason}: {ack:?}\n{}", workspace.transcript());
            self.requested.fetch_add(1, Ordering::SeqCst);
            let card = workspace.wait_for(&reason, |workspace| {
                let mut messages = workspace.visible_messages(&who, &channel).into_iter().rev();
                messages.find(|card| card.plain().contains(&reason) && card.button("Approve").is_some())
            });
            let card = card.await.unwrap_or_else(|why| panic!("{why}"));
            let ack = workspace.click_stale_button(BEN, &card, "Approve").await;
            assert!(ack.ok(), "{reason}: {ack:?}\n{}", workspace.transcript());
            let done = workspace.wait_for(&reason, |workspace| {
                workspace.message(&card.at()).filter(|card| card.plain().contains(" ran on "))
            });
            done.await.unwrap_or_else(|why| panic!("{why}"));
        }
    }

    /// Asks, and looks only at the acknowledgement, again and again.
    async fn read(&self, workspace: &Workspace, number: usize) {
        let (who, channel) = (account(number % PEOPLE), channel(number % PEOPLE));
        while !self.is_over.load(Ordering::SeqCst) {
            let ack = workspace.say(&who, &channel, "/db help kill").await;
            assert!(ack.ok(), "help: {ack:?}\n{}", workspace.transcript());
            self.read.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn account(number: usize) -> String {
    format!("U0TYPIST{number}")
}

fn channel(number: usize) -> String {
    format!("C0TYPIST{number}")
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_and_no_command_and_no_click_is_lost() {
    let counter = Counter::new("rolling").await;
    let acts = counter.acts();
    let mut more = String::new();
    for number in 0..PEOPLE {
        let account = account(number);
        writeln!(
            more,
            "[[people]]\nname = \"typist-{number}\"\nslack = [\"{account}\"]\nroles = [\"on-call\"]\n"
        )
        .unwrap();
    }
    let twist = Twist {
        more: &more,
        commands: vec![("count.sql", &acts)],
        // Slack's limits would slow down the people, not the replicas.
        workspace: Some(Settings { rate_limits: false, ..Settings::default() }),
        instead: vec![("[store]", "shutdown_delay = \"2s\"\n[store]")],
        ..Twist::default()
    };
    let scene = scene_on_one_log(twist).await;
    for number in 0..PEOPLE {
        scene.workspace().add_person(Account::new(
            &account(number),
            &format!("typist-{number}"),
            Kind::Member,
        ));
        let (id, name) = (channel(number), format!("typist-{number}"));
        scene.workspace().add_channel(Channel { id, name, is_bot_member: true, ..Channel::default() });
    }
    let mut replicas = Replicas::start(&scene, REPLICAS, Retries::Never).await;
    let workspace = scene.workspace().with_bot(replicas.url());

    let load = Load::default();
    let people = futures::future::join_all((0..PEOPLE).map(|number| load.run(&workspace, number)));
    let replacing = async {
        for number in (0..rounds()).flat_map(|_| 0..REPLICAS) {
            // Nobody is idle when it begins.
            let before = load.requested.load(Ordering::SeqCst);
            found("requests", async || (load.requested.load(Ordering::SeqCst) > before).then_some(())).await;
            replicas.terminate(number).await;
            replicas.start_one(&scene, number).await;
        }
        load.is_over.store(true, Ordering::SeqCst);
    };
    let readers = futures::future::join_all((0..READERS).map(|number| load.read(&workspace, number)));
    tokio::join!(people, readers, replacing);

    let record = shared_log(&scene).await;
    let requested = load.requested.load(Ordering::SeqCst);
    let runs = all_runs(&record, "count").await;
    assert_eq!(runs.len(), requested.min(50), "the newest 50 of {requested}");
    for run in &runs {
        assert_eq!(run.state, RunState::Succeeded, "{run:#?}");
        assert_eq!(kinds(run), ["requested", "approved", "started", "succeeded"]);
    }
    let rows = counter.by().await;
    assert_eq!(rows.len(), requested, "{rows:?}");
    assert!(rows.values().all(|times| *times == 1), "{rows:?}");
    assert_eq!(record.verify().await.unwrap().first_error, None);
    let (read, replaced) = (load.read.load(Ordering::SeqCst), rounds() * REPLICAS);
    println!("{requested} requests and approvals, and {read} reads, while {replaced} replicas were replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balancer_passes_by_replicas_that_are_not_ready() {
    let scene = scene_on_one_log(Twist::default()).await;
    let mut replicas = Replicas::start(&scene, 2, Retries::AsInExample).await;
    let asks = async |words: &str| {
        let answer = scene.asks(ANA, "sizes --env staging").await;
        assert!(answer.plain().contains(words), "{}", answer.plain());
    };
    replicas.get(0).pause();
    replicas.until_ready(0, false).await;
    asks("databases take").await;
    replicas.get(0).resume();
    replicas.until_ready(0, true).await;
    // At least one of these goes to the replica that isn't there any more, before a probe finds out.
    replicas.kill(1).await;
    asks("databases take").await;
    asks("databases take").await;
    replicas.until_ready(1, false).await;
    replicas.start_one(&scene, 1).await;

    // With none that is ready, people are told why.
    let (database, _) = log_database(&scene).await;
    let superuser = log_server().await.connect("postgres").await.unwrap();
    let block = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false");
    superuser.batch_execute(&block).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    superuser.query(end, &[&database]).await.unwrap();
    for number in [0, 1] {
        replicas.until_ready(number, false).await;
    }
    asks("audit log").await;
}
