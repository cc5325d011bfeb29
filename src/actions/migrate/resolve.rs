//! `migrate-resolve`: by Prisma's own rules. Only an open migration can be rolled back (P3011, P3012); one that was ever finished
//! can't be marked as applied (P3008), and one that the ledger doesn't know must be in the directory (P3017).

use super::job::MigrateTarget;
use super::ledger::MigrationHistory;
use super::{
    Action, Call, Execution, Outcome, Prepared, asked, nothing_done, observed, planned, survey, voided, words,
};
use crate::command_line::shown;
use crate::error::{Error, Result};
use crate::model::Plan;
use async_trait::async_trait;

pub struct Resolve;

/// What Prisma is to be told.
pub(super) struct ResolveRequest<'a> {
    pub migration: &'a str,
    /// "applied" or "rolled-back".
    pub claimed: &'a str,
}

impl ResolveRequest<'_> {
    /// Whether the ledger says so.
    pub fn holds(&self, status: &MigrationHistory) -> bool {
        let closed = !status.is_open(self.migration);
        match self.claimed {
            "applied" => status.is_applied(self.migration),
            _ => closed && status.was_rolled_back(self.migration),
        }
    }

    /// What a program may be given as the name of a migration: what Prisma makes of a name itself, and nothing that npx, which
    /// goes through a shell, or an option could make something else of.
    fn can_be_passed(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        !self.migration.starts_with(['-', '.']) && self.migration.chars().all(plain)
    }
}

#[async_trait]
impl Action for Resolve {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let job = asked(call)?;
        let value = |name: &str| call.values.get(name).map_or("", String::as_str);
        let claim = ResolveRequest { migration: value("migration"), claimed: value("as") };
        let seen = survey(call, &job).await?;
        may(&job, &seen.status, &claim)?;
        let argv = argv(&job, &claim)?;
        job.check(&argv)?;
        Ok(words::describe_resolve(&job, (&seen, &claim), &argv))
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let claim = claimed(doing);
        let prepared = async {
            let job = planned(doing)?;
            let argv = argv(&job, &claim).map_err(|why| voided(&why.to_string()))?;
            let ready = Prepared::of(doing, &job, &argv).await?;
            may(&job, &ready.before, &claim).map_err(|why| voided(&why.to_string()))?;
            Ok((job, argv, ready))
        };
        let (job, argv, ready) = match prepared.await {
            Ok(prepared) => prepared,
            Err(outcome) => return outcome,
        };
        match ready.run(doing, &job, &argv).await {
            Ok((ended, Ok(after))) => words::resolved(&job, (&after, &claim), &ended),
            Ok((ended, Err(why))) => words::unknown(&job, &why, &ended),
            Err(why) => nothing_done(&why),
        }
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        observed::resolve(doing, &claimed(doing)).await
    }

    async fn watch(&self, doing: &Execution<'_>) -> Option<crate::app::Share> {
        observed::watch(doing).await
    }

    fn is_watched(&self) -> bool {
        true
    }
}

/// What was asked for.
fn claimed<'a>(doing: &Execution<'a>) -> ResolveRequest<'a> {
    let value = |name: &str| doing.run.request.arguments.get(name).map_or("", String::as_str);
    ResolveRequest { migration: value("migration"), claimed: value("as") }
}

fn argv(job: &MigrateTarget<'_>, claim: &ResolveRequest<'_>) -> Result<Vec<String>> {
    let words = job.migrate.resolve.as_ref().ok_or_else(|| {
        Error::instead(
            format!("Nobody has said how a migration of {} is resolved.", job.service.name),
            "Name the command under `resolve` in `[migrate]` of the configuration.",
        )
    })?;
    job.argv(words, &[("migration", claim.migration), ("as", claim.claimed)])
}

/// Whether Prisma would take it, or what to type instead.
fn may(job: &MigrateTarget<'_>, status: &MigrationHistory, claim: &ResolveRequest<'_>) -> Result<()> {
    let (name, service) = (claim.migration, &job.service.name);
    let said = shown(name);
    let known = status.all_names().contains(&name);
    if !known {
        let problem =
            format!("There is no migration “{said}” of {service} in the ledger{}.", where_else(status));
        let all = status.all_names();
        return Err(match crate::catalog::nearest(name, all.into_iter()) {
            Some(near) => Error::instead(
                problem,
                format!("Did you mean `migrate-resolve {service} {near} --as {}`?", claim.claimed),
            ),
            None => Error::instead(problem, format!("`migrations {service}` shows those that there are.")),
        });
    }
    if !claim.can_be_passed() {
        return Err(Error::user(format!(
            "“{said}” has characters that Countersign passes to no program. Resolve it by hand."
        )));
    }
    if claim.claimed == "applied" {
        // Finished and rolled back can't be together: Prisma rolls back only what is not finished.
        return match status.was_finished(name) {
            true => Err(Error::user(format!("{said} is applied already: there is nothing to resolve."))),
            false => Ok(()),
        };
    }
    match status.is_open(name) {
        true => Ok(()),
        false if status.is_applied(name) => Err(Error::instead(
            format!("{said} is applied, and Prisma rolls back nothing that succeeded."),
            "Undo it by a new migration.",
        )),
        false if status.was_rolled_back(name) => {
            Err(Error::user(format!("{said} is rolled back already: there is nothing to resolve.")))
        }
        false => Err(Error::instead(
            format!("{said} was never begun: there is nothing to roll back."),
            format!("`migrate {service}` applies it."),
        )),
    }
}

fn where_else(status: &MigrationHistory) -> &'static str {
    match status.directory {
        Some(_) => " or the migrations directory",
        None => "; no migrations directory is configured to look in",
    }
}
