//! The record's keeper, as a trait: `store/sqlite.rs` is the embedded default. It keeps runs with their append-only,
//! hash-chained events, the tokens of buttons, the copies of cards and a few settings. It compares and swaps; what a state
//! or an event means is `runs`' business.
//!
//! **Late answers start nothing.** A call is given up after its time limit ([`StoreError::TooLate`]); whatever the store
//! does with it afterwards must not look like permission: an implementation drops work whose caller has gone before it commits,
//! and follows a commit that came too late with the change that was given for this case, which closes the run as `stopped`.

use crate::model::{
    ActiveFreeze, ButtonToken, Card, CardKind, Conversation, Person, Run, RunId, RunRequest, RunState,
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::BTreeMap;

pub mod hash_chain;
pub mod sqlite;

/// A run to be opened. Its first event and state come from `runs`.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub request: RunRequest,
    /// The platform's delivery id: unique, so that a redelivery finds the run that it made.
    pub delivery_id: String,
    /// Resources of the environment that no other open run may hold ("backup of asset_service_db").
    pub resource_locks: Vec<String>,
    pub first: NewEvent,
    /// What follows `first` when nobody hears of it, since the answer came too late.
    pub on_timeout: Option<NewEvent>,
    /// Where its card and its outcome are to stand: noted with the run, so that no crash leaves a request that nobody is told of.
    pub cards: Vec<(Conversation, CardKind)>,
    /// Refused if a run was opened since then that somebody did alone.
    pub unless_break_glass_since: Option<Timestamp>,
    /// Refused while acting is frozen.
    pub unless_frozen: bool,
}

/// One event and the state that it leads to, decided by `runs` alone.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event's name: "requested", "approved", "started" …
    pub kind: String,
    /// Who did it; `None` is Countersign itself.
    pub by: Option<Person>,
    /// Facts that stay for ever: canonical JSON enters the chain.
    pub facts: serde_json::Value,
    /// Free text by name ("reason", "plan", "line"): enters the chain as HMAC-SHA-256(per-record key, text), so that it can be erased.
    pub texts: BTreeMap<String, String>,
    pub state: RunState,
    /// When the state ends by itself (UTC): an approval's expiry.
    pub deadline: Option<Timestamp>,
}

/// What became of opening a run.
#[derive(Debug, Clone, PartialEq)]
pub enum OpenOutcome {
    New(Box<Run>),
    /// This delivery was seen before.
    Duplicate(RunId),
    /// Another open run holds the resource.
    ResourceBusy {
        resource: String,
        by: RunId,
    },
    Frozen(ActiveFreeze),
    /// Somebody acted alone since then.
    RateLimited(Box<Run>),
}

/// What became of a conditional append. "Someone was faster" is an outcome, not an error.
#[derive(Debug, Clone, PartialEq)]
pub enum AppendOutcome {
    Done(Box<Run>),
    /// The run had another version: here it is.
    VersionConflict(Box<Run>),
    /// The change was to start something while acting is frozen.
    Frozen(ActiveFreeze),
    /// The run had let go of the resource, and another open run holds it now.
    ResourceBusy {
        resource: String,
        by: RunId,
    },
}

/// A conditional append.
#[derive(Debug, Clone)]
pub struct Append {
    pub run: RunId,
    pub version: i64,
    pub change: NewEvent,
    /// What follows `change` when nobody hears of it, since the answer came too late.
    pub on_timeout: Option<NewEvent>,
    /// Refused while acting is frozen.
    pub unless_frozen: bool,
}

/// Which runs to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub environment: Option<String>,
    /// The requester's id.
    pub who: Option<String>,
    pub command: Option<String>,
    /// Opened at or after (UTC).
    pub since: Option<Timestamp>,
    /// Only these states; empty is all.
    pub states: Vec<RunState>,
    /// Case-insensitive, in command, arguments and free text.
    pub find: Option<String>,
    /// Reads too; else only what acts or asks to act.
    pub reads: bool,
    /// Only what one person did alone.
    pub break_glass: bool,
    /// 0 is 50.
    pub limit: usize,
}

/// A page of runs, and how many there are in all.
#[derive(Debug, Clone)]
pub struct RunPage {
    pub runs: Vec<Run>,
    pub total: usize,
}

/// What checking the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    pub events: i64,
    /// The last hash, in hex.
    pub head: String,
    /// The first thing that is wrong, in words.
    pub broken: Option<String>,
}

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer within the time limit; nothing will start because of a later one.
    #[error("the record's store did not answer in time")]
    TooLate,
    /// It can't be read or written: full, read-only, locked, damaged.
    #[error("the record's store can't be used: {0}")]
    Broken(String),
}

/// A store's result.
pub type StoreResult<T> = Result<T, StoreError>;

/// The record's keeper. Every method gives up after the implementation's time limit (10 s unless set otherwise).
#[async_trait]
pub trait Store: Send + Sync {
    /// Opens a run with its first event, in one transaction.
    async fn open(&self, new: NewRun) -> StoreResult<OpenOutcome>;

    /// Appends an event if the run still has that version: event, state, deadline and resources, released or taken again, in one
    /// transaction.
    async fn append_if(&self, append: Append) -> StoreResult<AppendOutcome>;

    async fn get(&self, run: RunId) -> StoreResult<Option<Run>>;
    async fn list(&self, filter: Filter) -> StoreResult<RunPage>;

    /// Walks the whole chain and compares every run's state with its last event.
    async fn verify(&self) -> StoreResult<ChainReport>;

    /// Runs in `approved` or `running` whose process is gone (its lock on the store was released by the system).
    async fn orphans(&self) -> StoreResult<Vec<Run>>;

    /// Runs in `pending` or `approved` whose deadline has passed.
    async fn overdue(&self, now: Timestamp) -> StoreResult<Vec<Run>>;

    async fn put_tokens(&self, tokens: Vec<ButtonToken>) -> StoreResult<()>;
    async fn token(&self, token: &str) -> StoreResult<Option<ButtonToken>>;

    /// A new copy of a run's card, not yet delivered; its id.
    async fn add_card(&self, run: RunId, place: Conversation, kind: CardKind) -> StoreResult<i64>;
    async fn card(&self, id: i64) -> StoreResult<Option<Card>>;
    /// Takes a copy for sending until then, unless somebody else has it: two replicas never post one copy twice. A claim
    /// ends with its process.
    async fn claim_card(&self, id: i64, until: Timestamp) -> StoreResult<bool>;
    /// Writes down what is now shown where, and gives the claim back.
    async fn update_card(&self, card: Card) -> StoreResult<()>;
    /// Copies that are not lost, that nobody has claimed, and that show less than their run's version.
    async fn cards_behind(&self) -> StoreResult<Vec<Card>>;
    async fn cards_of(&self, run: RunId) -> StoreResult<Vec<Card>>;

    /// Sets or lifts the freeze, for every replica.
    async fn set_frozen(&self, frozen: Option<ActiveFreeze>) -> StoreResult<()>;
    async fn frozen(&self) -> StoreResult<Option<ActiveFreeze>>;

    /// The environment that a conversation is bound to.
    async fn bind(&self, place: Conversation, environment: String) -> StoreResult<()>;
    async fn binding(&self, place: Conversation) -> StoreResult<Option<String>>;
}
