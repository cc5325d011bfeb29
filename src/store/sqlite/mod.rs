//! The embedded store: one SQLite file, which several processes of one host may use at once. This file is the trait's
//! implementation and nothing but: each method hands its work to a desk (`desk`), where it is done on the ledger
//! (`ledger`, `read`) or on what isn't a run (`settings`).
//!
//! Three desks: one writes; one reads, so that a long list doesn't hold up a write; one verifies, so that checking the whole
//! chain doesn't hold up a button. The file must be on a local disk: SQLite's write-ahead log needs shared memory.

mod connection;
mod process_lock;
mod queries;
mod runs;
mod settings;
#[cfg(test)]
mod tests;
mod worker;

use super::{
    Append, AppendOutcome, ChainReport, Filter, NewEvent, NewRun, OpenOutcome, RunPage, Store, StoreError,
    StoreResult,
};
use crate::model::{ActiveFreeze, ButtonToken, Card, CardKind, Conversation, Run, RunId};
use anyhow::Context;
use async_trait::async_trait;
use connection::{AccessMode, Connector};
use jiff::Timestamp;
use process_lock::Instance;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use worker::{Compensation, CompensationFn, Worker};

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For an answer, before the call is given up as [`StoreError::TooLate`].
    pub answer: Duration,
    /// For another process's lock on the file. Less than `answer`, or nobody hears what the matter was.
    pub busy: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { answer: Duration::from_secs(10), busy: Duration::from_secs(5) }
    }
}

/// The embedded store. Clones share the threads, connections and instance; the last one to go releases them.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    instance: Arc<Instance>,
    writer: Worker,
    reader: Worker,
    auditor: Worker,
}

impl SqliteStore {
    /// Opens the file, or makes it with mode 0600; its directory must exist. Blocks for `limits.busy` at most.
    ///
    /// # Errors
    /// When the file can't be made or opened, is locked, or isn't a record of this version.
    pub fn open(path: &Path, limits: Limits) -> anyhow::Result<SqliteStore> {
        let writing = Connector { path: path.to_owned(), access: AccessMode::Write, busy: limits.busy };
        let reading = Connector { access: AccessMode::Read, ..writing.clone() };
        let opened = writing.prepare()?;
        let instance = Arc::new(Instance::start(path)?);
        for dead in instance.dead().context("looking for dead instances")? {
            if !queries::is_named(&opened.connection, &dead).map_err(StoreError::from)? {
                instance.forget(&dead).context("removing a dead instance's lock")?;
            }
        }
        let start = |opener: &Connector, opened| {
            let desk = Worker::start(opener.clone(), opened, Arc::clone(&instance), limits.answer);
            desk.context("starting the store's thread")
        };
        let writer = start(&writing, Some(opened))?;
        let reader = start(&reading, None)?;
        let auditor = start(&reading, None)?;
        Ok(SqliteStore { inner: Arc::new(Inner { instance, writer, reader, auditor }) })
    }

    /// Looks whether the record can be written, and leaves it as it is: whether it is there, or could be made. Blocks for
    /// `limits.busy` at most.
    ///
    /// # Errors
    /// When it can't.
    pub fn examine(path: &Path, limits: Limits) -> anyhow::Result<bool> {
        if path.exists() {
            let opener = Connector { path: path.to_owned(), access: AccessMode::Write, busy: limits.busy };
            opener.try_to_write().map_err(StoreError::from)?;
            return Ok(true);
        }
        let trial = path.with_extension(format!("check-{}", std::process::id()));
        let made = std::fs::OpenOptions::new().write(true).create_new(true).open(&trial);
        drop(made.context("its file can't be made")?);
        std::fs::remove_file(&trial).context("a file that was made beside it can't be removed")?;
        Ok(false)
    }

    /// Erases every text of that name from a run, with the keys of their HMACs; the chain stays whole. How many there were.
    /// The bytes are overwritten in the file at once, or as soon as no reader needs the old ones.
    pub async fn erase(&self, run: RunId, name: &str) -> StoreResult<usize> {
        let name = name.to_owned();
        let erased =
            self.inner.writer.write(nothing, move |transaction| runs::erase(transaction, run, &name)).await?;
        // Old pages stay in the write-ahead log until it is emptied into the file.
        let emptied = |connection: &rusqlite::Connection| {
            Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
        };
        self.inner.writer.plainly(emptied).await?;
        Ok(erased)
    }
}

/// For writes that nothing follows.
fn nothing<T>(_: &T) -> Option<Compensation> {
    None
}

fn opened(change: Option<NewEvent>) -> impl CompensationFn<OpenOutcome> {
    move |opened: &OpenOutcome| match opened {
        OpenOutcome::New(run) => on_timeout(run, change.as_ref()),
        _ => None,
    }
}

fn appended(change: Option<NewEvent>) -> impl CompensationFn<AppendOutcome> {
    move |appended: &AppendOutcome| match appended {
        AppendOutcome::Done(run) => on_timeout(run, change.as_ref()),
        _ => None,
    }
}

fn on_timeout(run: &Run, change: Option<&NewEvent>) -> Option<Compensation> {
    Some(Compensation::Run { run: run.id, version: run.version, change: change?.clone() })
}

/// Else nobody would send it until the claim's time is over: this process lives, and knows nothing of it.
fn claimed(card: i64, claimed_by: String) -> impl CompensationFn<bool> {
    move |claimed: &bool| claimed.then(|| Compensation::Claim { card, claimed_by: claimed_by.clone() })
}

#[async_trait]
impl Store for SqliteStore {
    async fn open(&self, new: NewRun) -> StoreResult<OpenOutcome> {
        let owner = self.inner.instance.id.clone();
        let following = opened(new.on_timeout.clone());
        self.inner.writer.write(following, move |transaction| runs::open(transaction, &new, &owner)).await
    }

    async fn append_if(&self, append: Append) -> StoreResult<AppendOutcome> {
        let owner = self.inner.instance.id.clone();
        let following = appended(append.on_timeout.clone());
        self.inner
            .writer
            .write(following, move |transaction| runs::append_if(transaction, &append, &owner))
            .await
    }

    async fn get(&self, run: RunId) -> StoreResult<Option<Run>> {
        self.inner.reader.read(move |transaction| queries::get(transaction, run)).await
    }

    async fn list(&self, filter: Filter) -> StoreResult<RunPage> {
        self.inner.reader.read(move |transaction| queries::list(transaction, &filter)).await
    }

    async fn verify(&self) -> StoreResult<ChainReport> {
        self.inner.auditor.read(|transaction| queries::verify(transaction)).await
    }

    async fn orphans(&self) -> StoreResult<Vec<Run>> {
        let instance = Arc::clone(&self.inner.instance);
        self.inner.reader.read(move |transaction| queries::orphans(transaction, &instance)).await
    }

    async fn overdue(&self, now: Timestamp) -> StoreResult<Vec<Run>> {
        self.inner.reader.read(move |transaction| queries::overdue(transaction, now)).await
    }

    async fn put_tokens(&self, tokens: Vec<ButtonToken>) -> StoreResult<()> {
        self.inner.writer.write(nothing, move |transaction| settings::put_tokens(transaction, &tokens)).await
    }

    async fn token(&self, token: &str) -> StoreResult<Option<ButtonToken>> {
        let token = token.to_owned();
        self.inner.reader.read(move |transaction| settings::token(transaction, &token)).await
    }

    async fn add_card(&self, run: RunId, place: Conversation, kind: CardKind) -> StoreResult<i64> {
        self.inner
            .writer
            .write(nothing, move |transaction| settings::add_card(transaction, run, (&place, kind)))
            .await
    }

    async fn card(&self, id: i64) -> StoreResult<Option<Card>> {
        self.inner.reader.read(move |transaction| settings::card(transaction, id)).await
    }

    async fn claim_card(&self, id: i64, until: Timestamp) -> StoreResult<bool> {
        let instance = Arc::clone(&self.inner.instance);
        let following = claimed(id, instance.id.clone());
        self.inner
            .writer
            .write(following, move |transaction| settings::claim_card(transaction, id, until, &instance))
            .await
    }

    async fn update_card(&self, card: Card) -> StoreResult<()> {
        self.inner.writer.write(nothing, move |transaction| settings::update_card(transaction, &card)).await
    }

    async fn cards_behind(&self) -> StoreResult<Vec<Card>> {
        let instance = Arc::clone(&self.inner.instance);
        self.inner.reader.read(move |transaction| settings::cards_behind(transaction, &instance)).await
    }

    async fn cards_of(&self, run: RunId) -> StoreResult<Vec<Card>> {
        self.inner.reader.read(move |transaction| settings::cards_of(transaction, run)).await
    }

    async fn set_frozen(&self, frozen: Option<ActiveFreeze>) -> StoreResult<()> {
        let work =
            move |transaction: &rusqlite::Transaction<'_>| settings::set_frozen(transaction, frozen.as_ref());
        self.inner.writer.write(nothing, work).await
    }

    async fn frozen(&self) -> StoreResult<Option<ActiveFreeze>> {
        self.inner.reader.read(|transaction| settings::frozen(transaction)).await
    }

    async fn bind(&self, place: Conversation, environment: String) -> StoreResult<()> {
        self.inner
            .writer
            .write(nothing, move |transaction| settings::bind(transaction, &place, &environment))
            .await
    }

    async fn binding(&self, place: Conversation) -> StoreResult<Option<String>> {
        self.inner.reader.read(move |transaction| settings::binding(transaction, &place)).await
    }
}
