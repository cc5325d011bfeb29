//! The database as the source or the target of a copy (`store/copy.rs`): one transaction, which no append is made beside.

use super::queries;
use super::schema::{self, KnownSchema, SchemaState};
use super::session::{COPY_LIMITS, CallError, CallResult, Connector, StoreSession};
use crate::config::PostgresStoreSettings;
use crate::store::StoreError;
use crate::store::copy::{
    self, BATCH_ROWS, ColumnForm, Copied, CopiedRow, CopiedRows, CopiedTable, CopyMessage, History,
    HistorySummary, IN_USE, TABLES,
};
use anyhow::ensure;
use async_trait::async_trait;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio_postgres::types::ToSql;

/// A database to copy from or to.
pub struct PostgresHistory {
    connector: Connector,
}

impl PostgresHistory {
    /// # Errors
    /// A certificate file can't be read.
    pub fn new(settings: PostgresStoreSettings) -> anyhow::Result<PostgresHistory> {
        Ok(PostgresHistory { connector: Connector::new(settings)? })
    }

    async fn open(&self) -> anyhow::Result<StoreSession> {
        Ok(self.connector.open_with(COPY_LIMITS).await.map_err(StoreError::from)?)
    }
}

#[async_trait]
impl History for PostgresHistory {
    async fn send(self: Box<Self>, messages: Sender<CopyMessage>) -> anyhow::Result<()> {
        let session = self.open().await?;
        let state = schema::state(&session).await.map_err(owner_is_needed)?;
        ensure!(
            !matches!(state, SchemaState::Absent { .. }),
            "there is no audit log yet: its database has none"
        );
        schema::migrate(&session, KnownSchema::CURRENT).await.map_err(StoreError::from)?;
        begin(&session, "BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        let summary = summary(&session).await?;
        copy::check_source(&summary)?;
        let mut is_wanted = messages.send(CopyMessage::Summary(summary)).await.is_ok();
        for table in &TABLES {
            is_wanted = is_wanted && send_table(&session, table, &messages).await.map_err(owner_is_needed)?;
        }
        ensure_unused(&session).await?;
        if is_wanted && messages.send(CopyMessage::End).await.is_ok() {
            messages.closed().await;
        }
        Ok(())
    }

    async fn receive(self: Box<Self>, mut messages: Receiver<CopyMessage>) -> anyhow::Result<Option<Copied>> {
        let Some(CopyMessage::Summary(expected)) = messages.recv().await else { return Ok(None) };
        let session = self.open().await?;
        session.batch(schema::LOCK).await.map_err(StoreError::from)?;
        while !schema::apply_next(&session, KnownSchema::CURRENT).await.map_err(StoreError::from)? {}
        begin(&session, "SAVEPOINT empty").await?;
        if copy::is_there(&summary(&session).await?, &expected)? {
            return Ok(Some(Copied { summary: expected, was_there: true }));
        }
        // Of many rows in one statement, all but the first are ahead of the head.
        let fence = async |verb| {
            let sql = format!("ALTER TABLE countersign.events {verb} TRIGGER events_are_appended");
            session.batch(&sql).await.map_err(owner_is_needed)
        };
        fence("DISABLE").await?;
        loop {
            match messages.recv().await {
                Some(CopyMessage::Rows(rows)) => insert(&session, &rows).await.map_err(StoreError::from)?,
                Some(CopyMessage::End) => break,
                Some(CopyMessage::Summary(_)) | None => return Ok(None),
            }
        }
        fence("ENABLE").await?;
        complete(&session, expected.last_card).await.map_err(StoreError::from)?;
        copy::check_copy(&summary(&session).await?, &expected)?;
        match session.batch("COMMIT").await {
            Ok(()) => Ok(Some(Copied { summary: expected, was_there: false })),
            Err(CallError::Lost) => anyhow::bail!(
                "the connection was lost while the copy was committed: repeat the command, which tells whether the copy is complete"
            ),
            Err(error) => Err(StoreError::from(error).into()),
        }
    }
}

/// Begins, and keeps the others from appending until the transaction ends.
async fn begin(session: &StoreSession, begin: &str) -> anyhow::Result<()> {
    session.batch(begin).await.map_err(StoreError::from)?;
    ensure_unused(session).await?;
    session.batch("SELECT FROM countersign.head FOR UPDATE").await.map_err(owner_is_needed)?;
    Ok(())
}

/// # Errors
/// Another session of Countersign's is in the database.
async fn ensure_unused(session: &StoreSession) -> anyhow::Result<()> {
    // Within a transaction the sessions are read once, unless this is called.
    session.batch("SELECT pg_stat_clear_snapshot()").await.map_err(StoreError::from)?;
    let sql = "SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'countersign'";
    ensure!(session.query(sql, &[]).await.map_err(StoreError::from)?.is_empty(), IN_USE);
    Ok(())
}

/// A missing privilege in words that say who has it.
fn owner_is_needed(error: CallError) -> StoreError {
    match &error {
        CallError::Refused(code) if code == "42501" => StoreError::Broken(
            "only the owner of its schema countersign can copy it: let the configuration for this command name that role".to_owned(),
        ),
        _ => error.into(),
    }
}

async fn summary(session: &StoreSession) -> anyhow::Result<HistorySummary> {
    let chain = queries::audit(session).await.map_err(StoreError::from)?;
    let mut counts = std::collections::BTreeMap::new();
    for table in &TABLES {
        let sql = format!("SELECT count(*) FROM countersign.{}", table.name);
        counts.insert(table.name, number(session, &sql).await?);
    }
    let sql = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM countersign.cards_id_seq";
    HistorySummary::new(chain, counts, number(session, sql).await?)
}

async fn number(session: &StoreSession, sql: &str) -> anyhow::Result<i64> {
    let read = async || {
        let rows = session.query_text(sql, &[]).await?;
        Ok(rows.first().ok_or(CallError::Lost)?.get(0)?)
    };
    Ok(read().await.map_err(owner_is_needed)?)
}

/// Sends a table's rows; false if nobody receives them any more.
async fn send_table(
    session: &StoreSession,
    table: &'static CopiedTable,
    messages: &Sender<CopyMessage>,
) -> CallResult<bool> {
    let as_text = |(name, kind): &(&str, ColumnForm)| match kind {
        ColumnForm::Text => (*name).to_owned(),
        ColumnForm::Integer => format!("{name}::text"),
        ColumnForm::Flag => format!("{name}::integer::text"),
        ColumnForm::Bytes => format!("encode({name}, 'hex')"),
        ColumnForm::Time => format!("countersign.microseconds({name})::text"),
    };
    let columns: Vec<String> = table.columns.iter().map(as_text).collect();
    // With the table's name before it, it isn't the text of the output.
    let key: Vec<String> = table.columns.iter().take(2).map(|(name, _)| format!("c.{name}")).collect();
    let sql = format!(
        "DECLARE copied NO SCROLL CURSOR FOR SELECT {} FROM countersign.{} c ORDER BY {}",
        columns.join(", "),
        table.name,
        key.join(", ")
    );
    session.batch(&sql).await?;
    let mut is_wanted = true;
    while is_wanted {
        let found = session.query_text(&format!("FETCH {BATCH_ROWS} FROM copied"), &[]).await?;
        if found.is_empty() {
            break;
        }
        let values = |row| (0..columns.len()).map(move |column| crate::pg_connect::PgRow::get(row, column));
        let rows = found.iter().map(|row| Ok(values(row).collect::<Result<CopiedRow, _>>()?));
        let rows = rows.collect::<CallResult<Vec<CopiedRow>>>()?;
        is_wanted = messages.send(CopyMessage::Rows(CopiedRows { table, rows })).await.is_ok();
    }
    session.batch("CLOSE copied").await?;
    Ok(is_wanted)
}

async fn insert(session: &StoreSession, CopiedRows { table, rows }: &CopiedRows) -> CallResult<()> {
    let from_text = |(name, kind): &(&str, ColumnForm)| match kind {
        ColumnForm::Text => format!("r.{name}"),
        ColumnForm::Integer => format!("r.{name}::bigint"),
        ColumnForm::Flag => format!("r.{name}::integer::boolean"),
        ColumnForm::Bytes => format!("decode(r.{name}, 'hex')"),
        ColumnForm::Time => format!("'epoch'::timestamptz + countersign.interval_of(r.{name})"),
    };
    let mut names: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let mut values: Vec<String> = table.columns.iter().map(from_text).collect();
    let parameters: Vec<String> = (1..=names.len()).map(|n| format!("${n}::text[]")).collect();
    let row = names.join(", ");
    if table.name == "cards" {
        names.push("run_version");
        values.push("(SELECT c.version FROM countersign.runs c WHERE c.id = r.run::bigint)".to_owned());
    }
    let sql = format!(
        "INSERT INTO countersign.{} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest({}) r ({row})",
        table.name,
        names.join(", "),
        values.join(", "),
        parameters.join(", ")
    );
    let column = |n: usize| rows.iter().map(|row| row[n].as_deref()).collect::<Vec<Option<&str>>>();
    let columns: Vec<Vec<Option<&str>>> = (0..table.columns.len()).map(column).collect();
    let columns: Vec<&(dyn ToSql + Sync)> =
        columns.iter().map(|column| column as &(dyn ToSql + Sync)).collect();
    session.query_text(&sql, &columns).await.map(drop)
}

/// Writes what follows from the rows, and the number of the last card.
async fn complete(session: &StoreSession, last_card: i64) -> CallResult<()> {
    let head = "UPDATE countersign.head h SET
            (seq, hash) = (SELECT e.seq, e.hash FROM countersign.events e ORDER BY e.seq DESC LIMIT 1),
            last_run = (SELECT max(r.id) FROM countersign.runs r)
         WHERE EXISTS (SELECT FROM countersign.events)";
    session.batch(head).await?;
    let cards = "SELECT setval('countersign.cards_id_seq', greatest($1::bigint, 1), $1::bigint > 0)";
    session.query(cards, &[&last_card]).await?;
    // The check of the chain reads every table by its indexes.
    session.batch("ANALYZE countersign.runs, countersign.events, countersign.event_texts").await
}
