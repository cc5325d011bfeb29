//! The hash chain of the audit log, the same for every store: the bytes of an event, its link to the event before, and the
//! check that finds changes made behind the program's back. It reads and writes no database.
//!
//! The chain shows every change inside it. That events are missing *at its end*, together with their runs' states, only a
//! head hash kept elsewhere can show.

use super::{ChainReport, NewEvent};
use crate::model::{EventKind, Person, RunId, RunRequest, RunState};
use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// SHA-256.
pub type Hash = [u8; 32];

/// The hash before the first event.
pub const INITIAL_HASH: Hash = [0; 32];

/// The key of one free text. Without it the text's HMAC says nothing.
pub type Key = [u8; 32];

/// The stored form of an event: these fields in this order, as JSON without spaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainedEvent {
    pub seq: i64,
    pub run: RunId,
    /// UTC, whole microseconds.
    pub at: Timestamp,
    pub kind: EventKind,
    pub by: Option<Person>,
    pub facts: Value,
    /// Name to HMAC-SHA-256 of the text, in hex.
    pub texts: BTreeMap<String, String>,
    pub state: RunState,
    pub deadline: Option<Timestamp>,
    /// Only in a run's first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RunRequest>,
}

/// The place of an event in the chain: set by the store, not by the caller.
#[derive(Debug)]
pub struct ChainPosition<'a> {
    pub previous: Hash,
    pub seq: i64,
    pub run: RunId,
    pub at: Timestamp,
    /// The run's deadline after the event.
    pub deadline: Option<Timestamp>,
    /// For a run's first event.
    pub request: Option<&'a RunRequest>,
}

/// An event ready to be stored.
#[derive(Debug)]
pub struct LinkedEvent {
    pub bytes: String,
    pub hash: Hash,
    /// The key of each of the event's texts.
    pub keys: BTreeMap<String, Key>,
}

/// Makes the next event's bytes and hash, with fresh keys for its texts: an error when the system gives no random numbers.
pub fn link(position: ChainPosition<'_>, event: &NewEvent) -> anyhow::Result<LinkedEvent> {
    let (EventBody { kind, by, facts, texts, state }, keys) = seal(event)?;
    let ChainPosition { previous, seq, run, at, deadline, request } = position;
    let deadline = deadline.map(microseconds);
    let stored =
        ChainedEvent { seq, run, at, kind, by, facts, texts, state, deadline, request: request.cloned() };
    let bytes = serde_json::to_string(&stored).context("writing an event as JSON")?;
    let hash = next_hash(&previous, bytes.as_bytes());
    Ok(LinkedEvent { bytes, hash, keys })
}

/// The fields of a [`ChainedEvent`] that don't depend on its place in the chain: they follow each other there, in this order.
#[derive(Debug, Serialize)]
struct EventBody {
    kind: EventKind,
    by: Option<Person>,
    facts: Value,
    texts: BTreeMap<String, String>,
    state: RunState,
}

/// The part of an event's bytes that a store can make before it knows the event's place: from `"kind"` to `"state"`.
#[derive(Debug)]
pub struct BodyBytes {
    /// JSON without the braces around it.
    pub json: String,
    /// The key of each of the event's texts.
    pub keys: BTreeMap<String, Key>,
}

/// Makes the bytes of an event but for its place: for a store whose server puts it into the chain. The whole is
/// `{"seq":…,"run":…,"at":"…",`, the body, `,"deadline":…`, for a run's first event `,"request":…`, and `}`.
///
/// # Errors
/// The system gives no random numbers.
pub fn body(event: &NewEvent) -> anyhow::Result<BodyBytes> {
    let (body, keys) = seal(event)?;
    let json = serde_json::to_string(&body).context("writing an event as JSON")?;
    let inner = json.strip_prefix('{').and_then(|json| json.strip_suffix('}')).unwrap_or(&json);
    Ok(BodyBytes { json: inner.to_owned(), keys })
}

/// The body with the HMACs of the event's texts, and their fresh keys.
fn seal(event: &NewEvent) -> anyhow::Result<(EventBody, BTreeMap<String, Key>)> {
    let mut keys = BTreeMap::new();
    let mut texts = BTreeMap::new();
    for (name, text) in &event.texts {
        let mut key: Key = [0; 32];
        getrandom::fill(&mut key).context("making a text's key")?;
        texts.insert(name.clone(), hmac_hex(&key, text)?);
        keys.insert(name.clone(), key);
    }
    let NewEvent { kind, by, mut facts, state, .. } = event.clone();
    // The order of keys must not depend on the JSON library's features.
    facts.sort_all_objects();
    Ok((EventBody { kind, by, facts, texts, state }, keys))
}

/// SHA-256(previous ‖ bytes).
fn next_hash(previous: &Hash, bytes: &[u8]) -> Hash {
    Sha256::new().chain_update(previous).chain_update(bytes).finalize().into()
}

fn hmac_hex(key: &[u8], text: &str) -> anyhow::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).context("using a text's key")?;
    mac.update(text.as_bytes());
    Ok(hex::encode(mac.finalize().into_bytes()))
}

/// Cut to whole microseconds: what both SQLite's and PostgreSQL's columns hold.
pub fn microseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// An event as it is stored: what a check, an export or a copy reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    pub seq: i64,
    pub run: RunId,
    /// Canonical JSON.
    pub bytes: String,
    /// SHA-256 of the previous event's hash and `bytes`.
    pub hash: Vec<u8>,
    /// By name.
    pub texts: Vec<TextRow>,
}

/// A free text that has not been erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRow {
    pub name: String,
    /// Of its HMAC-SHA-256 in the event.
    pub key: Vec<u8>,
    pub text: String,
}

/// A run's row, for the check.
#[derive(Debug)]
pub struct RunRow {
    pub id: RunId,
    pub version: i64,
    pub state: RunState,
    /// As JSON.
    pub request: String,
    pub opened_at: Timestamp,
    pub changed_at: Timestamp,
    pub deadline: Option<Timestamp>,
}

/// A stored event, for the check.
#[derive(Debug, Clone, Copy)]
pub struct AuditedEvent<'a> {
    pub seq: i64,
    pub run: RunId,
    pub bytes: &'a str,
    pub hash: &'a [u8],
    /// Those that have not been erased.
    pub texts: &'a [TextRow],
}

/// What the check reads of an event's bytes.
#[derive(Deserialize)]
struct CheckedEvent<'a> {
    seq: i64,
    run: RunId,
    at: Timestamp,
    /// Name to HMAC in hex.
    #[serde(borrow)]
    texts: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    state: RunState,
    deadline: Option<Timestamp>,
    request: Option<RunRequest>,
}

/// A run whose row names more events than were checked so far.
#[derive(Debug)]
struct UnfinishedRun {
    /// Events checked so far.
    events: i64,
    row: RunRow,
}

/// Checks an audit log: give it every event by `seq`, with the row of its run, then finish. It holds the runs that have more events to
/// come, and nothing of those that are complete.
#[derive(Debug, Default)]
pub struct ChainAudit {
    /// At first [`INITIAL_HASH`].
    head: Hash,
    seq: i64,
    events: i64,
    /// Runs that have begun.
    runs: i64,
    unfinished: BTreeMap<RunId, UnfinishedRun>,
    first_error: Option<String>,
}

impl ChainAudit {
    /// Checks the next event. `row` reads the run's row, or says in words what is wrong with it; it is used for a run's first event.
    /// After the first error, events are only counted.
    pub fn event(&mut self, event: AuditedEvent<'_>, row: impl FnOnce() -> Result<Option<RunRow>, String>) {
        self.events += 1;
        if self.first_error.is_none() {
            self.first_error = self.check_event(event, row).err();
        }
    }

    fn check_event(
        &mut self,
        stored: AuditedEvent<'_>,
        row: impl FnOnce() -> Result<Option<RunRow>, String>,
    ) -> Result<(), String> {
        let seq = stored.seq;
        if seq != self.seq + 1 {
            return Err(format!("event {} is missing", self.seq + 1));
        }
        let hash = next_hash(&self.head, stored.bytes.as_bytes());
        if stored.hash != hash {
            return Err(format!("event {seq} was changed: its hash doesn't follow from the event before it"));
        }
        self.seq = seq;
        self.head = hash;
        let event: CheckedEvent<'_> =
            serde_json::from_str(stored.bytes).map_err(|_| format!("event {seq} can't be read"))?;
        if event.seq != seq || event.run != stored.run {
            return Err(format!("event {seq} was moved: its bytes name another place"));
        }
        for text in stored.texts {
            let Some(recorded) = event.texts.get(text.name.as_str()) else {
                return Err(format!("event {seq}: a text was added to it"));
            };
            let hmac = hmac_hex(&text.key, &text.text).map_err(|error| format!("event {seq}: {error:#}"))?;
            if *recorded != hmac {
                return Err(format!("event {seq}: its text was changed"));
            }
        }
        self.check_run(&event, row)
    }

    /// Compares the run's row with its first event and with its last one.
    fn check_run(
        &mut self,
        event: &CheckedEvent<'_>,
        row: impl FnOnce() -> Result<Option<RunRow>, String>,
    ) -> Result<(), String> {
        let (seq, id) = (event.seq, event.run);
        let mut run = match (self.unfinished.remove(&id), &event.request) {
            (None, Some(request)) => {
                let row = row()?;
                let mut row = row.ok_or_else(|| format!("run {id} was removed: only its events are left"))?;
                check_request(&row, request)?;
                if row.opened_at != event.at {
                    return Err(changed_times(id));
                }
                row.request = String::new();
                self.runs += 1;
                UnfinishedRun { events: 0, row }
            }
            (Some(run), None) => run,
            (None, None) => {
                return Err(format!(
                    "event {seq}: run {id} has no first event, or more events than its row says"
                ));
            }
            (Some(_), Some(_)) => return Err(format!("event {seq}: run {id} begins twice")),
        };
        run.events += 1;
        if run.events < run.row.version {
            self.unfinished.insert(id, run);
            return Ok(());
        }
        if run.row.version != run.events {
            return Err(run.wrong_version());
        }
        if run.row.state != event.state {
            return Err(format!("run {id}: its state was changed, its events say otherwise"));
        }
        if (run.row.changed_at, run.row.deadline) != (event.at, event.deadline) {
            return Err(changed_times(id));
        }
        Ok(())
    }

    /// Runs that have begun so far.
    pub fn runs(&self) -> i64 {
        self.runs
    }

    /// Adds an error that only the store can find.
    pub fn report_error(&mut self, problem: impl Into<String>) {
        self.first_error.get_or_insert_with(|| problem.into());
    }

    /// Returns the result.
    pub fn finish(mut self) -> ChainReport {
        if let Some(run) = self.unfinished.values().next() {
            self.first_error.get_or_insert(run.wrong_version());
        }
        ChainReport { events: self.events, head: hex::encode(self.head), first_error: self.first_error }
    }
}

impl UnfinishedRun {
    fn wrong_version(&self) -> String {
        format!("run {} has {} events and says {}", self.row.id, self.events, self.row.version)
    }
}

fn changed_times(run: RunId) -> String {
    format!("run {run}: its times were changed, its events say otherwise")
}

fn check_request(row: &RunRow, request: &RunRequest) -> Result<(), String> {
    // As it was written, in the usual case.
    if serde_json::to_string(request).is_ok_and(|json| json == row.request) {
        return Ok(());
    }
    match serde_json::from_str::<RunRequest>(&row.request) {
        Ok(stored) if digest(&stored) == digest(request) => Ok(()),
        _ => Err(format!("run {}: its request was changed, its first event says otherwise", row.id)),
    }
}

/// Compares requests whatever spaces or order of keys a database's JSON type made of them.
fn digest(request: &RunRequest) -> Hash {
    Sha256::digest(serde_json::to_vec(request).unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Deadline;
    use serde_json::json;

    #[test]
    fn an_events_bytes_have_a_fixed_order_and_hide_its_text() {
        let event = NewEvent {
            kind: EventKind::Approved,
            by: None,
            facts: json!({"b": {"z": 1, "a": 2}, "a": [true]}),
            texts: BTreeMap::from([("reason".into(), "because of Ada".into())]),
            state: RunState::Approved,
            deadline: Deadline::None,
        };
        let at = "2026-01-02T03:04:05.000001Z".parse().unwrap();
        let position =
            ChainPosition { previous: INITIAL_HASH, seq: 7, run: 3, at, deadline: None, request: None };
        let link = link(position, &event).unwrap();
        let hmac = hmac_hex(&link.keys["reason"], "because of Ada").unwrap();
        let expected = format!(
            r#"{{"seq":7,"run":3,"at":"2026-01-02T03:04:05.000001Z","kind":"approved","by":null,"facts":{{"a":[true],"b":{{"a":2,"z":1}}}},"texts":{{"reason":"{hmac}"}},"state":"approved","deadline":null}}"#
        );
        assert_eq!(link.bytes, expected);
        assert_eq!(link.hash, next_hash(&INITIAL_HASH, expected.as_bytes()));
    }

    #[test]
    fn a_texts_hmac_follows_rfc_4231() {
        let hmac = hmac_hex(b"Jefe", "what do ya want for nothing?").unwrap();
        assert_eq!(hmac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
