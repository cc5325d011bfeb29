//! The throwaway servers and the sample team on them are what the demo and the other tests believe they are.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use countersign::demo::postgres::{Cluster, Login, Options};

/// For what is awaited and must come: ample for a busy machine.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_cluster_answers_and_leaves_nothing_behind() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let dir = cluster.log_path().parent().unwrap().to_owned();
    let client = cluster.connect("postgres").await.unwrap();
    let row = client.query_one("SELECT current_setting('shared_preload_libraries'), current_user::text", &[]);
    let row = row.await.unwrap();
    assert_eq!((row.get(0), row.get(1)), ("pg_stat_statements", "azuresu"));
    assert!(cluster.version_num() >= 130_000);
    let wrong = Login { user: "azuresu", password: "wrong", database: "postgres", application_name: "test" };
    assert!(cluster.connect_as(wrong).await.is_err(), "a wrong password must not do");

    drop(cluster);

    assert!(!dir.exists());
    assert!(client.simple_query("SELECT 1").await.is_err());
}

#[tokio::test]
async fn a_cluster_can_hang_crash_and_come_back() {
    let mut cluster = Cluster::start(Options::default()).await.unwrap();
    let client = cluster.connect("postgres").await.unwrap();
    let frozen = cluster.freeze().unwrap();
    let mut answer = Box::pin(client.simple_query("SELECT 1"));
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut answer).await.is_err(), "it is frozen");
    drop(frozen);
    tokio::time::timeout(SOON, answer).await.expect("an answer once thawed").unwrap();

    let port = cluster.port();
    cluster.stop().unwrap();
    assert!(cluster.connect("postgres").await.is_err());
    cluster.restart().await.unwrap();
    cluster.connect("postgres").await.unwrap();
    assert_eq!(cluster.port(), port);
}

/// The test starts itself once more, in a process that it kills.
#[tokio::test]
async fn a_cluster_ends_with_a_killed_process() {
    const ROLE: &str = "COUNTERSIGN_TEST_TO_BE_KILLED";
    if std::env::var_os(ROLE).is_some() {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        println!("\ndirectory {}", cluster.log_path().parent().unwrap().display());
        return std::future::pending().await;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_cluster_ends_with_a_killed_process", "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let dir = lines.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("directory ")?.to_owned()));
    let dir = std::path::PathBuf::from(dir.expect("the child says where its server is"));
    assert!(dir.join("data/postmaster.pid").exists());

    child.kill().unwrap();
    child.wait().unwrap();

    let gone = async {
        while dir.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the watcher stops the server and removes its directory");
}
