//! The database file: creating and opening it, and the mapping of its errors. No run, no query.

use super::schema;
use crate::files;
use crate::store::StoreError;
use anyhow::Context;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Prepared statements of a connection. A list's statement depends on its filter.
const PREPARED_STATEMENTS: usize = 64;

#[derive(Debug)]
pub(super) enum DbError {
    Sql(rusqlite::Error),
    /// In words that hold no path, no value and no secret.
    Message(String),
}

pub(super) type DbResult<T> = Result<T, DbError>;

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        DbError::Sql(error)
    }
}

impl From<serde_json::Error> for DbError {
    fn from(_: serde_json::Error) -> Self {
        DbError::Message("a value in it has an unexpected form".into())
    }
}

impl From<jiff::Error> for DbError {
    fn from(_: jiff::Error) -> Self {
        DbError::Message("a time in it is out of range".into())
    }
}

/// Only the instances' locks are files that work on the database reads.
impl From<io::Error> for DbError {
    fn from(_: io::Error) -> Self {
        DbError::Message("its instances' locks can't be read".into())
    }
}

impl DbError {
    /// True if the connection may be at fault, so that the next job opens another.
    pub fn spoils_connection(&self) -> bool {
        let DbError::Sql(error) = self else { return false };
        !matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::ConstraintViolation)
        )
    }
}

impl From<DbError> for StoreError {
    /// SQLite's own messages can hold SQL, values and paths: only the kind of error passes.
    fn from(error: DbError) -> Self {
        let error = match error {
            DbError::Message(words) => return StoreError::Broken(words),
            DbError::Sql(error) => error,
        };
        let words = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => "its disk is full",
            Some(ErrorCode::ReadOnly) => "its file is read-only",
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "its file is locked by another process"
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => "its file is damaged",
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => "its file can't be opened",
            Some(ErrorCode::SystemIoFailure) => "reading or writing its file failed",
            Some(_) => "SQLite refused",
            None => "a row in it has an unexpected form",
        };
        let code = error.sqlite_error().map(|error| format!(" (SQLite {})", error.extended_code));
        StoreError::Broken(format!("{words}{}", code.unwrap_or_default()))
    }
}

#[derive(Debug, Clone)]
pub(super) struct FileConnector {
    pub path: PathBuf,
    pub read_only: bool,
    /// Time limit of a statement's wait for another process's lock.
    pub busy: Duration,
}

pub(super) struct OpenedFile {
    pub connection: Connection,
    file: (u64, u64),
}

impl FileConnector {
    /// Opens the file that is there; it must be ours. It is never created here: a record that was moved away must not be
    /// followed by an empty one.
    pub fn open(&self) -> DbResult<OpenedFile> {
        let opened = self.connect()?;
        schema::check_current(&opened.connection)?;
        Ok(opened)
    }

    /// True if the path still names the file that the connection has open. Without this check, SQLite continues to write to
    /// a file that was removed.
    pub fn still_names(&self, opened: &OpenedFile) -> bool {
        identity(&self.path).is_ok_and(|file| file == opened.file)
    }

    fn connect(&self) -> DbResult<OpenedFile> {
        let gone = |_| DbError::Message("its file is gone or can't be reached".into());
        let file = identity(&self.path).map_err(gone)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(self.busy)?;
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        // Erased text is overwritten, not only unlinked.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "query_only", self.read_only)?;
        Ok(OpenedFile { connection, file })
    }

    /// Makes the file and its schema where they are missing, and opens it.
    pub fn prepare(&self) -> anyhow::Result<OpenedFile> {
        // Never opened when it exists: closing it again would drop this process's POSIX locks on it, SQLite's among them.
        let made = OpenOptions::new().write(true).create_new(true).mode(files::PRIVATE_FILE).open(&self.path);
        if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            made.context("making the record's file")?;
        }
        let mut opened = self.connect().map_err(StoreError::from).context("opening the record's file")?;
        let on = self.write_ahead(&opened.connection).map_err(StoreError::from);
        on.context("turning on the write-ahead log")?;
        schema::migrate(&mut opened.connection)?;
        Ok(opened)
    }

    /// Turning it on needs the file for itself for a moment, and SQLite doesn't wait for that by itself.
    fn write_ahead(&self, connection: &Connection) -> DbResult<()> {
        let until = Instant::now() + self.busy;
        loop {
            let mode: rusqlite::Result<String> =
                connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
            match mode.map_err(DbError::from) {
                Ok(mode) if str::eq_ignore_ascii_case(&mode, "wal") => return Ok(()),
                Ok(_) => return Err(DbError::Message("its file system can't hold a write-ahead log".into())),
                Err(error) if error.spoils_connection() || Instant::now() >= until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// Device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
