//! What `health` has looked at: each check is named, with its result or with the reason why it was not made; an all-clear needs them all.

use crate::backups::backup;
use crate::catalog_objects::Object;
use crate::harness::{World, severity, words};
use countersign::catalog::{Scope, Section};
use countersign::model::{Block, Coverage, Severity};
use countersign::sql::Answer;
use std::collections::BTreeSet;

/// Characters of a check's title, and of its row on a quiet server: so many fit beside each other on a phone.
const MAX_TITLE: usize = 18;
const MAX_ROW: usize = 36;

/// The checks of a server, as the command's file has them.
fn checks(world: &World) -> Vec<Section> {
    let health = world.app.catalog.find("health").unwrap();
    health
        .sections(world.cluster.version_num() / 10_000)
        .iter()
        .filter(|section| section.check)
        .cloned()
        .collect()
}

/// The storage of the backups is no part of a server.
fn reads_catalog(check: &Section) -> bool {
    !Object::of(check).is_empty()
}

fn title(check: &Section) -> String {
    check.title.clone().unwrap_or_default()
}

/// The titles of the checks whose cell says "not checked".
fn not_checked(answer: &Answer) -> BTreeSet<String> {
    let tables = answer.blocks.iter().filter_map(|block| match block {
        Block::Table(table) if table.columns[0].title == "check" => Some(table),
        _ => None,
    });
    let rows = tables.flat_map(|table| &table.rows);
    let unmade = rows.filter(|row| row.cells.iter().any(|cell| cell.text.ends_with("not checked")));
    unmade.map(|row| row.cells[0].text.clone()).collect()
}

/// For each relation and function that some check reads: without it, exactly the checks that name it are not made.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_its_right_is_named_and_there_is_no_all_clear() {
    let world = World::start().await;
    world.heal().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    let checks = checks(&world);
    let all: BTreeSet<String> = checks.iter().map(title).collect();
    let answer = world.ask("Ana Example", "health").await.unwrap();
    assert_eq!((severity(&answer), answer.coverage), (Severity::Ok, Coverage::Whole), "{}", words(&answer));
    let lines = words(&answer);
    for check in &all {
        assert!(lines.contains(&format!("\n{check} | ")), "{check} is listed: {lines}");
        assert!(check.chars().count() <= MAX_TITLE, "{check}");
        assert!(
            lines.lines().next().unwrap().to_lowercase().contains(&check.to_lowercase()),
            "{check}: {lines}"
        );
    }
    let rows = lines.lines().filter(|line| all.iter().any(|check| line.starts_with(&format!("{check} | "))));
    for row in rows {
        assert!(row.chars().count() <= MAX_ROW, "{row}");
    }
    let (of_databases, of_servers): (Vec<Section>, Vec<Section>) =
        checks.into_iter().filter(reads_catalog).partition(|check| check.scope == Scope::Database);
    let database = world.cluster.connect("asset_service_db").await.unwrap();
    for (checks, superuser, label) in
        [(of_servers, superuser, "primary"), (of_databases, database, "asset-service")]
    {
        let all: BTreeSet<String> = checks.iter().map(title).collect();
        let mut tried = BTreeSet::new();
        for object in checks.iter().flat_map(Object::of).collect::<BTreeSet<_>>() {
            object.take_away(&superuser).await;
            let answer = world.ask("Ana Example", "health").await.unwrap();
            let told = words(&answer);
            object.give_back(&superuser).await;
            let naming = checks.iter().filter(|check| Object::of(check).contains(&object));
            let expected: BTreeSet<String> = naming.map(title).collect();
            assert!(severity(&answer) >= Severity::Warning, "without {}: {told}", object.name);
            assert!(answer.coverage != Coverage::Whole, "without {}: {told}", object.name);
            let unmade = not_checked(&answer);
            if told.starts_with(&format!("CRITICAL: No whole answer from {label}.")) {
                // Every query of Countersign's needs it.
                continue;
            }
            assert!(unmade.is_superset(&expected), "without {}: {told}", object.name);
            if unmade.len() < all.len() {
                let named = format!("Not checked on {label}: ");
                assert!(told.contains(&named), "without {}: {told}", object.name);
            }
            tried.extend(unmade);
        }
        assert_eq!(tried, all, "every check was taken away once");
    }
}

/// What is public is still checked; the rest is named, with the right that is missing.
#[tokio::test(flavor = "multi_thread")]
async fn without_pg_monitor_what_needs_it_is_named() {
    let world = World::start().await;
    world.heal().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    superuser.batch_execute("REVOKE pg_monitor FROM countersign_read").await.unwrap();
    let answer = world.ask("Ana Example", "health").await.unwrap();
    let told = words(&answer);
    assert!(told.starts_with("CRITICAL: No whole answer from "), "{told}");
    let checks = checks(&world);
    let needing = checks.iter().filter(|check| !check.public);
    assert_eq!(not_checked(&answer), needing.map(title).collect(), "{told}");
    assert!(told.contains("\nSettings | fsync, vacuum on\n"), "{told}");
}

/// The tightest limit decides, whatever the server still has.
#[tokio::test(flavor = "multi_thread")]
async fn limits_of_roles_and_databases_and_dangerous_settings_are_findings() {
    let world = World::start().await;
    world.heal().await;
    let superuser = world.cluster.connect("postgres").await.unwrap();
    let (service, account) = world.team.service("asset-service").unwrap();
    let _session = world.cluster.connect_as(account.login(&service.database, "asset-api")).await.unwrap();
    let (role, database) = (&account.user, &service.database);
    for (set, finding) in [
        (
            format!("ALTER ROLE {role} CONNECTION LIMIT 1"),
            format!(
                "CRITICAL: primary: the role {role} has 1 of 1 connections in use: no other login is possible. connections shows"
            ),
        ),
        (
            format!("ALTER ROLE {role} CONNECTION LIMIT 2; ALTER DATABASE {database} CONNECTION LIMIT 1"),
            format!("primary: the database {database} has "),
        ),
        (
            format!("ALTER ROLE {role} CONNECTION LIMIT -1; ALTER DATABASE {database} CONNECTION LIMIT -1"),
            "OK: All services answer. No problem found ".to_owned(),
        ),
    ] {
        superuser.batch_execute(&set).await.unwrap();
        let told = world.told("health").await;
        assert!(told.contains(&finding), "{set}: {told}");
    }
    for (setting, finding) in [
        (
            "fsync",
            "CRITICAL: primary: fsync is off, so a crash of the server can corrupt its data. settings fsync shows",
        ),
        ("full_page_writes", "CRITICAL: primary: full_page_writes is off, so "),
        (
            "autovacuum",
            "WARNING: primary: autovacuum is off, so autovacuum doesn't run. settings autovacuum shows",
        ),
        ("track_counts", "WARNING: primary: track_counts is off, so autovacuum doesn't run. "),
    ] {
        superuser.batch_execute(&format!("ALTER SYSTEM SET {setting} = off")).await.unwrap();
        superuser.query("SELECT pg_reload_conf()", &[]).await.unwrap();
        let answer = world.until("health", |answer| words(answer).starts_with(finding)).await;
        assert!(words(&answer).contains(&format!("\nSettings | {setting} off\n")), "{}", words(&answer));
        superuser.batch_execute(&format!("ALTER SYSTEM SET {setting} = on")).await.unwrap();
        superuser.query("SELECT pg_reload_conf()", &[]).await.unwrap();
    }
}

/// The checks of a check's table with a button, and the buttons' labels.
fn offers(answer: &Answer) -> Vec<(String, String)> {
    let tables = answer.blocks.iter().filter_map(|block| match block {
        Block::Table(table) if table.columns[0].title == "check" => Some(table),
        _ => None,
    });
    let rows = tables.flat_map(|table| &table.rows);
    let offers = rows
        .flat_map(|row| row.buttons.iter().map(|button| (row.cells[0].text.clone(), button.label.clone())));
    offers.collect()
}

/// Of all databases the worst one is shown, with the step that helps it.
#[tokio::test(flavor = "multi_thread")]
async fn what_databases_have_is_a_finding_with_a_button() {
    let mut world = World::start().await;
    let answer = world.ask("Ana Example", "health").await.unwrap();
    let told = words(&answer);
    for line in [
        "CRITICAL: campaign-service: \"CampaignMember_id_seq\" has used 95 % of its range; 107,374,182 numbers are left. sequences campaign-service shows the limits.",
        "campaign-service: 20260301100000_member_role_enum failed. Deploys are blocked (P3009) until it is marked as applied or rolled back. migrations campaign-service shows it.",
        "content-service: 1 index is invalid. indexes content-service shows the step for each.",
        "auth-service, user-service and 8 others: no backup in Countersign's storage.",
        "Backups | none for auth-service",
        "Sequences | 95 % in campaign-service",
        "Migrations | 1 failed in campaign-service",
        "Invalid indexes | 1 in content-service",
    ] {
        assert!(told.contains(&format!("{line}\n")), "{line}: {told}");
    }
    let offer = |check: &str, label: &str| (check.to_owned(), label.to_owned());
    let expected = [
        offer("Sequences", "Sequences campaign-service"),
        offer("Migrations", "Migrations campaign-service"),
        offer("Invalid indexes", "Indexes content-service"),
        offer("Backups", "Backup auth-service"),
    ];
    assert_eq!(offers(&answer), expected);
    assert_eq!(answer.button_purposes.len(), expected.len());
    // Another service's database is not looked at.
    backup(&world, ("asset_service_db", 1), 3).await;
    let told = world.told("health asset-service").await;
    assert!(told.starts_with("OK: ") && told.contains("\nMigrations | none failed\n"), "{told}");
    assert!(told.contains("\nBackups | at most 3 h 0 min old\n"), "{told}");

    world.heal().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    let interrupted = "CREATE INDEX interrupted ON audit_logs (id);
                       UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'interrupted'::regclass";
    asset.batch_execute(interrupted).await.unwrap();
    let answer = world.ask("Ana Example", "health").await.unwrap();
    let told = words(&answer);
    assert!(told.starts_with("WARNING: asset-service: "), "{told}");
    let rebuild = offers(&answer);
    assert!(
        matches!(&rebuild[..], [(_, label)] if label.starts_with("Reindex asset-service ")),
        "{rebuild:?}"
    );
    // CREATE INDEX CONCURRENTLY holds this lock.
    asset.batch_execute("BEGIN; LOCK TABLE audit_logs IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    let told = world.told("health").await;
    assert!(told.starts_with("OK: ") && told.contains(" may be building\n"), "{told}");
    asset.batch_execute("ROLLBACK").await.unwrap();
    world.heal().await;

    // What may not be read is not taken for good, even where the rest is.
    asset.batch_execute("REVOKE SELECT ON audit_logs_id_seq FROM countersign_read").await.unwrap();
    asset.batch_execute("REVOKE SELECT ON _prisma_migrations FROM countersign_read").await.unwrap();
    let answer = world.ask("Ana Example", "health").await.unwrap();
    let told = words(&answer);
    assert!(told.starts_with("WARNING: Not checked on asset-service: "), "{told}");
    for reason in [
        "sequences (asset-service doesn't let countersign_read read every sequence: sequences shows the grant)",
        "migrations (asset-service doesn't let countersign_read read its migration table: migrations shows the grant)",
    ] {
        assert!(told.contains(reason), "{reason}: {told}");
    }
    assert_eq!(answer.coverage, Coverage::Partial);
    asset
        .batch_execute("GRANT SELECT ON audit_logs_id_seq, _prisma_migrations TO countersign_read")
        .await
        .unwrap();

    let directory = tempfile::tempdir().unwrap();
    let migration = directory.path().join("20990101000000_next");
    std::fs::create_dir(&migration).unwrap();
    std::fs::write(migration.join("migration.sql"), "SELECT 1;").unwrap();
    let path = directory.path().to_owned();
    world
        .change(|config| {
            let services = config.services.iter_mut().filter(|service| service.name == "asset-service");
            services.for_each(|service| service.migrations = Some(path.clone()));
        })
        .await;
    let answer = world.ask("Ana Example", "health").await.unwrap();
    let told = words(&answer);
    assert!(
        told.starts_with(
            "WARNING: asset-service: 1 migration is pending. migrations asset-service shows which."
        ),
        "{told}"
    );
    drop(directory);
    let told = world.told("health asset-service").await;
    assert!(told.starts_with("WARNING: Not checked on asset-service: migrations (asset-service has a migrations directory that "), "{told}");
    std::fs::remove_dir_all(&world.app.config.backups.directory).unwrap();
    let told = world.told("health billing-service").await;
    let words =
        "backups (billing-service has its backups in a storage that can't be read: backups tells more)";
    assert!(told.starts_with("WARNING: Not checked on billing-service: ") && told.contains(words), "{told}");
}

/// The newest backup that can be restored counts, by the limits of its environment.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_backup_is_a_finding() {
    let world = World::start().await;
    world.heal().await;
    let storage = &world.app.config.backups.directory;
    for (hours, start) in [
        (27, "WARNING: asset-service: the newest backup is 1 d 3 h old. To make one: backup asset-service"),
        (80, "CRITICAL: asset-service: "),
    ] {
        std::fs::remove_dir_all(storage.join("production/asset_service_db")).unwrap();
        backup(&world, ("asset_service_db", 2), hours).await;
        let answer = world.ask("Ana Example", "health").await.unwrap();
        assert!(words(&answer).starts_with(start), "{}", words(&answer));
        assert_eq!(offers(&answer), [("Backups".to_owned(), "Backup asset-service".to_owned())]);
    }
}
