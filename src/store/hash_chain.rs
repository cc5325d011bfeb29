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
    let mut keys = BTreeMap::new();
    let mut texts = BTreeMap::new();
    for (name, text) in &event.texts {
        let mut key: Key = [0; 32];
        getrandom::fill(&mut key).context("making a text's key")?;
        texts.insert(name.clone(), hmac_hex(&key, text));
        keys.insert(name.clone(), key);
    }
    let ChainPosition { previous, seq, run, at, deadline, request } = position;
    let NewEvent { kind, by, mut facts, state, .. } = event.clone();
    // The order of keys must not depend on the JSON library's features.
    facts.sort_all_objects();
    let deadline = deadline.map(microseconds);
    let stored =
        ChainedEvent { seq, run, at, kind, by, facts, texts, state, deadline, request: request.cloned() };
    let bytes = serde_json::to_string(&stored).context("writing an event as JSON")?;
    let hash = next_hash(&previous, bytes.as_bytes());
    Ok(LinkedEvent { bytes, hash, keys })
}

/// SHA-256(previous ‖ bytes).
fn next_hash(previous: &Hash, bytes: &[u8]) -> Hash {
    Sha256::new().chain_update(previous).chain_update(bytes).finalize().into()
}

fn hmac_hex(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)");
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
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

/// The values that a run's events require in its row.
#[derive(Debug)]
struct ExpectedRun {
    version: i64,
    state: RunState,
    request: Hash,
    opened_at: Timestamp,
    changed_at: Timestamp,
    deadline: Option<Timestamp>,
}

/// Checks an audit log: give it every event by `seq`, then every run in any order, then finish. It holds about 150 bytes a run.
#[derive(Debug, Default)]
pub struct ChainAudit {
    /// At first [`INITIAL_HASH`].
    head: Hash,
    seq: i64,
    events: i64,
    runs: BTreeMap<RunId, ExpectedRun>,
    first_error: Option<String>,
}

impl ChainAudit {
    /// Checks the next event. After the first error, events are only counted.
    pub fn event(&mut self, row: EventRow) {
        self.events += 1;
        if self.first_error.is_none() {
            self.first_error = self.check_event(&row).err();
        }
    }

    fn check_event(&mut self, row: &EventRow) -> Result<(), String> {
        let seq = row.seq;
        if seq != self.seq + 1 {
            return Err(format!("event {} is missing", self.seq + 1));
        }
        let hash = next_hash(&self.head, row.bytes.as_bytes());
        if row.hash != hash {
            return Err(format!("event {seq} was changed: its hash doesn't follow from the event before it"));
        }
        self.seq = seq;
        self.head = hash;
        let event: ChainedEvent =
            serde_json::from_str(&row.bytes).map_err(|_| format!("event {seq} can't be read"))?;
        if event.seq != seq || event.run != row.run {
            return Err(format!("event {seq} was moved: its bytes name another place"));
        }
        for text in &row.texts {
            match event.texts.get(&text.name) {
                Some(hmac) if *hmac == hmac_hex(&text.key, &text.text) => {}
                Some(_) => return Err(format!("event {seq}: its text was changed")),
                None => return Err(format!("event {seq}: a text was added to it")),
            }
        }
        self.update_expected_run(event)
    }

    /// Updates what the run's row must hold after this event.
    fn update_expected_run(&mut self, event: ChainedEvent) -> Result<(), String> {
        let ChainedEvent { seq, run, at, state, deadline, request, .. } = event;
        let expected = match (self.runs.get(&run), request) {
            (None, Some(new)) => ExpectedRun {
                version: 1,
                state,
                request: digest(&new),
                opened_at: at,
                changed_at: at,
                deadline,
            },
            (Some(last), None) => {
                ExpectedRun { version: last.version + 1, state, changed_at: at, deadline, ..*last }
            }
            (None, None) => return Err(format!("event {seq}: run {run} has no first event")),
            (Some(_), Some(_)) => return Err(format!("event {seq}: run {run} begins twice")),
        };
        self.runs.insert(run, expected);
        Ok(())
    }

    /// A run's row.
    pub fn run(&mut self, row: RunRow) {
        let expected = self.runs.remove(&row.id);
        if self.first_error.is_none() {
            self.first_error = check_run(&row, expected).err();
        }
    }

    /// Adds an error that only the store can find.
    pub fn report_error(&mut self, problem: impl Into<String>) {
        self.first_error.get_or_insert_with(|| problem.into());
    }

    /// Returns the result.
    pub fn finish(mut self) -> ChainReport {
        if let Some(run) = self.runs.keys().next() {
            self.first_error.get_or_insert(format!("run {run} was removed: only its events are left"));
        }
        ChainReport { events: self.events, head: hex::encode(self.head), first_error: self.first_error }
    }
}

fn check_run(row: &RunRow, expected: Option<ExpectedRun>) -> Result<(), String> {
    let id = row.id;
    let Some(expected) = expected else { return Err(format!("run {id} has no events")) };
    if row.version != expected.version {
        return Err(format!("run {id} has {} events and says {}", expected.version, row.version));
    }
    if row.state != expected.state {
        return Err(format!("run {id}: its state was changed, its events say otherwise"));
    }
    let times = (row.opened_at, row.changed_at, row.deadline);
    if times != (expected.opened_at, expected.changed_at, expected.deadline) {
        return Err(format!("run {id}: its times were changed, its events say otherwise"));
    }
    match serde_json::from_str::<RunRequest>(&row.request) {
        Ok(request) if digest(&request) == expected.request => Ok(()),
        _ => Err(format!("run {id}: its request was changed, its first event says otherwise")),
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
        let hmac = hmac_hex(&link.keys["reason"], "because of Ada");
        let expected = format!(
            r#"{{"seq":7,"run":3,"at":"2026-01-02T03:04:05.000001Z","kind":"approved","by":null,"facts":{{"a":[true],"b":{{"a":2,"z":1}}}},"texts":{{"reason":"{hmac}"}},"state":"approved","deadline":null}}"#
        );
        assert_eq!(link.bytes, expected);
        assert_eq!(link.hash, next_hash(&INITIAL_HASH, expected.as_bytes()));
    }

    #[test]
    fn a_texts_hmac_follows_rfc_4231() {
        let hmac = hmac_hex(b"Jefe", "what do ya want for nothing?");
        assert_eq!(hmac, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
