//! The audit log with many runs: lists, one run, one append, one round of the supervisor's reads, and the check of the whole chain, in
//! files of a thousand and of a million runs. The files are filled by SQL, with right hashes: the check at the end proves it.

use crate::report::{Goals, ROUNDS, Rounds, Table, tell};
use anyhow::Context;
use countersign::model::{
    CardKind, ChatAccount, Conversation, EventKind, Person, PlatformKind, Risk, RunId, RunRequest, RunState,
};
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use countersign::store::{
    Append, AppendOutcome, Deadline, DeadlineCondition, Filter, NewEvent, NewRun, OpenOutcome, Store,
};
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Runs of the small file.
const FEW: i64 = 1_000;
/// Runs of the large file; `BENCH_RUNS` in the environment overrides it.
const MANY: i64 = 1_000_000;
/// Each of four events.
const EVENTS: i64 = 4;
/// Calls of each kind in a round.
const CALLS: u32 = 40;
/// A time of the large file, over the small one's.
const MOST_GROWTH: f64 = 2.0;
/// Events a second of the check of the chain.
const LEAST_CHECKED: f64 = 100_000.0;

/// The calls that are timed.
const KINDS: [&str; 9] = [
    "history",
    "history of an environment",
    "history --failed",
    "history --find, few matches",
    "history --find, many matches",
    "pending",
    "show",
    "one append",
    "one round of the supervisor",
];

/// A file with its runs.
struct Filled {
    store: SqliteStore,
    runs: i64,
    _directory: TempDir,
}

pub async fn measure(goals: &mut Goals) -> anyhow::Result<()> {
    let many = std::env::var("BENCH_RUNS").ok().and_then(|count| count.parse().ok()).unwrap_or(MANY);
    let files = [Filled::new(FEW).await?, Filled::new(many).await?];
    let mut times = vec![[Rounds::default(), Rounds::default()]; KINDS.len()];
    for round in 0..ROUNDS {
        tell(&format!("record, round {round}"));
        for (file, filled) in files.iter().enumerate() {
            for (kind, name) in KINDS.iter().enumerate() {
                let start = Instant::now();
                for call in 0..CALLS {
                    filled.call(name, round as u32 * CALLS + call).await?;
                }
                times[kind][file].add(start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
            }
        }
    }
    let mut table = Table::new(&["µs a call", &format!("{FEW} runs"), &format!("{many} runs"), "×"]);
    for (name, [few, all]) in KINDS.iter().zip(&times) {
        let growth = all.median() / few.median();
        table.row([
            (*name).to_owned(),
            format!("{:.0}", few.median()),
            format!("{:.0}", all.median()),
            format!("{growth:.2}"),
        ]);
        goals.at_most(&format!("× of {name}, {many} runs over {FEW}"), MOST_GROWTH, growth);
    }
    table.print("### The audit log with many runs");
    files[1].verify(goals).await
}

impl Filled {
    async fn new(runs: i64) -> anyhow::Result<Filled> {
        let directory = TempDir::new().context("a directory")?;
        let path = directory.path().join("record.db");
        drop(SqliteStore::open(&path, StoreLimits::default())?);
        let start = Instant::now();
        fill(&path, runs)?;
        let size = std::fs::metadata(&path)?.len() / 1024 / 1024;
        tell(&format!("record, {runs} runs filled in {:.0} s, {size} MiB", start.elapsed().as_secs_f64()));
        let store = SqliteStore::open(&path, StoreLimits::default())?;
        for n in 0..5 {
            let new = new_run(&format!("pending {n}"));
            anyhow::ensure!(matches!(store.open(new).await?, OpenOutcome::New(_)), "not opened");
        }
        Ok(Filled { store, runs, _directory: directory })
    }

    async fn call(&self, kind: &str, n: u32) -> anyhow::Result<()> {
        let page = Filter { limit: 21, ..Filter::default() };
        let list = async |filter: Filter| -> anyhow::Result<usize> {
            Ok(std::hint::black_box(self.store.list(filter).await?).total)
        };
        let run = 1 + RunId::from(n) * 7_919 % self.runs;
        let found = match kind {
            "history" => list(page).await?,
            "history of an environment" => {
                list(Filter { environment: Some("staging".into()), ..page }).await?
            }
            "history --failed" => {
                use RunState::{Failed, Interrupted, Invalidated, Partial, Stopped};
                list(Filter { states: vec![Failed, Partial, Stopped, Interrupted, Invalidated], ..page })
                    .await?
            }
            "history --find, few matches" => {
                list(Filter { text: Some(words(run)), include_reads: true, ..page }).await?
            }
            "history --find, many matches" => {
                list(Filter { text: Some("Blocks the".into()), ..page }).await?
            }
            "pending" => {
                let states = vec![RunState::Pending, RunState::Approved];
                list(Filter { states, include_reads: true, ..Filter::default() }).await?
            }
            "show" => usize::from(self.store.get(run).await?.is_some()),
            "one append" => self.append(n).await?,
            _ => self.supervise().await?,
        };
        anyhow::ensure!(found > 0, "{kind} found nothing");
        Ok(())
    }

    /// A reminder of a pending run.
    async fn append(&self, n: u32) -> anyhow::Result<usize> {
        let run = self.store.get(self.runs + 1).await?.context("the pending run")?;
        let append = Append {
            run: run.id,
            version: run.version,
            event: event(EventKind::Reminded, RunState::Pending, &format!("reminder {n}")),
            late_event: None,
            unless_frozen: true,
            deadline_condition: DeadlineCondition::Ignored,
        };
        Ok(usize::from(matches!(self.store.append_if_unchanged(append).await?, AppendOutcome::Done(_))))
    }

    /// What runs every second or ten.
    async fn supervise(&self) -> anyhow::Result<usize> {
        let states = |state| Filter { states: vec![state], limit: usize::MAX, ..Filter::default() };
        let found = [
            self.store.orphans().await?.len(),
            self.store.overdue().await?.len(),
            self.store.outdated_cards().await?.len(),
            self.store.list(states(RunState::Pending)).await?.total,
            self.store.list(states(RunState::Interrupted)).await?.total,
            self.store.remove_old_cards(Duration::from_secs(100 * 365 * 86_400)).await?,
            usize::from(self.store.frozen().await?.is_some()),
        ];
        Ok(found.iter().sum())
    }

    async fn verify(&self, goals: &mut Goals) -> anyhow::Result<()> {
        tell("record, verify");
        let (before, start) = (peak_kib()?, Instant::now());
        let report = self.store.verify().await?;
        let (seconds, grown) = (start.elapsed().as_secs_f64(), peak_kib()?.saturating_sub(before) / 1024);
        anyhow::ensure!(report.first_error.is_none(), "{report:?}");
        let rate = report.events as f64 / seconds;
        println!(
            "\n`countersign verify`: {} events in {seconds:.1} s, {rate:.0} a second; {grown} MiB more memory at most.",
            report.events
        );
        goals.at_least("events a second of verify", LEAST_CHECKED, rate);
        Ok(())
    }
}

/// The most memory that this process has had so far.
fn peak_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading the memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// Words that only one run has.
fn words(run: RunId) -> String {
    format!("session number {}", 1_000_000_000 + run)
}

fn person(id: &str) -> Person {
    Person { id: id.into(), account: Some(format!("U0{}", id.to_uppercase())) }
}

fn request(run: RunId, risk: Risk) -> RunRequest {
    let conversation = Conversation {
        platform: PlatformKind::Slack,
        workspace: "T0SAMPLE".into(),
        id: "C0INCIDENT".into(),
        thread: None,
    };
    let sender = ChatAccount {
        platform: PlatformKind::Slack,
        workspace: "T0SAMPLE".into(),
        account: "U0ANA".into(),
        name: "Ana".into(),
    };
    let command = if risk == Risk::Read {
        ["health", "blocked", "sizes", "long"]
    } else {
        ["kill", "cancel", "vacuum", "backup"]
    };
    RunRequest {
        command: command[run as usize / 2 % 4].into(),
        arguments: BTreeMap::from([("pid".into(), format!("{}", 4_000 + run % 30_000))]),
        risk,
        environment: Some(["staging", "production", "test"][run as usize % 3].into()),
        requester: person(["ana", "ben", "cara", "dan"][run as usize % 4]),
        sender: Some(sender),
        conversation,
        command_hash: "c".repeat(64),
        config_hash: "d".repeat(64),
        break_glass: false,
    }
}

fn event(kind: EventKind, state: RunState, reason: &str) -> NewEvent {
    NewEvent {
        kind,
        by: Some(person("ana")),
        facts: json!({"pid": 4711}),
        texts: BTreeMap::from([("reason".into(), reason.into())]),
        state,
        deadline: Deadline::After(Duration::from_secs(3_600)),
    }
}

fn new_run(delivery_id: &str) -> NewRun {
    let request = request(2, Risk::Danger);
    NewRun {
        cards: vec![(request.conversation.clone(), CardKind::Primary)],
        request,
        delivery_id: delivery_id.into(),
        resource_locks: Vec::new(),
        first_event: event(EventKind::Requested, RunState::Pending, "blocks the imports"),
        late_event: None,
        unless_break_glass_within: None,
        unless_frozen: false,
    }
}

/// The statements of the filling, and the end of the chain so far.
struct Filler<'a> {
    connection: &'a Connection,
    seq: i64,
    head: [u8; 32],
}

/// Every second run is a read; every fiftieth of the others has failed. A run began 30 s after the one before.
fn fill(path: &Path, runs: i64) -> anyhow::Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; PRAGMA foreign_keys = OFF; BEGIN",
    )?;
    let mut filler = Filler { connection: &connection, seq: 0, head: [0; 32] };
    let first = Timestamp::from_microsecond(Timestamp::now().as_microsecond())?
        - SignedDuration::from_secs(30 * runs);
    for run in 1..=runs {
        filler.run(run, first + SignedDuration::from_secs(30 * run))?;
        if run % 10_000 == 0 {
            connection.execute_batch("COMMIT; BEGIN")?;
        }
    }
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(())
}

impl Filler<'_> {
    fn run(&mut self, run: RunId, opened_at: Timestamp) -> anyhow::Result<()> {
        let is_read = run % 2 == 1;
        let end = if run % 100 == 0 { ("failed", "failed") } else { ("succeeded", "succeeded") };
        let (risk, events) = if is_read {
            (Risk::Read, [("started", "running"), ("checkpoint", "running"), ("checkpoint", "running"), end])
        } else {
            (Risk::Danger, [("requested", "pending"), ("approved", "approved"), ("started", "running"), end])
        };
        let request = request(run, risk);
        let json = serde_json::to_string(&request)?;
        let at = |n: i64| opened_at + SignedDuration::from_secs(n);
        self.connection
            .prepare_cached(
                "INSERT INTO runs (id, version, state, opened_at, changed_at, delivery_id, request)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                run,
                EVENTS,
                end.1,
                opened_at.as_microsecond(),
                at(EVENTS - 1).as_microsecond(),
                format!("delivery {run}"),
                json
            ])?;
        for (n, (kind, state)) in (0..).zip(events) {
            self.seq += 1;
            let text = if n == 0 { format!("blocks the imports: {}", words(run)) } else { String::new() };
            let (hmac, key) = (hmac(&text), KEY);
            let texts = if n == 0 { format!(r#"{{"reason":"{hmac}"}}"#) } else { "{}".into() };
            let its_request = if n == 0 { format!(r#","request":{json}"#) } else { String::new() };
            let bytes = format!(
                r#"{{"seq":{},"run":{run},"at":"{}","kind":"{kind}","by":{{"id":"ana","account":"U0ANA"}},"facts":{{"pid":4711,"note":"{}"}},"texts":{texts},"state":"{state}","deadline":null{its_request}}}"#,
                self.seq,
                at(n),
                "x".repeat(200),
            );
            self.head = Sha256::new().chain_update(self.head).chain_update(&bytes).finalize().into();
            self.connection
                .prepare_cached("INSERT INTO events (seq, run, bytes, hash) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![self.seq, run, bytes, self.head])?;
            if n == 0 {
                self.connection
                    .prepare_cached(
                        "INSERT INTO event_texts (seq, name, key, text) VALUES (?1, 'reason', ?2, ?3)",
                    )?
                    .execute(params![self.seq, key, text])?;
                let words = format!("{} {}\n{text}", request.command, request.arguments["pid"]);
                self.connection
                    .prepare_cached("INSERT INTO search (rowid, text) VALUES (?1, ?2)")?
                    .execute(params![(run << 20) + 1, words])?;
            }
        }
        Ok(())
    }
}

/// The key of every text: this file keeps no secret.
const KEY: [u8; 32] = [7; 32];

fn hmac(text: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&KEY).unwrap_or_else(|_| unreachable!("any length is a key"));
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}
