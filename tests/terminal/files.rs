//! The files of the program: no other account may read them, `countersign check` changes none and complains of open ones.

use crate::harness::World;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Everything about a file that can be compared; its content as a hash.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: u32,
    changed_at: (i64, i64),
    content: Option<String>,
}

/// The directory and everything below it.
fn tree(directory: &Path) -> BTreeMap<String, Entry> {
    fn add(path: &Path, root: &Path, entries: &mut BTreeMap<String, Entry>) {
        let metadata = std::fs::symlink_metadata(path).expect("an entry");
        let content = metadata.is_file().then(|| hex::encode(Sha256::digest(std::fs::read(path).unwrap())));
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let changed_at = (metadata.ctime(), metadata.ctime_nsec());
        entries.insert(name, Entry { mode: metadata.mode(), owner: metadata.uid(), changed_at, content });
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).expect("a directory") {
                add(&entry.unwrap().path(), root, entries);
            }
        }
    }
    let mut entries = BTreeMap::new();
    add(directory, directory, &mut entries);
    entries
}

async fn check_changes_nothing(world: &World<'_>, state: &str) {
    let before = tree(world.directory());
    for only in ["servers", "chat", "host"] {
        let said = world.say(&["check", "--only", only]).await;
        assert_eq!(said.status, 0, "{state}: {only}: {said:?}");
    }
    let said = world.say(&["check"]).await;
    assert_eq!(said.status, 0, "{state}: {said:?}");
    assert_eq!(tree(world.directory()), before, "{state}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_leaves_every_file_as_it_was() {
    let world = World::usual().await;
    check_changes_nothing(&world, "before the first start").await;
    assert_eq!(tree(world.directory()).len(), 2, "the configuration alone: {:?}", tree(world.directory()));

    let said = world.runs("backup auth-service --env staging").await;
    assert_eq!(said.status, 0, "{said:?}");
    check_changes_nothing(&world, "while no other process uses them").await;

    let store = world.record();
    check_changes_nothing(&world, "while another process has the audit log open").await;
    let crashed = World::usual().await;
    for name in ["record.db", "record.db-wal", "record.db-shm"] {
        std::fs::copy(world.directory().join(name), crashed.directory().join(name)).expect(name);
    }
    drop(store);
    check_changes_nothing(&crashed, "after a crash").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_account_may_read_what_is_made() {
    for umask in ["022", "000", "077"] {
        let world = World::usual().await;
        let said = world.say_under(umask, &["run", "backup", "auth-service", "--env", "staging"]).await;
        assert_eq!(said.status, 0, "{said:?}");
        let made = tree(world.directory());
        assert!(made.keys().any(|name| name.ends_with(".dump")), "{made:?}");
        assert!(made.keys().any(|name| name.ends_with(".manifest.json")), "{made:?}");
        for (name, entry) in
            made.iter().filter(|(name, _)| !["", "countersign.toml"].contains(&name.as_str()))
        {
            let expected = if entry.content.is_some() { 0o600 } else { 0o700 };
            assert_eq!(entry.mode & 0o777, expected, "umask {umask}: {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_complains_of_files_that_others_may_read() {
    let world = World::usual().await;
    let said = world.runs("backup auth-service --env staging").await;
    assert_eq!(said.status, 0, "{said:?}");
    let set_mode = |name: &str, mode| {
        std::fs::set_permissions(world.directory().join(name), Permissions::from_mode(mode)).unwrap();
    };
    set_mode(".", 0o700);
    for (name, mode, status, complaint) in [
        ("backups", 0o755, 1, "backup storage !! missing other accounts may read {path} (mode 0755)"),
        ("backups", 0o750, 1, "backup storage !! missing other accounts may read {path} (mode 0750)"),
        ("backups", 0o773, 1, "backup storage !! missing other accounts may write {path} (mode 0773)"),
        ("record.db", 0o644, 1, "audit log !! missing other accounts may read {path} (mode 0644)"),
        ("record.db", 0o660, 1, "audit log !! missing other accounts may write {path} (mode 0660)"),
        (".", 0o777, 1, "audit log !! missing other accounts may write {path} (mode 0777)"),
        (".", 0o755, 0, "audit log optional other accounts may read {path} (mode 0755)"),
    ] {
        set_mode(name, mode);
        let said = world.say(&["check", "--only", "host"]).await;
        assert_eq!(said.status, status, "{name} {mode:o}: {said:?}");
        assert!(said.flat().contains(&complaint.replace("{path}", name)), "{name} {mode:o}: {}", said.out);
        let flat = said.flat();
        let (_, fix) = flat.split_once("Run `").unwrap_or_else(|| panic!("a command: {flat}"));
        let fix = fix.split('`').next().unwrap_or_default();
        let done = std::process::Command::new("sh").args(["-c", fix]).current_dir(world.directory()).status();
        assert!(done.unwrap().success(), "{fix}");
        let said = world.say(&["check", "--only", "host"]).await;
        assert!(said.status == 0 && !said.out.contains("other accounts"), "{fix}: {}", said.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_checked_before_the_others_are_set_up() {
    const HOST: &str = "All checks of this host passed. The servers and chat were not checked.";
    const SERVERS: &str = "All checks of the servers passed. Chat and this host were not checked.";
    const CHAT: &str = "All checks of chat passed. The servers and this host were not checked.";
    let mut world = World::usual().await;
    let secrets = std::mem::take(&mut world.stage.secrets);
    let is_chat = |name: &str| name.starts_with("SLACK_");
    let keep = |chat| secrets.clone().into_iter().filter(move |(name, _)| is_chat(name) == chat).collect();
    let verdict = async |world: &World<'_>, part: &str| {
        let said = world.say(&["check", "--only", part]).await;
        (said.status, said.flat(), said.err)
    };

    let (status, answer, _) = verdict(&world, "host").await;
    assert!(status == 0 && answer.starts_with(&format!("OK: {HOST}")), "{answer}");
    let (status, _, error) = verdict(&world, "servers").await;
    assert!(status == 1 && error.contains("`STAGING_READER_PASSWORD` is not set"), "{error}");
    assert!(!error.contains("SLACK"), "{error}");

    world.stage.secrets = keep(false);
    let (status, answer, _) = verdict(&world, "servers").await;
    assert!(status == 0 && answer.starts_with(&format!("OK: {SERVERS}")), "{answer}");
    assert!(answer.contains("main as operator") && !answer.contains("audit log"), "{answer}");
    let (status, _, error) = verdict(&world, "chat").await;
    assert!(status == 1 && error.contains("`SLACK_BOT_TOKEN` is not set"), "{error}");
    let said = world.say(&["check"]).await;
    assert!(said.status == 1 && said.err.contains("`SLACK_SIGNING_SECRET` is not set"), "{said:?}");

    world.stage.secrets = keep(true);
    let (status, answer, _) = verdict(&world, "chat").await;
    assert!(status == 0 && answer.starts_with(&format!("OK: {CHAT}")), "{answer}");
    assert!(answer.contains("Slack works") && !answer.contains("main as reader"), "{answer}");
}
