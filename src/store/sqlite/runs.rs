//! Runs and their events inside one write transaction: opening, appending, erasing; and the freeze, one row for every replica.
//! Whether a transition is allowed is `audit`'s business; whether anyone still waits for the answer, the worker's.

use super::connection::{DbError, DbResult};
use super::rows::{self, to_json_word};
use super::search::Position;
use super::{cards, queries, search};
use crate::model::{ActiveFreeze, Run, RunId, RunRequest, RunState};
use crate::store::compensation::{Committed, Compensation};
use crate::store::hash_chain::{self, ChainPosition};
use crate::store::{Append, AppendOutcome, FreezeChange, NewEvent, NewRun, OpenOutcome};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeSet;

/// Opens a run, or returns the obstacle; in that case nothing is written. `owner` is this instance.
pub(super) fn open(
    transaction: &Transaction<'_>,
    new: &NewRun,
    owner: &str,
) -> DbResult<Committed<OpenOutcome>> {
    let sql = "SELECT id FROM runs WHERE delivery_id = ?1";
    if let Some(run) = rows::first(transaction, sql, [&new.delivery_id], rows::value)? {
        return Ok(OpenOutcome::Duplicate(run).into());
    }
    if new.unless_frozen
        && let Some(frozen) = frozen(transaction)?
    {
        return Ok(OpenOutcome::Frozen(frozen).into());
    }
    let at = now();
    if let Some(within) = new.unless_break_glass_within {
        let since = at.checked_sub(within).unwrap_or(Timestamp::MIN);
        let sql =
            "SELECT id FROM runs WHERE break_glass <> 0 AND opened_at >= ?1 ORDER BY opened_at DESC LIMIT 1";
        if let Some(last) = rows::first(transaction, sql, [since.as_microsecond()], rows::value)? {
            return Ok(OpenOutcome::RateLimited(Box::new(existing(transaction, last)?)).into());
        }
    }
    // A run that is closed from the start takes no locks.
    let resource_locks: BTreeSet<&String> =
        if new.first_event.state.is_open() { new.resource_locks.iter().collect() } else { BTreeSet::new() };
    let environment = new.request.environment.as_deref().unwrap_or_default();
    for &resource in &resource_locks {
        let sql = "SELECT run FROM resource_locks WHERE environment = ?1 AND resource = ?2";
        if let Some(by) = rows::first(transaction, sql, [environment, resource], rows::value)? {
            return Ok(OpenOutcome::ResourceBusy { resource: resource.clone(), by }.into());
        }
    }
    let deadline = new.first_event.deadline.counted_from(at, None);
    let times = EventTimes { at, deadline };
    let run = insert_run(transaction, new, times, owner)?;
    append(transaction, Position { run, version: 1 }, times, Some(&new.request), &new.first_event)?;
    for (conversation, kind) in &new.cards {
        cards::add(transaction, run, conversation, *kind)?;
    }
    for resource in resource_locks {
        let sql = "INSERT INTO resource_locks (environment, resource, run) VALUES (?1, ?2, ?3)";
        rows::execute(transaction, sql, params![environment, resource, run])?;
    }
    let run = existing(transaction, run)?;
    let compensation = Compensation::of_run(&run, new.late_event.as_ref());
    Ok(Committed { value: OpenOutcome::New(Box::new(run)), compensation })
}

/// The time of an event and the run's deadline after it.
#[derive(Clone, Copy)]
struct EventTimes {
    at: Timestamp,
    deadline: Option<Timestamp>,
}

fn insert_run(
    transaction: &Transaction<'_>,
    new: &NewRun,
    times: EventTimes,
    owner: &str,
) -> DbResult<RunId> {
    let sql =
        "INSERT INTO runs (version, state, request, delivery_id, opened_at, changed_at, deadline, owner)
               VALUES (1, ?1, ?2, ?3, ?4, ?4, ?5, ?6)";
    let state = new.first_event.state;
    let values = params![
        to_json_word(&state)?,
        serde_json::to_string(&new.request)?,
        new.delivery_id,
        times.at.as_microsecond(),
        times.deadline.map(Timestamp::as_microsecond),
        needs_owner(state).then_some(owner),
    ];
    rows::execute(transaction, sql, values)?;
    Ok(transaction.last_insert_rowid())
}

/// Appends if the version still fits, or returns the obstacle; in that case nothing is written. `owner` is this instance.
pub(super) fn append_if_unchanged(
    transaction: &Transaction<'_>,
    new: &Append,
    owner: &str,
) -> DbResult<Committed<AppendOutcome>> {
    let run = existing(transaction, new.run)?;
    if run.version != new.version {
        return Ok(AppendOutcome::VersionConflict(Box::new(run)).into());
    }
    if new.unless_frozen
        && let Some(frozen) = frozen(transaction)?
    {
        return Ok(AppendOutcome::Frozen(frozen).into());
    }
    let at = now();
    if let Some(refusal) = new.deadline_condition.refusal(&run, at) {
        return Ok(refusal.into());
    }
    let state = new.event.state;
    if !run.state.is_open()
        && state.is_open()
        && let Some(obstacle) = resume_locks(transaction, run.id)?
    {
        return Ok(obstacle.into());
    }
    advance(transaction, &run, at, &new.event)?;
    if needs_owner(state) && state != run.state {
        rows::execute(transaction, "UPDATE runs SET owner = ?2 WHERE id = ?1", params![run.id, owner])?;
    }
    let run = existing(transaction, run.id)?;
    let compensation = Compensation::of_run(&run, new.late_event.as_ref());
    Ok(Committed { value: AppendOutcome::Done(Box::new(run)), compensation })
}

/// Takes the suspended locks of a run again. If another run holds one of them, takes none and returns its holder.
fn resume_locks(transaction: &Transaction<'_>, run: RunId) -> DbResult<Option<AppendOutcome>> {
    let taken = "SELECT resource_locks.resource, resource_locks.run
                   FROM suspended_locks JOIN resource_locks USING (environment, resource)
                  WHERE suspended_locks.run = ?1";
    let busy = rows::first(transaction, taken, [run], |row| {
        Ok(AppendOutcome::ResourceBusy { resource: row.get(0)?, by: row.get(1)? })
    })?;
    if busy.is_none() {
        let resume = "INSERT INTO resource_locks (environment, resource, run)
                      SELECT environment, resource, run FROM suspended_locks WHERE run = ?1";
        rows::execute(transaction, resume, [run])?;
        rows::execute(transaction, "DELETE FROM suspended_locks WHERE run = ?1", [run])?;
    }
    Ok(busy)
}

/// Compensates a commit whose caller timed out, unless the run has changed since.
pub(super) fn compensate(transaction: &Transaction<'_>, compensation: &Compensation) -> DbResult<()> {
    match compensation {
        Compensation::Claim { card, claimed_by } => cards::release_claim(transaction, *card, claimed_by),
        Compensation::Run { run, version, event } => match queries::get(transaction, *run)? {
            Some(run) if run.version == *version => advance(transaction, &run, now(), event),
            // The run may be missing: its file may have been replaced, for example by an older copy.
            _ => Ok(()),
        },
    }
}

fn needs_owner(state: RunState) -> bool {
    matches!(state, RunState::Approved | RunState::Running)
}

fn existing(transaction: &Transaction<'_>, run: RunId) -> DbResult<Run> {
    queries::get(transaction, run)?.ok_or_else(|| DbError::Message(format!("there is no run {run}")))
}

/// One more event of an existing run: event, state, deadline and released resources.
fn advance(transaction: &Transaction<'_>, current: &Run, at: Timestamp, event: &NewEvent) -> DbResult<()> {
    let run = current.id;
    let deadline = event.deadline.counted_from(at, current.deadline);
    let position = Position { run, version: current.version + 1 };
    append(transaction, position, EventTimes { at, deadline }, None, event)?;
    let sql =
        "UPDATE runs SET version = version + 1, state = ?2, changed_at = ?3, deadline = ?4 WHERE id = ?1";
    let deadline = deadline.map(Timestamp::as_microsecond);
    rows::execute(
        transaction,
        sql,
        params![run, to_json_word(&event.state)?, at.as_microsecond(), deadline],
    )?;
    if event.state.is_open() {
        return Ok(());
    }
    // An interrupted run may resume.
    let suspended = if event.state == RunState::Interrupted {
        "INSERT INTO suspended_locks (environment, resource, run)
         SELECT environment, resource, run FROM resource_locks WHERE run = ?1"
    } else {
        "DELETE FROM suspended_locks WHERE run = ?1"
    };
    rows::execute(transaction, suspended, [run])?;
    rows::execute(transaction, "DELETE FROM resource_locks WHERE run = ?1", [run])?;
    Ok(())
}

/// Adds an event to the chain; a run's first one with its request.
fn append(
    transaction: &Transaction<'_>,
    place: Position,
    EventTimes { at, deadline }: EventTimes,
    request: Option<&RunRequest>,
    event: &NewEvent,
) -> DbResult<()> {
    let run = place.run;
    let mut position =
        ChainPosition { previous: hash_chain::INITIAL_HASH, seq: 1, run, at, deadline, request };
    rows::for_each(transaction, "SELECT seq + 1, hash FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
        (position.seq, position.previous) = (row.get(0)?, row.get(1)?);
        Ok(())
    })?;
    let seq = position.seq;
    let link = hash_chain::link(position, event).map_err(|error| DbError::Message(error.to_string()))?;
    let sql = "INSERT INTO events (seq, run, bytes, hash) VALUES (?1, ?2, ?3, ?4)";
    rows::execute(transaction, sql, params![seq, run, link.bytes, link.hash])?;
    for (name, text) in &event.texts {
        let sql = "INSERT INTO event_texts (seq, name, key, text) VALUES (?1, ?2, ?3, ?4)";
        rows::execute(transaction, sql, params![seq, name, link.keys.get(name), text])?;
    }
    search::add(transaction, place, request, &event.texts)
}

/// Erases every text of that name from a run, with its key, and returns their number.
pub(super) fn erase(transaction: &Transaction<'_>, run: RunId, name: &str) -> DbResult<usize> {
    search::remove_texts(transaction, run, name)?;
    let sql = "DELETE FROM event_texts WHERE name = ?2 AND seq IN (SELECT seq FROM events WHERE run = ?1)";
    rows::execute(transaction, sql, params![run, name])
}

fn now() -> Timestamp {
    hash_chain::microseconds(Timestamp::now())
}

pub(super) fn frozen(connection: &Connection) -> DbResult<Option<ActiveFreeze>> {
    let sql = "SELECT value FROM settings WHERE name = 'frozen'";
    rows::first(connection, sql, [], |row| rows::json(row, 0))
}

/// Sets or lifts the freeze; false if a condition of the change isn't met.
pub(super) fn change_freeze(
    transaction: &Transaction<'_>,
    change: &FreezeChange,
    instance: &str,
) -> DbResult<bool> {
    if !is_executing(transaction, change.while_executing, instance)? || frozen(transaction)? != change.from {
        return Ok(false);
    }
    rows::execute(transaction, "DELETE FROM settings WHERE name = 'frozen'", [])?;
    if let Some(frozen) = &change.to {
        let value = serde_json::to_string(frozen)?;
        rows::execute(transaction, "INSERT INTO settings (name, value) VALUES ('frozen', ?1)", [value])?;
    }
    Ok(true)
}

/// Tells whether an instance executes a run, if there is one.
pub(super) fn is_executing(
    transaction: &Transaction<'_>,
    run: Option<RunId>,
    instance: &str,
) -> DbResult<bool> {
    let Some(run) = run else { return Ok(true) };
    let sql = "SELECT 1 FROM runs WHERE id = ?1 AND state = 'running' AND owner = ?2";
    Ok(rows::first(transaction, sql, params![run, instance], |_| Ok(()))?.is_some())
}
