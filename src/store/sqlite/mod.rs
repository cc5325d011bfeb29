//! The embedded store: one SQLite file, which several processes of one host may use at once. Each method hands its work to a
//! thread (`worker`).
//!
//! Three workers: one writes; one reads, so that a long list doesn't hold up a write; one verifies, so that checking the whole
//! chain doesn't hold up a button. The file must be on a local disk: SQLite's write-ahead log needs shared memory.

mod cards;
mod connection;
mod copy;
mod figures;
mod limits;
mod lists;
mod process_lock;
mod queries;
mod rows;
mod runs;
mod schema;
mod search;
mod status;
#[cfg(test)]
mod tests;
mod watch;
mod worker;

use super::{
    Append, AppendOutcome, Binding, ChainReport, EventRow, FIGURE_PERIOD, Figure, Filter, FreezeChange,
    NewRun, OpenOutcome, RunPage, Store, StoreError, StoreResult, StoreStatus, WatchState, nul_check,
};
use crate::files;
use crate::model::{ActiveFreeze, ButtonToken, Card, CardKind, Conversation, Run, RunId};
use anyhow::Context;
use async_trait::async_trait;
use connection::FileConnector;
pub use copy::SqliteHistory;
use jiff::Timestamp;
use process_lock::Instance;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use worker::Worker;

/// Time limits of the store.
#[derive(Debug, Clone, Copy)]
pub struct StoreLimits {
    /// Time for every call but the check of the whole chain, after which it is given up as [`StoreError::TooLate`].
    pub call_timeout: Duration,
    /// For another process's lock on the file. Less than `call_timeout`, so that the caller receives the cause.
    pub lock_timeout: Duration,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits { call_timeout: Duration::from_secs(10), lock_timeout: Duration::from_secs(5) }
    }
}

/// The embedded store: its threads, their connections, and this instance.
pub struct SqliteStore {
    instance: Arc<Instance>,
    writer: Worker,
    reader: Worker,
    auditor: Worker,
}

impl SqliteStore {
    /// Opens the file, or creates it with mode 0600; its directory must exist. Blocks for `limits.lock_timeout` at most.
    pub fn open(path: &Path, limits: StoreLimits) -> anyhow::Result<SqliteStore> {
        let writing = FileConnector { path: path.to_owned(), read_only: false, busy: limits.lock_timeout };
        let reading = FileConnector { read_only: true, ..writing.clone() };
        let opened = writing.prepare()?;
        let instance = Arc::new(Instance::start(path)?);
        for dead in instance.dead_ids().context("looking for dead instances")? {
            if !queries::owns_open_run(&opened.connection, &dead).map_err(StoreError::from)? {
                instance.remove_lock(&dead).context("removing a dead instance's lock")?;
            }
        }
        let start = |connector, opened, call_timeout| {
            let worker = Worker::start(connector, opened, Arc::clone(&instance), call_timeout);
            worker.context("starting the store's thread")
        };
        let writer = start(writing, Some(opened), limits.call_timeout)?;
        let reader = start(reading.clone(), None, limits.call_timeout)?;
        let auditor = start(reading, None, Duration::MAX)?;
        Ok(SqliteStore { instance, writer, reader, auditor })
    }

    /// Checks that the audit log can be written, by its permissions and its version: true if it exists, false if it could be made.
    /// Changes no file, not even a write-ahead log that a crash left behind.
    pub fn check_writable(path: &Path) -> anyhow::Result<bool> {
        let directory = path.parent().unwrap_or(Path::new(""));
        if !path.exists() {
            files::check_directory(directory).context("its file can't be made")?;
            return Ok(false);
        }
        files::check_file(path).context("its file can't be written")?;
        files::check_directory(directory).context("its write-ahead log can't be made")?;
        schema::check_file(path).map_err(StoreError::from)?;
        Ok(true)
    }
}

#[async_trait]
impl Store for SqliteStore {
    /// Nobody takes a process for dead whose lock on the file is there.
    async fn check_instance(&self) -> StoreResult<()> {
        self.frozen().await.map(drop)
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        Ok(Timestamp::now())
    }

    async fn open(&self, new: NewRun) -> StoreResult<OpenOutcome> {
        nul_check::check_run(&new)?;
        let owner = self.instance.id.clone();
        self.writer.write(move |transaction| runs::open(transaction, &new, &owner)).await
    }

    async fn append_if_unchanged(&self, append: Append) -> StoreResult<AppendOutcome> {
        append.late_event.iter().chain([&append.event]).try_for_each(nul_check::check_event)?;
        let owner = self.instance.id.clone();
        self.writer.write(move |transaction| runs::append_if_unchanged(transaction, &append, &owner)).await
    }

    async fn get(&self, run: RunId) -> StoreResult<Option<Run>> {
        self.reader.read(move |transaction| queries::get(transaction, run)).await
    }

    async fn list(&self, filter: Filter) -> StoreResult<RunPage> {
        self.reader.read(move |transaction| lists::list(transaction, &filter)).await
    }

    async fn events(&self, after: i64, limit: usize) -> StoreResult<Vec<EventRow>> {
        self.reader.read(move |transaction| queries::events(transaction, after, limit)).await
    }

    /// The bytes are overwritten in the file at once, or as soon as no reader needs the old ones.
    async fn erase(&self, run: RunId, name: &str) -> StoreResult<usize> {
        let name = name.to_owned();
        let erased = self.writer.write(move |transaction| runs::erase(transaction, run, &name)).await?;
        // Old pages stay in the write-ahead log until it is emptied into the file.
        let emptied = |connection: &rusqlite::Connection| {
            Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
        };
        self.writer.execute(emptied).await?;
        Ok(erased)
    }

    async fn verify(&self) -> StoreResult<ChainReport> {
        self.auditor.read(|transaction| queries::verify(transaction)).await
    }

    async fn status(&self) -> StoreResult<StoreStatus> {
        self.reader.read(|transaction| status::status(transaction)).await
    }

    async fn orphans(&self) -> StoreResult<Vec<Run>> {
        let instance = Arc::clone(&self.instance);
        self.reader.read(move |transaction| queries::orphans(transaction, &instance)).await
    }

    async fn overdue(&self) -> StoreResult<Vec<Run>> {
        self.reader.read(|transaction| queries::overdue(transaction)).await
    }

    async fn put_tokens(&self, tokens: Vec<ButtonToken>) -> StoreResult<()> {
        for token in &tokens {
            nul_check::check(&(&token.token, &token.purpose, &token.conversation))?;
        }
        self.writer.write(move |transaction| cards::put_tokens(transaction, &tokens)).await
    }

    async fn token(&self, token: &str) -> StoreResult<Option<ButtonToken>> {
        let token = token.to_owned();
        self.reader.read(move |transaction| cards::token(transaction, token)).await
    }

    async fn take_token(&self, token: &str) -> StoreResult<bool> {
        let token = token.to_owned();
        self.writer.write(move |transaction| cards::take_token(transaction, &token)).await
    }

    async fn add_card(&self, run: RunId, conversation: Conversation, kind: CardKind) -> StoreResult<i64> {
        nul_check::check(&conversation)?;
        self.writer.write(move |transaction| cards::add(transaction, run, &conversation, kind)).await
    }

    async fn card(&self, id: i64) -> StoreResult<Option<Card>> {
        self.reader.read(move |transaction| cards::get(transaction, id)).await
    }

    async fn claim_card(&self, id: i64, period: Duration) -> StoreResult<bool> {
        let instance = Arc::clone(&self.instance);
        self.writer.write(move |transaction| cards::claim(transaction, id, period, &instance)).await
    }

    async fn update_card(&self, card: Card) -> StoreResult<bool> {
        nul_check::check(&(&card.conversation, &card.message))?;
        let instance = Arc::clone(&self.instance);
        self.writer.write(move |transaction| cards::update(transaction, &card, &instance)).await
    }

    async fn outdated_cards(&self) -> StoreResult<Vec<Card>> {
        let instance = Arc::clone(&self.instance);
        self.reader.read(move |transaction| cards::outdated(transaction, &instance)).await
    }

    async fn run_cards(&self, run: RunId) -> StoreResult<Vec<Card>> {
        self.reader.read(move |transaction| cards::of_run(transaction, run)).await
    }

    async fn remove_old_cards(&self, age: Duration) -> StoreResult<usize> {
        let remove = move |transaction: &rusqlite::Transaction<'_>| {
            let limit = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::MIN);
            cards::remove_old(transaction, limit)
        };
        self.writer.write(remove).await
    }

    async fn change_freeze(&self, change: FreezeChange) -> StoreResult<bool> {
        nul_check::check(&change.to)?;
        let instance = self.instance.id.clone();
        self.writer.write(move |transaction| runs::change_freeze(transaction, &change, &instance)).await
    }

    async fn frozen(&self) -> StoreResult<Option<ActiveFreeze>> {
        self.reader.read(|transaction| runs::frozen(transaction)).await
    }

    async fn set_rate_limit(&self, name: String, until: Timestamp) -> StoreResult<()> {
        nul_check::check(&name)?;
        self.writer.write(move |transaction| limits::set(transaction, &name, until)).await
    }

    async fn rate_limits(&self) -> StoreResult<Vec<(String, Timestamp)>> {
        self.reader.read(|transaction| limits::all(transaction)).await
    }

    async fn begin_look(
        &self,
        environment: &str,
        name: &str,
        due: Timestamp,
    ) -> StoreResult<Option<WatchState>> {
        nul_check::check(&(environment, name))?;
        let (environment, name) = (environment.to_owned(), name.to_owned());
        self.writer.write(move |transaction| watch::begin_look(transaction, &environment, &name, due)).await
    }

    async fn end_look(
        &self,
        environment: &str,
        name: &str,
        due: Timestamp,
        content: String,
    ) -> StoreResult<bool> {
        nul_check::check(&content)?;
        let (environment, name) = (environment.to_owned(), name.to_owned());
        let end = move |transaction: &rusqlite::Transaction<'_>| {
            watch::end_look(transaction, &environment, &name, due, &content)
        };
        self.writer.write(end).await
    }

    async fn watch_states(&self) -> StoreResult<Vec<WatchState>> {
        self.reader.read(|transaction| watch::all(transaction)).await
    }

    async fn put_figures(&self, figures: Vec<Figure>) -> StoreResult<()> {
        figures
            .iter()
            .try_for_each(|figure| nul_check::check(&(&figure.environment, &figure.server, &figure.name)))?;
        let put = move |transaction: &rusqlite::Transaction<'_>| {
            let limit = Timestamp::now().checked_sub(FIGURE_PERIOD).unwrap_or(Timestamp::MIN);
            figures::put(transaction, &figures, limit)
        };
        self.writer.write(put).await
    }

    async fn figures(
        &self,
        environment: &str,
        server: &str,
        name: &str,
    ) -> StoreResult<Vec<(Timestamp, f64)>> {
        let names = [environment, server, name].map(str::to_owned);
        let [environment, server, name] = names;
        self.reader
            .read(move |transaction| figures::of_server(transaction, &environment, &server, &name))
            .await
    }

    async fn bind_conversation(&self, binding: Binding) -> StoreResult<bool> {
        nul_check::check(&(&binding.conversation, &binding.environment))?;
        let instance = self.instance.id.clone();
        self.writer.write(move |transaction| cards::bind(transaction, &binding, &instance)).await
    }

    async fn conversation_environment(&self, conversation: Conversation) -> StoreResult<Option<String>> {
        self.reader.read(move |transaction| cards::conversation_environment(transaction, &conversation)).await
    }
}
