//! The store of the audit log, as a trait: `store/sqlite` is the embedded default, `store/postgres` is what replicas share. It keeps runs with their append-only,
//! hash-chained events, the tokens of buttons, the cards, the freeze and the bindings of conversations. It changes a
//! run only if its version is unchanged; the meaning of a state or an event is the business of `audit`.
//!
//! **Late answers start nothing.** A call is given up after its time limit ([`StoreError::TooLate`]). An implementation drops
//! work that is not committed when its caller gives up. If the commit came too late for the caller, it appends the event given
//! for this case, which closes the run as `stopped`.

use crate::metrics::Waiting;
use crate::model::{
    ActiveFreeze, ButtonToken, Card, CardKind, Conversation, EventKind, Person, Run, RunId, RunRequest,
    RunState,
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

mod compensation;
mod copy;
mod hash_chain;
mod measured;
mod methods;
mod nul_check;
pub mod postgres;
pub mod sqlite;

pub use copy::{Copied, CopyProgress, History, HistorySummary, copy};
pub use hash_chain::{EventRow, TextRow};
pub use measured::MeasuredStore;
pub use methods::store_methods;

/// Checks that the audit log of the configuration can be written, and changes no file: true if it exists, false if it could be
/// created.
///
/// # Errors
/// The obstacle.
pub fn check_writable(path: &Path) -> anyhow::Result<bool> {
    sqlite::SqliteStore::check_writable(path)
}

/// A run to be opened. Its first event and state come from `audit`.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub request: RunRequest,
    /// The platform's delivery id: unique, so that a redelivery finds the run that it made.
    pub delivery_id: String,
    /// Resources of the environment that no other open run may hold ("backup of asset_service_db").
    pub resource_locks: Vec<String>,
    pub first_event: NewEvent,
    /// The event that follows `first_event` if the caller timed out.
    pub late_event: Option<NewEvent>,
    /// The conversations of its card and its outcome: stored with the run, so that no crash leaves a request without a card.
    pub cards: Vec<(Conversation, CardKind)>,
    /// Refused if a break-glass run was opened within this time, by the store's clock.
    pub unless_break_glass_within: Option<Duration>,
    /// Refused while changes are frozen.
    pub unless_frozen: bool,
}

/// One event and the state that it leads to, decided by `audit` alone.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub kind: EventKind,
    /// The person who did it; `None` is Countersign itself.
    pub by: Option<Person>,
    /// Facts that stay for ever: canonical JSON enters the chain.
    pub facts: serde_json::Value,
    /// Free text by name ("reason", "plan", "line"): enters the chain as HMAC-SHA-256(per-record key, text), so that it can be erased.
    pub texts: BTreeMap<String, String>,
    pub state: RunState,
    /// End of the state: an approval's expiry.
    pub deadline: Deadline,
}

/// End of the state that an event leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Deadline {
    /// The state has no end.
    #[default]
    None,
    /// Counted from the event's time, which is the store's clock.
    After(Duration),
    /// The run's deadline before the event: an event within a state doesn't prolong it.
    Unchanged,
}

impl Deadline {
    /// The deadline (UTC, whole microseconds) for an event at `at` in a run whose deadline was `previous`.
    pub fn counted_from(self, at: Timestamp, previous: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Deadline::None => None,
            // A duration beyond the calendar's end is as good as none.
            Deadline::After(duration) => at.checked_add(duration).ok().map(hash_chain::microseconds),
            Deadline::Unchanged => previous,
        }
    }
}

/// Comparison of a run's deadline with the store's clock, in the transaction that appends. A run is overdue once its deadline has
/// passed, and `max_age` after it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeadlineCondition {
    #[default]
    Ignored,
    /// Refused if the run is overdue: nothing starts late, and no late approval counts.
    Ahead { max_age: Option<Duration> },
    /// Refused unless the run is overdue: nothing expires early.
    Passed { max_age: Option<Duration> },
}

impl DeadlineCondition {
    /// The refusal of an append to `run` at `now`, the time of the store's clock.
    pub fn refusal(self, run: &Run, now: Timestamp) -> Option<AppendOutcome> {
        let is_overdue = |max_age: Option<Duration>| {
            let oldest = max_age.and_then(|age| run.opened_at.checked_add(age).ok());
            run.deadline.into_iter().chain(oldest).any(|end| end <= now)
        };
        match self {
            DeadlineCondition::Ahead { max_age } if is_overdue(max_age) => {
                Some(AppendOutcome::Overdue(Box::new(run.clone())))
            }
            DeadlineCondition::Passed { max_age } if !is_overdue(max_age) => {
                Some(AppendOutcome::NotOverdue(Box::new(run.clone())))
            }
            _ => None,
        }
    }
}

/// Outcome of opening a run.
#[derive(Debug, Clone, PartialEq)]
pub enum OpenOutcome {
    /// Opened now.
    New(Box<Run>),
    /// This delivery has opened a run already.
    Duplicate(RunId),
    /// Another open run holds the resource.
    ResourceBusy { resource: String, by: RunId },
    /// Changes are frozen.
    Frozen(ActiveFreeze),
    /// A break-glass run was opened too recently.
    RateLimited(Box<Run>),
}

/// Outcome of a conditional append. A lost race is an outcome, not an error.
#[derive(Debug, Clone, PartialEq)]
pub enum AppendOutcome {
    /// Appended; the run as it is now.
    Done(Box<Run>),
    /// The run had another version: here it is.
    VersionConflict(Box<Run>),
    /// The event would have started something while changes are frozen.
    Frozen(ActiveFreeze),
    /// The run had released the resource, and another open run holds it now.
    ResourceBusy { resource: String, by: RunId },
    /// The run's deadline has passed.
    Overdue(Box<Run>),
    /// The run's deadline has not passed.
    NotOverdue(Box<Run>),
}

/// A conditional append.
#[derive(Debug, Clone)]
pub struct Append {
    pub run: RunId,
    pub version: i64,
    pub event: NewEvent,
    /// The event that follows `event` if the caller timed out.
    pub late_event: Option<NewEvent>,
    /// Refused while changes are frozen.
    pub unless_frozen: bool,
    pub deadline_condition: DeadlineCondition,
}

/// A change of the freeze.
#[derive(Debug, Clone)]
pub struct FreezeChange {
    /// The freeze that is in force: refused if it is another by now.
    pub from: Option<ActiveFreeze>,
    /// `None` lifts it.
    pub to: Option<ActiveFreeze>,
    /// Refused unless this instance executes that run: it may have been paused, and the run taken over.
    pub while_executing: Option<RunId>,
}

/// An environment for a conversation.
#[derive(Debug, Clone)]
pub struct Binding {
    pub conversation: Conversation,
    pub environment: String,
    /// As [`FreezeChange::while_executing`].
    pub while_executing: Option<RunId>,
}

/// A look that was recorded this much later than the one that begins was recorded by a wrong clock, and doesn't hold it up.
pub const MAX_LOOK_CLOCK_ERROR: Duration = Duration::from_secs(60 * 60);

/// The state of a watching window, whose looks are no runs. It is no part of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchState {
    pub environment: String,
    /// The window's name.
    pub name: String,
    /// Due time of the newest look, which may be in progress (UTC).
    pub newest_look: Timestamp,
    /// Due time of the look before it (UTC).
    pub previous_look: Option<Timestamp>,
    /// Due time of the look that left `content` (UTC).
    pub content_look: Option<Timestamp>,
    /// Time at which `content` was stored, by the store's clock (UTC).
    pub stored_at: Option<Timestamp>,
    /// What the window's looks found, in the form of whoever stores it.
    pub content: String,
}

impl WatchState {
    /// True while the look before the newest one has stored nothing.
    pub fn is_previous_in_progress(&self) -> bool {
        self.previous_look > self.content_look
    }
}

/// Figures are kept for this time.
pub const FIGURE_PERIOD: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// A figure of a server at a time. It is no part of the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub environment: String,
    pub server: String,
    pub name: String,
    /// UTC.
    pub at: Timestamp,
    pub value: f64,
}

/// Selects the runs of a list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub environment: Option<String>,
    /// The requester's id.
    pub requester: Option<String>,
    pub command: Option<String>,
    /// Opened at or after (UTC).
    pub since: Option<Timestamp>,
    /// Only these states; empty is all.
    pub states: Vec<RunState>,
    /// Case-insensitive, in command, arguments and free text.
    pub text: Option<String>,
    /// Includes reads; otherwise only changes and requests.
    pub include_reads: bool,
    /// Only break-glass runs.
    pub break_glass: bool,
    /// Only runs with a smaller number: the page after the one that ended with this run.
    pub before: Option<RunId>,
    /// 0 is 50.
    pub limit: usize,
}

impl Filter {
    /// Length of a list without a limit.
    const DEFAULT_LIMIT: usize = 50;

    /// Matches are counted to this many beyond the page.
    pub const COUNT_BEYOND_PAGE: usize = 1_000;

    /// Number of runs in a page.
    pub fn page_size(&self) -> usize {
        if self.limit == 0 { Filter::DEFAULT_LIMIT } else { self.limit }
    }
}

/// A page of runs, and the number of matches.
#[derive(Debug, Clone, Default)]
pub struct RunPage {
    pub runs: Vec<Run>,
    /// Matches, those of the page included, counted to [`Filter::COUNT_BEYOND_PAGE`] beyond it.
    pub total: usize,
    /// There are more matches than `total`.
    pub has_more: bool,
    /// Runs with this number and smaller ones were not searched for the text: the search would take too long.
    pub unsearched_from: Option<RunId>,
}

/// Result of checking the whole chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    pub events: i64,
    /// The last hash, in hex.
    pub head: String,
    /// The first error found, in words.
    pub first_error: Option<String>,
}

/// The state of the store, for whoever watches it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StoreStatus {
    pub schema_version: i64,
    pub pending: Waiting,
    pub approved: Waiting,
    pub running: Waiting,
    /// Cards that show less than their run, those that are being sent included; each waits since its run changed.
    pub undelivered_cards: Waiting,
}

/// The store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer within the time limit; a later answer starts nothing.
    #[error("the audit log's store did not answer in time")]
    TooLate,
    /// The store can't be read or written: full, read-only, locked, damaged.
    #[error("the audit log's store can't be used: {0}")]
    Broken(String),
    /// Text with U+0000, which not every store can hold. Nothing was written.
    #[error("a NUL character can't be kept in the audit log")]
    NulCharacter,
    /// Another replica has taken this one for dead. It must start nothing new.
    #[error("another replica has taken this one for dead")]
    InstanceLost,
}

/// A store's result.
pub type StoreResult<T> = Result<T, StoreError>;

/// The store of the audit log. Every method but `verify` gives up after the implementation's time limit (10 s unless set otherwise).
/// Every time in a row or an event is the store's clock, and only that clock decides if a time has passed. Text with U+0000 is
/// refused with [`StoreError::NulCharacter`].
#[async_trait]
pub trait Store: Send + Sync {
    /// The system identifier of the PostgreSQL server that the store is on; `None` for another kind of store.
    fn postgres_server(&self) -> Option<&str> {
        None
    }

    /// Looks if the store answers and lets this instance write; it writes nothing.
    ///
    /// # Errors
    /// [`StoreError::InstanceLost`] if another replica has taken this one for dead.
    async fn check_instance(&self) -> StoreResult<()>;

    /// The time of the store's clock.
    async fn now(&self) -> StoreResult<Timestamp>;

    /// Opens a run with its first event, in one transaction.
    async fn open(&self, new: NewRun) -> StoreResult<OpenOutcome>;

    /// Appends an event if the run still has that version: event, state, deadline and resources, in one transaction.
    async fn append_if_unchanged(&self, append: Append) -> StoreResult<AppendOutcome>;

    /// Returns a run with its events.
    async fn get(&self, run: RunId) -> StoreResult<Option<Run>>;
    /// Lists runs, newest first.
    async fn list(&self, filter: Filter) -> StoreResult<RunPage>;

    /// Returns the events after that position, oldest first.
    async fn events(&self, after: i64, limit: usize) -> StoreResult<Vec<EventRow>>;

    /// Erases every text of that name from a run, with the keys of their HMACs; the chain stays valid. Returns their number.
    async fn erase(&self, run: RunId, name: &str) -> StoreResult<usize>;

    /// Checks the whole chain and compares every run's state with its last event. It has no time limit, and other calls don't wait
    /// for it.
    async fn verify(&self) -> StoreResult<ChainReport>;

    /// Returns the number and the age of what is open, by the store's clock; the age of a run counts from its request.
    async fn status(&self) -> StoreResult<StoreStatus>;

    /// Runs in `approved` or `running` whose process is gone (its lock on the store was released by the system).
    async fn orphans(&self) -> StoreResult<Vec<Run>>;

    /// Runs in `pending` or `approved` whose deadline has passed.
    async fn overdue(&self) -> StoreResult<Vec<Run>>;

    /// Stores new tokens of buttons; an existing one is an error.
    async fn put_tokens(&self, tokens: Vec<ButtonToken>) -> StoreResult<()>;
    /// Returns a button's token.
    async fn token(&self, token: &str) -> StoreResult<Option<ButtonToken>>;
    /// Removes a token; false if it is gone already: of several callers, in any process, one gets true.
    async fn take_token(&self, token: &str) -> StoreResult<bool>;

    /// Adds a card of a run, not yet delivered, and returns its id.
    async fn add_card(&self, run: RunId, conversation: Conversation, kind: CardKind) -> StoreResult<i64>;
    /// Returns a card.
    async fn card(&self, id: i64) -> StoreResult<Option<Card>>;
    /// Claims a card for sending for that long, unless another process has claimed it: two replicas never post one card twice.
    /// A claim ends with its process.
    async fn claim_card(&self, id: i64, period: Duration) -> StoreResult<bool>;
    /// Stores what the card shows and where, and releases the claim. False, and nothing is stored, if another process has claimed the
    /// card since.
    async fn update_card(&self, card: Card) -> StoreResult<bool>;
    /// Cards that are neither abandoned nor claimed, and that show an older version of their run.
    async fn outdated_cards(&self) -> StoreResult<Vec<Card>>;
    /// All cards of a run.
    async fn run_cards(&self, run: RunId) -> StoreResult<Vec<Card>>;

    /// Removes tokens, and cards of closed runs, that are older than that: a bounded number at a time, which it returns. The tokens of
    /// an open run's cards stay.
    async fn remove_old_cards(&self, age: Duration) -> StoreResult<usize>;

    /// Sets or lifts the freeze, for every replica. False, and nothing is changed, if a condition of the change isn't met.
    async fn change_freeze(&self, change: FreezeChange) -> StoreResult<bool>;
    /// The freeze that is in force.
    async fn frozen(&self) -> StoreResult<Option<ActiveFreeze>>;

    /// Keeps the time before which a platform's method must not be called.
    async fn set_rate_limit(&self, name: String, until: Timestamp) -> StoreResult<()>;
    /// The times that are kept, by name. Those that have passed are dropped sooner or later.
    async fn rate_limits(&self) -> StoreResult<Vec<(String, Timestamp)>>;

    /// Begins a look of a watching window, and returns what the looks before it left. `None` if this look or a later one has begun, here
    /// or in another replica.
    async fn begin_look(
        &self,
        environment: &str,
        name: &str,
        due: Timestamp,
    ) -> StoreResult<Option<WatchState>>;
    /// Stores what a window's looks have found. False, and nothing is stored, if a later look has stored something.
    async fn end_look(
        &self,
        environment: &str,
        name: &str,
        due: Timestamp,
        content: String,
    ) -> StoreResult<bool>;
    /// The states of all watching windows that ever looked.
    async fn watch_states(&self) -> StoreResult<Vec<WatchState>>;

    /// Keeps figures for [`FIGURE_PERIOD`], and removes those that are older. The first of a server's name and time counts.
    async fn put_figures(&self, figures: Vec<Figure>) -> StoreResult<()>;
    /// The figures of that name of a server, oldest first.
    async fn figures(
        &self,
        environment: &str,
        server: &str,
        name: &str,
    ) -> StoreResult<Vec<(Timestamp, f64)>>;

    /// Binds a conversation to an environment. False, and nothing is changed, if the condition isn't met.
    async fn bind_conversation(&self, binding: Binding) -> StoreResult<bool>;
    /// The environment that a conversation is bound to.
    async fn conversation_environment(&self, conversation: Conversation) -> StoreResult<Option<String>>;
}
