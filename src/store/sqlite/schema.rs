//! The schema of the file: its versions, and the way from each to the next.

use super::connection::{DbError, DbResult};
use super::search;
use crate::store::StoreError;
use anyhow::Context;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::path::Path;
use url::Url;

/// One step: its statements, and the work that SQL can't do.
struct Migration {
    sql: &'static str,
    work: fn(&Transaction<'_>) -> DbResult<()>,
}

/// Every step, in order: the first makes version 1. A step that was released is never changed.
const MIGRATIONS: [Migration; 4] = [
    Migration { sql: include_str!("migrations/0001_init.sql"), work: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0002_suspended_locks.sql"), work: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0003_indexes.sql"), work: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0004_search.sql"), work: search::add_all },
];

/// SQLite's `user_version` of the file that this program reads and writes.
const VERSION: i64 = MIGRATIONS.len() as i64;

/// SQLite's `application_id`: "CSGN", so that another program's file is never taken for ours.
const APPLICATION: i64 = 0x4353_474e;

/// The origin of a file.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Empty,
    Ours { version: i64 },
}

/// # Errors
/// The file is another program's, or made by a newer version of this one.
fn origin(connection: &Connection) -> DbResult<Origin> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version, tables) {
        (0, 0, 0) => Ok(Origin::Empty),
        (APPLICATION, 1.., _) if version <= VERSION => Ok(Origin::Ours { version }),
        (APPLICATION, 1.., _) => Err(DbError::Message(format!(
            "its file was made by a newer Countersign (schema {version}; this one knows {VERSION})"
        ))),
        _ => Err(DbError::Message("its file is another program's database".into())),
    }
}

/// # Errors
/// The file is not of this program's version.
pub(super) fn check_current(connection: &Connection) -> DbResult<()> {
    match origin(connection)? {
        Origin::Ours { version: VERSION } => Ok(()),
        _ => Err(DbError::Message("its file has an older schema; restart Countersign to migrate it".into())),
    }
}

/// Checks that the file can be used: it is ours, of this version or of an older one, or still empty. Takes no lock and reads no
/// write-ahead log: SQLite makes no file beside it.
pub(super) fn check_file(path: &Path) -> DbResult<()> {
    let unreachable = || DbError::Message("its file is gone or can't be reached".into());
    // Opened read-only, SQLite takes a directory for a file.
    if !path.is_file() {
        return Err(DbError::Message("its file can't be opened: it is no file".into()));
    }
    let absolute = std::path::absolute(path).map_err(|_| unreachable())?;
    let mut url = Url::from_file_path(absolute).map_err(|()| unreachable())?;
    url.set_query(Some("immutable=1"));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    origin(&Connection::open_with_flags(url.as_str(), flags)?).map(drop)
}

/// Brings the file to this program's version, each step in a transaction of its own. Of several processes at once, each step is
/// done by one.
pub(super) fn migrate(connection: &mut Connection) -> anyhow::Result<()> {
    while migrate_one(connection).map_err(StoreError::from).context("migrating the record's file")? {}
    Ok(())
}

/// Makes the next step; false if there is none.
fn migrate_one(connection: &mut Connection) -> DbResult<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = match origin(&transaction)? {
        Origin::Empty => 0,
        Origin::Ours { version } => version,
    };
    let Some(step) = usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version)) else {
        return Ok(false);
    };
    transaction.execute_batch(step.sql)?;
    (step.work)(&transaction)?;
    transaction.pragma_update(None, "user_version", version + 1)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.commit()?;
    Ok(true)
}
