//! The log of a run's work names the run, also where a line doesn't.

use crate::harness::{ANA, Scene, Twist};
use crate::process::Process;

/// Waits for the line, which must be within the only run of the command.
async fn is_logged(scene: &Scene, process: &Process, message: &str, command: &str) {
    process.logs(message, 1).await;
    let line = process.logged(message).remove(0);
    let runs = scene.runs_of(command).await;
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert_eq!(line["spans"][0]["run"], runs[0].id, "{line:#?}");
    assert_eq!(line["spans"][0]["command"], command, "{line:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_a_runs_work_names_the_run() {
    let scene = Scene::without_bot(Twist::default()).await;
    let process = Process::start(&scene).await;
    // Files in the place of directories.
    let backups = scene.directory.path().join("backups");
    std::fs::write(backups.join("staging"), "").expect("a file");
    scene.say(ANA, "backup asset-service --env staging").await;
    is_logged(&scene, &process, "backup failed", "backup").await;

    std::fs::remove_dir_all(&backups).expect("no backups");
    std::fs::write(&backups, "").expect("a file");
    scene.say(ANA, "backups --env production").await;
    is_logged(&scene, &process, "listing backups failed", "backups").await;
}
