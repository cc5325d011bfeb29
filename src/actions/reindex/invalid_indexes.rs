//! The leftovers of an interrupted REINDEX CONCURRENTLY: invalid indexes named `_ccnew` or `_ccold`, which cost every write and help
//! no query. One is dropped if no other session is building on its table, and named in every case.

use crate::actions::support::blocks::table;
use crate::actions::support::maintenance::is_lock_timeout;
use crate::model::ColumnKind::{Left, Right};
use crate::model::{Block, Cell, Severity, Table};
use crate::postgres::{DedicatedSession, PgRow, PooledClient, QueryError};
use crate::sql::bytes;

/// A leftover.
#[derive(Debug, Clone)]
pub(super) struct InvalidIndex {
    pub relation: String,
    oid: i64,
    bytes: i64,
    may_drop: bool,
    owner: String,
    building: bool,
}

/// Outcome of the DROP of a leftover.
#[derive(Debug)]
pub(super) enum DropResult {
    Dropped,
    /// Another session builds on its table, or vacuums it: it may be theirs.
    Building,
    MayNot,
    Rejected(QueryError),
}

/// Leftovers and the outcome of each one's DROP.
pub(super) type Leftovers = Vec<(InvalidIndex, DropResult)>;

/// Lists the leftovers on the tables.
pub(super) async fn find(client: &PooledClient, tables: &[i64]) -> Result<Vec<InvalidIndex>, QueryError> {
    let leftover = |row: &PgRow| {
        Ok(InvalidIndex {
            relation: row.get("relation")?,
            oid: row.get("oid")?,
            bytes: row.value("bytes").unwrap_or_default(),
            may_drop: row.get("may")?,
            owner: row.get("owner")?,
            building: row.get("building")?,
        })
    };
    let rows = client.query(include_str!("invalid_indexes.sql"), &[&tables]).await?;
    rows.iter().map(leftover).collect()
}

/// As [`find`]; a second time if a cancellation arrived that was meant for the statement before.
async fn find_again(worker: &DedicatedSession, tables: &[i64]) -> Result<Vec<InvalidIndex>, QueryError> {
    match find(worker, tables).await {
        Err(error) if error.is_cancelled() => find(worker, tables).await,
        answer => answer,
    }
}

/// Drops the leftovers that may be dropped. DROP INDEX CONCURRENTLY takes the lock that a builder holds, so that it waits even for
/// one who begins between the test and the statement.
pub(super) async fn drop_all(worker: &DedicatedSession, tables: &[i64]) -> Result<Leftovers, QueryError> {
    let mut results = Vec::new();
    for leftover in find_again(worker, tables).await? {
        // Read again before each: dropping the one before may have taken long.
        let now = find_again(worker, tables).await?.into_iter().find(|now| now.oid == leftover.oid);
        let Some(now) = now else { continue };
        let result = if now.building {
            DropResult::Building
        } else if now.may_drop {
            let statement = format!("DROP INDEX CONCURRENTLY {}", now.relation);
            let dropped = match worker.execute(&statement).await {
                // Meant for the statement before.
                Err(error) if error.is_cancelled() => worker.execute(&statement).await,
                dropped => dropped,
            };
            dropped.map_or_else(DropResult::Rejected, |_| DropResult::Dropped)
        } else {
            DropResult::MayNot
        };
        let remains = find_again(worker, tables).await?.iter().any(|index| index.oid == leftover.oid);
        let result = match result {
            DropResult::Rejected(_) if !remains => DropResult::Dropped,
            DropResult::Dropped if remains => DropResult::Building,
            result => result,
        };
        results.push((now, result));
    }
    Ok(results)
}

/// Lists each leftover of `origin` with its result; a single one in a line, since a table's cells are short on a phone.
pub(super) fn block(origin: &str, leftovers: &[(InvalidIndex, DropResult)]) -> Option<Block> {
    match leftovers {
        [] => None,
        [(index, result)] => {
            let size = bytes(index.bytes as f64);
            let text = if matches!(result, DropResult::Dropped) {
                format!("Dropped leftover {} ({size}) of {origin}.", index.relation)
            } else {
                let result = result_cell(index, result).text;
                format!("Leftover of {origin}: {}, {size}, {result}.", index.relation)
            };
            Some(Block::Note(text.into()))
        }
        _ => {
            let rows = leftovers.iter().map(|(index, result)| {
                let size = bytes(index.bytes as f64);
                vec![index.relation.as_str().into(), size.into(), result_cell(index, result)]
            });
            let columns = [("index", Left), ("size", Right), ("result", Left)];
            let title = Some(format!("Leftovers of {origin}"));
            Some(Block::Table(Table { title, ..table(&columns, rows.collect()) }))
        }
    }
}

fn result_cell(index: &InvalidIndex, result: &DropResult) -> Cell {
    use DropResult::{Building, Dropped, MayNot, Rejected};
    use Severity::{Critical, Warning};
    let (text, severity) = match result {
        Dropped => ("dropped".to_owned(), Severity::Ok),
        Building => {
            ("remains: another session is building on its table, or vacuuming it".to_owned(), Warning)
        }
        MayNot => (format!("remains: only {} may drop it", index.owner), Critical),
        Rejected(error) if is_lock_timeout(error) => {
            ("remains: a transaction that uses its table kept the DROP waiting too long".to_owned(), Critical)
        }
        Rejected(error) => (format!("remains: {error}"), Critical),
    };
    Cell { text, severity }
}

/// Builds the advice on the leftovers that remain, with the statement that drops one.
pub(super) fn remedy(leftovers: &[(InvalidIndex, DropResult)]) -> Option<String> {
    let (index, _) = leftovers.iter().find(|(_, result)| !matches!(result, DropResult::Dropped))?;
    Some(format!(
        "An invalid index slows every write. Run `reindex` again when no session is building on its table, or have its owner run \
         `DROP INDEX CONCURRENTLY {}`.",
        index.relation
    ))
}
