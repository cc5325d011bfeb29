//! The file as the source or the target of a copy (`store/copy.rs`), on a thread that may block.

use super::connection::{DbResult, FileConnector, OpenedFile};
use super::{SqliteStore, StoreLimits, process_lock, queries, rows, search};
use crate::store::StoreError;
use crate::store::copy::{
    self, BATCH_ROWS, ColumnForm, Copied, CopiedRow, CopiedRows, CopiedTable, CopyMessage, History,
    HistorySummary, IN_USE, TABLES,
};
use anyhow::{Context, ensure};
use async_trait::async_trait;
use rusqlite::{Connection, Transaction, TransactionBehavior, params_from_iter};
use std::path::PathBuf;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender};

/// A file to copy from or to.
pub struct SqliteHistory {
    path: PathBuf,
    limits: StoreLimits,
}

impl SqliteHistory {
    pub fn new(path: PathBuf, limits: StoreLimits) -> SqliteHistory {
        SqliteHistory { path, limits }
    }

    /// Opens the file, of this program's version afterwards, or makes it.
    fn prepare(&self) -> anyhow::Result<OpenedFile> {
        let busy = self.limits.lock_timeout;
        FileConnector { path: self.path.clone(), read_only: false, busy }.prepare()
    }

    /// Begins a transaction beside which no other process writes.
    fn begin<'c>(&self, connection: &'c mut Connection) -> anyhow::Result<Transaction<'c>> {
        let begun = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(|error| StoreError::from(super::connection::DbError::from(error)))?;
        let is_used = process_lock::has_living_instance(&self.path).context("looking for other processes")?;
        ensure!(!is_used, IN_USE);
        Ok(transaction)
    }

    fn send_blocking(&self, messages: &Sender<CopyMessage>) -> anyhow::Result<()> {
        let exists = SqliteStore::check_writable(&self.path)?;
        ensure!(exists, "there is no audit log yet: {} doesn't exist", self.path.display());
        let mut opened = self.prepare()?;
        let transaction = self.begin(&mut opened.connection)?;
        let summary = summary(&transaction)?;
        copy::check_source(&summary)?;
        let mut is_wanted = messages.blocking_send(CopyMessage::Summary(summary)).is_ok();
        for table in &TABLES {
            is_wanted = is_wanted && send_table(&transaction, table, messages).map_err(StoreError::from)?;
        }
        if is_wanted && messages.blocking_send(CopyMessage::End).is_ok() {
            Handle::current().block_on(messages.closed());
        }
        Ok(())
    }

    fn receive_blocking(&self, messages: &mut Receiver<CopyMessage>) -> anyhow::Result<Option<Copied>> {
        let Some(CopyMessage::Summary(expected)) = messages.blocking_recv() else { return Ok(None) };
        let mut opened = self.prepare()?;
        let transaction = self.begin(&mut opened.connection)?;
        if copy::is_there(&summary(&transaction)?, &expected)? {
            return Ok(Some(Copied { summary: expected, was_there: true }));
        }
        loop {
            match messages.blocking_recv() {
                Some(CopyMessage::Rows(rows)) => insert(&transaction, rows).map_err(StoreError::from)?,
                Some(CopyMessage::End) => break,
                Some(CopyMessage::Summary(_)) | None => return Ok(None),
            }
        }
        complete(&transaction, expected.last_card).map_err(StoreError::from)?;
        copy::check_copy(&summary(&transaction)?, &expected)?;
        transaction.commit().map_err(|error| StoreError::from(super::connection::DbError::from(error)))?;
        Ok(Some(Copied { summary: expected, was_there: false }))
    }
}

#[async_trait]
impl History for SqliteHistory {
    async fn send(self: Box<Self>, messages: Sender<CopyMessage>) -> anyhow::Result<()> {
        let send = move || self.send_blocking(&messages);
        tokio::task::spawn_blocking(send).await.context("the reading thread ended")?
    }

    async fn receive(self: Box<Self>, mut messages: Receiver<CopyMessage>) -> anyhow::Result<Option<Copied>> {
        let receive = move || self.receive_blocking(&mut messages);
        tokio::task::spawn_blocking(receive).await.context("the writing thread ended")?
    }
}

fn summary(transaction: &Transaction<'_>) -> anyhow::Result<HistorySummary> {
    let chain = queries::verify(transaction).map_err(StoreError::from)?;
    let count = |table: &CopiedTable| {
        let sql = format!("SELECT count(*) FROM {}", table.name);
        Ok((table.name, rows::first(transaction, &sql, [], rows::value)?.unwrap_or_default()))
    };
    let counts = TABLES.iter().map(count).collect::<DbResult<_>>().map_err(StoreError::from)?;
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'cards'";
    let last_card = rows::first(transaction, sql, [], rows::value).map_err(StoreError::from)?;
    HistorySummary::new(chain, counts, last_card.unwrap_or_default())
}

/// Sends a table's rows; false if nobody receives them any more.
fn send_table(
    transaction: &Transaction<'_>,
    table: &'static CopiedTable,
    messages: &Sender<CopyMessage>,
) -> DbResult<bool> {
    let as_text = |(name, kind): &(&str, ColumnForm)| match kind {
        ColumnForm::Text => (*name).to_owned(),
        ColumnForm::Integer | ColumnForm::Flag | ColumnForm::Time => format!("CAST({name} AS TEXT)"),
        ColumnForm::Bytes => format!("hex({name})"),
    };
    let columns: Vec<String> = table.columns.iter().map(as_text).collect();
    // With the table's name before it, it isn't the text of the output.
    let key: Vec<String> = table.columns.iter().take(2).map(|(name, _)| format!("c.{name}")).collect();
    let sql = format!("SELECT {} FROM {} c ORDER BY {}", columns.join(", "), table.name, key.join(", "));
    let mut statement = rows::prepare(transaction, &sql)?;
    let mut found = statement.query([])?;
    let mut is_wanted = true;
    while is_wanted {
        let mut rows: Vec<CopiedRow> = Vec::new();
        while rows.len() < BATCH_ROWS
            && let Some(row) = found.next()?
        {
            rows.push((0..columns.len()).map(|column| row.get(column)).collect::<Result<_, _>>()?);
        }
        if rows.is_empty() {
            break;
        }
        is_wanted = messages.blocking_send(CopyMessage::Rows(CopiedRows { table, rows })).is_ok();
    }
    Ok(is_wanted)
}

fn insert(transaction: &Transaction<'_>, CopiedRows { table, rows: copied }: CopiedRows) -> DbResult<()> {
    let from_text = |(_, kind): &(&str, ColumnForm)| match kind {
        ColumnForm::Text => "?",
        ColumnForm::Integer | ColumnForm::Flag | ColumnForm::Time => "CAST(? AS INTEGER)",
        ColumnForm::Bytes => "unhex(?)",
    };
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<&str> = table.columns.iter().map(from_text).collect();
    let sql = format!("INSERT INTO {} ({}) VALUES ({})", table.name, names.join(", "), values.join(", "));
    for row in copied {
        rows::execute(transaction, &sql, params_from_iter(row))?;
    }
    Ok(())
}

/// Writes what follows from the rows, and the number of the last card.
fn complete(transaction: &Transaction<'_>, last_card: i64) -> DbResult<()> {
    search::add_all(transaction)?;
    let outdated = "UPDATE cards SET is_outdated =
        abandoned = 0 AND shown_version < (SELECT version FROM runs WHERE runs.id = run)";
    rows::execute(transaction, outdated, [])?;
    rows::execute(transaction, "DELETE FROM sqlite_sequence WHERE name = 'cards'", [])?;
    rows::execute(transaction, "INSERT INTO sqlite_sequence (name, seq) VALUES ('cards', ?1)", [last_card])?;
    Ok(())
}
