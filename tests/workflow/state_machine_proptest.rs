//! Random requests, clicks, refusals, revocations, expiries and crashes by random people: whatever their order, nothing runs twice,
//! nothing without enough different people, nothing after its time, nothing by its requester; and the record's chain verifies
//! after each step. A few cases that were written by hand come first, so that every end is met.

use crate::fake_chat::{Room, Shown, incident};
use crate::harness::{Scene, Twist};
use crate::process::Counter;
use crate::state_machine_steps::{ACCOUNTS, Deed, ENDS, Meanwhile, SECOND, Step, by_hand, step};
use countersign::audit::{AuditLog, EventDetails};
use countersign::config::{Config, StoreSettings};
use countersign::model::{
    ChatAccount, ChatEvent, ChatEventKind, Conversation, EventKind, PlatformKind, Run, RunId, RunState,
};
use countersign::store::{AppendOutcome, Filter};
use countersign::workflow::Workflow;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Two must approve in production; one in staging.
const RULE: &str =
    "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"count\"]\napprovers = 2\n";

const CASES: u32 = 50;

/// A bot that can die: its tasks are dropped wherever they stand.
struct Process {
    runtime: Runtime,
    flow: Arc<Workflow>,
}

/// One case: a record of its own.
struct Case<'a> {
    config: Config,
    room: Arc<Room>,
    process: Option<Process>,
    counter: &'a Counter,
    outside: &'a Runtime,
    deliveries: usize,
    /// Whose time was over before they were decided.
    expired: BTreeSet<RunId>,
}

impl Case<'_> {
    fn start(&mut self) {
        let runtime = Runtime::new().expect("a runtime");
        let (config, room) = (self.config.clone(), Arc::clone(&self.room));
        let flow = runtime.block_on(async {
            Workflow::new(countersign::bootstrap::assemble(config).await.expect("a bot"), vec![room])
        });
        self.process = Some(Process { runtime, flow });
        self.tidy();
    }

    fn tidy(&self) {
        let Process { runtime, flow } = self.process.as_ref().expect("a process");
        runtime.block_on(flow.supervise_once()).expect("the record");
    }

    fn crash(&mut self) {
        let Process { runtime, flow } = self.process.take().expect("a process");
        drop(flow);
        runtime.shutdown_timeout(Duration::ZERO);
        self.start();
    }

    fn incoming(&mut self, who: usize, conversation: Conversation, event: ChatEventKind) -> ChatEvent {
        self.deliveries += 1;
        let (account, name) = ACCOUNTS[who];
        let sender = ChatAccount {
            platform: PlatformKind::Slack,
            workspace: conversation.workspace.clone(),
            account: account.to_owned(),
            name: name.to_owned(),
        };
        ChatEvent { delivery: self.deliveries.to_string(), sender, conversation, handle: None, event }
    }

    fn click(&mut self, who: usize, token: usize) -> Option<ChatEvent> {
        // Mostly Approve, mostly on one of the newest cards; sometimes on what is long decided.
        let label = ["Approve", "Approve", "Approve", "Approve", "Deny", "Withdraw"][token % 6];
        let shown = self.room.shown.lock().unwrap().clone();
        let such: Vec<&Shown> = shown.iter().rev().filter(|shown| shown.label == label).collect();
        let within = if token.is_multiple_of(5) { such.len() } else { such.len().min(4) };
        let shown = *such.get(token.checked_rem(within)?)?;
        let event = ChatEventKind::Button { token: shown.token.clone(), message: shown.message.clone() };
        Some(self.incoming(who, shown.conversation.clone(), event))
    }

    fn line(&mut self, who: usize, line: String) -> ChatEvent {
        self.incoming(who, incident(), ChatEventKind::Command(line.as_str().into()))
    }

    /// `None` if there is nothing yet to click or to speak of.
    fn deed(&mut self, deed: Deed) -> Option<ChatEvent> {
        match deed {
            Deed::Request { who, production } => {
                let environment = if production { "production" } else { "staging" };
                Some(self.line(who, format!("count --env {environment}")))
            }
            Deed::Click { who, token } => self.click(who, token),
            Deed::Says { who, word, run } => {
                let runs = self.runs();
                let run = runs.get(run.checked_rem(runs.len())?)?.id;
                Some(self.line(who, format!("{word} {run}")))
            }
        }
    }

    fn handle(&self, incoming: Option<ChatEvent>) {
        let Process { runtime, flow } = self.process.as_ref().expect("a process");
        if let Some(incoming) = incoming {
            runtime.block_on(flow.handle(incoming));
        }
    }

    /// Begins to handle it; whoever asks waits on nobody else.
    fn begins(&self, incoming: ChatEvent) -> JoinHandle<()> {
        let Process { runtime, flow } = self.process.as_ref().expect("a process");
        let flow = Arc::clone(flow);
        runtime.spawn(async move { flow.handle(incoming).await })
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Do(deed) => {
                let incoming = self.deed(deed);
                self.handle(incoming);
            }
            Step::Both(one, other) => {
                if let (Some(one), Some(other)) = (self.deed(one), self.deed(other)) {
                    let Process { runtime, flow } = self.process.as_ref().expect("a process");
                    runtime.block_on(async { tokio::join!(flow.handle(one), flow.handle(other)) });
                }
            }
            Step::TimeIsOver { run } => {
                let waits: Vec<Run> =
                    self.runs().into_iter().filter(|run| run.state == RunState::Pending).collect();
                if let Some(run) = run.checked_rem(waits.len()).map(|at| waits[at].id) {
                    self.time_is_over(run);
                }
            }
            Step::HeldUp { who, token, meanwhile } => {
                if let Some(click) = self.click(who, token) {
                    self.held_up(click, meanwhile);
                }
            }
            Step::Crash(deed, after) => {
                if let Some(incoming) = self.deed(deed) {
                    drop(self.begins(incoming));
                    std::thread::sleep(Duration::from_micros(after));
                }
                self.crash();
            }
            Step::CrashAtWork { who, token } => {
                if let Some(click) = self.click(who, token) {
                    let holder = self.outside.block_on(self.counter.held());
                    let task = self.begins(click);
                    let waits = || self.outside.block_on(self.counter.has_waiter()).then_some(());
                    let _ = while_it_runs(&task, waits);
                    self.crash();
                    self.outside.block_on(holder.batch_execute("COMMIT")).expect("the lock's end");
                }
            }
        }
        // What was told that its time is over shows that it was, until it is closed.
        if !self.runs().iter().any(|run| run.state.is_open() && self.expired.contains(&run.id)) {
            let Process { runtime, flow } = self.process.as_ref().expect("a process");
            assert_eq!(
                runtime.block_on(flow.app.audit.store.verify()).expect("the record").first_error,
                None
            );
        }
    }

    /// The chat doesn't say whether the requester's account still counts, which is asked between approval and claim.
    fn held_up(&mut self, click: ChatEvent, meanwhile: Meanwhile) {
        self.room.hold_up(Some(&click.sender.account));
        let task = self.begins(click);
        // The record has it before who approved knows it.
        let approved = || {
            let run = self.runs().into_iter().find(|run| run.state == RunState::Approved);
            run.filter(|_| self.room.is_waited_for())
        };
        if let Some(run) = while_it_runs(&task, approved) {
            match meanwhile {
                Meanwhile::Says { who, word } => {
                    let said = self.line(who, format!("{word} {}", run.id));
                    self.handle(Some(said));
                }
                Meanwhile::Click { who, token } => {
                    let click = self.click(who, token);
                    let other = click.map(|click| self.begins(click));
                    self.room.hold_up(None);
                    let Process { runtime, .. } = self.process.as_ref().expect("a process");
                    runtime.block_on(async { futures::future::join_all(other).await });
                }
                Meanwhile::TimeIsOver => {
                    self.time_is_over(run.id);
                    self.tidy();
                }
                Meanwhile::Crash => self.crash(),
            }
        }
        self.room.hold_up(None);
        let Process { runtime, .. } = self.process.as_ref().expect("a process");
        // Dropped with its process, if that is gone.
        drop(runtime.block_on(task));
    }

    /// Nobody waits half an hour: the record is told that it is past.
    fn time_is_over(&mut self, run: RunId) {
        let hand = rusqlite::Connection::open(self.config.store.file().expect("a file")).expect("the record");
        hand.busy_timeout(Duration::from_secs(10)).expect("patience");
        hand.execute("UPDATE runs SET deadline = 5 WHERE id = ?1", [run]).expect("the tampering");
        self.expired.insert(run);
    }

    fn runs(&self) -> Vec<Run> {
        let Process { runtime, flow } = self.process.as_ref().expect("a process");
        let filter = Filter { command: Some("count".to_owned()), limit: 1_000, ..Filter::default() };
        runtime.block_on(flow.app.audit.store.list(filter)).expect("the runs").runs
    }

    /// Waits until nothing is under way: what a dead process began is closed, and PostgreSQL works for nobody.
    fn settle(&self) -> Vec<Run> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.tidy();
            let runs = self.runs();
            let busy = runs.iter().any(|run| matches!(run.state, RunState::Approved | RunState::Running));
            if !busy && self.outside.block_on(self.counter.is_quiet()) {
                return runs;
            }
            assert!(Instant::now() < until, "it never settles: {runs:#?}");
        }
    }

    /// The runs as they ended, newest first.
    fn check(&self) -> Vec<Run> {
        let runs = self.settle();
        let rows = self.outside.block_on(self.counter.by());
        for run in &runs {
            let kinds = |kind: &str| run.events.iter().filter(|event| event.kind.as_str() == kind).count();
            let name = format!("countersign #{} {}", run.id, run.request.requester.id);
            let done = rows.get(&name).copied().unwrap_or_default();
            assert!(kinds("started") <= 1 && done <= 1, "twice: {run:#?}");
            match run.state {
                RunState::Succeeded => assert_eq!(done, 1, "{run:#?}"),
                RunState::Interrupted => {}
                _ => assert_eq!(done, 0, "{run:#?}"),
            }
            if kinds("started") == 0 {
                continue;
            }
            let said = run
                .events
                .iter()
                .filter(|event| ["approval_added", "approved"].contains(&event.kind.as_str()));
            let voters: BTreeSet<&str> =
                said.filter_map(|event| event.by.as_ref()).map(|by| by.id.as_str()).collect();
            let needed = if run.request.environment.as_deref() == Some("production") { 2 } else { 1 };
            assert!(voters.len() >= needed, "too few: {run:#?}");
            assert!(voters.iter().all(|voter| ["ben", "cara"].contains(voter)), "who may not: {run:#?}");
            assert!(!voters.contains(run.request.requester.id.as_str()), "its own requester: {run:#?}");
            assert!(!self.expired.contains(&run.id), "too late: {run:#?}");
        }
        assert_eq!(rows.values().sum::<i64>(), rows.len() as i64);
        let Process { runtime, flow } = self.process.as_ref().expect("a process");
        assert_eq!(runtime.block_on(flow.app.audit.store.verify()).expect("the record").first_error, None);
        runs
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if let Some(Process { runtime, flow }) = self.process.take() {
            drop(flow);
            runtime.shutdown_timeout(Duration::ZERO);
        }
    }
}

/// Waits until what is looked for is there, or the task is over without it.
fn while_it_runs<T>(task: &JoinHandle<()>, look: impl Fn() -> Option<T>) -> Option<T> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let over = task.is_finished();
        let found = look();
        if found.is_some() || over {
            return found;
        }
        assert!(Instant::now() < until, "it neither goes on nor ends");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What came about in a case, each as often as it did.
fn ends(runs: &[Run]) -> Vec<&'static str> {
    let met = |run: &Run| -> Vec<&'static str> {
        let before = std::iter::once(None).chain(run.events.iter().map(Some));
        let pairs = before.zip(&run.events).flat_map(|(before, event)| {
            let by_a_person =
                (event.kind == EventKind::Revoked && event.by.is_some()).then_some("revoked by a person");
            let approved = before.is_some_and(|before| before.kind == EventKind::Approved);
            let late = (event.kind == EventKind::Expired && approved).then_some("expired after the approval");
            ENDS.into_iter().filter(|end| *end == event.kind.as_str()).chain(by_a_person).chain(late)
        });
        pairs.collect()
    };
    runs.iter().flat_map(met).collect()
}

/// Everything that a case needs.
struct Table<'a> {
    config: Config,
    counter: &'a Counter,
    outside: &'a Runtime,
}

impl Table<'_> {
    fn play(&self, steps: Vec<Step>) -> Vec<Run> {
        let directory = tempfile::tempdir().expect("a directory");
        self.outside.block_on(self.counter.clear());
        let mut case = Case {
            config: Config {
                store: StoreSettings::File(directory.path().join("record.db")),
                ..self.config.clone()
            },
            room: Arc::default(),
            process: None,
            counter: self.counter,
            outside: self.outside,
            deliveries: 0,
            expired: BTreeSet::new(),
        };
        case.start();
        for step in steps {
            case.take(step);
        }
        case.check()
    }
}

#[test]
fn whatever_people_do_and_whenever_it_dies() {
    let outside = Runtime::new().expect("a runtime");
    let counter = outside.block_on(Counter::new("machine"));
    let acts = counter.acts();
    let commands = vec![("count.sql", acts.as_str())];
    let instead = SECOND.to_vec();
    let scene =
        outside.block_on(Scene::without_bot(Twist { commands, instead, more: RULE, ..Twist::default() }));
    let config = scene.stage.checked().expect("the configuration");
    let table = Table { config, counter: &counter, outside: &outside };
    let mut met = BTreeSet::new();
    for (steps, states) in by_hand() {
        let told = format!("{steps:?}");
        let runs = table.play(steps);
        assert_eq!(runs.iter().map(|run| run.state).collect::<Vec<_>>(), states, "{told}: {runs:#?}");
        met.extend(ends(&runs));
    }
    assert_eq!(met, BTreeSet::from(ENDS), "the cases by hand");

    let counts = Mutex::new(BTreeMap::new());
    let setting = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(setting).run(&vec(step(), 4..32), |steps| {
        let runs = table.play(steps);
        for end in ends(&runs) {
            *counts.lock().unwrap().entry(end).or_insert(0_usize) += 1;
        }
        Ok(())
    });
    if let Err(why) = result {
        panic!("{why}");
    }
    let counts = counts.lock().unwrap();
    let succeeded = counts.get("succeeded").copied().unwrap_or_default();
    assert!(succeeded >= 2 && counts.len() >= 5, "hardly anything came about: {counts:?}");
    println!("met: {counts:?}");
}

/// The keeper would note it within a second; until then nobody starts it.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_whose_time_is_over_starts_nothing() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.kill_card(pid).await;
    let run = scene.only_run("kill").await;
    let approval = scene.stage.checked().unwrap().approval;
    let runs = AuditLog { store: Arc::new(scene.store()), approval };
    let state_duration = Some(Duration::ZERO);
    let told = EventDetails { state_duration, ..EventDetails::by_person(&run.request.requester) };
    let AppendOutcome::Done(run) = runs.append(&run, EventKind::Approved, told).await.unwrap() else {
        panic!("not approved")
    };
    let claimed = runs.append(&run, EventKind::Started, EventDetails::default()).await.unwrap();
    assert_eq!(claimed, AppendOutcome::Overdue(run));
}
