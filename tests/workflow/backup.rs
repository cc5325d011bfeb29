//! `backup`: a message that goes on, an object in the storage, and a result that is told however late.

use crate::harness::{ANA, Scene};
use countersign::demo::fake_slack::Fault;
use countersign::demo::harness::INCIDENT;
use countersign::model::{Run, RunState};
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Client;

/// For what is awaited and must come: ample for a busy machine.
const SOON: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_told_recorded_and_in_the_storage() {
    let scene = Scene::usual().await;
    let card = scene.asks(ANA, "backup asset --env staging").await;
    let done = scene.until(&card.at(), "is backed up").await.plain();
    assert!(done.contains("asset_service_db") && done.contains("read back and verified"), "{done}");

    let run = closed(&scene).await;
    assert_eq!(run.state, RunState::Succeeded);
    let facts = &run.events.last().unwrap().facts["backups"][0];
    let dump = scene.directory.path().join("backups").join(facts["key"].as_str().unwrap());
    assert_eq!(std::fs::metadata(dump).unwrap().len(), facts["bytes"].as_u64().unwrap());
    assert!(done.contains(facts["sha256"].as_str().unwrap()), "{done}");

    let listed = scene.asks(ANA, "backups asset --env staging").await.plain();
    assert!(listed.contains("The newest backup of asset-service is "), "{listed}");
    assert!(listed.contains(&facts["sha256"].as_str().unwrap()[..12]), "{listed}");
    assert!(listed.contains(&format!("ana, #{}", run.id)), "{listed}");
    let elsewhere = scene.asks(ANA, "backups asset --env production").await.plain();
    assert!(elsewhere.contains("asset-service has no backup here"), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_databases_are_backed_up_one_after_another() {
    let scene = Scene::usual().await;
    let card = scene.asks(ANA, "backup all --env production").await;
    let done = scene.until(&card.at(), "databases are backed up").await.plain();
    assert!(done.contains("All 10 databases are backed up"), "{done}");
    assert_eq!(closed(&scene).await.events.last().unwrap().facts["backups"].as_array().unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_waits_and_a_lost_chat_hears_of_the_first_later() {
    let scene = Scene::usual().await;
    let blocker = locked(&scene).await;
    let card = scene.asks(ANA, "backup asset-service --env staging").await;
    let pid = pg_dump(&scene).await;
    signal(pid, "STOP");
    drop(blocker);

    let before = scene.count(ANA);
    scene.say(ANA, "backup asset-service --env staging").await;
    let refused = scene.next(ANA, before, "a refusal").await.plain();
    assert!(refused.contains("already holds the lock on"), "{refused}");
    assert_eq!(scene.runs_of("backup").await.len(), 1, "and left no run");

    scene.workspace().fault("chat.", Fault::Status(503));
    scene.workspace().fault("response", Fault::Status(503));
    signal(pid, "CONT");
    assert_eq!(closed(&scene).await.state, RunState::Succeeded);
    assert!(!scene.workspace().message(&card.at()).unwrap().plain().contains("is backed up"));
    scene.workspace().fault("chat.", Fault::Clear);
    scene.workspace().fault("response", Fault::Clear);
    scene.until(&card.at(), "asset_service_db is backed up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_names_the_client_and_dumps_nothing() {
    let scene = Scene::usual().await;
    scene.says_in(ANA, INCIDENT, "backup asset-service --env staging --dry-run").await;
    let plan = scene.next(ANA, 0, "a plan").await.plain();
    for words in ["asset_service_db", "dumped by", "pg_dump 1", "stored as"] {
        assert!(plan.contains(words), "{words} is missing: {plan}");
    }
    assert!(!scene.directory.path().join("backups/staging").exists());

    // The words of `check`: tests/terminal/needs.rs.
    let backups = scene.directory.path().join("backups");
    std::fs::remove_dir_all(&backups).unwrap();
    std::fs::write(&backups, "a file").unwrap();
    let line = "backup asset-service --env staging";
    scene.refused(ANA, line, "The backup storage can't be written: ").await;
    scene
        .refused(ANA, line, "Let the account that Countersign runs as write to directory of [backups].")
        .await;
}

/// The one backup of the scene, once its run is closed.
async fn closed(scene: &Scene) -> Run {
    let closing = async {
        loop {
            let run = scene.runs_of("backup").await.remove(0);
            if !run.state.is_open() {
                return run;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(SOON, closing).await.expect("the backup ends")
}

/// Holds a table so that pg_dump waits for it. Dropping the client frees it.
pub async fn locked(scene: &Scene) -> Client {
    let (service, _) = scene.servers.team.service("asset-service").expect("the service");
    let client = scene.servers.cluster.connect(&service.database).await.expect("the superuser");
    client
        .batch_execute("BEGIN; LOCK TABLE asset_versions IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("the lock");
    client
}

/// The pg_dump that waits for a lock on the scene's servers.
async fn pg_dump(scene: &Scene) -> u32 {
    let sql = "SELECT application_name FROM pg_stat_activity
               WHERE application_name LIKE 'countersign #%' AND query LIKE 'LOCK TABLE%' AND wait_event_type = 'Lock'";
    let superuser = scene.superuser().await;
    let waiting = async {
        loop {
            if let Some(row) = superuser.query_opt(sql, &[]).await.expect("an answer") {
                return row.get::<_, String>(0);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let application = tokio::time::timeout(SOON, waiting).await.expect("pg_dump waits for the lock");
    let (port, name) =
        (format!("PGPORT={}\0", scene.servers.cluster.port()), format!("PGAPPNAME={application}\0"));
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let ours = |pid: &u32| {
        let environment =
            std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/environ"))).unwrap_or_default();
        environment.contains(&port) && environment.contains(&name)
    };
    pids.find(ours).expect("its process")
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(status.expect("kill").success(), "SIG{name} to {pid}");
}
