//! What a REINDEX CONCURRENTLY that was broken off leaves: an invalid index named `_ccnew` or `_ccold`, which costs every write
//! and helps no query. It is dropped if nobody is building on its table, and named in every case.

use super::work::gave_up;
use crate::actions::support::blocks::table;
use crate::model::{Block, Cell, Severity, Shape, Table};
use crate::postgres::{DedicatedSession, PooledClient, QueryError};
use crate::sql::bytes;
use tokio_postgres::Row;

const FIND: &str = include_str!("leftovers.sql");

/// One that was found.
#[derive(Debug, Clone)]
pub(super) struct InvalidIndex {
    pub relation: String,
    oid: i64,
    bytes: i64,
    may: bool,
    owner: String,
    building: bool,
}

impl InvalidIndex {
    fn of(row: &Row) -> InvalidIndex {
        InvalidIndex {
            relation: row.get("relation"),
            oid: row.get("oid"),
            bytes: row.get::<_, Option<i64>>("bytes").unwrap_or_default(),
            may: row.get("may"),
            owner: row.get("owner"),
            building: row.get("building"),
        }
    }
}

/// What became of it.
#[derive(Debug)]
pub(super) enum DropResult {
    Dropped,
    /// Somebody builds on its table, or vacuums it: it may be theirs.
    Building,
    MayNot,
    Refused(QueryError),
}

pub(super) type Leftovers = Vec<(InvalidIndex, DropResult)>;

pub(super) async fn find(lease: &PooledClient, tables: &[i64]) -> Result<Vec<InvalidIndex>, QueryError> {
    Ok(lease.ask(FIND, &[&tables]).await?.iter().map(InvalidIndex::of).collect())
}

/// Drops what may be dropped. DROP INDEX CONCURRENTLY takes the lock that a builder holds, so that even one who begins between the
/// test and the statement is waited for, and not robbed.
pub(super) async fn clear(worker: &DedicatedSession, tables: &[i64]) -> Result<Leftovers, QueryError> {
    let ask = async || -> Result<Vec<InvalidIndex>, QueryError> {
        let rows = match worker.ask(FIND, &[&tables]).await {
            // Meant for the statement before.
            Err(why) if why.is_cancelled() => worker.ask(FIND, &[&tables]).await?,
            answer => answer?,
        };
        Ok(rows.iter().map(InvalidIndex::of).collect())
    };
    let mut cleared = Vec::new();
    for found in ask().await? {
        // Looked at again before each: dropping the one before may have taken long.
        let now = ask().await?.into_iter().find(|now| now.oid == found.oid);
        let Some(now) = now else { continue };
        let fate = match (now.building, now.may) {
            (true, _) => DropResult::Building,
            (false, false) => DropResult::MayNot,
            (false, true) => drop_index(worker, &now.relation).await,
        };
        let still = ask().await?.iter().any(|still| still.oid == found.oid);
        let fate = match fate {
            DropResult::Refused(_) if !still => DropResult::Dropped,
            DropResult::Dropped if still => DropResult::Building,
            fate => fate,
        };
        cleared.push((now, fate));
    }
    Ok(cleared)
}

async fn drop_index(worker: &DedicatedSession, relation: &str) -> DropResult {
    let statement = format!("DROP INDEX CONCURRENTLY {relation}");
    let ended = match worker.run(&statement).await {
        // Meant for the statement before.
        Err(why) if why.is_cancelled() => worker.run(&statement).await,
        ended => ended,
    };
    ended.map_or_else(DropResult::Refused, |_| DropResult::Dropped)
}

/// Each of them, and who must do what with those that stay; one alone in a line, since a table's cells are short on a phone.
pub(super) fn told(title: &str, cleared: &[(InvalidIndex, DropResult)]) -> Option<Block> {
    let cells = |(leftover, fate): &(InvalidIndex, DropResult)| {
        let (text, tone) = match fate {
            DropResult::Dropped => ("dropped".to_owned(), Severity::Ok),
            DropResult::Building => {
                ("left alone: somebody builds on its table, or vacuums it, now".to_owned(), Severity::Warning)
            }
            DropResult::MayNot => (format!("stays: only {} may drop it", leftover.owner), Severity::Critical),
            DropResult::Refused(why) if gave_up(why) => (
                "stays: a transaction that uses its table kept the DROP waiting too long".to_owned(),
                Severity::Critical,
            ),
            DropResult::Refused(why) => (format!("stays: {why}"), Severity::Critical),
        };
        vec![leftover.relation.as_str().into(), bytes(leftover.bytes as f64).into(), Cell { text, tone }]
    };
    if let [only] = cleared {
        let told: Vec<String> = cells(only).into_iter().map(|cell| cell.text).collect();
        return Some(Block::Note(format!("{title}: {}.", told.join(", ")).into()));
    }
    let columns = [("index", Shape::Left), ("size", Shape::Right), ("what became of it", Shape::Left)];
    let shown = table(&columns, cleared.iter().map(cells).collect());
    (!cleared.is_empty()).then(|| Block::Table(Table { title: Some(title.to_owned()), ..shown }))
}

/// The statement that drops what stays.
pub(super) fn remedy(cleared: &[(InvalidIndex, DropResult)]) -> Option<String> {
    let (left, _) = cleared.iter().find(|(_, fate)| !matches!(fate, DropResult::Dropped))?;
    Some(format!(
        "An invalid index costs every write. Ask again when nobody builds on its table any more; or, by its owner: \
         `DROP INDEX CONCURRENTLY {}`.",
        left.relation
    ))
}
