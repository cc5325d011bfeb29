//! The store on a PostgreSQL server, which several replicas share. No target is on that server (`postgres/audit_log_server.rs`).
//!
//! Three connections: one writes runs, whose calls the server's functions do as a whole, so that a paused process holds no lock; one
//! is for cards, tokens, beats and short reads; one lists. Checking the whole chain opens another.

mod cards;
mod check;
mod copy;
mod figures;
mod instance;
mod queries;
mod runs;
mod schema;
mod session;
mod settings;
mod watch;
mod write;

use super::compensation::Compensation;
use super::{
    Append, AppendOutcome, Binding, ChainReport, EventRow, FIGURE_PERIOD, Figure, Filter, FreezeChange,
    NewRun, OpenOutcome, RunPage, Store, StoreError, StoreResult, StoreStatus, WatchState, nul_check,
};
use crate::config::PostgresStoreSettings;
use crate::model::{ActiveFreeze, ButtonToken, Card, CardKind, Conversation, Run, RunId};
use anyhow::Context;
use async_trait::async_trait;
pub use check::{PostgresCheck, PostgresCheckError, StoreWarning, check};
pub use copy::PostgresHistory;
use instance::RegisteredInstance;
use jiff::Timestamp;
use runs::RunWrite;
pub use schema::{KnownSchema, SchemaMigration};
use session::{CallError, CallResult, Connector, SessionSlot};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Calls that may wait for the writer.
const QUEUE_LENGTH: usize = 10_000;

/// The parts that the store's tasks share.
struct Parts {
    connector: Arc<Connector>,
    /// Opens runs and appends events.
    writer: SessionSlot,
    general: Arc<SessionSlot>,
    lister: SessionSlot,
    instance: Arc<RegisteredInstance>,
    call_timeout: Duration,
    places: Arc<Semaphore>,
    runtime: Handle,
    system_identifier: String,
}

/// The store on a PostgreSQL server.
pub struct PostgresStore {
    parts: Arc<Parts>,
    /// Ends the beats with the last handle.
    _beats: Arc<Beats>,
}

impl Clone for PostgresStore {
    fn clone(&self) -> Self {
        PostgresStore { parts: Arc::clone(&self.parts), _beats: Arc::clone(&self._beats) }
    }
}

/// The task that tells the store that this instance is alive.
struct Beats(AbortHandle);

impl Drop for Beats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PostgresStore {
    /// Connects, brings the schema to this program's version, and registers this instance. A call is given up after `call_timeout`.
    ///
    /// # Errors
    /// The server can't be reached, or its database can't be used.
    pub async fn open(
        settings: PostgresStoreSettings,
        call_timeout: Duration,
    ) -> anyhow::Result<PostgresStore> {
        PostgresStore::open_as(settings, call_timeout, KnownSchema::CURRENT).await
    }

    /// As [`PostgresStore::open`], as a program that knows these versions of the schema.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn open_as(
        settings: PostgresStoreSettings,
        call_timeout: Duration,
        schema: KnownSchema,
    ) -> anyhow::Result<PostgresStore> {
        let connector = Arc::new(Connector::new(settings)?);
        let session = connector.open().await.map_err(StoreError::from)?;
        schema::migrate_if_needed(&connector, &session, schema).await.map_err(StoreError::from)?;
        let system_identifier = session.system_identifier().await.map_err(StoreError::from)?;
        drop(session);
        let general = Arc::new(SessionSlot::new(&connector));
        let instance = RegisteredInstance::register(Arc::clone(&general), schema.version())
            .await
            .map_err(StoreError::from);
        let instance = Arc::new(instance.context("registering this instance")?);
        let runtime = Handle::current();
        let beats = Beats(runtime.spawn(Arc::clone(&instance).beat()).abort_handle());
        let parts = Parts {
            writer: SessionSlot::new(&connector),
            lister: SessionSlot::new(&connector),
            places: Arc::new(Semaphore::new(QUEUE_LENGTH)),
            connector,
            general,
            instance,
            call_timeout,
            runtime,
            system_identifier,
        };
        Ok(PostgresStore { parts: Arc::new(parts), _beats: Arc::new(beats) })
    }

    /// Gives a call up after its time limit.
    async fn within<T>(&self, call: impl Future<Output = CallResult<T>>) -> StoreResult<T> {
        match tokio::time::timeout(self.parts.call_timeout, call).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(StoreError::TooLate),
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn postgres_server(&self) -> Option<&str> {
        Some(&self.parts.system_identifier)
    }

    async fn check_instance(&self) -> StoreResult<()> {
        let is_alive = self.parts.instance.is_alive();
        if self.within(is_alive).await? { Ok(()) } else { Err(StoreError::InstanceLost) }
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        self.within(queries::now(&self.parts.general)).await
    }

    async fn open(&self, new: NewRun) -> StoreResult<OpenOutcome> {
        nul_check::check_run(&new)?;
        let write = RunWrite::open(&new, &self.parts.instance.id())?;
        Ok(self.write_run(write, new.late_event).await?.open_outcome()?)
    }

    async fn append_if_unchanged(&self, append: Append) -> StoreResult<AppendOutcome> {
        append.late_event.iter().chain([&append.event]).try_for_each(nul_check::check_event)?;
        let write = RunWrite::append(&append, &self.parts.instance.id())?;
        Ok(self.write_run(write, append.late_event).await?.append_outcome(append.run)?)
    }

    async fn get(&self, run: RunId) -> StoreResult<Option<Run>> {
        self.within(queries::get(&self.parts.general, run)).await
    }

    async fn list(&self, filter: Filter) -> StoreResult<RunPage> {
        self.within(queries::list(&self.parts.lister, &filter)).await
    }

    async fn events(&self, after: i64, limit: usize) -> StoreResult<Vec<EventRow>> {
        self.within(queries::events(&self.parts.lister, after, limit)).await
    }

    async fn erase(&self, run: RunId, name: &str) -> StoreResult<usize> {
        let sql = "WITH erased AS (
                       DELETE FROM countersign.event_texts t USING countersign.events e
                        WHERE e.seq = t.seq AND e.run = $1 AND t.name = $2 RETURNING 1)
                   SELECT count(*) FROM erased";
        let erase = async {
            let rows = self.parts.general.query_once(sql, &[&run, &name]).await?;
            rows.first().map_or(Ok(0), |row| row.get::<i64>(0)).map_err(CallError::from)
        };
        Ok(usize::try_from(self.within(erase).await?).unwrap_or_default())
    }

    async fn verify(&self) -> StoreResult<ChainReport> {
        let session = self.parts.connector.open().await.map_err(StoreError::from)?;
        Ok(queries::verify(&session).await?)
    }

    async fn status(&self) -> StoreResult<StoreStatus> {
        self.within(queries::status(&self.parts.general)).await
    }

    async fn orphans(&self) -> StoreResult<Vec<Run>> {
        self.within(queries::orphans(&self.parts.lister)).await
    }

    async fn overdue(&self) -> StoreResult<Vec<Run>> {
        self.within(queries::overdue(&self.parts.lister)).await
    }

    async fn put_tokens(&self, tokens: Vec<ButtonToken>) -> StoreResult<()> {
        for token in &tokens {
            nul_check::check(&(&token.token, &token.purpose, &token.conversation))?;
        }
        self.within(cards::put_tokens(&self.parts.general, &tokens)).await
    }

    async fn token(&self, token: &str) -> StoreResult<Option<ButtonToken>> {
        self.within(cards::token(&self.parts.general, token)).await
    }

    async fn take_token(&self, token: &str) -> StoreResult<bool> {
        self.within(cards::take_token(&self.parts.general, token)).await
    }

    async fn add_card(&self, run: RunId, conversation: Conversation, kind: CardKind) -> StoreResult<i64> {
        nul_check::check(&conversation)?;
        self.within(cards::add(&self.parts.general, run, &conversation, kind)).await
    }

    async fn card(&self, id: i64) -> StoreResult<Option<Card>> {
        self.within(cards::get(&self.parts.general, id)).await
    }

    async fn claim_card(&self, id: i64, period: Duration) -> StoreResult<bool> {
        let claimed_by = self.parts.instance.id();
        let mut guard = ClaimGuard { store: self, card: id, claimed_by, is_needed: true };
        let claim = cards::claim(&self.parts.general, id, period, &guard.claimed_by);
        let claimed = self.within(claim).await;
        guard.is_needed = claimed.is_err();
        claimed
    }

    async fn update_card(&self, card: Card) -> StoreResult<bool> {
        nul_check::check(&(&card.conversation, &card.message))?;
        self.within(cards::update(&self.parts.general, &card, &self.parts.instance.id())).await
    }

    async fn outdated_cards(&self) -> StoreResult<Vec<Card>> {
        self.within(cards::outdated(&self.parts.general)).await
    }

    async fn run_cards(&self, run: RunId) -> StoreResult<Vec<Card>> {
        self.within(cards::of_run(&self.parts.general, run)).await
    }

    async fn remove_old_cards(&self, age: Duration) -> StoreResult<usize> {
        self.within(cards::remove_old(&self.parts.general, age)).await
    }

    async fn change_freeze(&self, change: FreezeChange) -> StoreResult<bool> {
        nul_check::check(&change.to)?;
        self.within(settings::change_freeze(&self.parts.general, &change, &self.parts.instance.id())).await
    }

    async fn frozen(&self) -> StoreResult<Option<ActiveFreeze>> {
        self.within(settings::frozen(&self.parts.general)).await
    }

    async fn set_rate_limit(&self, name: String, until: Timestamp) -> StoreResult<()> {
        nul_check::check(&name)?;
        self.within(cards::set_rate_limit(&self.parts.general, &name, until)).await
    }

    async fn rate_limits(&self) -> StoreResult<Vec<(String, Timestamp)>> {
        self.within(cards::rate_limits(&self.parts.general)).await
    }

    async fn begin_look(
        &self,
        environment: &str,
        name: &str,
        due: Timestamp,
    ) -> StoreResult<Option<WatchState>> {
        nul_check::check(&(environment, name))?;
        self.within(watch::begin_look(&self.parts.general, environment, name, due)).await
    }

    async fn end_look(
        &self,
        environment: &str,
        name: &str,
        due: Timestamp,
        content: String,
    ) -> StoreResult<bool> {
        nul_check::check(&content)?;
        self.within(watch::end_look(&self.parts.general, environment, name, due, &content)).await
    }

    async fn watch_states(&self) -> StoreResult<Vec<WatchState>> {
        self.within(watch::all(&self.parts.general)).await
    }

    async fn put_figures(&self, figures: Vec<Figure>) -> StoreResult<()> {
        figures
            .iter()
            .try_for_each(|figure| nul_check::check(&(&figure.environment, &figure.server, &figure.name)))?;
        self.within(figures::put(&self.parts.general, &figures, FIGURE_PERIOD)).await
    }

    async fn figures(
        &self,
        environment: &str,
        server: &str,
        name: &str,
    ) -> StoreResult<Vec<(Timestamp, f64)>> {
        self.within(figures::of_server(&self.parts.general, environment, server, name)).await
    }

    async fn bind_conversation(&self, binding: Binding) -> StoreResult<bool> {
        nul_check::check(&(&binding.conversation, &binding.environment))?;
        self.within(settings::bind(&self.parts.general, &binding, &self.parts.instance.id())).await
    }

    async fn conversation_environment(&self, conversation: Conversation) -> StoreResult<Option<String>> {
        self.within(settings::conversation_environment(&self.parts.general, &conversation)).await
    }
}

/// A claim on a card whose caller may leave before it hears of it: it is released then.
struct ClaimGuard<'a> {
    store: &'a PostgresStore,
    card: i64,
    claimed_by: String,
    is_needed: bool,
}

impl Drop for ClaimGuard<'_> {
    fn drop(&mut self) {
        if self.is_needed {
            let claimed_by = std::mem::take(&mut self.claimed_by);
            self.store.compensate_later(Compensation::Claim { card: self.card, claimed_by });
        }
    }
}
