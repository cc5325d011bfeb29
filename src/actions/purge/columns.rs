//! The column that tells how old a row is, by the name that people type.

use super::spec::TimeType;
use crate::actions::support::relations::RelationInfo;
use crate::error::{Error, Result};
use crate::postgres::PooledClient;
use crate::suggest::{nearest, shown};
use tokio_postgres::Row;

/// A column that holds a time.
pub(super) struct TimeColumn {
    /// Quoted.
    pub quoted: String,
    pub kind: TimeType,
    /// An index begins with it.
    pub indexed: bool,
}

/// Resolves a name as typed: the exact match, else the only one.
pub(super) async fn resolve(client: &PooledClient, table: &RelationInfo, typed: &str) -> Result<TimeColumn> {
    let relation = &table.relation;
    let rejected = |error| Error::user(format!("{relation}: {error}."));
    let columns = client.ask(include_str!("columns.sql"), &[&table.oid]).await.map_err(rejected)?;
    let name = |row: &Row| row.get::<_, String>("name");
    let is_exact = |row: &Row| name(row) == typed || row.get::<_, String>("quoted") == typed;
    let is_alike = |row: &&Row| is_exact(row) || name(row).to_lowercase() == typed.to_lowercase();
    let alike: Vec<&Row> = columns.iter().filter(is_alike).collect();
    let exact = alike.iter().find(|row| is_exact(row));
    let times: Vec<String> =
        columns.iter().filter(|row| row.get::<_, Option<String>>("kind").is_some()).map(&name).collect();
    let row = match (exact, alike.as_slice()) {
        (Some(exact), _) => *exact,
        (None, [only]) => *only,
        (None, [_, _, ..]) => {
            return Err(Error::user(format!(
                "{relation} has several columns “{}”: type it with its capitals.",
                shown(typed)
            )));
        }
        (None, []) => {
            let problem = format!("{relation} has no column “{}”.", shown(typed));
            let names: Vec<String> = columns.iter().map(&name).collect();
            return Err(match nearest(typed, names.iter().map(String::as_str)) {
                Some(near) => Error::instead(problem, format!("Did you mean `--column {near}`?")),
                None => Error::instead(problem, choices(&times)),
            });
        }
    };
    let kind = row.get::<_, Option<String>>("kind").and_then(|kind| TimeType::from_name(&kind));
    let kind = kind.ok_or_else(|| {
        let (name, kind): (String, String) = (name(row), row.get("type"));
        Error::instead(format!("{name} of {relation} is of type {kind}, not a time."), choices(&times))
    })?;
    Ok(TimeColumn { quoted: row.get("quoted"), kind, indexed: row.get("indexed") })
}

fn choices(times: &[String]) -> String {
    if times.is_empty() {
        return "The table has no column of type date, timestamp or timestamptz, so it doesn't show how old its rows are.".to_owned();
    }
    format!("These hold a time: {}.", times.join(", "))
}
