//! Texts of a backup's plan and outcome.

use super::{BackupError, BackupTarget, DatabaseInfo, Manifest, prefix};
use crate::actions::Outcome;
use crate::model::{Block, Cell, Column, ColumnKind, EventKind, Plan, Row, Table, Text};
use crate::sql::{bytes, duration};
use serde_json::json;

pub(super) fn describe(
    environment: &str,
    targets: &[BackupTarget],
    checks: &[Result<DatabaseInfo, BackupError>],
) -> Plan {
    let databases = match targets {
        [only] => only.database.clone(),
        more => format!("{} databases, one after another,", more.len()),
    };
    let mut plan = Plan::of(format!("Dumps {databases} of {environment} into the backup storage."));
    for (index, target) in targets.iter().enumerate() {
        plan.identity.insert(BackupTarget::identity_key(index, targets.len()), target.to_string());
        plan.resource_locks.push(format!("backup of {}", target.database));
    }
    // Two servers may have a database of the same name: one lock for both.
    plan.resource_locks.sort();
    plan.resource_locks.dedup();
    let total: i64 = checks.iter().flatten().map(|info| info.database_bytes).sum();
    plan.add_context("size on the server", bytes(total as f64));
    if let ([target], [Ok(info)]) = (targets, checks) {
        plan.add_context("dumped by", info.client_text());
        plan.add_context("stored as", format!("{}/<time>-<run>.dump", prefix(environment, &target.database)));
    } else {
        plan.tables.push(database_table(targets, checks));
    }
    plan.impact = "Reads every table. Fails if a table stays locked for 10 s; migrations wait until it ends."
        .to_owned();
    plan.rollback = "Not needed: the server isn't changed.".to_owned();
    plan
}

fn database_table(targets: &[BackupTarget], checks: &[Result<DatabaseInfo, BackupError>]) -> Table {
    let rows = targets.iter().zip(checks).map(|(target, check)| {
        let (size, by) = match check {
            Ok(info) => (bytes(info.database_bytes as f64), info.client_text()),
            Err(error) => ("-".to_owned(), format!("can't be dumped: it {error}")),
        };
        vec![target.database.clone(), size, by]
    });
    table(
        &[("database", ColumnKind::Left), ("size", ColumnKind::Right), ("dumped by", ColumnKind::Left)],
        rows.collect(),
    )
}

fn table(columns: &[(&str, ColumnKind)], rows: Vec<Vec<String>>) -> Table {
    let columns = columns.iter().map(|(title, kind)| Column { title: (*title).to_owned(), kind: *kind });
    let total = rows.len();
    let row =
        |cells: Vec<String>| Row { cells: cells.into_iter().map(Cell::from).collect(), buttons: Vec::new() };
    let rows = rows.into_iter().map(row).collect();
    Table { title: None, columns: columns.collect(), rows, total, empty: None }
}

pub(super) fn outcome(results: &[(BackupTarget, Result<Manifest, BackupError>)]) -> Outcome {
    let made: Vec<&Manifest> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let failed: Vec<(&BackupTarget, &BackupError)> =
        results.iter().filter_map(|(target, result)| Some((target, result.as_ref().err()?))).collect();
    let size = bytes(made.iter().map(|manifest| manifest.bytes).sum::<u64>() as f64);
    let time = duration(made.iter().map(|manifest| manifest.duration_ms).sum::<u64>() as f64 / 1000.0);
    let stopped = failed.iter().any(|(_, error)| matches!(error, BackupError::Stopped));
    let some = format!("{} of {} databases are backed up: {size} in {time}.", made.len(), results.len());
    let (kind, verdict) = match (made.as_slice(), failed.as_slice()) {
        ([], _) if stopped => {
            (EventKind::Stopped, "Stopped: no backup was made, and no files are left behind.".to_owned())
        }
        _ if stopped => (EventKind::Stopped, format!("Stopped: {some}")),
        ([only], []) => (
            EventKind::Succeeded,
            format!("{} is backed up: {size} in {time}, read back and verified.", only.database),
        ),
        (all, []) => (
            EventKind::Succeeded,
            format!("All {} databases are backed up: {size} in {time}, read back and verified.", all.len()),
        ),
        ([], [(target, error)]) => {
            (EventKind::Failed, format!("There is no backup of {}: {error}.", target.database))
        }
        ([], [(_, error), ..]) => (EventKind::Failed, format!("No database was backed up: {error}.")),
        _ => (EventKind::Partial, some),
    };
    let facts = json!({
        "backups": made.iter().map(|manifest| json!({
            "database": manifest.database, "key": manifest.key, "bytes": manifest.bytes,
            "sha256": manifest.sha256, "duration_ms": manifest.duration_ms,
        })).collect::<Vec<_>>(),
        "failed": failed.iter().map(|(target, error)| json!({
            "database": target.database, "server": target.server, "why": error.word(),
        })).collect::<Vec<_>>(),
    });
    Outcome { blocks: blocks(results), facts, ..Outcome::new(kind, verdict) }
}

fn blocks(results: &[(BackupTarget, Result<Manifest, BackupError>)]) -> Vec<Block> {
    if let [(_, Ok(manifest))] = results {
        return vec![Block::Facts(vec![
            ("stored as".to_owned(), Text::new().code(manifest.key.clone())),
            ("SHA-256".to_owned(), Text::new().code(manifest.sha256.clone())),
            ("dumped by".to_owned(), format!("pg_dump {}", manifest.client_version).into()),
        ])];
    }
    if results.len() < 2 {
        return Vec::new();
    }
    let rows = results.iter().map(|(target, result)| match result {
        Ok(manifest) => vec![target.database.clone(), bytes(manifest.bytes as f64), manifest.key.clone()],
        Err(error) => vec![target.database.clone(), "-".to_owned(), format!("no backup: {error}")],
    });
    let columns =
        [("database", ColumnKind::Left), ("size", ColumnKind::Right), ("stored as", ColumnKind::Left)];
    vec![Block::Table(table(&columns, rows.collect()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::backup::{ClientInstallation, MissingClient, manifest::key};
    use crate::storage::StorageError;

    fn target(database: &str) -> BackupTarget {
        BackupTarget { server: "main".to_owned(), database: database.to_owned() }
    }

    fn facts() -> DatabaseInfo {
        let installation =
            ClientInstallation { directory: "/tools".into(), major: 17, version: "17.2".into() };
        DatabaseInfo { database_bytes: 3 << 20, table_bytes: 2 << 20, version: "15.18".into(), installation }
    }

    fn missing() -> BackupError {
        BackupError::NoClient(MissingClient { server_major: 18, installed: vec!["17.2".to_owned()] })
    }

    fn manifest(database: &str) -> Manifest {
        let at = jiff::Timestamp::UNIX_EPOCH;
        Manifest {
            key: key(&prefix("staging", database), at, 7).to_string(),
            environment: "staging".to_owned(),
            server: "main".to_owned(),
            database: database.to_owned(),
            server_version: "15.18".to_owned(),
            client_version: "17.2".to_owned(),
            compression: "--compress=zstd:1".to_owned(),
            bytes: 24 << 20,
            sha256: "ab".repeat(32),
            table_bytes: 1,
            started_at: at,
            duration_ms: 3100,
            verified_at: at,
            requested_by: "Ana".to_owned(),
            run: 7,
        }
    }

    #[test]
    fn a_plan_holds_each_database_and_names_what_it_dumps() {
        let one = describe("staging", &[target("a/b")], &[Ok(facts())]);
        assert_eq!(one.effect, "Dumps a/b of staging into the backup storage.");
        assert_eq!(one.resource_locks, ["backup of a/b"]);
        assert_eq!(BackupTarget::from_plan(&one), [target("a/b")]);
        assert!(one.context.contains(&("dumped by".into(), "pg_dump 17.2 (the server is 15.18)".into())));

        let targets: Vec<BackupTarget> = (0..12).map(|n| target(&format!("db{n}"))).collect();
        let checks: Vec<_> = (0..12).map(|n| if n == 3 { Err(missing()) } else { Ok(facts()) }).collect();
        let all = describe("staging", &targets, &checks);
        assert_eq!(BackupTarget::from_plan(&all), targets, "in their order");
        assert_eq!(all.resource_locks.len(), 12);
        let twin = BackupTarget { server: "other".to_owned(), ..target("db0") };
        let twins = describe("staging", &[target("db0"), twin], &[Ok(facts()), Ok(facts())]);
        assert_eq!(twins.resource_locks, ["backup of db0"]);
        let Cell { text, .. } = &all.tables[0].rows[3].cells[2];
        assert_eq!(text, "can't be dumped: it needs pg_dump 18 or newer, and Countersign has only 17.2");
    }

    #[test]
    fn an_outcome_tells_each_database() {
        let failed = || Err(BackupError::Storage(StorageError::Full));
        let one = outcome(&[(target("a"), Ok(manifest("a")))]);
        assert_eq!(one.kind, EventKind::Succeeded);
        assert_eq!(one.verdict.words(), "a is backed up: 24.0 MiB in 3.1 s, read back and verified.");
        assert_eq!(one.facts["backups"][0]["key"], "staging/a/19700101T000000Z-7.dump");

        let none = outcome(&[(target("a"), failed())]);
        assert_eq!(none.kind, EventKind::Failed);
        assert_eq!(none.verdict.words(), "There is no backup of a: the backup storage is full.");

        let some = outcome(&[(target("a"), Ok(manifest("a"))), (target("b"), failed())]);
        assert_eq!(some.kind, EventKind::Partial);
        assert_eq!(some.verdict.words(), "1 of 2 databases are backed up: 24.0 MiB in 3.1 s.");
        assert_eq!(some.facts["failed"][0]["why"], "storage_full");
        assert_eq!(outcome(&[(target("a"), failed()), (target("b"), failed())]).kind, EventKind::Failed);
    }
}
