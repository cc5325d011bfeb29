//! What an interrupted run has left behind, once nothing of it can go on: a look at the ledger, which changes nothing.

use super::job::{Job, holder};
use super::ledger::{Asker, Status};
use super::resolve::Claim;
use super::{Doing, Outcome, planned, running, words};
use crate::runs::Happening;
use std::time::Duration;

/// A command that was left alone ends itself, or is looked at by a person; after so long beyond its time limit nothing new
/// comes of it.
const AT_LAST: Duration = Duration::from_secs(60);

/// The job, and the ledger as it is. `None` while the command may go on: a session of
/// its own is there, Prisma's lock is held, or it may not have begun yet.
async fn settled<'a>(doing: &Doing<'a>) -> Option<(Job<'a>, Status)> {
    let job = planned(doing).ok()?;
    let targets = &doing.app.targets;
    let reader = targets.lease(&job.address("reader"), &doing.asker).await.ok()?;
    let application = running::application(doing.run);
    if holder(&reader).await.ok()?.is_some() || running::has_sessions(&reader, &application).await.ok()? {
        return None;
    }
    let own = targets.lease(&job.own_address(), &doing.asker).await.ok()?;
    let status = job.status(&Asker::Lease(&own)).await.ok()?;
    let changed = doing.plan.identity.get("ledger") != Some(&status.ledger_digest());
    let age = jiff::Timestamp::now().duration_since(doing.run.opened_at).unsigned_abs();
    // The run was opened when it was asked for, and approved later: that is on the safe side only if it is added.
    let limit = job.migrate.within
        + AT_LAST
        + doing.app.config.approval.wait
        + doing.app.config.approval.start_within;
    (changed || age > limit).then_some((job, status))
}

pub(super) async fn deploy(doing: &Doing<'_>) -> Option<Outcome> {
    let (job, status) = settled(doing).await?;
    // Where nobody knew what was to come, nobody knows whether all of it did.
    let expected = words::shown_to_come(doing.plan)?;
    Some(words::observed(&job, &status, &expected))
}

pub(super) async fn resolve(doing: &Doing<'_>, claim: &Claim<'_>) -> Option<Outcome> {
    let (job, status) = settled(doing).await?;
    let (name, claimed, database) = (claim.migration, claim.claimed, job.database());
    let (happening, what) = match claim.holds(&status) {
        true => (Happening::Succeeded, "is"),
        false => (Happening::Failed, "is not"),
    };
    Some(Outcome::new(
        happening,
        format!("{name} {what} {claimed} in the ledger of {database}. {}", words::INTERRUPTED),
    ))
}
