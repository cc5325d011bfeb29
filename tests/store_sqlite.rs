//! The embedded store: the contract, and what only a file can show: its lock, its damage, its tampering, its processes.

#[path = "store/checks.rs"]
mod checks;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/copy.rs"]
mod copy;
#[path = "store/event_bytes.rs"]
mod event_bytes;
#[path = "servers/installed.rs"]
mod installed;
#[path = "store/lost_answers.rs"]
mod lost_answers;
#[path = "store/migrations.rs"]
mod migrations;
#[path = "store/postgres.rs"]
mod postgres;
#[path = "store/postgres_schema.rs"]
mod postgres_schema;
#[path = "store/promotion.rs"]
mod promotion;
#[path = "store/roles.rs"]
mod roles;
#[path = "store/samples.rs"]
mod samples;
#[path = "servers/shifted.rs"]
mod shifted;
#[path = "store/tampering.rs"]
mod tampering;

use contract::Fresh;
use countersign::model::{CardKind, Run, RunState};
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use countersign::store::{Filter, OpenOutcome, Store, StoreError};
use rusqlite::Connection;
use samples::{append, binding, conversation, done, new_run, opened};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

contract::contract!(fresh);

async fn fresh() -> [Fresh; 1] {
    let directory = TempDir::new().unwrap();
    let stores = [(); 2].map(|()| store(&file_in(&directory)));
    [Fresh { stores, keep: Box::new(directory) }]
}

fn file_in(directory: &TempDir) -> PathBuf {
    directory.path().join("record.db")
}

fn store(path: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(path, StoreLimits::default()).unwrap())
}

fn limits(call: u64, lock: u64) -> StoreLimits {
    StoreLimits { call_timeout: Duration::from_millis(call), lock_timeout: Duration::from_millis(lock) }
}

/// Another process's hand on the file.
fn other_hand(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}

#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let a = store(&path);
    opened(&a, new_run("d1")).await;
    let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["record.db", "record.db-wal", "record.db-shm"].map(mode), [0o600; 3]);
    assert_eq!(mode("record.db.instances"), 0o700);
}

#[tokio::test]
async fn a_record_outlives_its_store() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let run = opened(&store(&path), new_run("d1")).await;
    let again = store(&path);
    assert_eq!(again.get(run.id).await.unwrap(), Some(run));
}

#[tokio::test]
async fn a_locked_file_is_said_and_waited_for() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let a: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, limits(10_000, 50)).unwrap());
    let other = other_hand(&path);
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = a.open(new_run("d1")).await.unwrap_err().to_string();
    assert!(error.contains("locked by another process"), "{error}");
    assert!(!error.contains(directory.path().to_str().unwrap()), "{error}");
    // Readers don't mind.
    assert_eq!(a.list(Filter::default()).await.unwrap().total, 0);
    other.execute_batch("COMMIT").unwrap();
    opened(&a, new_run("d1")).await;
}

#[tokio::test]
async fn a_late_answer_starts_nothing() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let patient = store(&path);
    let run = opened(&patient, new_run("d0")).await;
    let hasty: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, limits(50, 60_000)).unwrap());
    let other = other_hand(&path);
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // The first waits for the lock with its work begun, the second in the queue.
    let approve = hasty.append_if_unchanged(append(&run, "approved", RunState::Approved)).await;
    let open = hasty.open(new_run("d1")).await;
    assert!(matches!(approve, Err(StoreError::TooLate)), "{approve:?}");
    assert!(matches!(open, Err(StoreError::TooLate)), "{open:?}");
    other.execute_batch("COMMIT").unwrap();
    // The desk does one thing after another: when this is written, the others are behind it.
    while hasty.bind_conversation(binding(conversation("C1"), "staging")).await.is_err() {}
    assert_eq!(patient.get(run.id).await.unwrap(), Some(run));
    assert_eq!(patient.list(Filter::default()).await.unwrap().total, 1);
    assert_eq!(patient.verify().await.unwrap().events, 1);
    // The delivery is not used up: the platform may deliver it again.
    opened(&patient, new_run("d1")).await;
}

/// One test, two roles: the child opens runs and waits to be killed.
#[tokio::test]
async fn a_killed_process_leaves_orphans() {
    const CHILD: &str = "COUNTERSIGN_TEST_RECORD";
    if let Ok(path) = std::env::var(CHILD) {
        let a = store(Path::new(&path));
        opened(&a, new_run("pending")).await;
        let approved = opened(&a, new_run("approved")).await;
        done(&a, append(&approved, "approved", RunState::Approved)).await;
        let mut running = new_run("running");
        running.first_event.state = RunState::Running;
        opened(&a, running).await;
        println!("\nready");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let a = store(&path);
    let mut ours = new_run("ours");
    ours.first_event.state = RunState::Running;
    opened(&a, ours).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_leaves_orphans", "--nocapture"])
        .env(CHILD, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"));
    assert_eq!(a.orphans().await.unwrap(), []);
    child.kill().unwrap();
    child.wait().unwrap();

    let orphans = a.orphans().await.unwrap();
    let states: Vec<(RunState, &str)> =
        orphans.iter().map(|run| (run.state, run.events[0].kind.as_str())).collect();
    assert_eq!(states, [(RunState::Approved, "requested"), (RunState::Running, "requested")]);
    // Another start sees them too: the dead process's lock stays while its runs are open, and goes with them.
    let locks = || fs::read_dir(directory.path().join("record.db.instances")).unwrap().count();
    let b = store(&path);
    assert_eq!((b.orphans().await.unwrap(), locks()), (orphans.clone(), 3));
    for run in &orphans {
        done(&b, append(run, "interrupted", RunState::Interrupted)).await;
    }
    let c = store(&path);
    assert_eq!((c.orphans().await.unwrap(), locks()), (vec![], 3));
}

/// One test, two roles: the child's files may not grow until it lifts that limit of its own.
#[tokio::test]
async fn a_full_disk_is_said_and_space_is_used_again() {
    const CHILD: &str = "COUNTERSIGN_TEST_FULL";
    let Ok(path) = std::env::var(CHILD) else {
        let directory = TempDir::new().unwrap();
        // Without SIGXFSZ a write beyond the limit is an error. 800 blocks are 400 KiB.
        let limited = r#"trap '' XFSZ; ulimit -S -f 800; exec "$0" --exact "$1" --nocapture"#;
        let exe = std::env::current_exe().unwrap();
        let test = "a_full_disk_is_said_and_space_is_used_again";
        let mut child = Command::new("/bin/sh");
        child.args(["-c", limited]).arg(exe).arg(test).env(CHILD, file_in(&directory));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        // It was the child's role that succeeded, not nothing.
        assert!(String::from_utf8_lossy(&output.stdout).contains("written again"), "{output:?}");
        return;
    };
    let a = store(Path::new(&path));
    let mut opened_runs = 0;
    let error = loop {
        let mut new = new_run(&format!("d{opened_runs}"));
        new.first_event.texts = BTreeMap::from([("plan".into(), "x".repeat(20_000))]);
        match a.open(new).await {
            Ok(_) => opened_runs += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(
        error.contains("disk is full") || error.contains("reading or writing its file failed"),
        "{error}"
    );
    assert!(!error.contains(&path), "{error}");
    assert!(opened_runs > 0);
    assert_eq!(a.list(Filter::default()).await.unwrap().total, opened_runs);
    let own = format!("--pid={}", std::process::id());
    assert!(Command::new("prlimit").args([&own, "--fsize=unlimited"]).status().unwrap().success());
    opened(&a, new_run("after")).await;
    let verified = a.verify().await.unwrap();
    assert_eq!((verified.events, verified.first_error), (opened_runs as i64 + 1, None));
    println!("written again");
}

#[tokio::test]
async fn an_approval_belongs_to_whoever_took_it_last() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let (a, b, watcher) = (store(&path), store(&path), store(&path));
    let run = opened(&a, new_run("d1")).await;
    let approved = done(&a, append(&run, "approved", RunState::Approved)).await;
    let running = done(&b, append(&approved, "started", RunState::Running)).await;
    // A note of another instance doesn't take it over.
    done(&a, append(&running, "checkpoint", RunState::Running)).await;
    let owner = |path| -> String {
        other_hand(path).query_row("SELECT owner FROM runs", [], |row| row.get(0)).unwrap()
    };
    let lock = directory.path().join("record.db.instances").join(format!("{}.lock", owner(&path)));
    assert!(lock.exists());
    drop(a);
    assert_eq!(watcher.orphans().await.unwrap(), []);
    drop(b);
    // Its threads end in their own time, and the lock with them.
    while watcher.orphans().await.unwrap().is_empty() {}
    fs::remove_file(lock).unwrap();
    assert_eq!(watcher.orphans().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dead_process_claims_no_copy() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let (a, b) = (store(&path), store(&path));
    let run = opened(&a, new_run("d1")).await;
    let id = a.add_card(run.id, conversation("C1"), CardKind::Primary).await.unwrap();
    let period = Duration::from_secs(600);
    assert!(a.claim_card(id, period).await.unwrap());
    assert_eq!(b.outdated_cards().await.unwrap(), []);
    drop(a);
    // Its threads end in their own time.
    while b.outdated_cards().await.unwrap().is_empty() {}
    assert!(b.claim_card(id, period).await.unwrap());
}

/// Five events of three runs, with texts.
async fn a_ledger(path: &Path) -> Vec<Run> {
    let a = store(path);
    let mut runs = Vec::new();
    for n in 0..3 {
        let mut new = new_run(&format!("d{n}"));
        new.first_event.texts = BTreeMap::from([("reason".into(), format!("reason {n}"))]);
        runs.push(opened(&a, new).await);
    }
    runs[0] = done(&a, append(&runs[0], "approved", RunState::Approved)).await;
    runs[0] = done(&a, append(&runs[0], "started", RunState::Running)).await;
    runs
}

#[tokio::test]
async fn erased_text_is_gone_and_the_chain_holds() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let a = Arc::new(SqliteStore::open(&path, StoreLimits::default()).unwrap());
    let everyones: Arc<dyn Store> = a.clone();
    let mut new = new_run("d1");
    // Written in letters of which nothing else here has one, so that the search's index shows them, too.
    let personal = "ⰰⰱⰲ";
    new.first_event.texts =
        BTreeMap::from([("query".into(), personal.into()), ("reason".into(), "it blocks".into())]);
    let run = opened(&everyones, new).await;
    let on_disk = || {
        let files = ["record.db", "record.db-wal"]
            .map(|name| fs::read(directory.path().join(name)).unwrap_or_default());
        files.concat().windows(personal.len()).any(|window| window == personal.as_bytes())
    };
    let before = a.verify().await.unwrap();
    assert!(on_disk());
    assert_eq!(a.erase(run.id, "query").await.unwrap(), 1);
    assert!(!on_disk());
    assert_eq!(a.erase(run.id, "query").await.unwrap(), 0);
    assert_eq!(a.verify().await.unwrap(), before);
    let run = a.get(run.id).await.unwrap().unwrap();
    assert_eq!((run.text("query"), run.text("reason")), (None, Some("it blocks")));
    let found = a.list(Filter { text: Some("ⰰⰱⰲ".into()), ..Filter::default() }).await.unwrap();
    assert_eq!(found.total, 0);
}

/// A program from before the index, still at work on the file, adds nothing to it.
#[tokio::test]
async fn text_outside_of_the_index_is_erased() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let runs = a_ledger(&path).await;
    let a = store(&path);
    other_hand(&path).execute_batch("INSERT INTO search (search) VALUES ('delete-all')").unwrap();
    assert_eq!(a.erase(runs[1].id, "reason").await.unwrap(), 1);
    let found = a.list(Filter { text: Some("reason".into()), ..Filter::default() }).await.unwrap();
    assert_eq!((found.total, a.get(runs[1].id).await.unwrap().unwrap().text("reason")), (0, None));
    let found = a.list(Filter { text: Some("kill".into()), ..Filter::default() }).await.unwrap();
    assert_eq!(
        (found.total, a.verify().await.unwrap().first_error),
        (1, None),
        "what was added with the erasure"
    );
}

#[tokio::test]
async fn a_foreign_or_damaged_file_is_refused() {
    let directory = TempDir::new().unwrap();
    let open = |name: &str| {
        let error = SqliteStore::open(&directory.path().join(name), limits(1000, 50)).err().unwrap();
        let words = format!("{error:#}");
        assert!(!words.contains(directory.path().to_str().unwrap()), "{words}");
        words
    };
    fs::write(directory.path().join("garbage"), [b'x'; 8192]).unwrap();
    assert!(open("garbage").contains("damaged"), "{}", open("garbage"));
    other_hand(&directory.path().join("foreign")).execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(open("foreign").contains("another program's database"), "{}", open("foreign"));
    assert!(open("missing/record.db").contains("making the record's file"));
}

/// While another process copies its write-ahead log into the file, the first page comes before those that it counts.
#[tokio::test]
async fn a_file_that_is_being_written_is_not_called_damaged() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    a_ledger(&path).await;
    other_hand(&path).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let first_page = &fs::read(&path).unwrap()[..4096];
    let half_written = directory.path().join("half.db");
    fs::write(&half_written, first_page).unwrap();
    assert!(SqliteStore::check_writable(&half_written).unwrap());
}

#[tokio::test]
async fn damage_is_said() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let runs = a_ledger(&path).await;
    other_hand(&path).execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0x5a);
    let damaged = directory.path().join("damaged.db");
    fs::write(&damaged, bytes).unwrap();
    let outcome = match SqliteStore::open(&damaged, StoreLimits::default()) {
        Ok(a) => a.get(runs[0].id).await.unwrap_err().to_string(),
        Err(error) => format!("{error:#}"),
    };
    assert!(outcome.contains("damaged"), "{outcome}");
}

#[tokio::test]
async fn a_removed_file_is_said_and_a_returned_one_used() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let a = store(&path);
    opened(&a, new_run("d1")).await;
    let away = directory.path().join("away.db");
    let rename = |from: &Path, to: &Path| {
        for end in ["", "-wal", "-shm"] {
            let with_end = |path: &Path| format!("{}{end}", path.display());
            let moved = fs::rename(with_end(from), with_end(to));
            assert!(moved.is_ok() || !end.is_empty());
        }
    };
    rename(&path, &away);
    let refused = [a.open(new_run("d2")).await.err(), a.list(Filter::default()).await.err()];
    for error in refused {
        assert!(error.unwrap().to_string().contains("is gone"));
    }
    assert!(!path.exists(), "an empty record must not take its place");
    rename(&away, &path);
    opened(&a, new_run("d2")).await;
    assert_eq!(a.verify().await.unwrap().first_error, None);
    assert!(matches!(a.open(new_run("d1")).await.unwrap(), OpenOutcome::Duplicate(1)));
}
