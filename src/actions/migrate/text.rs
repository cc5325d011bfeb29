//! What `migrate` and `migrate-resolve` say: plans, refusals, and what came of a command by the ledger.

use super::PlanFacts;
use super::execute::{Blocker, CommandResult, CommandSessions, ExitReason};
use super::migration_history::{HistoryError, MigrationAttempt, MigrationHistory};
use super::target::{LockHolder, MigrateTarget};
use crate::actions::Outcome;
use crate::actions::support::blocks::{count, table};
use crate::actions::support::subprocess::ending;
use crate::error::Error;
use crate::model::{Block, Cell, EventKind, Plan, Shape, Table, Text};
use crate::sql::duration;
use serde_json::json;

/// Characters of what Prisma logged: its beginning says what failed.
const LOGGED: usize = 900;

/// Names in a sentence: all of them are in the ledger.
const NAMED: usize = 5;

pub fn listed(names: &[&str]) -> String {
    let first = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn migrations(number: usize) -> String {
    count(number, "migration", "migrations")
}

pub fn unread(job: &MigrateTarget<'_>, why: &HistoryError) -> Error {
    let problem = format!("{} {why}.", job.database());
    match why {
        HistoryError::Unreadable(_) => Error::instead(
            problem,
            format!(
                "{} could migrate nothing: name a login `owner` in the configuration whose role owns the tables.",
                job.login.user
            ),
        ),
        _ => Error::user(problem),
    }
}

/// A migration runs, or what is left of one.
pub fn held(job: &MigrateTarget<'_>, holder: &LockHolder) -> Error {
    let LockHolder { pid, app, state, for_s } = holder;
    let problem = format!(
        "Prisma's lock on {} is held by pid {pid} ({app}), which has been {state} for {}.",
        job.database(),
        duration(*for_s)
    );
    let instead = match state.starts_with("idle") {
        true => format!("If no deploy is running, `kill {pid}` frees it."),
        false => format!("It works: wait for it, or look with `locks {pid}`."),
    };
    Error::instead(problem, instead)
}

/// An open migration bars the way.
pub fn barred(job: &MigrateTarget<'_>, open: &MigrationAttempt) -> Error {
    let (service, name) = (&job.service.name, &open.migration_name);
    let what = if open.logs.is_some() { "failed" } else { "was started and never finished" };
    Error::instead(
        format!(
            "{name} {what} in {}, and Prisma deploys nothing until that is resolved (P3009).",
            job.database()
        ),
        format!(
            "Look at what it left behind, then type `migrate-resolve {service} {name} --as rolled-back`, or `--as applied`."
        ),
    )
}

pub fn nothing_to_come(job: &MigrateTarget<'_>, status: &MigrationHistory) -> Error {
    let applied = migrations(status.applied().len());
    let mut problem = format!("Nothing is to come: {applied} applied in {}.", job.database());
    for (names, what) in [
        (status.edited(), "edited after it was applied"),
        (status.gone(), "applied and not in the directory"),
    ] {
        if !names.is_empty() {
            problem.push_str(&format!(" {}: {}.", capital(what), listed(&names)));
        }
    }
    Error::instead(problem, "Nobody is asked.")
}

fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

/// The title of the names on a card.
const TO_COME: &str = "to come, in this order";

/// The names on a card; `None` where none could be told.
pub fn shown_to_come(plan: &Plan) -> Option<Vec<&str>> {
    let is_it = |table: &&Table| table.columns.first().is_some_and(|column| column.title == TO_COME);
    let rows = &plan.tables.iter().find(is_it)?.rows;
    Some(rows.iter().filter_map(|row| Some(row.cells.first()?.text.as_str())).collect())
}

/// What a deploy would do.
pub fn describe(job: &MigrateTarget<'_>, seen: &PlanFacts, argv: &[String]) -> Plan {
    let status = &seen.status;
    let place = format!("{} of {}", job.database(), job.environment.name);
    let to_come = status.to_come();
    let effect = match &to_come {
        Some(names) => format!("Applies {} to {place}.", migrations(names.len())),
        None => format!("Applies whatever migrations are to come to {place}."),
    };
    let mut plan = Plan::of(effect);
    identify(job, seen, (&mut plan, argv));
    let applied = status.applied();
    let latest = applied.last().map_or(String::new(), |name| format!("; the latest is {name}"));
    let before = match status.has_ledger {
        true => format!("{} applied, none open{latest}", applied.len()),
        false => "no ledger: nothing was ever applied by Prisma".to_owned(),
    };
    plan.context.insert(0, ("before".to_owned(), before));
    match to_come {
        Some(names) => {
            let rows = names.iter().map(|name| vec![Cell::from(*name)]).collect();
            plan.tables.push(table(&[(TO_COME, Shape::Left)], rows));
        }
        None => {
            let line = "no migrations directory is configured, so nobody can tell".to_owned();
            plan.context.push(("to come".to_owned(), line));
        }
    }
    for (name, names) in [("edited since applied", status.edited()), ("not in the directory", status.gone())]
    {
        if !names.is_empty() {
            plan.context.push((name.to_owned(), listed(&names)));
        }
    }
    plan.impact = "Whoever uses what the migrations change: most lock their tables against reads and writes (ACCESS EXCLUSIVE) \
                  until they are done, and while one waits for such a lock, everybody else queues behind it."
        .to_owned();
    plan.rollback =
        "None: Prisma has no way down. What a migration did is changed by another one.".to_owned();
    plan
}

pub fn identify(job: &MigrateTarget<'_>, seen: &PlanFacts, (plan, argv): (&mut Plan, &[String])) {
    let status = &seen.status;
    job.describe(plan, argv);
    let port = job.server.port.to_string();
    let way = match seen.port == port {
        true => format!("port {port}, the server itself"),
        false => format!(
            "port {port}, and the server listens on {}: a tunnel will do, a pooler won't, as it would lose Prisma's lock",
            seen.port
        ),
    };
    plan.context.push(("connects to".to_owned(), way));
    plan.identity.insert("ledger".to_owned(), status.ledger_digest());
    let mut same = "Prisma's ledger is as it was shown";
    if let Some(digest) = status.directory_digest() {
        plan.identity.insert("migrations".to_owned(), digest);
        same = "Prisma's ledger and the migrations directory are as they were shown";
    }
    plan.guards.insert("same".to_owned(), same.to_owned());
    plan.guards.insert("unlocked".to_owned(), "nobody holds Prisma's lock".to_owned());
}

/// How the command ended, for a sentence that has said what was applied.
pub fn end_of(ended: &CommandResult, job: &MigrateTarget<'_>) -> String {
    match &ended.end {
        ExitReason::Exited(status) => format!("the command {}", ending(*status)),
        ExitReason::Stopped => "it was stopped".to_owned(),
        ExitReason::Ending => "Countersign was told to end, and ended the command".to_owned(),
        ExitReason::OutOfTime => {
            format!("it was ended at its time limit of {}", duration(job.migrate.within.as_secs_f64()))
        }
        ExitReason::Unknown(why) => format!("how the command ended can't be told ({})", why.kind()),
    }
}

/// What came of a deploy: the ledger's word, with the command's beside it.
pub fn outcome(
    job: &MigrateTarget<'_>,
    (before, after): (&MigrationHistory, &MigrationHistory),
    ended: &CommandResult,
) -> Outcome {
    let now = after.applied().into_iter().filter(|name| !before.is_applied(name)).collect::<Vec<_>>();
    let expected = before.to_come();
    let missing: Vec<&str> =
        expected.iter().flatten().copied().filter(|name| !after.is_applied(name)).collect();
    let open = after.open();
    let all = open.is_none() && missing.is_empty();
    let done = match (now.len(), expected.as_ref().map(Vec::len)) {
        (0, _) => "No migration was applied".to_owned(),
        (some, Some(of)) if some < of => format!("{some} of {} applied", migrations(of)),
        (some, _) => format!("{} applied", migrations(some)),
    };
    let (database, end) = (job.database(), end_of(ended, job));
    let partly = if now.is_empty() { EventKind::Failed } else { EventKind::Partial };
    let well = matches!(&ended.end, ExitReason::Exited(status) if status.success());
    let (happening, verdict) = match (&ended.end, all) {
        (ExitReason::Exited(_), true) if well => {
            let took = duration(ended.took.as_secs_f64());
            (EventKind::Succeeded, format!("{done} to {database}, in {took}."))
        }
        (ExitReason::Exited(_), false) if well => (
            partly,
            format!(
                "{done} to {database}: the command says that all is well, and the ledger says otherwise."
            ),
        ),
        (ExitReason::Exited(_), true) if expected.is_some() => (
            EventKind::Partial,
            format!("{done} to {database}, all that were to come, but {end}: look at its output."),
        ),
        (ExitReason::Stopped | ExitReason::Ending, _) => {
            (EventKind::Stopped, format!("{done} to {database} when {end}."))
        }
        _ => (partly, format!("{done} to {database}: {end}.")),
    };
    let mut outcome = told(job, (happening, verdict), ended);
    let lines = fates((&now, &missing), after);
    if !lines.is_empty() {
        outcome.blocks.insert(0, Block::Facts(lines));
    }
    if let Some(open) = open {
        logged(&mut outcome, open, ended);
        let (service, name) = (&job.service.name, &open.migration_name);
        let text = Text::new().plain(
            "No migration can be deployed until that is resolved. Look at what it left behind, then type ",
        );
        let text = text.code(format!("migrate-resolve {service} {name} --as rolled-back"));
        outcome.blocks.push(Block::Note(text.plain(", or ").code("--as applied").plain(".")));
    }
    outcome.facts["applied"] = json!(now);
    outcome.facts["open"] = json!(open.map(|open| &open.migration_name));
    outcome
}

/// What became of each migration that was to come.
fn fates((now, missing): (&[&str], &[&str]), after: &MigrationHistory) -> Vec<(String, Text)> {
    let untouched = missing.iter().copied().filter(|name| !after.is_open(name)).collect();
    let open = after.open().map(|open| {
        let what = if open.logs.is_some() { "failed" } else { "started, not finished" };
        (what, vec![open.migration_name.as_str()])
    });
    let all = [Some(("applied now", now.to_vec())), open, Some(("not begun", untouched))];
    let some = all.into_iter().flatten().filter(|(_, names)| !names.is_empty());
    some.map(|(what, names)| (what.to_owned(), Text::from(listed(&names)))).collect()
}

/// What Prisma noted of a failure, which can hold customers' data.
fn logged(outcome: &mut Outcome, open: &MigrationAttempt, ended: &CommandResult) {
    let Some(logs) = &open.logs else { return };
    let seen: String = ended.output.hide(logs).chars().take(LOGGED).collect();
    let title = Some(format!("What Prisma logged of {}", open.migration_name));
    outcome.blocks.push(Block::Code { title, text: seen });
}

/// What every end has: the command's output, and what is left of it on the server.
pub fn told(
    job: &MigrateTarget<'_>,
    (happening, verdict): (EventKind, String),
    ended: &CommandResult,
) -> Outcome {
    let mut outcome = Outcome::new(happening, verdict);
    let was_ended = !matches!(ended.end, ExitReason::Exited(_));
    let note = match &ended.sessions {
        CommandSessions::Gone if was_ended => Some("Its session is gone from the server.".to_owned()),
        CommandSessions::Gone => None,
        CommandSessions::CommandResult => Some(
            "Its session went on without it and was ended: what it had not committed is rolled back."
                .to_owned(),
        ),
        CommandSessions::Left(pids) => {
            let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
            outcome.kind = EventKind::Interrupted;
            Some(format!(
                "Its session is still on the server, and may still change it: `kill {}`.",
                pids.join("`, `kill ")
            ))
        }
        CommandSessions::Unseen(why) => {
            if was_ended {
                outcome.kind = EventKind::Interrupted;
            }
            Some(format!("Whether its session is gone can't be seen: {} {why}.", job.server.name))
        }
    };
    if let Some(wait) = ended.waited.as_ref().filter(|_| happening != EventKind::Succeeded) {
        outcome.blocks.push(waited(wait));
    }
    let output = ended.output.whole();
    if !output.is_empty() {
        let title = Some("Its output, without secrets and data".to_owned());
        outcome.blocks.push(Block::Code { title, text: output });
    }
    if let Some(note) = note {
        outcome.blocks.push(Block::Note(crate::sql::fill(&note, &|_| None)));
    }
    let code = match &ended.end {
        ExitReason::Exited(status) => status.code(),
        _ => None,
    };
    outcome.facts = json!({ "exit": code, "seconds": ended.took.as_secs() });
    outcome
}

/// Whom it waited for at last, which is who was in its way.
fn waited(wait: &Blocker) -> Block {
    let text = Text::new().plain(format!("At last it had {}: ", wait.words()));
    let text = text.code(format!("locks {}", wait.pid)).plain(" tells what that holds, ");
    Block::Note(text.code(format!("kill {}", wait.pid)).plain(" ends it."))
}

/// The ledger can't be read afterwards.
pub fn unknown(job: &MigrateTarget<'_>, why: &HistoryError, ended: &CommandResult) -> Outcome {
    let verdict = format!(
        "What came of it is unknown: {}, and {} {why}. Look with `migrations {}` before asking again.",
        end_of(ended, job),
        job.database(),
        job.service.name
    );
    told(job, (EventKind::Interrupted, verdict), ended)
}

/// Behind what the ledger says of an interrupted run.
pub const INTERRUPTED: &str = "Countersign was interrupted and can't tell how the command ended.";

/// What an interrupted deploy has done, by the ledger alone.
pub fn observed(job: &MigrateTarget<'_>, status: &MigrationHistory, expected: &[&str]) -> Outcome {
    let done = expected.iter().filter(|name| status.is_applied(name)).count();
    let (happening, open) = match (done, status.open()) {
        (done, None) if done == expected.len() => (EventKind::Succeeded, String::new()),
        (0, open) => {
            (EventKind::Failed, open.map_or(String::new(), |open| format!(" {}", barred(job, open))))
        }
        (_, open) => {
            (EventKind::Partial, open.map_or(String::new(), |open| format!(" {}", barred(job, open))))
        }
    };
    let all = migrations(expected.len());
    Outcome::new(happening, format!("{done} of {all} applied to {}.{open} {INTERRUPTED}", job.database()))
}
