//! A migration whose Countersign process died: its progress while it still runs, and its result once it can't run any more. Reads
//! the sessions and the migration history, and changes nothing.

use super::execute::{BackendFilter, BackendStatus, application_name, progress};
use super::migration_history::MigrationHistory;
use super::target::{LockHolder, MigrateIdentity, MigrateTarget, lock_holder};
use super::{Execution, Outcome, planned_target, text};
use crate::app::Share;
use crate::model::EventKind;
use crate::sql::duration;
use jiff::Timestamp;
use std::time::Duration;

/// Time beyond its limit after which a command that left no trace counts as over.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// The state of an interrupted run on the server.
struct Snapshot<'a> {
    target: MigrateTarget<'a>,
    /// The migration history, or the reason why it can't be read.
    history: Result<MigrationHistory, String>,
    backends: BackendStatus,
    lock_holder: Option<LockHolder>,
    /// The history has changed since the plan was made.
    changed: bool,
}

/// Reads the state. An error is the reason why it can't be read; `None` where the plan's target is unknown.
async fn inspect<'a>(execution: &Execution<'a>) -> Result<Snapshot<'a>, Option<String>> {
    let target = planned_target(execution).map_err(|_| None)?;
    let reason = |error: &dyn std::fmt::Display| format!("{} {error}", target.database());
    let (environments, connections) = (&execution.app.environments, &target.connections);
    let reader = environments.acquire(&connections.reader_address(), &execution.asker).await;
    let reader = reader.map_err(|error| Some(reason(&error)))?;
    let application = application_name(execution.run);
    // From any time: the name is this run's alone, and two clocks may differ.
    let filter = BackendFilter { application: &application, role: &target.role.user, since: "-infinity" };
    let lock_holder = lock_holder(&reader).await.map_err(|error| Some(reason(&error)))?;
    let backends = filter.backends(&reader).await.map_err(|error| Some(reason(&error)))?;
    let history = match environments.acquire(&connections.address, &execution.asker).await {
        Ok(client) => target.history(&client).await.map_err(|error| reason(&error)),
        Err(error) => Err(reason(&error)),
    };
    let planned: MigrateIdentity = execution.plan.target().unwrap_or_default();
    let changed = history.as_ref().is_ok_and(|history| planned.ledger != history.ledger_digest());
    Ok(Snapshot { history, backends, lock_holder, changed, target })
}

impl Snapshot<'_> {
    /// A session of the command, or of whoever holds Prisma's lock, still runs.
    fn is_active(&self) -> bool {
        self.lock_holder.is_some() || !self.backends.pids.is_empty()
    }

    /// Time at which it counts as over although the migration history never changed. The run was opened by the request and
    /// approved later, so both waits are added.
    fn abandoned_at(&self, execution: &Execution<'_>) -> Timestamp {
        let approval = &execution.app.config.approval;
        let limit = self.target.migrate.within + ABANDONED_AFTER;
        execution.run.opened_at + limit + approval.wait + approval.start_within
    }

    fn is_settled(&self, execution: &Execution<'_>) -> bool {
        !self.is_active() && (self.changed || Timestamp::now() > self.abandoned_at(execution))
    }
}

/// The target and its migration history. `None` while the command may still run: it has a session, Prisma's lock is held, or it
/// may not have started yet.
pub async fn final_history<'a>(execution: &Execution<'a>) -> Option<(MigrateTarget<'a>, MigrationHistory)> {
    let snapshot = inspect(execution).await.ok()?;
    if !snapshot.is_settled(execution) {
        return None;
    }
    Some((snapshot.target, snapshot.history.ok()?))
}

pub async fn deploy(execution: &Execution<'_>) -> Option<Outcome> {
    let (target, history) = final_history(execution).await?;
    // A plan without the pending names can't tell whether all of them were applied.
    let expected = text::shown_pending(execution.plan)?;
    Some(text::recovered_outcome(&target, &history, &expected))
}

/// Progress of a command that runs, or may run, without Countersign; `None` once it can't run any more.
pub async fn watch(execution: &Execution<'_>) -> Option<Share> {
    let snapshot = match inspect(execution).await {
        Ok(snapshot) => snapshot,
        Err(error) => {
            return error.map(|error| Share { percent: None, label: format!("state unknown: {error}") });
        }
    };
    if snapshot.is_settled(execution) {
        return None;
    }
    let names = text::shown_pending(execution.plan);
    let mut applied = None;
    if let (Some(names), Ok(history)) = (&names, &snapshot.history) {
        applied = Some(names.iter().filter(|name| history.is_applied(name)).count());
    }
    let mut progress = progress(applied, names.map(|names| names.len()));
    progress.label.push_str(&format!(" · {}", activity(&snapshot, execution)));
    if let Err(error) = &snapshot.history {
        progress.label.push_str(&format!(" · migration history unavailable: {error}"));
    }
    if let Some(overdue) = overdue(&snapshot, execution) {
        progress.label.push_str(&format!("\n{overdue}"));
    }
    Some(progress)
}

/// The session that works for it, and the session that blocks it.
fn activity(snapshot: &Snapshot<'_>, execution: &Execution<'_>) -> String {
    let Snapshot { backends, lock_holder, .. } = snapshot;
    let wait = |conjunction: &str| match &backends.blocker {
        Some(blocker) => format!("{conjunction} has {blocker}"),
        None => String::new(),
    };
    if backends.named && !backends.pids.is_empty() {
        let pids: Vec<String> = backends.pids.iter().map(ToString::to_string).collect();
        return format!("its session is pid {}{}", pids.join(" and "), wait(", which"));
    }
    match lock_holder {
        Some(LockHolder { pid, app, .. }) => {
            let wait = wait(" and");
            format!("pid {pid} ({app}) holds Prisma's lock{wait}: its session, or another deploy's")
        }
        None if backends.pids.is_empty() => {
            let until = crate::sql::moment(snapshot.abandoned_at(execution));
            format!("no session found, so it may not have started; watched until {until}")
        }
        None => "a session of its role waits for Prisma's lock".to_owned(),
    }
}

/// A line about a passed time limit and the command that ends the migration: no process ends it automatically any more.
fn overdue(snapshot: &Snapshot<'_>, execution: &Execution<'_>) -> Option<String> {
    let within = snapshot.target.migrate.within;
    let began = execution.run.event(EventKind::Started)?.at;
    let overdue = Timestamp::now().duration_since(began + within);
    if !overdue.is_positive() || !snapshot.is_active() {
        return None;
    }
    let ends = match (&snapshot.lock_holder, snapshot.backends.named) {
        (Some(lock_holder), false) => format!("kill {}", lock_holder.pid),
        _ => format!("stop {}", execution.run.id),
    };
    let limit = duration(within.as_secs_f64());
    let overdue = duration(overdue.as_secs_f64());
    Some(format!(
        "Its time limit of {limit} passed {overdue} ago, and it is no longer ended automatically: type {ends}."
    ))
}
