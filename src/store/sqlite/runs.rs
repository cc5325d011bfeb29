//! Runs and their events inside one write transaction: opening, appending, erasing. Whether a transition is allowed is
//! `runs`' business; whether anyone still waits for the answer, the worker's.

use super::connection::{DbError, DbResult};
use super::worker::Compensation;
use super::{cards, freeze, queries};
use crate::model::{Run, RunId, RunRequest, RunState};
use crate::store::hash_chain::{self, Hash, Position};
use crate::store::{Append, AppendOutcome, NewEvent, NewRun, OpenOutcome};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use std::collections::BTreeSet;

/// Opens a run, or returns the obstacle; in that case nothing is written. `owner` is this instance.
pub(super) fn open(transaction: &Transaction<'_>, new: &NewRun, owner: &str) -> DbResult<OpenOutcome> {
    let duplicate = transaction
        .prepare_cached("SELECT id FROM runs WHERE delivery_id = ?1")?
        .query_row([&new.delivery_id], |row| row.get(0))
        .optional()?;
    if let Some(run) = duplicate {
        return Ok(OpenOutcome::Duplicate(run));
    }
    if new.unless_frozen
        && let Some(frozen) = freeze::frozen(transaction)?
    {
        return Ok(OpenOutcome::Frozen(frozen));
    }
    if let Some(since) = new.unless_break_glass_since
        && let Some(last) = break_glass_since(transaction, since)?
    {
        return Ok(OpenOutcome::RateLimited(Box::new(existing(transaction, last)?)));
    }
    // A run that is closed from the start takes no locks.
    let resource_locks: BTreeSet<&String> =
        if new.first.state.is_open() { new.resource_locks.iter().collect() } else { BTreeSet::new() };
    let environment = new.request.environment.as_deref().unwrap_or_default();
    for resource in &resource_locks {
        if let Some(by) = lock_holder(transaction, environment, resource)? {
            return Ok(OpenOutcome::ResourceBusy { resource: (*resource).clone(), by });
        }
    }
    let at = now();
    let run = insert_run(transaction, new, at)?;
    append(transaction, EventPosition { run, at, request: Some(&new.request) }, &new.first)?;
    if needs_owner(new.first.state) {
        transaction.execute("UPDATE runs SET owner = ?2 WHERE id = ?1", params![run, owner])?;
    }
    for (place, kind) in &new.cards {
        cards::add(transaction, run, place, *kind)?;
    }
    for resource in resource_locks {
        transaction
            .prepare_cached("INSERT INTO resource_locks (environment, resource, run) VALUES (?1, ?2, ?3)")?
            .execute(params![environment, resource, run])?;
    }
    Ok(OpenOutcome::New(Box::new(existing(transaction, run)?)))
}

/// The newest break-glass run since then, in any environment.
fn break_glass_since(transaction: &Transaction<'_>, since: Timestamp) -> DbResult<Option<RunId>> {
    let newest = transaction
        .prepare_cached(
            "SELECT id FROM runs WHERE break_glass <> 0 AND opened_at >= ?1 ORDER BY id DESC LIMIT 1",
        )?
        .query_row([since.as_microsecond()], |row| row.get(0))
        .optional()?;
    Ok(newest)
}

fn lock_holder(transaction: &Transaction<'_>, environment: &str, resource: &str) -> DbResult<Option<RunId>> {
    let holder = transaction
        .prepare_cached("SELECT run FROM resource_locks WHERE environment = ?1 AND resource = ?2")?
        .query_row([environment, resource], |row| row.get(0))
        .optional()?;
    Ok(holder)
}

fn insert_run(transaction: &Transaction<'_>, new: &NewRun, at: Timestamp) -> DbResult<RunId> {
    transaction
        .prepare_cached(
            "INSERT INTO runs (version, state, request, delivery_id, opened_at, changed_at, deadline)
             VALUES (1, ?1, ?2, ?3, ?4, ?4, ?5)",
        )?
        .execute(params![
            queries::word(&new.first.state)?,
            serde_json::to_string(&new.request)?,
            new.delivery_id,
            at.as_microsecond(),
            new.first.deadline.map(Timestamp::as_microsecond),
        ])?;
    Ok(transaction.last_insert_rowid())
}

/// Appends if the version still fits, or returns the obstacle; in that case nothing is written. `owner` is this instance.
pub(super) fn append_if(transaction: &Transaction<'_>, new: &Append, owner: &str) -> DbResult<AppendOutcome> {
    let run = existing(transaction, new.run)?;
    if run.version != new.version {
        return Ok(AppendOutcome::VersionConflict(Box::new(run)));
    }
    if new.unless_frozen
        && let Some(frozen) = freeze::frozen(transaction)?
    {
        return Ok(AppendOutcome::Frozen(frozen));
    }
    let change = &new.change;
    if !run.state.is_open()
        && change.state.is_open()
        && let Some((resource, by)) = resume_locks(transaction, run.id)?
    {
        return Ok(AppendOutcome::ResourceBusy { resource, by });
    }
    advance(transaction, run.id, change)?;
    if needs_owner(change.state) && change.state != run.state {
        transaction.execute("UPDATE runs SET owner = ?2 WHERE id = ?1", params![run.id, owner])?;
    }
    Ok(AppendOutcome::Done(Box::new(existing(transaction, run.id)?)))
}

/// Takes the suspended locks of a run again. If another run holds one of them, takes none and returns its holder.
fn resume_locks(transaction: &Transaction<'_>, run: RunId) -> DbResult<Option<(String, RunId)>> {
    let taken = transaction
        .prepare_cached(
            "SELECT resource_locks.resource, resource_locks.run
               FROM suspended_locks JOIN resource_locks USING (environment, resource)
              WHERE suspended_locks.run = ?1",
        )?
        .query_row([run], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if taken.is_none() {
        let resume = "INSERT INTO resource_locks (environment, resource, run) SELECT environment, resource, run FROM suspended_locks WHERE run = ?1";
        transaction.prepare_cached(resume)?.execute([run])?;
        transaction.prepare_cached("DELETE FROM suspended_locks WHERE run = ?1")?.execute([run])?;
    }
    Ok(taken)
}

/// Compensates a commit whose caller timed out, unless the run has changed since.
pub(super) fn compensate(transaction: &Transaction<'_>, compensation: &Compensation) -> DbResult<()> {
    let (run, version, change) = match compensation {
        Compensation::Claim { card, claimed_by } => {
            return cards::release_claim(transaction, *card, claimed_by);
        }
        Compensation::Run { run, version, change } => (*run, *version, change),
    };
    match queries::get(transaction, run)? {
        Some(run) if run.version == version => advance(transaction, run.id, change),
        // The run may be missing: its file may have been replaced, for example by an older copy.
        _ => Ok(()),
    }
}

/// States that a process is responsible for.
fn needs_owner(state: RunState) -> bool {
    matches!(state, RunState::Approved | RunState::Running)
}

fn existing(transaction: &Transaction<'_>, run: RunId) -> DbResult<Run> {
    queries::get(transaction, run)?.ok_or_else(|| DbError::Message(format!("there is no run {run}")))
}

/// One more event of an existing run: event, state, deadline and released resources.
fn advance(transaction: &Transaction<'_>, run: RunId, change: &NewEvent) -> DbResult<()> {
    let at = now();
    append(transaction, EventPosition { run, at, request: None }, change)?;
    transaction
        .prepare_cached(
            "UPDATE runs SET version = version + 1, state = ?2, changed_at = ?3, deadline = ?4 WHERE id = ?1",
        )?
        .execute(params![
            run,
            queries::word(&change.state)?,
            at.as_microsecond(),
            change.deadline.map(Timestamp::as_microsecond),
        ])?;
    match change.state {
        open if open.is_open() => return Ok(()),
        // The run may resume.
        RunState::Interrupted => {
            let suspend = "INSERT INTO suspended_locks (environment, resource, run) SELECT environment, resource, run FROM resource_locks WHERE run = ?1";
            transaction.prepare_cached(suspend)?.execute([run])?;
        }
        _ => {
            transaction.prepare_cached("DELETE FROM suspended_locks WHERE run = ?1")?.execute([run])?;
        }
    }
    transaction.prepare_cached("DELETE FROM resource_locks WHERE run = ?1")?.execute([run])?;
    Ok(())
}

/// The run of an event, and its time.
struct EventPosition<'a> {
    run: RunId,
    at: Timestamp,
    request: Option<&'a RunRequest>,
}

fn append(transaction: &Transaction<'_>, event: EventPosition<'_>, change: &NewEvent) -> DbResult<()> {
    let last: Option<(i64, Hash)> = transaction
        .prepare_cached("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (last, previous) = last.unwrap_or((0, hash_chain::FIRST));
    let seq = last + 1;
    let position = Position { previous, seq, run: event.run, at: event.at, request: event.request };
    let link = hash_chain::link(position, change).map_err(|error| DbError::Message(error.to_string()))?;
    transaction
        .prepare_cached("INSERT INTO events (seq, run, bytes, hash) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![seq, event.run, link.bytes, link.hash])?;
    for (name, text) in &change.texts {
        transaction
            .prepare_cached("INSERT INTO event_texts (seq, name, key, text) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![seq, name, link.keys.get(name), text])?;
    }
    Ok(())
}

/// Erases every text of that name from a run, with its key, and returns their number.
pub(super) fn erase(transaction: &Transaction<'_>, run: RunId, name: &str) -> DbResult<usize> {
    let sql = "DELETE FROM event_texts WHERE name = ?2 AND seq IN (SELECT seq FROM events WHERE run = ?1)";
    Ok(transaction.execute(sql, params![run, name])?)
}

fn now() -> Timestamp {
    hash_chain::microseconds(Timestamp::now())
}
