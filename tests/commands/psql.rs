//! Each file is plain SQL: psql, given the same values as variables, finds the same columns and, where they stand still,
//! the same rows.

use crate::harness::World;
use countersign::catalog::{
    BACKUP_AGES, Body, DISK_GROWTH, MIGRATIONS_DIRECTORY, OWN_ROLES, SERVER_NAME, SHARED_QUERIES,
    STATEMENT_TEXTS, Scope, WAIT_GRAPH, WAL_POSITIONS, shared_query,
};
use countersign::sql::{SectionResult, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio_postgres::types::ToSql;

/// Their rows don't change while nobody works.
const STABLE: [&str; 4] = ["migrations", "roles", "sizes", "slow"];

/// What moves by itself even then.
const MOVING: [&str; 1] = ["_s"];

/// A result as psql prints it.
#[derive(Debug)]
struct Printed {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Runs a file; the results of its statements in order.
fn psql(world: &World, file: &str, (database, values): (&str, &BTreeMap<String, String>)) -> Vec<Printed> {
    let (cluster, reader) = (&world.cluster, &world.team.reader);
    let mut command = Command::new(cluster.bin_dir().join("psql"));
    command.args(["-X", "-q", "-A", "-F", "\u{1f}", "-R", "\u{1e}", "-v", "ON_ERROR_STOP=1", "-f", file]);
    for (name, value) in values {
        command.arg("-v").arg(format!("{name}={value}"));
    }
    command.arg("-h").arg(cluster.host()).arg("-p").arg(cluster.port().to_string());
    command.args(["-U", &reader.user, "-d", database]).env("PGPASSWORD", &reader.password);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut results = Vec::new();
    let mut current: Option<Printed> = None;
    let cells = |record: &str| record.split('\u{1f}').map(str::to_owned).collect();
    for record in text.split('\u{1e}') {
        // "(2 rows)", a line's end, and the next result's header stand in one record.
        let (mut record, mut header) = (record, current.is_none());
        if let Some((_, next)) = record.split_once(" row").filter(|(count, _)| is_count(count)) {
            results.extend(current.take());
            (record, header) = (next.split_once('\n').map_or("", |(_, next)| next), true);
        }
        match &mut current {
            _ if record.is_empty() && header => {}
            Some(printed) if !header => printed.rows.push(cells(record)),
            _ => current = Some(Printed { columns: cells(record), rows: Vec::new() }),
        }
    }
    assert!(current.is_none(), "{file}: a result without its end");
    results
}

/// "(12", of "(12 rows)".
fn is_count(text: &str) -> bool {
    text.strip_prefix('(').is_some_and(|digits| digits.parse::<u32>().is_ok())
}

fn same(ours: &Value, printed: &str) -> bool {
    match ours {
        Value::Null => printed.is_empty(),
        Value::Text(text) => text == printed,
        Value::Bool(yes) => printed == if *yes { "t" } else { "f" },
        Value::List(list) => printed == format!("{{{}}}", list.join(",")),
        Value::Int(_) | Value::Float(_) => {
            let (number, printed) = (ours.number().unwrap(), printed.parse::<f64>().unwrap_or(f64::NAN));
            (number - printed).abs() <= number.abs() * 1e-9
        }
        Value::Time(time) => printed.parse::<jiff::Timestamp>().is_ok_and(|printed| printed == *time),
    }
}

fn compare(name: &str, ours: &SectionResult, printed: &Printed) {
    if !ours.rows.is_empty() {
        assert_eq!(ours.columns, printed.columns, "{name}");
    }
    if !STABLE.contains(&name) {
        return;
    }
    assert_eq!(ours.rows.len(), printed.rows.len(), "{name}: {printed:?}");
    for (row, expected) in ours.rows.iter().zip(&printed.rows) {
        for ((column, value), text) in ours.columns.iter().zip(&row.values).zip(expected) {
            let moves = MOVING.iter().any(|end| column.ends_with(end));
            assert!(moves || same(value, text), "{name}.{column}: {value:?} is not {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_finds_the_same() {
    let world = World::start().await;
    world.work().await;
    let asset = world.cluster.connect("asset_service_db").await.unwrap();
    let rows_of = async |name: &str, values: &[&(dyn ToSql + Sync)]| -> String {
        asset.query_one(&shared_query(name).unwrap().sql, values).await.unwrap().get(0)
    };
    let history = rows_of("migration_history", &[]).await;
    let status = rows_of("migration_status", &[&history, &""]).await;
    let mut compared = 0;
    for command in world.app.catalog.iter().filter(|command| matches!(command.body, Body::Sql(_))) {
        let name = &command.name;
        let file = format!("commands/{name}.sql");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).is_file());
        let takes_service = command.header.args.iter().find(|arg| arg.name == "service");
        let services: &[&str] = match takes_service {
            None => &[""],
            Some(arg) if arg.required => &["asset-service"],
            Some(_) => &["", "asset-service"],
        };
        for service in services {
            let typed = match takes_service {
                None => command.header.example.clone(),
                Some(_) => format!("{name} {service}"),
            };
            let (_, mut values, _) = world.understand(&typed).unwrap();
            let ours = world.sections(&typed).await.unwrap();
            values.insert("service".into(), (*service).to_owned());
            let database = if service.is_empty() { "" } else { "asset_service_db" };
            values.insert("database".into(), database.to_owned());
            values.insert(MIGRATIONS_DIRECTORY.into(), String::new());
            values.insert(WAIT_GRAPH.into(), r#"{"waiters": []}"#.to_owned());
            values.insert(STATEMENT_TEXTS.into(), "true".to_owned());
            values.insert(BACKUP_AGES.into(), "[]".to_owned());
            values.insert(WAL_POSITIONS.into(), "[]".to_owned());
            values.insert(DISK_GROWTH.into(), "{}".to_owned());
            values.insert(SERVER_NAME.into(), "main".to_owned());
            values.extend(SHARED_QUERIES.map(|(name, _)| (name.to_owned(), "[]".to_owned())));
            values.insert("migration_history".into(), history.clone());
            values.insert("migration_status".into(), status.clone());
            values.insert(OWN_ROLES.into(), "{countersign_read,countersign_act}".to_owned());
            let printed = psql(&world, &file, ("asset_service_db", &values));
            let sections = command.sections(15);
            assert_eq!(printed.len(), sections.len(), "{name}: a statement lacks its semicolon");
            for (section, printed) in sections.iter().zip(&printed) {
                // All databases are asked where psql asks one.
                if section.scope == Scope::Database && service.is_empty() {
                    continue;
                }
                let found =
                    ours.iter().find(|ours| ours.title == section.title && ours.scope == section.scope);
                if let Some(found) = found {
                    compare(name, found, printed);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 10, "only {compared} sections were compared");
}
