//! `migrate-resolve`: by Prisma's own rules. Only an open migration can be rolled back (P3011, P3012); one that was ever finished
//! can't be marked as applied (P3008), and one that the ledger doesn't know must be in the directory (P3017).

use super::migrate::execute::{CommandResult, ExitReason};
use super::migrate::migration_history::MigrationHistory;
use super::migrate::recover::{self, settled};
use super::migrate::target::MigrateTarget;
use super::migrate::text::{self, end_of, identify, listed, told};
use super::migrate::{PlanFacts, Prepared, asked, nothing_done, planned, survey, voided};
use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{Block, EventKind, Plan, Text};
use crate::suggest::shown;
use async_trait::async_trait;

pub struct MigrateResolve;

/// What Prisma is to be told.
struct ResolveRequest<'a> {
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
impl Action for MigrateResolve {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let job = asked(call)?;
        let value = |name: &str| call.values.get(name).map_or("", String::as_str);
        let claim = ResolveRequest { migration: value("migration"), claimed: value("as") };
        let seen = survey(call, &job).await?;
        may(&job, &seen.status, &claim)?;
        let argv = argv(&job, &claim)?;
        job.check(&argv)?;
        Ok(describe(&job, (&seen, &claim), &argv))
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
            Ok((ended, Ok(after))) => resolved(&job, (&after, &claim), &ended),
            Ok((ended, Err(why))) => text::unknown(&job, &why, &ended),
            Err(why) => nothing_done(&why),
        }
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        observed(doing, &claimed(doing)).await
    }

    async fn watch(&self, doing: &Execution<'_>) -> Option<crate::app::Share> {
        recover::watch(doing).await
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
        return Err(match crate::suggest::nearest(name, all.into_iter()) {
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

fn describe(
    job: &MigrateTarget<'_>,
    (seen, claim): (&PlanFacts, &ResolveRequest<'_>),
    argv: &[String],
) -> Plan {
    let status = &seen.status;
    let ResolveRequest { migration, claimed } = claim;
    let mut plan = Plan::of(format!(
        "Tells Prisma that {migration} is {claimed} in {} of {}.",
        job.database(),
        job.environment.name
    ));
    identify(job, seen, (&mut plan, argv));
    let now = match status.open().filter(|_| status.is_open(migration)) {
        Some(open) if open.logs.is_some() => "failed",
        Some(_) => "started, never finished",
        None if status.was_rolled_back(migration) => "rolled back",
        None => "not in the ledger",
    };
    plan.context.insert(0, ("it is now".to_owned(), now.to_owned()));
    plan.impact = match *claimed {
        "applied" => {
            "Whoever relies on it if that isn't so: it is never run any more, and nothing is checked."
        }
        _ => {
            "Whoever relies on it if that isn't so: the next deploy runs it again, over what it left behind."
        }
    }
    .to_owned();
    plan.rollback = "None by a command. It changes the ledger alone.".to_owned();
    plan
}

/// What came of a claim.
fn resolved(
    job: &MigrateTarget<'_>,
    (after, claim): (&MigrationHistory, &ResolveRequest<'_>),
    ended: &CommandResult,
) -> Outcome {
    let ResolveRequest { migration, claimed } = claim;
    let (holds, end) = (claim.holds(after), end_of(ended, job));
    let well = matches!(&ended.end, ExitReason::Exited(status) if status.success());
    let says = format!("{migration} is {claimed} in the ledger of {}", job.database());
    let (happening, verdict) = match (holds, &ended.end) {
        (true, _) if well => (EventKind::Succeeded, format!("{says}.")),
        (true, _) => (EventKind::Partial, format!("{says}, but {end}: look at its output.")),
        (false, ExitReason::Stopped | ExitReason::Ending) => {
            (EventKind::Stopped, format!("{migration} is as it was: {end}."))
        }
        (false, _) if well => (
            EventKind::Failed,
            format!(
                "{migration} is not {claimed}: the command says that all is well, and the ledger says otherwise."
            ),
        ),
        (false, _) => (EventKind::Failed, format!("{migration} is not {claimed}: {end}.")),
    };
    let mut outcome = told(job, (happening, verdict), ended);
    if holds && let Some(names) = after.to_come().filter(|names| !names.is_empty()) {
        let text = Text::new().plain(format!("To come: {}. ", listed(&names)));
        outcome
            .blocks
            .push(Block::Note(text.code(format!("migrate {}", job.service.name)).plain(" applies it.")));
    }
    outcome
}

/// What is left of an interrupted claim, by the ledger alone.
async fn observed(doing: &Execution<'_>, claim: &ResolveRequest<'_>) -> Option<Outcome> {
    let (job, status) = settled(doing).await?;
    let (name, claimed, database) = (claim.migration, claim.claimed, job.database());
    let (happening, what) = match claim.holds(&status) {
        true => (EventKind::Succeeded, "is"),
        false => (EventKind::Failed, "is not"),
    };
    Some(Outcome::new(
        happening,
        format!("{name} {what} {claimed} in the ledger of {database}. {}", text::INTERRUPTED),
    ))
}
