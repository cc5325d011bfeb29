//! A file system that fills up under a backup. The test starts itself once more in a mount namespace of its own, where a
//! file system of a few MiB is mounted over the backups' directory; it is gone with that process.

use crate::harness::{DATABASE, Scene, connection};
use countersign::actions::backup::{
    BackupError, DumpJob, choose_installation, dump, find_installations, newest,
};
use countersign::config::BackupSettings;
use countersign::storage::{Key, Storage, StorageError};
use std::process::Command;

const DIRECTORY: &str = "COUNTERSIGN_TEST_SMALL_DISK";
const PORT: &str = "COUNTERSIGN_TEST_SERVER_PORT";

#[tokio::test]
async fn a_full_disk_leaves_no_backup() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        return on_the_small_disk(BackupSettings {
            directory: directory.into(),
            tools: Vec::new(),
            search_path: Vec::new(),
        })
        .await;
    }
    let scene = Scene::start().await;
    scene.fill_largely().await;
    let script = format!("mount -t tmpfs -o size=12m tmpfs \"${DIRECTORY}\" && exec \"$0\" \"$@\"");
    let mut command = Command::new("unshare");
    if !we_are_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .args(["--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk::a_full_disk_leaves_no_backup", "--nocapture"])
        .env(DIRECTORY, scene.directory.path())
        .env(PORT, scene.cluster.port().to_string())
        .output()
        .expect("unshare of util-linux");
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success() && told(&output.stdout).contains("1 passed"),
        "this test mounts a small file system, as root or in a user namespace of its own: {}{}",
        told(&output.stdout),
        told(&output.stderr)
    );
    assert!(scene.files().is_empty(), "the small disk was elsewhere");
}

fn we_are_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

async fn on_the_small_disk(backups: BackupSettings) {
    let tools = find_installations(&backups).await;
    let storage = Storage::open(&backups).unwrap();
    let port = std::env::var(PORT).unwrap().parse().unwrap();
    let job = DumpJob {
        storage: &storage,
        installation: choose_installation(&tools, 15).unwrap(),
        connection: connection(port),
        environment: "staging",
        server_version: String::new(),
        table_bytes: 1,
        requested_by: "Ana",
        run: 7,
    };
    let result = dump(&job, &|_| {}).await;
    assert!(matches!(result, Err(BackupError::Storage(StorageError::Full))), "{result:?}");
    let below = backups.directory.join("staging").join(DATABASE);
    let left: Vec<_> = std::fs::read_dir(below).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(newest(&storage, &Key::default(), usize::MAX).await.unwrap().total == 0);
}
