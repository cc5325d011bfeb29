//! Random requests, clicks, refusals, expiries and crashes by random people: whatever their order, nothing runs twice, nothing
//! without enough different people, nothing after its time, nothing by its requester; and the record's chain verifies.

use crate::process::Counter;
use crate::room::{Room, Shown, incident};
use crate::scene::{Scene, Twist};
use countersign::App;
use countersign::config::Config;
use countersign::demo::stage::PEOPLE;
use countersign::flow::Flow;
use countersign::message::{Event, Incoming, Place, PlatformName, Sender};
use countersign::store::{Filter, Run, RunId, State};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Two must approve in production; one in staging.
const RULE: &str =
    "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"count\"]\napprovers = 2\n";

const CASES: u32 = 40;

/// What somebody does, or what befalls the process. Numbers choose among whatever there is by then.
#[derive(Debug, Clone)]
enum Step {
    Request {
        who: usize,
        production: bool,
    },
    Click {
        who: usize,
        token: usize,
    },
    Both {
        one: usize,
        other: usize,
        token: usize,
    },
    Says {
        who: usize,
        word: &'static str,
        run: usize,
    },
    TimeIsOver {
        run: usize,
    },
    /// The process dies so many microseconds after a click, and another takes its place.
    Crash {
        who: usize,
        token: usize,
        after: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (who, some) = (0..PEOPLE.len(), 0..1_000_usize);
    prop_oneof![
        3 => (who.clone(), any::<bool>()).prop_map(|(who, production)| Step::Request { who, production }),
        6 => (who.clone(), some.clone()).prop_map(|(who, token)| Step::Click { who, token }),
        2 => (who.clone(), who.clone(), some.clone()).prop_map(|(one, other, token)| Step::Both { one, other, token }),
        1 => (who.clone(), prop_oneof![Just("withdraw"), Just("deny"), Just("stop")], some.clone())
            .prop_map(|(who, word, run)| Step::Says { who, word, run }),
        1 => some.clone().prop_map(|run| Step::TimeIsOver { run }),
        1 => (who, some, 0..20_000_u64).prop_map(|(who, token, after)| Step::Crash { who, token, after }),
    ]
}

/// A bot that can die: its tasks are dropped wherever they stand.
struct Process {
    runtime: Runtime,
    flow: Arc<Flow>,
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
        let flow = runtime.block_on(async { Flow::new(App::assemble(config).expect("a bot"), vec![room]) });
        self.process = Some(Process { runtime, flow });
        self.tidy();
    }

    fn tidy(&self) {
        let Process { runtime, flow } = self.process.as_ref().expect("a process");
        runtime.block_on(flow.tidy()).expect("the record");
    }

    fn crash(&mut self) {
        let Process { runtime, flow } = self.process.take().expect("a process");
        drop(flow);
        runtime.shutdown_timeout(Duration::ZERO);
        self.start();
    }

    fn incoming(&mut self, who: usize, place: Place, event: Event) -> Incoming {
        self.deliveries += 1;
        let (account, name, ..) = PEOPLE[who];
        let sender = Sender {
            platform: PlatformName::Slack,
            workspace: place.workspace.clone(),
            account: account.to_owned(),
            name: name.to_owned(),
        };
        Incoming { delivery: self.deliveries.to_string(), sender, place, handle: None, event }
    }

    fn click(&mut self, who: usize, token: usize) -> Option<Incoming> {
        // Mostly Approve, mostly on one of the newest cards; sometimes on what is long decided.
        let label = ["Approve", "Approve", "Approve", "Approve", "Deny", "Withdraw"][token % 6];
        let shown = self.room.shown.lock().unwrap().clone();
        let such: Vec<&Shown> = shown.iter().rev().filter(|shown| shown.label == label).collect();
        let within = if token.is_multiple_of(5) { such.len() } else { such.len().min(4) };
        let shown = *such.get(token.checked_rem(within)?)?;
        let event = Event::Button { token: shown.token.clone(), message: shown.message.clone() };
        Some(self.incoming(who, shown.place.clone(), event))
    }

    fn says(&mut self, who: usize, line: String) {
        let incoming = self.incoming(who, incident(), Event::Command { line });
        self.handle(incoming);
    }

    fn handle(&self, incoming: Incoming) {
        let Process { runtime, flow } = self.process.as_ref().expect("a process");
        runtime.block_on(flow.handle(incoming));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Request { who, production } => {
                let environment = if production { "production" } else { "staging" };
                self.says(who, format!("count --env {environment}"));
            }
            Step::Click { who, token } => {
                if let Some(click) = self.click(who, token) {
                    self.handle(click);
                }
            }
            Step::Both { one, other, token } => {
                if let (Some(one), Some(other)) = (self.click(one, token), self.click(other, token)) {
                    let Process { runtime, flow } = self.process.as_ref().expect("a process");
                    runtime.block_on(async { tokio::join!(flow.handle(one), flow.handle(other)) });
                }
            }
            Step::Says { who, word, run } => {
                let runs = self.runs().len().max(1);
                self.says(who, format!("{word} {}", run % runs + 1));
            }
            Step::TimeIsOver { run } => self.time_is_over(run),
            Step::Crash { who, token, after } => {
                if let Some(click) = self.click(who, token) {
                    let Process { runtime, flow } = self.process.as_ref().expect("a process");
                    let flow = Arc::clone(flow);
                    runtime.spawn(async move { flow.handle(click).await });
                    std::thread::sleep(Duration::from_micros(after));
                }
                self.crash();
            }
        }
    }

    /// Nobody waits half an hour: the record is told that it is past.
    fn time_is_over(&mut self, run: usize) {
        let runs = self.runs();
        let Some(run) = runs.get(run % runs.len().max(1)).filter(|run| run.state == State::Pending) else {
            return;
        };
        let hand = rusqlite::Connection::open(&self.config.store).expect("the record");
        hand.busy_timeout(Duration::from_secs(10)).expect("patience");
        hand.execute("UPDATE runs SET deadline = 5 WHERE id = ?1", [run.id]).expect("the tampering");
        self.expired.insert(run.id);
    }

    fn runs(&self) -> Vec<Run> {
        let Process { runtime, flow } = self.process.as_ref().expect("a process");
        let filter = Filter { command: Some("count".to_owned()), limit: 1_000, ..Filter::default() };
        runtime.block_on(flow.app.runs.store.list(filter)).expect("the runs").runs
    }

    /// Waits until nothing is under way: what a dead process began is closed, and PostgreSQL works for nobody.
    fn settle(&self) -> Vec<Run> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.tidy();
            let runs = self.runs();
            let busy = runs.iter().any(|run| matches!(run.state, State::Approved | State::Running));
            if !busy && self.outside.block_on(self.counter.is_quiet()) {
                return runs;
            }
            assert!(Instant::now() < until, "it never settles: {runs:#?}");
        }
    }

    fn check(&self) -> usize {
        let runs = self.settle();
        let rows = self.outside.block_on(self.counter.by());
        for run in &runs {
            let kinds = |kind: &str| run.events.iter().filter(|event| event.kind == kind).count();
            let name = format!("countersign #{} {}", run.id, run.request.requester.id);
            let done = rows.get(&name).copied().unwrap_or_default();
            assert!(kinds("started") <= 1 && done <= 1, "twice: {run:#?}");
            match run.state {
                State::Succeeded => assert_eq!(done, 1, "{run:#?}"),
                State::Unknown => {}
                _ => assert_eq!(done, 0, "{run:#?}"),
            }
            if kinds("started") == 0 {
                continue;
            }
            let said =
                run.events.iter().filter(|event| ["agreed", "approved"].contains(&event.kind.as_str()));
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
        assert_eq!(runtime.block_on(flow.app.runs.store.verify()).expect("the record").broken, None);
        runs.iter().filter(|run| run.state == State::Succeeded).count()
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

#[test]
fn whatever_people_do_and_whenever_it_dies() {
    let outside = Runtime::new().expect("a runtime");
    let counter = outside.block_on(Counter::new("machine"));
    let acts = counter.acts();
    let scene = outside.block_on(Scene::without_bot(Twist {
        commands: vec![("count.sql", &acts)],
        more: RULE,
        ..Twist::default()
    }));
    let config = scene.stage.checked().expect("the configuration");
    let succeeded = Mutex::new(0);
    let setting = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 40,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(setting).run(&vec(step(), 4..32), |steps| {
        let directory = tempfile::tempdir().expect("a directory");
        let config = Config { store: directory.path().join("record.db"), ..config.clone() };
        outside.block_on(counter.clear());
        let mut case = Case {
            config,
            room: Arc::default(),
            process: None,
            counter: &counter,
            outside: &outside,
            deliveries: 0,
            expired: BTreeSet::new(),
        };
        case.start();
        for step in steps {
            case.take(step);
        }
        *succeeded.lock().unwrap() += case.check();
        Ok(())
    });
    if let Err(why) = result {
        panic!("{why}");
    }
    let succeeded = *succeeded.lock().unwrap();
    assert!(succeeded >= 3, "only {succeeded} of all these requests were ever carried out");
}
