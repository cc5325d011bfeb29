//! The embedded store: the contract, and what only a file can show: its lock, its damage, its tampering, its processes.

#[path = "store/contract.rs"]
mod contract;

use contract::{Fresh, append, done, new_run, opened, place};
use countersign::store::sqlite::{Limits, SqliteStore};
use countersign::store::{Filter, Opened, Run, State, Store, StoreError};
use rusqlite::Connection;
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

async fn fresh() -> Fresh {
    let directory = TempDir::new().unwrap();
    let stores = [(); 2].map(|()| store(&file_in(&directory)));
    Fresh { stores, keep: Box::new(directory) }
}

fn file_in(directory: &TempDir) -> PathBuf {
    directory.path().join("record.db")
}

fn store(path: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(path, Limits::default()).unwrap())
}

fn limits(answer: u64, busy: u64) -> Limits {
    Limits { answer: Duration::from_millis(answer), busy: Duration::from_millis(busy) }
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
async fn a_commit_is_on_the_disk() {
    let directory = TempDir::new().unwrap();
    store(&file_in(&directory));
    let mode: String =
        other_hand(&file_in(&directory)).query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
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
    let approve = hasty.append_if(append(&run, "approved", State::Approved)).await;
    let open = hasty.open(new_run("d1")).await;
    assert!(matches!(approve, Err(StoreError::TooLate)), "{approve:?}");
    assert!(matches!(open, Err(StoreError::TooLate)), "{open:?}");
    other.execute_batch("COMMIT").unwrap();
    // The desk does one thing after another: when this is written, the others are behind it.
    while hasty.bind(place("C1"), "staging".into()).await.is_err() {}
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
        done(&a, append(&approved, "approved", State::Approved)).await;
        let mut running = new_run("running");
        running.first.state = State::Running;
        opened(&a, running).await;
        println!("\nready");
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let a = store(&path);
    let mut ours = new_run("ours");
    ours.first.state = State::Running;
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
    let states: Vec<(State, &str)> =
        orphans.iter().map(|run| (run.state, run.events[0].kind.as_str())).collect();
    assert_eq!(states, [(State::Approved, "requested"), (State::Running, "requested")]);
    // Another start sees them too: the dead process's lock stays while its runs are open, and goes with them.
    let locks = || fs::read_dir(directory.path().join("record.db.instances")).unwrap().count();
    let b = store(&path);
    assert_eq!((b.orphans().await.unwrap(), locks()), (orphans.clone(), 3));
    for run in &orphans {
        done(&b, append(run, "lost", State::Unknown)).await;
    }
    let c = store(&path);
    assert_eq!((c.orphans().await.unwrap(), locks()), (vec![], 3));
}

#[tokio::test]
async fn an_approval_belongs_to_whoever_took_it_last() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let (a, b, watcher) = (store(&path), store(&path), store(&path));
    let run = opened(&a, new_run("d1")).await;
    let approved = done(&a, append(&run, "approved", State::Approved)).await;
    let running = done(&b, append(&approved, "started", State::Running)).await;
    // A note of another instance doesn't take it over.
    done(&a, append(&running, "noted", State::Running)).await;
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

/// Five events of three runs, with texts.
async fn a_ledger(path: &Path) -> Vec<Run> {
    let a = store(path);
    let mut runs = Vec::new();
    for n in 0..3 {
        let mut new = new_run(&format!("d{n}"));
        new.first.texts = BTreeMap::from([("reason".into(), format!("reason {n}"))]);
        runs.push(opened(&a, new).await);
    }
    runs[0] = done(&a, append(&runs[0], "approved", State::Approved)).await;
    runs[0] = done(&a, append(&runs[0], "started", State::Running)).await;
    runs
}

const UNFENCED: &str = "PRAGMA foreign_keys = OFF;
    DROP TRIGGER events_are_not_changed; DROP TRIGGER events_are_not_removed; DROP TRIGGER events_are_appended;
    DROP TRIGGER texts_are_not_changed; DROP TRIGGER runs_are_not_removed; DROP TRIGGER requests_are_not_changed;";

#[tokio::test]
async fn tampering_is_found() {
    let cases = [
        ("UPDATE events SET bytes = replace(bytes, '4711', '4712') WHERE seq = 2", "event 2 was changed"),
        ("UPDATE events SET hash = zeroblob(32) WHERE seq = 3", "event 3 was changed"),
        ("UPDATE events SET run = 3 WHERE seq = 4", "event 4 was moved"),
        ("DELETE FROM events WHERE seq = 1", "event 1 is missing"),
        ("DELETE FROM events WHERE seq = 3", "event 3 is missing"),
        (
            "DELETE FROM events WHERE seq = 3; UPDATE events SET seq = seq - 1 WHERE seq > 3",
            "event 3 was changed",
        ),
        ("DELETE FROM events WHERE seq = 5", "run 1 has 2 events and says 3"),
        ("UPDATE runs SET state = 'succeeded' WHERE id = 1", "run 1: its state was changed"),
        ("UPDATE runs SET state = 'perhaps' WHERE id = 1", "run 1: its row can't be read"),
        ("UPDATE runs SET version = 9 WHERE id = 2", "run 2 has 1 events and says 9"),
        ("UPDATE runs SET deadline = 5 WHERE id = 2", "run 2: its times were changed"),
        ("UPDATE runs SET opened_at = 5 WHERE id = 2", "run 2: its times were changed"),
        ("UPDATE runs SET changed_at = 5 WHERE id = 2", "run 2: its times were changed"),
        (
            "UPDATE runs SET request = replace(request, '4711', '1') WHERE id = 2",
            "run 2: its request was changed",
        ),
        (
            "UPDATE runs SET request = replace(request, 'U-ana', 'U-ben') WHERE id = 3",
            "run 3: its request was changed",
        ),
        ("DELETE FROM runs WHERE id = 3", "run 3 was removed"),
        (
            "INSERT INTO runs (version, state, request, delivery, opened_at, changed_at)
             SELECT 1, state, request, 'forged', opened_at, changed_at FROM runs WHERE id = 2",
            "run 4 has no events",
        ),
        ("UPDATE texts SET text = 'another' WHERE seq = 2", "event 2: its text was changed"),
        ("UPDATE texts SET key = zeroblob(32) WHERE seq = 2", "event 2: its text was changed"),
        ("INSERT INTO texts VALUES (2, 'more', zeroblob(32), 'x')", "event 2: a text was added"),
        ("INSERT INTO texts VALUES (9, 'more', zeroblob(32), 'x')", "texts of events that don't exist"),
    ];
    for (tampering, found) in cases {
        let directory = TempDir::new().unwrap();
        let path = file_in(&directory);
        a_ledger(&path).await;
        let a = store(&path);
        assert_eq!(a.verify().await.unwrap().broken, None);
        let hand = other_hand(&path);
        hand.execute_batch(UNFENCED).unwrap();
        assert_eq!(a.verify().await.unwrap().broken, None);
        hand.execute_batch(tampering).unwrap();
        let broken = a.verify().await.unwrap().broken.unwrap_or_default();
        assert!(broken.contains(found), "{tampering}: {broken:?}");
    }
}

#[tokio::test]
async fn events_are_fenced() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    a_ledger(&path).await;
    let hand = other_hand(&path);
    for sql in [
        "UPDATE events SET bytes = ''",
        "DELETE FROM events WHERE seq = 5",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE seq = 5",
        "INSERT INTO events VALUES (7, 1, '{}', x'')",
        "UPDATE texts SET text = ''",
        "DELETE FROM runs",
        "UPDATE runs SET request = '{}'",
    ] {
        let refused = hand.execute(sql, []).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation), "{sql}");
    }
    assert_eq!(store(&path).verify().await.unwrap().broken, None);
}

#[tokio::test]
async fn erased_text_is_gone_and_the_chain_holds() {
    let directory = TempDir::new().unwrap();
    let path = file_in(&directory);
    let a = Arc::new(SqliteStore::open(&path, Limits::default()).unwrap());
    let everyones: Arc<dyn Store> = a.clone();
    let mut new = new_run("d1");
    let personal = "jane.doe@example.com";
    new.first.texts =
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
    let found = a.list(Filter { find: Some("jane".into()), ..Filter::default() }).await.unwrap();
    assert_eq!(found.total, 0);
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
    let newer = directory.path().join("newer");
    store(&newer);
    other_hand(&newer).execute_batch("PRAGMA user_version = 2").unwrap();
    assert!(open("newer").contains("has version 2"), "{}", open("newer"));
    assert!(open("missing/record.db").contains("making the record's file"));
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
    let outcome = match SqliteStore::open(&damaged, Limits::default()) {
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
    assert_eq!(a.verify().await.unwrap().broken, None);
    assert!(matches!(a.open(new_run("d1")).await.unwrap(), Opened::Duplicate(1)));
}
