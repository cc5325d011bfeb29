//! The record can't be written: what acts is refused and starts nothing later, what reads answers with a warning.

use crate::harness::{ANA, BEN, Scene, Twist, found};
use crate::process::{Counter, Process, all_runs, becomes, kinds, noted, the_run};
use countersign::demo::fake_slack::Fault;
use countersign::model::{EventKind, RunState};
use countersign::store::Store;
use rusqlite::Connection;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

const PATH: &str = "path = \"record.db\"";
/// A locked file is noticed before the answer is due …
const NOTICED: (&str, &str) = (PATH, "path = \"record.db\"\nlock_wait = \"200ms\"");
/// … or only afterwards: to whoever waits, the store hangs.
const HANGS: (&str, &str) = (PATH, "path = \"record.db\"\nanswer_within = \"1s\"\nlock_wait = \"9s\"");

fn locks(scene: &Scene) -> Connection {
    let connection = Connection::open(scene.directory.path().join("record.db")).expect("the record");
    connection.busy_timeout(std::time::Duration::from_secs(30)).expect("patience");
    connection.execute_batch("BEGIN EXCLUSIVE").expect("the lock");
    connection
}

async fn while_locked(twist: (&str, &str), why: &str) {
    let scene = Scene::with(Twist { instead: vec![twist], ..Twist::default() }).await;
    refused_and_nothing_later(&scene, locks, why).await;
}

/// The record's file, put back as it was and read-only until this is dropped.
struct ReadOnly(PathBuf);

impl ReadOnly {
    /// A copy takes the place of the file that the bot has open for writing.
    fn of(scene: &Scene) -> ReadOnly {
        let path = scene.directory.path().join("record.db");
        let owner = std::fs::metadata(&path).expect("the record");
        let card = path.with_extension("copy");
        let connection = Connection::open(&path).expect("the record");
        connection.execute("VACUUM INTO ?1", [card.to_string_lossy()]).expect("a copy");
        std::os::unix::fs::chown(&card, Some(owner.uid()), Some(owner.gid())).expect("the same owner");
        std::fs::set_permissions(&card, Permissions::from_mode(0o444)).expect("read-only");
        for left in ["db-wal", "db-shm"] {
            let _ = std::fs::remove_file(path.with_extension(left));
        }
        std::fs::rename(&card, &path).expect("the copy in its place");
        ReadOnly(path)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        std::fs::set_permissions(&self.0, Permissions::from_mode(0o644)).expect("writable");
    }
}

async fn refused_and_nothing_later<Hindrance>(
    scene: &Scene,
    hinder: impl FnOnce(&Scene) -> Hindrance,
    why: &str,
) {
    let record = scene.store();
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let (_bystander, other) = scene.session("asset-worker-8").await;
    let card = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    noted(&record, &becomes(&record, "kill", RunState::Pending).await).await;

    let hindrance = hinder(scene);
    let nothing = format!("The audit log can't be written ({why}");
    let told = scene.is_told(BEN, &card.at(), "Approve").await;
    assert!(told.plain().contains(&nothing), "{}", told.plain());
    assert!(told.plain().contains("so nothing was executed"), "{}", told.plain());
    let told = scene.asks(ANA, &format!("kill {other} --env production")).await;
    assert!(told.plain().contains(&nothing), "{}", told.plain());
    let answer = scene.asks(ANA, "sizes --env production").await;
    assert!(answer.plain().contains("databases take"), "{}", answer.plain());
    assert!(answer.plain().contains("Warning: "), "{}", answer.plain());
    assert!(answer.plain().contains("Not in the audit log"), "{}", answer.plain());
    drop(hindrance);

    // Whatever is asked now stands behind all that was refused: writes are taken in order.
    let answer = scene.asks(ANA, "blocked --env production").await;
    assert!(!answer.plain().contains("Warning"), "{}", answer.plain());
    let run = the_run(&record, "kill").await.expect("the first request alone");
    assert_eq!((run.state, run.version), (RunState::Pending, 1));
    assert_eq!(run.request.arguments["pid"], pid.to_string());
    assert!(scene.is_there(pid).await && scene.is_there(other).await);
    let shown = scene.workspace().message(&card.at()).expect("the card");
    assert!(shown.button("Approve").is_some(), "{}", shown.plain());

    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended.")).await;
    assert!(scene.is_there(other).await);
    assert_eq!(record.verify().await.unwrap().first_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_by_another_process() {
    while_locked(NOTICED, "the audit log's store can't be used: its file is locked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_for_longer_than_an_answer_may_take() {
    while_locked(HANGS, "the audit log's store did not answer in time").await;
}

/// A write that hangs can't be taken back: whatever reached the disk after its caller gave up is closed, and starts nothing.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_disk_that_hangs() {
    let scene = Scene::without_bot(Twist { instead: vec![HANGS], ..Twist::default() }).await;
    let _process = Process::start_on_a_disk_that_may_hang(&scene).await;
    let record = scene.store();
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let (_bystander, other) = scene.session("asset-worker-8").await;
    let card = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    noted(&record, &becomes(&record, "kill", RunState::Pending).await).await;

    let gate = scene.directory.path().join("hang");
    std::fs::write(&gate, "").expect("the gate");
    let nothing = "The audit log can't be written (the audit log's store did not answer in time";
    let told = scene.is_told(BEN, &card.at(), "Approve").await.plain();
    assert!(told.contains(nothing) && told.contains("so nothing was executed"), "{told}");
    let told = scene.asks(ANA, &format!("kill {other} --env production")).await.plain();
    assert!(told.contains(nothing), "{told}");
    let answer = scene.asks(ANA, "health --env production").await.plain();
    assert!(answer.contains("Warning: ") && answer.contains("Not in the audit log"), "{answer}");
    std::fs::remove_file(&gate).expect("the gate");

    // Whatever is asked now stands behind all that hung.
    let answer = scene.asks(ANA, "blocked --env production").await.plain();
    assert!(!answer.contains("Warning"), "{answer}");
    let runs = found("every late run to be closed", async || {
        let runs = all_runs(&record, "kill").await;
        runs.iter().all(|run| run.state == RunState::Stopped).then_some(runs)
    });
    let runs = runs.await;
    assert!(runs.iter().all(|run| run.event(EventKind::Started).is_none()), "{runs:#?}");
    assert!(scene.is_there(pid).await && scene.is_there(other).await);
    // On the card as it was: by now it may be shown without its buttons.
    let before = scene.count(BEN);
    assert!(scene.workspace().click_stale_button(BEN, &card, "Approve").await.ok());
    let told = scene.next(BEN, before, "Approve").await.plain();
    assert!(!told.contains(" ended."), "{told}");

    let again = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    scene.click_button(BEN, &again.at(), "Approve").await;
    scene.until(&again.at(), &format!("Session {pid} ended.")).await;
    assert!(scene.is_there(other).await);
    assert_eq!(record.verify().await.unwrap().first_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only() {
    let scene = Scene::without_bot(Twist { instead: vec![NOTICED], ..Twist::default() }).await;
    let _process = Process::start_unprivileged(&scene).await;
    let why = "the audit log's store can't be used: its file is read-only";
    refused_and_nothing_later(&scene, ReadOnly::of, why).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_away() {
    let scene = Scene::with(Twist { instead: vec![NOTICED], ..Twist::default() }).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    let record = scene.store();
    noted(&record, &becomes(&record, "kill", RunState::Pending).await).await;
    drop(record);
    let path = scene.directory.path().join("record.db");
    let aside = scene.directory.path().join("aside.db");
    std::fs::rename(&path, &aside).unwrap();
    for told in [
        scene.is_told(BEN, &card.at(), "Approve").await,
        scene.asks(ANA, &format!("kill {pid} --env production")).await,
    ] {
        assert!(told.plain().contains("its file is gone"), "{}", told.plain());
    }
    let answer = scene.asks(ANA, "blocked --env production").await;
    assert!(answer.plain().contains("Not in the audit log"), "{}", answer.plain());
    assert!(!path.exists(), "a record that is gone must not be followed by an empty one");
    assert!(scene.is_there(pid).await);
    std::fs::rename(&aside, &path).unwrap();
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended.")).await;
    let run = scene.runs_of("kill").await.remove(0);
    assert_eq!(kinds(&run), ["requested", "approved", "started", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_whose_start_cannot_be_recorded_is_taken_back() {
    let counter = Counter::new("unclaimed").await;
    let acts = counter.acts();
    let twist = Twist { commands: vec![("count.sql", &acts)], instead: vec![NOTICED], ..Twist::default() };
    let scene = Scene::without_bot(twist).await;
    let record = scene.store();
    let first = Process::start(&scene).await;
    let card = scene.asks(ANA, "count --env production").await;
    noted(&record, &becomes(&record, "count", RunState::Pending).await).await;
    first.kill().await;
    let _second = Process::start(&scene).await;
    scene.asks(BEN, "blocked --env production").await;
    // The second process has yet to ask Slack about the requester; meanwhile the record is locked.
    scene.workspace().fault("users.info U0ANA", Fault::Held);
    let before = scene.count(BEN);
    scene.click_button(BEN, &card.at(), "Approve").await;
    becomes(&record, "count", RunState::Approved).await;
    let lock = locks(&scene);
    scene.workspace().fault("users.info U0ANA", Fault::Clear);
    let told = scene.next(BEN, before, "a refusal").await;
    assert!(told.plain().contains("so nothing was executed"), "{}", told.plain());
    assert_eq!(told.ephemeral_to.as_deref(), Some(BEN));
    drop(lock);

    let run = becomes(&record, "count", RunState::Revoked).await;
    assert_eq!(kinds(&run), ["requested", "approved", "revoked"]);
    scene.until(&card.at(), "The approval was revoked: its start could not be recorded").await;
    assert_eq!(counter.rows().await, 0);
}
