//! Runs as the server's functions take and give them: JSON in, JSON out. The transaction is the function's (`migrations/`).

use super::session::{CallError, CallResult};
use crate::model::{ActiveFreeze, Run, RunEvent, RunId, RunState};
use crate::store::hash_chain::{self, ChainedEvent};
use crate::store::{Append, AppendOutcome, Deadline, DeadlineCondition, NewEvent, NewRun, OpenOutcome};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Opens a run, or finds the run that the same write opened.
const OPEN: &str = "SELECT countersign.open_run($1::text::jsonb)::text";

/// Appends an event, or finds the event that the same write appended.
const APPEND: &str = "SELECT countersign.append_if_unchanged($1::text::jsonb)::text";

/// A call of one of the two functions, which may be repeated: it writes once.
#[derive(Debug)]
pub(super) struct RunWrite {
    pub sql: &'static str,
    pub input: String,
    pub write_id: String,
    /// The run, or the delivery that opens it.
    pub place: WritePlace,
    /// The run's version afterwards.
    pub version: i64,
}

#[derive(Debug, Clone)]
pub(super) enum WritePlace {
    Run(RunId),
    Delivery(String),
}

impl RunWrite {
    /// Opens a run as that instance.
    pub fn open(new: &NewRun, instance: &str) -> CallResult<RunWrite> {
        let write_id = write_id()?;
        let is_open = new.first_event.state.is_open();
        let cards = new.cards.iter().map(|(conversation, kind)| {
            Ok(json!({"place": serde_json::to_string(conversation)?, "kind": word(kind)?}))
        });
        let input = json!({
            "instance": instance,
            "owner": owner(new.first_event.state, instance),
            "delivery_id": new.delivery_id,
            "request": serde_json::to_string(&new.request)?,
            "event": event(&new.first_event, &write_id)?,
            "unless_frozen": new.unless_frozen,
            "unless_break_glass_within": new.unless_break_glass_within.map(period),
            // A run that is closed from the start takes no locks.
            "resources": if is_open { new.resource_locks.as_slice() } else { &[] },
            "cards": cards.collect::<CallResult<Vec<Value>>>()?,
        });
        let place = WritePlace::Delivery(new.delivery_id.clone());
        Ok(RunWrite { sql: OPEN, input: input.to_string(), write_id, place, version: 1 })
    }

    /// Appends to a run as that instance.
    pub fn append(new: &Append, instance: &str) -> CallResult<RunWrite> {
        let write_id = write_id()?;
        let (condition, max_age) = match new.deadline_condition {
            DeadlineCondition::Ignored => ("ignored", None),
            DeadlineCondition::Ahead { max_age } => ("ahead", max_age),
            DeadlineCondition::Passed { max_age } => ("passed", max_age),
        };
        let input = json!({
            "instance": instance,
            "owner": owner(new.event.state, instance),
            "run": new.run,
            "version": new.version,
            "event": event(&new.event, &write_id)?,
            "unless_frozen": new.unless_frozen,
            "deadline_condition": condition,
            "max_age": max_age.map(period),
        });
        let place = WritePlace::Run(new.run);
        Ok(RunWrite { sql: APPEND, input: input.to_string(), write_id, place, version: new.version + 1 })
    }
}

fn write_id() -> CallResult<String> {
    let no_random = || CallError::Message("the system has no random numbers".to_owned());
    crate::model::random_token().ok_or_else(no_random)
}

fn owner(state: RunState, instance: &str) -> Option<&str> {
    matches!(state, RunState::Approved | RunState::Running).then_some(instance)
}

/// A time that no run lives for: one before it is in the server's calendar.
const LONGEST_PERIOD: Duration = Duration::from_secs(100 * 366 * 86_400);

/// As text: a JSON number of this size would be a fraction to some readers.
fn microseconds(duration: Duration) -> String {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).to_string()
}

/// A period before or after the server's present time.
pub(super) fn period(duration: Duration) -> String {
    microseconds(duration.min(LONGEST_PERIOD))
}

fn event(event: &NewEvent, write_id: &str) -> CallResult<Value> {
    let body = hash_chain::body(event).map_err(|error| CallError::Message(error.to_string()))?;
    let texts = event
        .texts
        .iter()
        .map(|(name, text)| json!({"name": name, "key": body.keys.get(name).map(hex::encode), "text": text}));
    let deadline = match event.deadline {
        Deadline::None => "none".to_owned(),
        Deadline::Unchanged => "unchanged".to_owned(),
        Deadline::After(duration) => microseconds(duration),
    };
    Ok(json!({
        "body": body.json,
        "state": word(&event.state)?,
        "deadline": deadline,
        "write_id": write_id,
        "texts": texts.collect::<Vec<Value>>(),
    }))
}

/// A value that JSON writes as one word: a state, a platform's name.
pub(super) fn word(value: &impl serde::Serialize) -> CallResult<String> {
    match serde_json::to_value(value)? {
        Value::String(word) => Ok(word),
        _ => Err(CallError::Message("a value in it has an unexpected form".to_owned())),
    }
}

/// Reads what [`word`] wrote.
pub(super) fn from_word<T: serde::de::DeserializeOwned>(word: String) -> CallResult<T> {
    Ok(serde_json::from_value(Value::String(word))?)
}

/// The answer of a function.
#[derive(Debug, Deserialize)]
pub(super) struct WriteAnswer {
    pub outcome: WriteOutcome,
    run: Option<StoredRun>,
    /// JSON.
    frozen: Option<String>,
    resource: Option<String>,
    by: Option<RunId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WriteOutcome {
    Done,
    Duplicate,
    VersionConflict,
    Frozen,
    RateLimited,
    ResourceBusy,
    Overdue,
    NotOverdue,
    Missing,
    InstanceLost,
}

impl WriteAnswer {
    /// The answer of a write that was found after its connection was lost.
    pub fn found(run: StoredRun) -> WriteAnswer {
        WriteAnswer { outcome: WriteOutcome::Done, run: Some(run), frozen: None, resource: None, by: None }
    }

    /// The run that it wrote.
    pub fn written(&self) -> Option<RunId> {
        self.run.as_ref().filter(|_| self.outcome == WriteOutcome::Done).map(|run| run.id)
    }

    fn run(self) -> CallResult<Box<Run>> {
        let missing = || CallError::Message("an answer has no run".to_owned());
        Ok(Box::new(self.run.ok_or_else(missing)?.read()?))
    }

    fn freeze(self) -> CallResult<ActiveFreeze> {
        Ok(serde_json::from_str(&self.frozen.unwrap_or_default())?)
    }

    pub fn open_outcome(self) -> CallResult<OpenOutcome> {
        let by = self.by.unwrap_or_default();
        Ok(match self.outcome {
            WriteOutcome::Done => OpenOutcome::New(self.run()?),
            WriteOutcome::Duplicate => OpenOutcome::Duplicate(by),
            WriteOutcome::Frozen => OpenOutcome::Frozen(self.freeze()?),
            WriteOutcome::RateLimited => OpenOutcome::RateLimited(self.run()?),
            WriteOutcome::ResourceBusy => {
                OpenOutcome::ResourceBusy { resource: self.resource.unwrap_or_default(), by }
            }
            _ => return Err(CallError::Message("an answer has an unexpected form".to_owned())),
        })
    }

    pub fn append_outcome(self, run: RunId) -> CallResult<AppendOutcome> {
        let by = self.by.unwrap_or_default();
        Ok(match self.outcome {
            WriteOutcome::Done => AppendOutcome::Done(self.run()?),
            WriteOutcome::VersionConflict => AppendOutcome::VersionConflict(self.run()?),
            WriteOutcome::Frozen => AppendOutcome::Frozen(self.freeze()?),
            WriteOutcome::Overdue => AppendOutcome::Overdue(self.run()?),
            WriteOutcome::NotOverdue => AppendOutcome::NotOverdue(self.run()?),
            WriteOutcome::ResourceBusy => {
                AppendOutcome::ResourceBusy { resource: self.resource.unwrap_or_default(), by }
            }
            WriteOutcome::Missing => return Err(CallError::Message(format!("there is no run {run}"))),
            _ => return Err(CallError::Message("an answer has an unexpected form".to_owned())),
        })
    }
}

/// A run as `countersign.run_json` writes it. Times are microseconds since 1970.
#[derive(Debug, Deserialize)]
pub(super) struct StoredRun {
    id: RunId,
    version: i64,
    state: RunState,
    /// JSON.
    request: String,
    opened_at: i64,
    changed_at: i64,
    deadline: Option<i64>,
    events: Option<Vec<StoredEvent>>,
}

#[derive(Debug, Deserialize)]
struct StoredEvent {
    seq: i64,
    bytes: String,
    texts: Option<BTreeMap<String, String>>,
}

impl StoredRun {
    pub fn read(self) -> CallResult<Run> {
        let events = self.events.unwrap_or_default().into_iter().map(StoredEvent::read);
        Ok(Run {
            id: self.id,
            version: self.version,
            state: self.state,
            request: serde_json::from_str(&self.request)?,
            opened_at: Timestamp::from_microsecond(self.opened_at)?,
            changed_at: Timestamp::from_microsecond(self.changed_at)?,
            deadline: self.deadline.map(Timestamp::from_microsecond).transpose()?,
            events: events.collect::<CallResult<Vec<RunEvent>>>()?,
        })
    }
}

impl StoredEvent {
    fn read(self) -> CallResult<RunEvent> {
        let ChainedEvent { at, kind, by, facts, state, .. } = serde_json::from_str(&self.bytes)?;
        Ok(RunEvent { seq: self.seq, at, kind, by, facts, texts: self.texts.unwrap_or_default(), state })
    }
}
