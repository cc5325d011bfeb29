//! The embedded store: one SQLite file, which several processes of one host may use at once. This file is the trait's
//! implementation and nothing but: each method hands its work to a worker (`worker`), whose thread runs it on runs
//! (`runs`, `queries`), cards, tokens, conversations or the freeze.
//!
//! Three workers: one writes; one reads, so that a long list doesn't hold up a write; one verifies, so that checking the whole
//! chain doesn't hold up a button. The file must be on a local disk: SQLite's write-ahead log needs shared memory.

mod cards;
mod connection;
mod conversations;
mod freeze;
mod process_lock;
mod queries;
mod runs;
#[cfg(test)]
mod tests;
mod tokens;
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

/// Time limits of the store.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For an answer, before the call is given up as [`StoreError::TooLate`].
    pub answer: Duration,
    /// For another process's lock on the file. Less than `answer`, so that the caller receives the cause.
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
    /// Opens the file, or creates it with mode 0600; its directory must exist. Blocks for `limits.busy` at most.
    ///
    /// # Errors
    /// When the file can't be made or opened, is locked, or isn't a record of this version.
    pub fn open(path: &Path, limits: Limits) -> anyhow::Result<SqliteStore> {
        let writing = Connector { path: path.to_owned(), access: AccessMode::Write, busy: limits.busy };
        let reading = Connector { access: AccessMode::Read, ..writing.clone() };
        let opened = writing.prepare()?;
        let instance = Arc::new(Instance::start(path)?);
        for dead in instance.dead().context("looking for dead instances")? {
            if !queries::owns_open_run(&opened.connection, &dead).map_err(StoreError::from)? {
                instance.forget(&dead).context("removing a dead instance's lock")?;
            }
        }
        let start = |opener: &Connector, opened| {
            let worker = Worker::start(opener.clone(), opened, Arc::clone(&instance), limits.answer);
            worker.context("starting the store's thread")
        };
        let writer = start(&writing, Some(opened))?;
        let reader = start(&reading, None)?;
        let auditor = start(&reading, None)?;
        Ok(SqliteStore { inner: Arc::new(Inner { instance, writer, reader, auditor }) })
    }

    /// Checks that the audit log can be written, without changing it: true if it exists, false if it could be made. Blocks
    /// for `limits.busy` at most.
    ///
    /// # Errors
    /// When it can't be written or made.
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

    /// Erases every text of that name from a run, with the keys of their HMACs; the chain stays valid. Returns their number.
    /// The bytes are overwritten in the file at once, or as soon as no reader needs the old ones.
    pub async fn erase(&self, run: RunId, name: &str) -> StoreResult<usize> {
        let name = name.to_owned();
        let erased = self
            .inner
            .writer
            .write(no_compensation, move |transaction| runs::erase(transaction, run, &name))
            .await?;
        // Old pages stay in the write-ahead log until it is emptied into the file.
        let emptied = |connection: &rusqlite::Connection| {
            Ok(connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
        };
        self.inner.writer.execute(emptied).await?;
        Ok(erased)
    }
}

/// For writes that need no compensation.
fn no_compensation<T>(_: &T) -> Option<Compensation> {
    None
}

fn if_opened(change: Option<NewEvent>) -> impl CompensationFn<OpenOutcome> {
    move |outcome: &OpenOutcome| match outcome {
        OpenOutcome::New(run) => compensation(run, change.as_ref()),
        _ => None,
    }
}

fn if_appended(change: Option<NewEvent>) -> impl CompensationFn<AppendOutcome> {
    move |outcome: &AppendOutcome| match outcome {
        AppendOutcome::Done(run) => compensation(run, change.as_ref()),
        _ => None,
    }
}

fn compensation(run: &Run, change: Option<&NewEvent>) -> Option<Compensation> {
    Some(Compensation::Run { run: run.id, version: run.version, change: change?.clone() })
}

/// Releases a claim whose caller timed out. Otherwise no process would send the card until the claim expires: this
/// process is alive and does not know of its claim.
fn if_claimed(card: i64, claimed_by: String) -> impl CompensationFn<bool> {
    move |claimed: &bool| {
        if !claimed {
            return None;
        }
        Some(Compensation::Claim { card, claimed_by: claimed_by.clone() })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn open(&self, new: NewRun) -> StoreResult<OpenOutcome> {
        let owner = self.inner.instance.id.clone();
        let compensate = if_opened(new.on_timeout.clone());
        self.inner.writer.write(compensate, move |transaction| runs::open(transaction, &new, &owner)).await
    }

    async fn append_if(&self, append: Append) -> StoreResult<AppendOutcome> {
        let owner = self.inner.instance.id.clone();
        let compensate = if_appended(append.on_timeout.clone());
        self.inner
            .writer
            .write(compensate, move |transaction| runs::append_if(transaction, &append, &owner))
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
        self.inner.writer.write(no_compensation, move |transaction| tokens::put(transaction, &tokens)).await
    }

    async fn token(&self, token: &str) -> StoreResult<Option<ButtonToken>> {
        let token = token.to_owned();
        self.inner.reader.read(move |transaction| tokens::get(transaction, &token)).await
    }

    async fn add_card(&self, run: RunId, place: Conversation, kind: CardKind) -> StoreResult<i64> {
        self.inner
            .writer
            .write(no_compensation, move |transaction| cards::add(transaction, run, &place, kind))
            .await
    }

    async fn card(&self, id: i64) -> StoreResult<Option<Card>> {
        self.inner.reader.read(move |transaction| cards::get(transaction, id)).await
    }

    async fn claim_card(&self, id: i64, until: Timestamp) -> StoreResult<bool> {
        let instance = Arc::clone(&self.inner.instance);
        let compensate = if_claimed(id, instance.id.clone());
        self.inner
            .writer
            .write(compensate, move |transaction| cards::claim(transaction, id, until, &instance))
            .await
    }

    async fn update_card(&self, card: Card) -> StoreResult<()> {
        self.inner.writer.write(no_compensation, move |transaction| cards::update(transaction, &card)).await
    }

    async fn cards_behind(&self) -> StoreResult<Vec<Card>> {
        let instance = Arc::clone(&self.inner.instance);
        self.inner.reader.read(move |transaction| cards::behind(transaction, &instance)).await
    }

    async fn cards_of(&self, run: RunId) -> StoreResult<Vec<Card>> {
        self.inner.reader.read(move |transaction| cards::of_run(transaction, run)).await
    }

    async fn set_frozen(&self, frozen: Option<ActiveFreeze>) -> StoreResult<()> {
        let work =
            move |transaction: &rusqlite::Transaction<'_>| freeze::set_frozen(transaction, frozen.as_ref());
        self.inner.writer.write(no_compensation, work).await
    }

    async fn frozen(&self) -> StoreResult<Option<ActiveFreeze>> {
        self.inner.reader.read(|transaction| freeze::frozen(transaction)).await
    }

    async fn bind(&self, place: Conversation, environment: String) -> StoreResult<()> {
        self.inner
            .writer
            .write(no_compensation, move |transaction| conversations::bind(transaction, &place, &environment))
            .await
    }

    async fn binding(&self, place: Conversation) -> StoreResult<Option<String>> {
        self.inner.reader.read(move |transaction| conversations::binding(transaction, &place)).await
    }
}
