//! The record's keeper, as a trait: `store/sqlite.rs` is the embedded default. It keeps runs with their append-only,
//! hash-chained events, the tokens of buttons, the copies of cards and a few settings. It compares and swaps; what a state
//! or an event means is `runs`' business.
//!
//! **Late answers start nothing.** A call is given up after its time limit ([`StoreError::TooLate`]); whatever the store
//! does with it afterwards must not look like permission: an implementation drops work whose caller has gone before it commits,
//! and follows a commit that came too late with the change that was given for this case, which closes the run as `stopped`.

use crate::message::{ChatAccount, Conversation, Person};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub mod hash_chain;
pub mod sqlite;

/// A run's number: what people type in `show 128`.
pub type RunId = i64;

/// Where a run stands: the fold of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Pending,
    Approved,
    Running,
    Succeeded,
    Failed,
    Partial,
    Stopped,
    Interrupted,
    Denied,
    Withdrawn,
    Revoked,
    Expired,
    Invalidated,
}

impl RunState {
    /// Open runs hold their resources; `unknown` doesn't: nobody knows what it does, and most runs are over by then. One that goes on
    /// takes them again with the event that says so.
    pub fn is_open(self) -> bool {
        matches!(self, RunState::Pending | RunState::Approved | RunState::Running)
    }
}

/// What is known of a run when it is opened, and never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    pub command: String,
    /// The bound arguments by name.
    pub arguments: BTreeMap<String, String>,
    /// "read", "write" or "danger", after the policy had its say.
    pub risk: String,
    pub environment: Option<String>,
    pub requester: Person,
    /// The account it was asked from; `None` if no person asked.
    pub sender: Option<ChatAccount>,
    pub place: Conversation,
    /// SHA-256 of the command's file, in hex.
    pub command_hash: String,
    /// SHA-256 of the configuration, in hex.
    pub config_hash: String,
    /// One person did it without a second, in need: another has to review it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

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

/// An event as it was stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEvent {
    /// Position in the whole ledger, from 1.
    pub seq: i64,
    /// UTC.
    pub at: Timestamp,
    pub kind: String,
    pub by: Option<Person>,
    pub facts: serde_json::Value,
    /// Free text that has not been erased.
    pub texts: BTreeMap<String, String>,
    pub state: RunState,
}

/// A run as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    /// Number of events so far: what `append_if` compares.
    pub version: i64,
    pub state: RunState,
    pub request: RunRequest,
    pub opened_at: Timestamp,
    /// When its last event was written.
    pub changed_at: Timestamp,
    pub deadline: Option<Timestamp>,
    /// Oldest first.
    pub events: Vec<RunEvent>,
}

impl Run {
    /// The newest event of that kind.
    pub fn event(&self, kind: &str) -> Option<&RunEvent> {
        self.events.iter().rev().find(|event| event.kind == kind)
    }
    /// The newest free text of that name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.events.iter().rev().find_map(|event| event.texts.get(name)).map(String::as_str)
    }
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

/// Who froze all acting, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveFreeze {
    pub by: Person,
    pub at: Timestamp,
    pub reason: Option<String>,
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

/// What a button's token stands for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TokenPurpose {
    /// A verdict on a run, on one posted copy of its card.
    Decision { run: RunId, verdict: Decision, card: i64 },
    /// A look at one posted copy of a run's card.
    View { run: RunId, card: i64 },
    /// A command to run as the clicker: bound to what the row showed.
    RunCommand { command: String, environment: Option<String>, arguments: BTreeMap<String, String> },
}

/// What a card's button says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Approve,
    Deny,
    Withdraw,
}

/// A button's token: 128 random bits in hex, and the place it was posted in.
#[derive(Debug, Clone, PartialEq)]
pub struct ButtonToken {
    pub token: String,
    pub purpose: TokenPurpose,
    pub place: Conversation,
}

/// One posted (or still to be posted) copy of a run's card. The card is a function of the run: whenever `shown_version` is behind the
/// run's version, it is rendered and sent again, also after a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    pub id: i64,
    pub run: RunId,
    /// [`Conversation::with`] an account, until the conversation with it is known.
    pub place: Conversation,
    /// The platform's id of the message; `None` until it was delivered.
    pub message: Option<String>,
    pub kind: CardKind,
    /// The run's version that it shows.
    pub shown_version: i64,
    /// Given up: the place or the message is gone.
    pub abandoned: bool,
}

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardKind {
    /// The card, in a conversation.
    Primary,
    /// The card once more, told directly to somebody who may approve.
    Direct,
    /// What became of it, told when it is over: an edit of a card rings no bell.
    Outcome,
    /// A word below a card that still waits, said once.
    Reminder,
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

#[cfg(test)]
impl Run {
    /// What ana asked for in a terminal, without an event.
    pub(crate) fn example(
        (command, environment): (&str, Option<&str>),
        at: Timestamp,
        state: RunState,
    ) -> Run {
        let place = Conversation {
            platform: crate::message::PlatformKind::Terminal,
            workspace: String::new(),
            conversation: String::new(),
            thread: None,
        };
        let request = RunRequest {
            command: command.to_owned(),
            arguments: BTreeMap::new(),
            risk: "danger".to_owned(),
            environment: environment.map(str::to_owned),
            requester: Person { id: "ana".to_owned(), account: None },
            sender: None,
            place,
            command_hash: String::new(),
            config_hash: String::new(),
            break_glass: false,
        };
        let (opened_at, changed_at) = (at, at);
        Run { id: 7, version: 1, state, request, opened_at, changed_at, deadline: None, events: Vec::new() }
    }

    /// With one more event of its first second, of nobody's.
    pub(crate) fn with_event(mut self, kind: &str, facts: serde_json::Value) -> Run {
        let (at, state) = (self.opened_at, self.state);
        let (kind, texts) = (kind.to_owned(), BTreeMap::new());
        self.events.push(RunEvent { seq: 1, at, kind, by: None, facts, texts, state });
        self
    }
}
