//! The schema of the file: its versions, and the way from each to the next.

use super::connection::{DbError, DbResult};
use super::search;
use crate::store::StoreError;
use anyhow::Context;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use url::Url;

/// One step: its statements, and the work that SQL can't do.
struct Migration {
    sql: &'static str,
    work: fn(&Transaction<'_>) -> DbResult<()>,
}

/// Every step, in order: the first makes version 1. A step that was released is never changed.
const MIGRATIONS: [Migration; 7] = [
    Migration { sql: include_str!("migrations/0001_init.sql"), work: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0002_suspended_locks.sql"), work: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0003_indexes.sql"), work: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0004_search.sql"), work: search::add_all },
    Migration { sql: include_str!("migrations/0005_rate_limits.sql"), work: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0006_watch_states.sql"), work: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0007_figures.sql"), work: |_| Ok(()) },
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

impl Origin {
    /// # Errors
    /// The file is another program's, or made by a newer version of this one.
    fn of(connection: &Connection) -> DbResult<Origin> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (application, version) = (pragma("application_id")?, pragma("user_version")?);
        let count = "SELECT count(*) FROM sqlite_schema";
        if (application, version) == (0, 0)
            && connection.query_row(count, [], |row| row.get::<_, i64>(0))? == 0
        {
            return Ok(Origin::Empty);
        }
        Origin::of_numbers(application, version)
    }

    fn of_numbers(application: i64, version: i64) -> DbResult<Origin> {
        match (application, version) {
            (APPLICATION, 1..=VERSION) => Ok(Origin::Ours { version }),
            (APPLICATION, 1..) => Err(DbError::Message(format!(
                "its file was made by a newer Countersign (schema {version}; this one knows {VERSION})"
            ))),
            _ => Err(DbError::Message("its file is another program's database".into())),
        }
    }
}

/// The `application_id` and the `user_version` in the first bytes of a file of SQLite's.
/// Source: <https://www.sqlite.org/fileformat.html#the_database_header>.
fn header_numbers(path: &Path) -> std::io::Result<Option<(i64, i64)>> {
    let mut header = Vec::with_capacity(100);
    File::open(path)?.take(100).read_to_end(&mut header)?;
    let number = |at: usize| Some(i64::from(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?)));
    Ok(number(68).zip(number(60)).filter(|_| header.starts_with(b"SQLite format 3\0")))
}

/// # Errors
/// The file is not of this program's version.
pub(super) fn check_current(connection: &Connection) -> DbResult<()> {
    match Origin::of(connection)? {
        Origin::Ours { version: VERSION } => Ok(()),
        _ => Err(DbError::Message("its file has an older schema; restart Countersign to migrate it".into())),
    }
}

/// Checks that the file can be used: it is ours, of this version or of an older one, or still empty. Takes no lock and reads no
/// write-ahead log: SQLite makes no file beside it. Of a file of ours, which may be written at the same moment, only the header is read.
pub(super) fn check_file(path: &Path) -> DbResult<()> {
    let unreachable = || DbError::Message("its file is gone or can't be reached".into());
    // Opened read-only, SQLite takes a directory for a file.
    if !path.is_file() {
        return Err(DbError::Message("its file can't be opened: it is no file".into()));
    }
    if let Some((APPLICATION, version)) = header_numbers(path).map_err(|_| unreachable())? {
        return Origin::of_numbers(APPLICATION, version).map(drop);
    }
    let absolute = std::path::absolute(path).map_err(|_| unreachable())?;
    let mut url = Url::from_file_path(absolute).map_err(|()| unreachable())?;
    url.set_query(Some("immutable=1"));
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Origin::of(&Connection::open_with_flags(url.as_str(), flags)?).map(drop)
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
    let version = match Origin::of(&transaction)? {
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
