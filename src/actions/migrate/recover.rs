//! What an interrupted run does without the process that began it, and what it has left behind once nothing of it can go on: looks at
//! the sessions and the ledger, which change nothing.

use super::execute::{BackendFilter, BackendStatus, application, far, percent};
use super::migration_history::{Executor, MigrationHistory};
use super::target::{LockHolder, MigrateTarget, holder};
use super::{Execution, Outcome, planned, text};
use crate::app::Share;
use crate::model::EventKind;
use jiff::Timestamp;
use std::time::Duration;

/// A command that was left alone ends itself, or is looked at by a person; after so long beyond its time limit nothing new
/// comes of it.
const AT_LAST: Duration = Duration::from_secs(60);

/// What is to be seen of a run.
pub struct Snapshot<'a> {
    pub job: MigrateTarget<'a>,
    /// The ledger, or why it can't be read.
    status: Result<MigrationHistory, String>,
    sight: BackendStatus,
    /// Of Prisma's lock.
    holder: Option<LockHolder>,
    changed: bool,
}

/// # Errors
/// Why nothing can be seen, in words; `None` where it isn't known where to look.
async fn look<'a>(doing: &Execution<'a>) -> Result<Snapshot<'a>, Option<String>> {
    let job = planned(doing).map_err(|_| None)?;
    let unseen = |why: String| Some(format!("{} {why}", job.database()));
    let targets = &doing.app.environments;
    let reader = targets.lease(&job.address("reader"), &doing.asker).await;
    let reader = reader.map_err(|why| unseen(why.to_string()))?;
    let application = application(doing.run);
    // Whenever it began: the name is this run's, and two clocks may differ.
    let own = BackendFilter { application: &application, role: &job.login.user, since: "-infinity" };
    let holder = holder(&reader).await.map_err(|why| unseen(why.to_string()))?;
    let sight = own.sight(&reader).await.map_err(|why| unseen(why.to_string()))?;
    let status = match targets.lease(&job.own_address(), &doing.asker).await {
        Ok(own) => {
            job.status(&Executor::PooledClient(&own)).await.map_err(|why| format!("{} {why}", job.database()))
        }
        Err(why) => Err(format!("{} {why}", job.database())),
    };
    let shown = doing.plan.identity.get("ledger");
    let changed = status.as_ref().is_ok_and(|status| shown != Some(&status.ledger_digest()));
    Ok(Snapshot { status, sight, holder, changed, job })
}

impl Snapshot<'_> {
    /// Whether something of it is at work, or may be.
    fn is_at_work(&self) -> bool {
        self.holder.is_some() || !self.sight.pids.is_empty()
    }

    /// When it counts as over without a word of the ledger's. The run was opened when it was asked for, and approved later: that is
    /// on the safe side only if it is added.
    fn over_at(&self, doing: &Execution<'_>) -> Timestamp {
        let approval = &doing.app.config.approval;
        doing.run.opened_at + self.job.migrate.within + AT_LAST + approval.wait + approval.start_within
    }

    fn is_settled(&self, doing: &Execution<'_>) -> bool {
        !self.is_at_work() && (self.changed || Timestamp::now() > self.over_at(doing))
    }
}

/// The job, and the ledger as it is. `None` while the command may go on: a session of
/// its own is there, Prisma's lock is held, or it may not have begun yet.
pub async fn settled<'a>(doing: &Execution<'a>) -> Option<(MigrateTarget<'a>, MigrationHistory)> {
    let seen = look(doing).await.ok()?;
    if !seen.is_settled(doing) {
        return None;
    }
    Some((seen.job, seen.status.ok()?))
}

pub async fn deploy(doing: &Execution<'_>) -> Option<Outcome> {
    let (job, status) = settled(doing).await?;
    // Where nobody knew what was to come, nobody knows whether all of it did.
    let expected = text::shown_to_come(doing.plan)?;
    Some(text::observed(&job, &status, &expected))
}

/// How far a command is that goes on without us, or may; `None` once it can't.
pub async fn watch(doing: &Execution<'_>) -> Option<Share> {
    let seen = match look(doing).await {
        Ok(seen) => seen,
        Err(why) => {
            return why.map(|why| Share { percent: None, label: format!("can't be seen now: {why}") });
        }
    };
    if seen.is_settled(doing) {
        return None;
    }
    let names = text::shown_to_come(doing.plan);
    let status = seen.status.as_ref().ok();
    let done = names.as_ref().zip(status);
    let done = done.map(|(names, status)| names.iter().filter(|name| status.is_applied(name)).count());
    let of = names.map(|names| names.len());
    let mut label = format!("{} · {}", far(done, of), at_work(&seen, doing));
    if let Err(why) = &seen.status {
        label = format!("{label} · its ledger can't be read now: {why}");
    }
    if let Some(late) = late(&seen, doing) {
        label = format!("{label}\n{late}");
    }
    Some(Share { percent: percent(done, of), label })
}

/// Which session works for it, and whom that waits for.
fn at_work(seen: &Snapshot<'_>, doing: &Execution<'_>) -> String {
    let Snapshot { sight, holder, .. } = seen;
    if sight.named && !sight.pids.is_empty() {
        let pids: Vec<String> = sight.pids.iter().map(ToString::to_string).collect();
        let wait = sight.wait.as_ref().map_or(String::new(), |wait| format!(", which has {}", wait.words()));
        return format!("its session is pid {}{wait}", pids.join(" and "));
    }
    match holder {
        Some(LockHolder { pid, app, .. }) => {
            let wait = sight.wait.as_ref().map_or(String::new(), |wait| format!(" and has {}", wait.words()));
            format!("pid {pid} ({app}) has Prisma's lock{wait}: its session, or another deploy's")
        }
        None if sight.pids.is_empty() => {
            let until = crate::sql::moment(seen.over_at(doing));
            format!("no session of it is there, so it may not have begun: it is waited for until {until}")
        }
        None => "a session of its role has waited for Prisma's lock".to_owned(),
    }
}

/// That it takes longer than it was to take, and what ends it: nothing does so by itself.
fn late(seen: &Snapshot<'_>, doing: &Execution<'_>) -> Option<String> {
    let within = seen.job.migrate.within;
    let began = doing.run.event(EventKind::Started)?.at;
    let late = Timestamp::now().duration_since(began + within);
    if !late.is_positive() || !seen.is_at_work() {
        return None;
    }
    let ends = match (&seen.holder, seen.sight.named) {
        (Some(holder), false) => format!("kill {}", holder.pid),
        _ => format!("stop {}", doing.run.id),
    };
    let (limit, late) =
        (crate::sql::duration(within.as_secs_f64()), crate::sql::duration(late.as_secs_f64()));
    Some(format!(
        "Its time limit of {limit} passed {late} ago, and nobody ends it by itself any more: type {ends}."
    ))
}
