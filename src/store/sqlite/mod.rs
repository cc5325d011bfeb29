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
    Append, Appended, CardCopy, Change, CopyKind, Filter, Frozen, Listed, NewRun, Opened, Run, RunId, Store,
    StoreError, StoreResult, Token, Verified,
};
use crate::message::Place;
use anyhow::Context;
use async_trait::async_trait;
use connection::{Access, Opener};
use jiff::Timestamp;
use process_lock::Instance;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use worker::{Desk, Following, Unheard};

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
    writer: Desk,
    reader: Desk,
    auditor: Desk,
}

impl SqliteStore {
    /// Opens the file, or makes it with mode 0600; its directory must exist. Blocks for `limits.busy` at most.
    ///
    /// # Errors
    /// When the file can't be made or opened, is locked, or isn't a record of this version.
    pub fn open(path: &Path, limits: Limits) -> anyhow::Result<SqliteStore> {
        let writing = Opener { path: path.to_owned(), access: Access::Write, busy: limits.busy };
        let reading = Opener { access: Access::Read, ..writing.clone() };
        let opened = writing.prepare()?;
        let instance = Arc::new(Instance::start(path)?);
        for dead in instance.dead().context("looking for dead instances")? {
            if !queries::is_named(&opened.connection, &dead).map_err(StoreError::from)? {
                instance.forget(&dead).context("removing a dead instance's lock")?;
            }
        }
        let start = |opener: &Opener, opened| {
            let desk = Desk::start(opener.clone(), opened, Arc::clone(&instance), limits.answer);
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
            let opener = Opener { path: path.to_owned(), access: Access::Write, busy: limits.busy };
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
fn nothing<T>(_: &T) -> Option<Unheard> {
    None
}

fn opened(change: Option<Change>) -> impl Following<Opened> {
    move |opened: &Opened| match opened {
        Opened::New(run) => unheard(run, change.as_ref()),
        _ => None,
    }
}

fn appended(change: Option<Change>) -> impl Following<Appended> {
    move |appended: &Appended| match appended {
        Appended::Done(run) => unheard(run, change.as_ref()),
        _ => None,
    }
}

fn unheard(run: &Run, change: Option<&Change>) -> Option<Unheard> {
    Some(Unheard::Run { run: run.id, version: run.version, change: change?.clone() })
}

/// Else nobody would send it until the claim's time is over: this process lives, and knows nothing of it.
fn claimed(copy: i64, claimer: String) -> impl Following<bool> {
    move |claimed: &bool| claimed.then(|| Unheard::Claim { copy, claimer: claimer.clone() })
}

#[async_trait]
impl Store for SqliteStore {
    async fn open(&self, new: NewRun) -> StoreResult<Opened> {
        let owner = self.inner.instance.id.clone();
        let following = opened(new.unheard.clone());
        self.inner.writer.write(following, move |transaction| runs::open(transaction, &new, &owner)).await
    }

    async fn append_if(&self, append: Append) -> StoreResult<Appended> {
        let owner = self.inner.instance.id.clone();
        let following = appended(append.unheard.clone());
        self.inner
            .writer
            .write(following, move |transaction| runs::append_if(transaction, &append, &owner))
            .await
    }

    async fn get(&self, run: RunId) -> StoreResult<Option<Run>> {
        self.inner.reader.read(move |transaction| queries::get(transaction, run)).await
    }

    async fn list(&self, filter: Filter) -> StoreResult<Listed> {
        self.inner.reader.read(move |transaction| queries::list(transaction, &filter)).await
    }

    async fn verify(&self) -> StoreResult<Verified> {
        self.inner.auditor.read(|transaction| queries::verify(transaction)).await
    }

    async fn orphans(&self) -> StoreResult<Vec<Run>> {
        let instance = Arc::clone(&self.inner.instance);
        self.inner.reader.read(move |transaction| queries::orphans(transaction, &instance)).await
    }

    async fn overdue(&self, now: Timestamp) -> StoreResult<Vec<Run>> {
        self.inner.reader.read(move |transaction| queries::overdue(transaction, now)).await
    }

    async fn put_tokens(&self, tokens: Vec<Token>) -> StoreResult<()> {
        self.inner.writer.write(nothing, move |transaction| settings::put_tokens(transaction, &tokens)).await
    }

    async fn token(&self, token: &str) -> StoreResult<Option<Token>> {
        let token = token.to_owned();
        self.inner.reader.read(move |transaction| settings::token(transaction, &token)).await
    }

    async fn add_copy(&self, run: RunId, place: Place, kind: CopyKind) -> StoreResult<i64> {
        self.inner
            .writer
            .write(nothing, move |transaction| settings::add_copy(transaction, run, (&place, kind)))
            .await
    }

    async fn copy(&self, id: i64) -> StoreResult<Option<CardCopy>> {
        self.inner.reader.read(move |transaction| settings::copy(transaction, id)).await
    }

    async fn claim_copy(&self, id: i64, until: Timestamp) -> StoreResult<bool> {
        let instance = Arc::clone(&self.inner.instance);
        let following = claimed(id, instance.id.clone());
        self.inner
            .writer
            .write(following, move |transaction| settings::claim_copy(transaction, id, until, &instance))
            .await
    }

    async fn update_copy(&self, copy: CardCopy) -> StoreResult<()> {
        self.inner.writer.write(nothing, move |transaction| settings::update_copy(transaction, &copy)).await
    }

    async fn copies_behind(&self) -> StoreResult<Vec<CardCopy>> {
        let instance = Arc::clone(&self.inner.instance);
        self.inner.reader.read(move |transaction| settings::copies_behind(transaction, &instance)).await
    }

    async fn copies_of(&self, run: RunId) -> StoreResult<Vec<CardCopy>> {
        self.inner.reader.read(move |transaction| settings::copies_of(transaction, run)).await
    }

    async fn set_frozen(&self, frozen: Option<Frozen>) -> StoreResult<()> {
        let work =
            move |transaction: &rusqlite::Transaction<'_>| settings::set_frozen(transaction, frozen.as_ref());
        self.inner.writer.write(nothing, work).await
    }

    async fn frozen(&self) -> StoreResult<Option<Frozen>> {
        self.inner.reader.read(|transaction| settings::frozen(transaction)).await
    }

    async fn bind(&self, place: Place, environment: String) -> StoreResult<()> {
        self.inner
            .writer
            .write(nothing, move |transaction| settings::bind(transaction, &place, &environment))
            .await
    }

    async fn binding(&self, place: Place) -> StoreResult<Option<String>> {
        self.inner.reader.read(move |transaction| settings::binding(transaction, &place)).await
    }
}
