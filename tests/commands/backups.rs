//! Our own dumps: who has none, how old they are, and a storage that can't be read.

use crate::harness::{World, severity, words};
use countersign::actions::backup::{Manifest, prefix};
use countersign::model::Severity;
use countersign::storage::Key;
use jiff::{SignedDuration, Timestamp};

/// A dump of so many bytes that began that many hours ago, and its manifest.
pub async fn backup(world: &World, (database, run): (&str, i64), hours: i64) -> Key {
    let started_at = Timestamp::now() - SignedDuration::from_hours(hours);
    let name = format!("{}-{run}.dump", started_at.strftime("%Y%m%dT%H%M%SZ"));
    let key = prefix("production", database).join(name);
    world.app.storage.put(&key, vec![0; 2048].into()).await.unwrap();
    let manifest = Manifest {
        key: key.to_string(),
        environment: "production".into(),
        server: "primary".into(),
        database: database.into(),
        server_version: "15.18".into(),
        client_version: "15.18".into(),
        compression: "--compress=zstd:1".into(),
        bytes: 2048,
        sha256: format!("{run:064x}").chars().rev().collect(),
        table_bytes: 8192,
        started_at,
        duration_ms: 900,
        verified_at: started_at,
        requested_by: "Ben Example".into(),
        run,
    };
    manifest.write(&world.app.storage).await.unwrap();
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_backup_or_an_old_one_comes_first() {
    let world = World::start().await;
    let none = world.ask("Ana Example", "backups").await.unwrap();
    let told = words(&none);
    assert_eq!(severity(&none), Severity::Critical, "{told}");
    assert!(told.starts_with("CRITICAL: 10 services have no backup here: auth-service, "), "{told}");

    for (service, _) in &world.team.services {
        backup(&world, (&service.database, 7), 3).await;
    }
    let all = world.told("backups").await;
    let good = "OK: All 10 services have a backup; the least recent one is 3 h 0 min old.\n";
    assert!(all.starts_with(good), "{all}");
    assert!(all.contains("\nasset-service | 3 h 0 min | 2.0 KiB | 700000000000 | 15.18 | "), "{all}");

    backup(&world, ("asset_service_db", 5), 30).await;
    backup(&world, ("asset_service_db", 3), 100).await;
    let one = world.told("backups asset-service").await;
    assert!(one.starts_with("OK: The newest backup of asset-service is 3 h 0 min old.\n"), "{one}");
    let runs: Vec<&str> = one.lines().filter_map(|line| line.split(" | Ben Example, ").nth(1)).collect();
    assert_eq!(runs, ["#7", "#5", "#3"], "newest first: {one}");

    std::fs::remove_dir_all(world.app.config.backups.directory.join("production/billing_service_db"))
        .unwrap();
    let without = world.told("backups").await;
    assert!(without.starts_with("CRITICAL: billing-service has no backup here.\n"), "{without}");
    assert!(without.contains("\nbilling-service | no backup | - | "), "{without}");
    let one = world.told("backups billing-service").await;
    assert!(one.starts_with("CRITICAL: billing-service has no backup here.\n"), "{one}");
    backup(&world, ("billing_service_db", 4), 27).await;
    let old = world.told("backups").await;
    assert!(old.starts_with("WARNING: The newest backup of billing-service is 1 d 3 h old.\n"), "{old}");
    let other = world.told("backups asset-service --env staging").await;
    assert!(
        other.starts_with("CRITICAL: asset-service has no backup here.\n"),
        "another environment's: {other}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_or_read_counts_for_nothing() {
    let world = World::start().await;
    backup(&world, ("asset_service_db", 3), 50).await;
    let lost = backup(&world, ("asset_service_db", 9), 2).await;
    world.app.storage.delete(&lost).await.unwrap();
    let told = world.told("backups asset-service").await;
    assert!(told.starts_with("WARNING: The newest backup of asset-service is 2 d 2 h old.\n"), "{told}");
    assert!(told.contains("asset-service 1 dump is gone from the storage"), "{told}");
    assert!(told.contains(" | gone | "), "{told}");
    world.app.storage.put(&lost, vec![0; 100].into()).await.unwrap();
    let told = world.told("backups").await;
    assert!(told.contains("; the newest backup of asset-service is 2 d 2 h old"), "of another size: {told}");

    let odd = prefix("production", "asset_service_db").join("29990101T000000Z-1.manifest.json");
    world.app.storage.put(&odd, "{}".into()).await.unwrap();
    let told = world.told("backups asset-service").await;
    assert!(told.contains("asset-service 1 manifest can't be read"), "{told}");

    let directory = world.app.config.backups.directory.clone();
    std::fs::remove_dir_all(&directory).unwrap();
    for line in ["backups", "backups asset-service"] {
        let told = world.told(line).await;
        assert!(told.starts_with("CRITICAL: The backup storage can't be read"), "{told}");
        assert!(!told.contains("no backup") && !told.contains(&*directory.to_string_lossy()), "{told}");
    }
}
