//! Names as people type them → the table and the column that there are, or what to type instead.

use super::work::TimeType;
use crate::actions::Call;
use crate::error::{Error, Result};
use crate::postgres::PooledClient;
use crate::suggest::{nearest, shown};
use tokio_postgres::Row;

/// A table.
pub(super) struct TableName {
    /// Quoted, with its schema.
    pub relation: String,
    pub oid: i64,
}

/// A column that holds a time.
pub(super) struct TimeColumn {
    /// Quoted.
    pub quoted: String,
    pub kind: TimeType,
    /// Whether an index begins with it.
    pub indexed: bool,
}

/// The one table that a name means: the exact one, else the only one.
pub(super) async fn table(
    call: &Call<'_>,
    lease: &PooledClient,
    (typed, database): (&str, &str),
) -> Result<TableName> {
    let refused = |why| Error::user(format!("{database}: {why}."));
    let found = lease.ask(include_str!("tables.sql"), &[&Some(typed)]).await.map_err(refused)?;
    let exact = |row: &&Row| row.get::<_, Option<bool>>("exact").unwrap_or(false);
    let exactly: Vec<&Row> = found.iter().filter(exact).collect();
    let fitting: Vec<&Row> = if exactly.is_empty() { found.iter().collect() } else { exactly };
    let relation = |row: &Row| row.get::<_, String>("relation");
    match fitting.as_slice() {
        [only] if only.get("partitioned") => Err(Error::instead(
            format!("{} is partitioned, and rows are deleted from one table at a time.", relation(only)),
            "Name one of its partitions. Better, where all of a partition is old: drop it, which frees the disk at once.",
        )),
        [only] => Ok(TableName { relation: relation(only), oid: only.get("oid") }),
        [first, ..] => {
            let names: Vec<String> = fitting.iter().map(|row| relation(row)).collect();
            let service = call.values.get("service").cloned().unwrap_or_default();
            Err(Error::instead(
                format!("“{}” can be {}.", shown(typed), names.join(" or ")),
                // Quotes inside a word would end it.
                format!("Say which, as in `purge {service} {}`.", relation(first).replace('"', "")),
            ))
        }
        [] => {
            let none: Option<&str> = None;
            let all = lease.ask(include_str!("tables.sql"), &[&none]).await.unwrap_or_default();
            let names: Vec<String> = all.iter().map(|row| row.get("name")).collect();
            let problem = format!("{database} has no table “{}”.", shown(typed));
            Err(match nearest(typed, names.iter().map(String::as_str)) {
                Some(near) => Error::instead(problem, format!("Did you mean `{near}`?")),
                None => Error::instead(problem, "`sizes <service>` shows the tables that there are."),
            })
        }
    }
}

/// The column that a name means: the exact one, else the only one.
pub(super) async fn column(lease: &PooledClient, table: &TableName, typed: &str) -> Result<TimeColumn> {
    let relation = &table.relation;
    let refused = |why| Error::user(format!("{relation}: {why}."));
    let all = lease.ask(include_str!("columns.sql"), &[&table.oid]).await.map_err(refused)?;
    let name = |row: &Row| row.get::<_, String>("name");
    let exact = |row: &Row| name(row) == typed || row.get::<_, String>("quoted") == typed;
    let alike = |row: &&Row| exact(row) || name(row).to_lowercase() == typed.to_lowercase();
    let alike: Vec<&Row> = all.iter().filter(alike).collect();
    let found = alike.iter().find(|row| exact(row));
    let times: Vec<String> =
        all.iter().filter(|row| row.get::<_, Option<String>>("kind").is_some()).map(&name).collect();
    let row = match (found, alike.as_slice()) {
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
            let names: Vec<String> = all.iter().map(&name).collect();
            return Err(match nearest(typed, names.iter().map(String::as_str)) {
                Some(near) => Error::instead(problem, format!("Did you mean `--column {near}`?")),
                None => Error::instead(problem, choose(&times)),
            });
        }
    };
    let kind = row.get::<_, Option<String>>("kind").and_then(|kind| TimeType::of(&kind));
    let kind = kind.ok_or_else(|| {
        let (name, kind): (String, String) = (name(row), row.get("type"));
        Error::instead(format!("{name} of {relation} is of type {kind}, and no time."), choose(&times))
    })?;
    Ok(TimeColumn { quoted: row.get("quoted"), kind, indexed: row.get("indexed") })
}

fn choose(times: &[String]) -> String {
    match times {
        [] => "The table has no column of type date, timestamp or timestamptz: nothing tells how old its rows are.".to_owned(),
        some => format!("These hold a time: {}.", some.join(", ")),
    }
}
