//! Texts of `migrate` and `migrate-resolve`: plans, errors, and outcomes by the migration history.

use super::MigrationInspection;
use super::execute::{CommandResult, ProcessEnd, SessionCleanup};
use super::migration_history::{HistoryError, MigrationAttempt, MigrationHistory};
use super::target::{LockHolder, MigrateIdentity, MigrateTarget};
use crate::actions::Outcome;
use crate::actions::support::blocks::{self, count, table};
use crate::actions::support::subprocess::describe_exit_status;
use crate::error::Error;
use crate::model::{Block, Cell, ColumnKind, EventKind, Plan, Text};
use crate::sql::duration;
use serde_json::json;

/// Characters of Prisma's log of a failure: its beginning names the error.
const MAX_LOG_CHARS: usize = 900;

const MAX_NAMES: usize = 5;

const BLOCKED: &str = "Deploys are blocked (P3009) until you mark it applied or rolled back.";

pub fn join_names(names: &[&str]) -> String {
    let first = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn migrations(number: usize) -> String {
    count(number, "migration", "migrations")
}

pub fn history_error(target: &MigrateTarget<'_>, error: &HistoryError) -> Error {
    let problem = format!("{} {error}.", target.database());
    let HistoryError::Unreadable(_) = error else { return Error::user(problem) };
    let role = &target.role.user;
    let instead =
        format!("{role} can't migrate it: configure a login `owner` with the role that owns the tables.");
    Error::instead(problem, instead)
}

pub fn lock_held_error(target: &MigrateTarget<'_>, holder: &LockHolder) -> Error {
    let LockHolder { pid, app, state, for_s } = holder;
    let (database, time) = (target.database(), duration(*for_s));
    let instead = if state.starts_with("idle") {
        format!("If no deploy is running, `kill {pid}` releases the lock.")
    } else {
        format!("Wait until it ends, or inspect it with `locks {pid}`.")
    };
    let holder = format!("is held by pid {pid} ({app}), which has been {state} for {time}");
    Error::instead(format!("Prisma's lock on {database} {holder}."), instead)
}

pub fn unresolved_error(target: &MigrateTarget<'_>, attempt: &MigrationAttempt) -> Error {
    let (service, database) = (&target.service.name, target.database());
    let name = &attempt.name;
    let state = if attempt.logs.is_some() { "failed" } else { "was started and never finished" };
    let resolve = format!("migrate-resolve {service} {name} --as rolled-back");
    Error::instead(
        format!("{name} {state} in {database}. {BLOCKED}"),
        format!("Check what it changed, then type `{resolve}`, or `--as applied`."),
    )
}

pub fn nothing_pending_error(target: &MigrateTarget<'_>, history: &MigrationHistory) -> Error {
    let applied = migrations(history.applied_names().len());
    let mut problem = format!("No migrations are pending: {applied} applied in {}.", target.database());
    for (names, state) in [
        (history.edited_names(), "Edited after it was applied"),
        (history.missing_files(), "Applied and not in the directory"),
    ] {
        if !names.is_empty() {
            problem.push_str(&format!(" {state}: {}.", join_names(&names)));
        }
    }
    Error::instead(problem, "No approval is requested.")
}

const PENDING_TITLE: &str = "pending, in this order";

/// Names of the pending migrations on a card; `None` where they were unknown.
pub fn shown_pending(plan: &Plan) -> Option<Vec<&str>> {
    let pending =
        plan.tables.iter().find(|table| table.columns.iter().any(|column| column.title == PENDING_TITLE));
    Some(pending?.rows.iter().filter_map(|row| Some(row.cells.first()?.text.as_str())).collect())
}

pub fn describe(target: &MigrateTarget<'_>, inspection: &MigrationInspection, argv: &[String]) -> Plan {
    let history = &inspection.history;
    let place = format!("{} of {}", target.database(), target.environment.name);
    let pending = history.pending_names();
    let effect = match &pending {
        Some(names) => format!("Applies {} to {place}.", migrations(names.len())),
        None => format!("Applies all pending migrations to {place}."),
    };
    let mut plan = Plan::of(effect);
    let applied = history.applied_names();
    let before = if history.table_exists {
        let latest = applied.last().map_or(String::new(), |name| format!("; the latest is {name}"));
        format!("{} applied, none failed{latest}", applied.len())
    } else {
        "no migration history: Prisma has never applied a migration here".to_owned()
    };
    plan.add_context("before", before);
    identify(&mut plan, target, inspection, argv);
    if let Some(names) = pending {
        let rows = names.iter().map(|name| vec![Cell::from(*name)]).collect();
        plan.tables.push(table(&[(PENDING_TITLE, ColumnKind::Left)], rows));
    } else {
        plan.add_context("pending", "unknown: no migrations directory is configured");
    }
    for (name, names) in
        [("edited since applied", history.edited_names()), ("not in the directory", history.missing_files())]
    {
        if !names.is_empty() {
            plan.add_context(name, join_names(&names));
        }
    }
    plan.impact =
        "Most migrations lock their tables against reads and writes (ACCESS EXCLUSIVE) until they finish. \
                   While one waits for its lock, all later queries on the table queue behind it."
            .to_owned();
    plan.rollback = "None: Prisma has no down migrations. Write a new migration to reverse one.".to_owned();
    plan
}

/// Adds what both commands' plans say: the database, the command, the way to the server and the guards.
pub fn identify(
    plan: &mut Plan,
    target: &MigrateTarget<'_>,
    inspection: &MigrationInspection,
    argv: &[String],
) {
    target.connections.write_to(plan);
    let history = &inspection.history;
    let (history_digest, directory_digest) = (history.digest(), history.directory_digest());
    plan.set_target(&MigrateIdentity { history_digest, directory_digest });
    plan.code = Some(target.code(argv));
    plan.resource_locks = vec![target.resource()];
    let variables: Vec<&str> =
        target.migrate.env.keys().chain([&target.migrate.url]).map(String::as_str).collect();
    plan.add_context("environment variables", variables.join(", "));
    let limit = duration(target.migrate.timeout.as_secs_f64());
    plan.add_context("time limit", format!("{limit}; then it is ended"));
    let (port, own) = (target.server.port.to_string(), &inspection.server_port);
    let way = if port == *own {
        format!("port {port}, the server itself")
    } else {
        let why = "a tunnel works, a pooler doesn't, because it would lose Prisma's lock";
        format!("port {port}; the server listens on {own}: {why}")
    };
    plan.add_context("connects to", way);
    let same = match history.directory {
        Some(_) => "Prisma's migration history and the migrations directory are unchanged",
        None => "Prisma's migration history is unchanged",
    };
    plan.add_guard("same", same);
    plan.add_guard("unlocked", "no session holds Prisma's lock");
}

/// The command's end, as the second half of a sentence.
pub fn end_text(result: &CommandResult, target: &MigrateTarget<'_>) -> String {
    match &result.end {
        ProcessEnd::Exited(status) => format!("the command {}", describe_exit_status(*status)),
        ProcessEnd::Stopped => "it was stopped".to_owned(),
        ProcessEnd::ShutDown => "Countersign shut down and ended the command".to_owned(),
        ProcessEnd::TimedOut => {
            format!("it was ended at its time limit of {}", duration(target.migrate.timeout.as_secs_f64()))
        }
        ProcessEnd::Unknown(error) => format!("the command's exit status is unknown ({})", error.kind()),
    }
}

/// Outcome of a deploy by the migration history, with the command's own result beside it.
pub fn outcome(
    target: &MigrateTarget<'_>,
    before: &MigrationHistory,
    after: &MigrationHistory,
    result: &CommandResult,
) -> Outcome {
    let applied: Vec<&str> =
        after.applied_names().into_iter().filter(|name| !before.is_applied(name)).collect();
    let expected = before.pending_names();
    let mut missing = expected.clone().unwrap_or_default();
    missing.retain(|name| !after.is_applied(name));
    let unresolved = after.first_unresolved();
    let complete = unresolved.is_none() && missing.is_empty();
    let done = match (applied.len(), expected.as_ref().map(Vec::len)) {
        (0, _) => "No migration was applied".to_owned(),
        (some, Some(of)) if some < of => format!("{some} of {} applied", migrations(of)),
        (some, _) => format!("{} applied", migrations(some)),
    };
    let database = target.database();
    let end = end_text(result, target);
    let partial = if applied.is_empty() { EventKind::Failed } else { EventKind::Partial };
    let (kind, end) = match &result.end {
        ProcessEnd::Exited(_) if result.succeeded() && complete => {
            (EventKind::Succeeded, format!(", in {}", duration(result.elapsed.as_secs_f64())))
        }
        ProcessEnd::Exited(_) if result.succeeded() => (partial, format!(": {OTHERWISE}")),
        ProcessEnd::Exited(_) if complete && expected.is_some() => {
            (EventKind::Partial, format!(", all that were pending, but {end}: check its output"))
        }
        ProcessEnd::Stopped | ProcessEnd::ShutDown => (EventKind::Stopped, format!(" when {end}")),
        _ => (partial, format!(": {end}")),
    };
    let verdict = format!("{done} to {database}{end}.");
    let mut outcome = outcome_with_output(target, kind, verdict, result);
    let mut lines = vec![("applied now", join_names(&applied))];
    if let Some(attempt) = unresolved {
        let state = if attempt.logs.is_some() { "failed" } else { "started, not finished" };
        lines.push((state, attempt.name.clone()));
    }
    missing.retain(|name| !after.is_unresolved(name));
    lines.push(("not started", join_names(&missing)));
    lines.retain(|(_, names)| !names.is_empty());
    if !lines.is_empty() {
        let facts = lines.into_iter().map(|(state, names)| (state.to_owned(), names.into()));
        outcome.blocks.insert(0, Block::Facts(facts.collect()));
    }
    if let Some(attempt) = unresolved {
        outcome.blocks.extend(unresolved_blocks(target, attempt, result));
    }
    outcome.facts["applied"] = json!(applied);
    outcome.facts["open"] = json!(unresolved.map(|attempt| &attempt.name));
    outcome
}

/// Prisma's log of a migration that was not finished, and the next step.
fn unresolved_blocks(
    target: &MigrateTarget<'_>,
    attempt: &MigrationAttempt,
    result: &CommandResult,
) -> Vec<Block> {
    let text = Text::new()
        .plain(format!("{BLOCKED} Check what it changed, then type "))
        .code(format!("migrate-resolve {} {} --as rolled-back", target.service.name, attempt.name));
    let step = Block::Note(text.plain(", or ").code("--as applied").plain("."));
    // Redacted: Prisma's log can contain customers' data.
    let log = attempt.logs.as_ref().map(|logs| Block::Code {
        title: Some(format!("Prisma's log of {}", attempt.name)),
        text: result.output.hide(logs).chars().take(MAX_LOG_CHARS).collect(),
    });
    log.into_iter().chain([step]).collect()
}

/// An outcome with the command's output and the state of its sessions on the server.
pub fn outcome_with_output(
    target: &MigrateTarget<'_>,
    kind: EventKind,
    verdict: String,
    result: &CommandResult,
) -> Outcome {
    let mut outcome = Outcome::new(kind, verdict);
    if let Some(blocker) = &result.blocker
        && kind != EventKind::Succeeded
    {
        let text = Text::new().plain(format!("Before it ended, it had {blocker}: "));
        let text = text.code(format!("locks {}", blocker.pid)).plain(" shows its locks, ");
        outcome.blocks.push(Block::Note(text.code(format!("kill {}", blocker.pid)).plain(" ends it.")));
    }
    let text = result.output.whole();
    if !text.is_empty() {
        let title = Some("Output, without secrets and data".to_owned());
        outcome.blocks.push(Block::Code { title, text });
    }
    let was_ended = !matches!(result.end, ProcessEnd::Exited(_));
    let note = match &result.sessions {
        SessionCleanup::EndedThemselves if was_ended => "Its session ended.".to_owned(),
        SessionCleanup::EndedThemselves => String::new(),
        SessionCleanup::Terminated => {
            "Its session was still running and was ended: uncommitted changes were rolled back.".to_owned()
        }
        SessionCleanup::Remaining(pids) => {
            outcome.kind = EventKind::Interrupted;
            let kills: Vec<String> = pids.iter().map(|pid| format!("`kill {pid}`")).collect();
            format!("Its session is still running and may still make changes: {}.", kills.join(", "))
        }
        SessionCleanup::Unknown(error) => {
            if was_ended {
                outcome.kind = EventKind::Interrupted;
            }
            format!("The state of its session is unknown: {} {error}.", target.server.name)
        }
    };
    if !note.is_empty() {
        outcome.blocks.push(blocks::note(&note));
    }
    let code = if let ProcessEnd::Exited(status) = &result.end { status.code() } else { None };
    outcome.facts = json!({ "exit": code, "seconds": result.elapsed.as_secs() });
    outcome
}

/// Outcome where the migration history can't be read afterwards.
pub fn unknown(target: &MigrateTarget<'_>, error: &HistoryError, result: &CommandResult) -> Outcome {
    let (end, database, service) = (end_text(result, target), target.database(), &target.service.name);
    let check = format!("Check `migrations {service}` before you request it again.");
    let verdict = format!("The result is unknown: {end}, and {database} {error}. {check}");
    outcome_with_output(target, EventKind::Interrupted, verdict, result)
}

pub const OTHERWISE: &str = "the command reported success, but Prisma's migration history says otherwise";

/// Last sentence of an interrupted run's verdict.
pub const INTERRUPTED: &str = "Countersign was interrupted and can't tell how the command ended.";

/// Outcome of an interrupted deploy, by the migration history alone.
pub fn recovered_outcome(
    target: &MigrateTarget<'_>,
    history: &MigrationHistory,
    expected: &[&str],
) -> Outcome {
    let done = expected.iter().filter(|name| history.is_applied(name)).count();
    let unresolved = history.first_unresolved();
    let kind = match done {
        all if all == expected.len() && unresolved.is_none() => EventKind::Succeeded,
        0 => EventKind::Failed,
        _ => EventKind::Partial,
    };
    let error = unresolved.map_or(String::new(), |attempt| format!(" {}", unresolved_error(target, attempt)));
    let all = migrations(expected.len());
    Outcome::new(kind, format!("{done} of {all} applied to {}.{error} {INTERRUPTED}", target.database()))
}
