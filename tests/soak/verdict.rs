//! The verdict at the end: nothing recorded is lost, nothing happened twice, every card is true, the chain verifies, and the states that
//! people saw are linearizable.

use crate::linearizability::check;
use crate::messages;
use crate::scene::Scene;
use countersign::demo::fake_slack::MessageRef;
use countersign::model::{CardKind, EventKind, Run, RunId, RunState};
use countersign::store::postgres::PostgresStore;
use countersign::store::{Filter, Store};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time until every run is closed, every card is up to date, and nothing more is recorded.
const SETTLE_LIMIT: Duration = Duration::from_secs(150);
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub struct Verdict<'a> {
    scene: &'a Scene,
    store: PostgresStore,
    /// The orders that people saw recorded.
    recorded: Vec<usize>,
    pub runs: Vec<Run>,
    pub faults: Vec<String>,
}

impl Verdict<'_> {
    /// Waits until the replicas have nothing left to do.
    pub async fn settled(scene: &Scene) -> Verdict<'_> {
        let settings = scene.record.lock().await.settings();
        let store = PostgresStore::open(settings, Duration::from_secs(10)).await.expect("the audit log");
        let until = Instant::now() + SETTLE_LIMIT;
        let (mut faults, mut last_events) = (Vec::new(), None);
        loop {
            let states = vec![RunState::Approved, RunState::Running];
            let open = store.list(Filter { states, include_reads: true, ..Filter::default() }).await;
            let cards = store.outdated_cards().await;
            let events = store.verify().await.ok().map(|report| report.events);
            if let (Ok(open), Ok(cards)) = (&open, &cards)
                && open.runs.is_empty()
                && cards.is_empty()
                && events.is_some()
                && events == last_events
            {
                break;
            }
            last_events = events;
            if Instant::now() > until {
                faults.push(format!("it never settles: {open:#?} {cards:#?}"));
                break;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let recorded = scene.journal.lock().recorded().collect();
        let filter = Filter { include_reads: true, limit: 1_000_000, ..Filter::default() };
        let runs = store.list(filter).await.expect("the runs").runs;
        Verdict { scene, store, recorded, runs, faults }
    }

    pub async fn judge(&mut self) {
        let report = self.store.verify().await.expect("the chain");
        if let Some(error) = report.first_error {
            self.faults.push(format!("the chain: {error}"));
        }
        self.judge_requests();
        self.judge_rows().await;
        self.judge_objects();
        self.judge_cards().await;
        self.judge_states();
    }

    fn runs_of<'a>(&'a self, command: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.request.command == command)
    }

    /// Each request that was answered as recorded is there, and each is there once.
    fn judge_requests(&mut self) {
        let journal = self.scene.journal.lock();
        let mut recorded: BTreeMap<usize, Vec<RunId>> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| run.request.command == "count") {
            let order = run.text("reason").and_then(|reason| reason.strip_prefix("order ")?.parse().ok());
            recorded.entry(order.unwrap_or_default()).or_default().push(run.id);
        }
        let lost = self.recorded.iter().filter(|order| !recorded.contains_key(order));
        self.faults.extend(lost.map(|order| format!("order {order} was recorded, and is lost")));
        let twice = recorded.iter().filter(|(_, runs)| runs.len() > 1);
        self.faults.extend(twice.map(|(order, runs)| format!("order {order} was recorded as {runs:?}")));
        self.faults.extend(journal.contradictions.iter().cloned());
        // A call whose answer isn't understood counts as open, which tells less.
        if journal.unknown.len() * 10 > journal.calls() {
            self.faults.extend(journal.unknown.iter().map(|text| format!("not understood: {text}")));
        }
    }

    /// A run's row is there once if it succeeded, once at most if its outcome is unknown, and else not.
    async fn judge_rows(&mut self) {
        let mut rows = self.scene.counted().await;
        let mut faults = Vec::new();
        for run in self.runs_of("count") {
            let rows = rows.remove(&format!("countersign #{} {}", run.id, run.request.requester.id));
            let rows = rows.unwrap_or_default();
            let was_interrupted = run.event(EventKind::Interrupted).is_some();
            let is_right = match run.state {
                RunState::Succeeded => rows == 1,
                _ if was_interrupted => rows <= 1,
                _ => rows == 0,
            };
            if !is_right {
                faults.push(format!("{rows} rows of {}", summary(run)));
            }
        }
        faults.extend(rows.keys().map(|session| format!("a row of {session}, of which there is no run")));
        self.faults.extend(faults);
    }

    /// As the rows, the backups.
    fn judge_objects(&mut self) {
        let mut manifests = Vec::new();
        find_manifests(&self.scene.directory.join("backups"), &mut manifests);
        let mut objects: BTreeMap<RunId, usize> = BTreeMap::new();
        for path in manifests {
            let text = std::fs::read_to_string(&path).expect("a manifest");
            let manifest: Value = serde_json::from_str(&text).expect("a manifest");
            *objects.entry(manifest["run"].as_i64().expect("a run")).or_default() += 1;
        }
        let mut faults = Vec::new();
        for run in self.runs_of("backup") {
            let count = objects.get(&run.id).copied().unwrap_or_default();
            if count > 1 || run.state == RunState::Succeeded && count != 1 {
                faults.push(format!("{count} backups of {}", summary(run)));
            }
        }
        self.faults.extend(faults);
    }

    /// Each card shows its run's state, and only a pending one has buttons. A message that was posted by a process that died before it
    /// recorded that isn't the card: its buttons are refused.
    async fn judge_cards(&mut self) {
        let mut faults = Vec::new();
        for run in self.runs_of("count").chain(self.runs_of("backup")) {
            let cards = self.store.run_cards(run.id).await.expect("the cards");
            for card in cards.iter().filter(|card| card.kind == CardKind::Primary) {
                let Some(ts) = card.message.clone() else {
                    faults.push(format!("a card without a message, of {}", summary(run)));
                    continue;
                };
                let at = MessageRef { channel: card.conversation.id.clone(), ts };
                let message = self.scene.workspace.message(&at);
                let text = message.as_ref().map_or(String::new(), |message| message.plain());
                let has_buttons = message.is_some_and(|message| message.button("Approve").is_some());
                let states = messages::card(&text).states;
                let is_true =
                    states.contains(&run.state) || run.request.command == "backup" && states.is_empty();
                if !is_true || has_buttons != (run.state == RunState::Pending) {
                    faults.push(format!("a card of {} shows: {text}", summary(run)));
                }
            }
        }
        self.faults.extend(faults);
    }

    fn judge_states(&mut self) {
        for (run, operations) in self.scene.journal.lock().histories() {
            if let Err(violation) = check(&operations) {
                self.faults.push(format!("run #{run} isn't linearizable: {violation}"));
            }
        }
    }

    /// Runs in each state, by command.
    pub fn states(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for run in self.runs_of("count").chain(self.runs_of("backup")) {
            *states.entry(format!("{} {}", run.request.command, run.state.word())).or_default() += 1;
        }
        states
    }
}

fn summary(run: &Run) -> String {
    let events = run.events.iter().map(|event| format!("{} {}", event.at, event.kind.as_str()));
    format!("#{} {} ({})", run.id, run.request.command, events.collect::<Vec<_>>().join(", "))
}

fn find_manifests(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_manifests(&path, found);
        } else if path.to_string_lossy().ends_with(".manifest.json") {
            found.push(path);
        }
    }
}
