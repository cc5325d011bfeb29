//! Backups of each server by each client that is new enough, and by one that is not.

use crate::harness::{DATABASE, Scene};
use crate::installed::{on_each_server, servers};
use countersign::actions::backup::{
    BackupError, ClientInstallation, choose_installation, dump, find_installations,
};
use countersign::config::BackupSettings;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clients that `make tools` installs, and the best that their builds can compress with.
const CLIENTS: [(&str, &str); 2] = [("17", "zstd"), ("18", "gzip")];

/// Those clients, oldest first; without tools, Debian's.
async fn clients() -> Vec<ClientInstallation> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/clients");
    let directories: Vec<PathBuf> = CLIENTS.iter().map(|(major, _)| tools.join(major).join("bin")).collect();
    let known =
        BackupSettings { directory: PathBuf::new(), tools: directories.clone(), search_path: Vec::new() };
    let mut found = find_installations(&known).await;
    if tools.exists() {
        found.retain(|tool| directories.contains(&tool.directory));
        assert_eq!(found.len(), CLIENTS.len(), "`make tools` installs them: {found:?}");
    }
    found.sort_by_key(|tool| tool.major);
    found
}

/// As pg_restore reads it in the archive: "zstd", "gzip", and before 16 the level.
fn compression(tool: &ClientInstallation, archive: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), archive).unwrap();
    let output = Command::new(tool.pg_restore()).arg("--list").arg(file.path()).output().unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    let line = listing.lines().find_map(|line| line.split_once("Compression: "));
    line.unwrap_or_else(|| panic!("{listing}")).1.to_owned()
}

/// Into the server that it is of. A pg_restore of 17 and up first sets what an older server doesn't know, complains, and goes on.
async fn restore(scene: &Scene, archive: &[u8], database: &str) -> Result<(), String> {
    if scene.installation.major < 17 || scene.cluster.version_num() >= 170_000 {
        return scene.restore(archive, database).await;
    }
    let Err(complaints) = scene.restore_so(&[], archive, database).await else {
        return Err("no complaint: this exception is no longer needed".to_owned());
    };
    let one = complaints.contains("parameter \"transaction_timeout\"")
        && complaints.contains("errors ignored on restore: 1\n");
    if one { Ok(()) } else { Err(complaints) }
}

#[tokio::test]
async fn newer_clients_back_up_every_server() {
    let clients = clients().await;
    let restored = on_each_server(async |bin_dir| {
        let mut restored = 0;
        let mut scene = Scene::on(bin_dir, &clients).await;
        scene.fill_oddly().await;
        let major = scene.cluster.version_num() / 10_000;
        for client in clients.iter().filter(|client| client.major >= major) {
            scene.installation = client.clone();
            let which = format!("{} by {}", scene.cluster.version_num(), client.version);
            let mut job = scene.job();
            job.run = client.major.into();
            let manifest = dump(&job, &|_| {}).await.unwrap_or_else(|why| panic!("{which}: {why}"));
            let archive = scene.bytes(&manifest).await;
            let compressed = compression(client, &archive);
            let installed =
                CLIENTS.iter().find(|(name, _)| client.directory.ends_with(format!("{name}/bin")));
            let best = installed.map_or("1", |(_, best)| best);
            assert_eq!(compressed, best, "{which}: {}", manifest.compression);
            assert_eq!(manifest.client_version, client.version);

            let database = format!("restored_by_{}", client.major);
            restore(&scene, &archive, &database).await.unwrap_or_else(|why| panic!("{which}: {why}"));
            assert_eq!(scene.counts(&database).await, scene.counts(DATABASE).await, "{which}");
            restored += 1;
        }
        restored
    });
    assert!(restored.await.iter().sum::<usize>() > 0, "no client fits any server");
}

/// What is planned doesn't get here: pg_dump's own word for it is told all the same, and nothing is left.
#[tokio::test]
async fn a_server_newer_than_the_client_is_refused() {
    let clients = clients().await;
    let mut scene = Scene::on(servers().pop().unwrap(), &clients).await;
    scene.fill_oddly().await;
    let major = scene.cluster.version_num() / 10_000;
    let older: Vec<ClientInstallation> = clients.into_iter().filter(|client| client.major < major).collect();
    let missing = choose_installation(&older, major).unwrap_err().to_string();
    assert!(
        missing.starts_with(&format!("needs pg_dump {major} or newer, and Countersign has ")),
        "{missing}"
    );
    for client in older {
        assert!(missing.contains(&client.version), "{missing}");
        scene.installation = client;
        let Err(why @ BackupError::Dump(_)) = dump(&scene.job(), &|_| {}).await else {
            panic!("it was dumped")
        };
        assert!(why.to_string().contains("server version mismatch"), "{why}");
        scene.assert_nothing_left().await;
    }
}
