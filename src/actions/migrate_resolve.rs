//! `migrate-resolve`: by Prisma's own rules. Only an unresolved migration can be rolled back (P3011, P3012); one that was ever
//! finished can't be marked as applied (P3008), and one without a row in the history must be in the directory (P3017).

use super::migrate::execute::{CommandResult, MigrationProcess, ProcessEnd};
use super::migrate::migration_history::MigrationHistory;
use super::migrate::target::MigrateTarget;
use super::migrate::text::{self, end_text, identify, join_names, outcome_with_output};
use super::migrate::{
    MigrationInspection, final_history, inspect, invalidated_outcome, observed_progress, planned_target,
    requested_target,
};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::command_line::{Values, as_word};
use crate::error::{Error, Result};
use crate::model::{Block, EventKind, Plan, Text};
use crate::shared_state::RunProgress;
use crate::suggest::shown;
use async_trait::async_trait;

pub struct MigrateResolve;

struct ResolveRequest<'a> {
    migration: &'a str,
    /// "applied" or "rolled-back".
    resolution: &'a str,
}

impl<'a> ResolveRequest<'a> {
    fn from_values(values: &'a Values) -> ResolveRequest<'a> {
        let value = |name: &str| values.get(name).map_or("", String::as_str);
        ResolveRequest { migration: value("migration"), resolution: value("as") }
    }

    fn is_recorded(&self, history: &MigrationHistory) -> bool {
        match self.resolution {
            "applied" => history.is_applied(self.migration),
            _ => !history.is_unresolved(self.migration) && history.was_rolled_back(self.migration),
        }
    }
}

#[async_trait]
impl Action for MigrateResolve {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let target = requested_target(call)?;
        let request = ResolveRequest::from_values(call.values);
        let inspection = inspect(call, &target).await?;
        check(&target, &inspection.history, &request)?;
        let argv = argv(&target, &request)?;
        target.check(&argv)?;
        Ok(describe(&target, &inspection, &request, &argv))
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        resolve(execution).await.unwrap_or_else(|outcome| outcome)
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::MigrationHistory]
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let request = ResolveRequest::from_values(&execution.run.request.arguments);
        let (target, history) = final_history(execution).await?;
        let ResolveRequest { migration, resolution } = &request;
        let (kind, verb) = if request.is_recorded(&history) {
            (EventKind::Succeeded, "is")
        } else {
            (EventKind::Failed, "is not")
        };
        let state = format!("{verb} {resolution} in the migration history of {}", target.database());
        Some(Outcome::new(kind, format!("{migration} {state}. {}", text::INTERRUPTED)))
    }

    async fn observe_progress(&self, execution: &Execution<'_>) -> Option<RunProgress> {
        observed_progress(execution).await
    }

    fn reports_progress(&self) -> bool {
        true
    }
}

async fn resolve(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    let request = ResolveRequest::from_values(&execution.run.request.arguments);
    let target = planned_target(execution)?;
    let argv = argv(&target, &request).map_err(invalidated_outcome)?;
    let process = MigrationProcess::prepare(execution, &target, argv).await?;
    check(&target, &process.history_before, &request).map_err(invalidated_outcome)?;
    let result = process.run().await?;
    Ok(match &result.history {
        Ok(after) => outcome(&target, after, &request, &result),
        Err(error) => text::unknown(&target, error, &result),
    })
}

fn argv(target: &MigrateTarget<'_>, request: &ResolveRequest<'_>) -> Result<Vec<String>> {
    let Some(words) = &target.migrate.resolve else {
        let problem = format!("No resolve command is configured for {}.", target.service.name);
        return Err(Error::instead(problem, "Set `resolve` in `[migrate]` of the configuration."));
    };
    target.argv(words, &[("migration", request.migration), ("as", request.resolution)])
}

/// Checks Prisma's rules before Prisma does.
fn check(target: &MigrateTarget<'_>, history: &MigrationHistory, request: &ResolveRequest<'_>) -> Result<()> {
    let ResolveRequest { migration: name, resolution } = request;
    let service = &target.service.name;
    let quoted = shown(name);
    if !history.all_names().contains(name) {
        let places = match history.directory {
            Some(_) => "the migration history or the migrations directory",
            None => "the migration history; no migrations directory is configured",
        };
        let instead = match crate::suggest::nearest(name, history.all_names()) {
            Some(near) => {
                let near = as_word(&near.replace('`', ""));
                format!("Did you mean `migrate-resolve {service} {near} --as {resolution}`?")
            }
            None => format!("`migrations {service}` lists them."),
        };
        let problem = format!("There is no migration “{quoted}” of {service} in {places}.");
        return Err(Error::instead(problem, instead));
    }
    // Only characters that Prisma itself uses: neither an option nor the shell that npx goes through can read anything else into it.
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.starts_with(['-', '.']) || !name.chars().all(is_safe) {
        let problem = "has characters that Countersign doesn't pass to a program. Resolve it by hand.";
        return Err(Error::user(format!("“{quoted}” {problem}")));
    }
    // A migration is never both finished and rolled back: Prisma rolls back only what is not finished.
    let is_applying = *resolution == "applied";
    let is_allowed = if is_applying { !history.was_finished(name) } else { history.is_unresolved(name) };
    if is_allowed {
        return Ok(());
    }
    Err(if is_applying {
        Error::user(format!("{quoted} is applied already, so it can't be resolved."))
    } else if history.is_applied(name) {
        Error::instead(
            format!("{quoted} is applied, and Prisma doesn't roll back a migration that succeeded."),
            "Reverse it with a new migration.",
        )
    } else if history.was_rolled_back(name) {
        Error::user(format!("{quoted} is rolled back already, so it can't be resolved."))
    } else {
        Error::instead(
            format!("{quoted} was never started, so it can't be rolled back."),
            format!("`migrate {service}` applies it."),
        )
    })
}

fn describe(
    target: &MigrateTarget<'_>,
    inspection: &MigrationInspection,
    request: &ResolveRequest<'_>,
    argv: &[String],
) -> Plan {
    let history = &inspection.history;
    let ResolveRequest { migration, resolution } = request;
    let place = format!("{} of {}", target.database(), target.environment.name);
    let mut plan = Plan::of(format!("Marks {migration} as {resolution} in {place}."));
    let state = match history.first_unresolved().filter(|_| history.is_unresolved(migration)) {
        Some(attempt) if attempt.logs.is_some() => "failed",
        Some(_) => "started, never finished",
        None if history.was_rolled_back(migration) => "rolled back",
        None => "not in the migration history",
    };
    plan.add_context("current state", state);
    identify(&mut plan, target, inspection, argv);
    plan.impact = match *resolution {
        "applied" => "If it was not applied: Prisma never runs it again, and checks nothing.".to_owned(),
        _ => "If it was not rolled back: the next deploy runs it again on top of what it changed.".to_owned(),
    };
    plan.rollback = "No command reverts it. Only Prisma's migration history is changed.".to_owned();
    plan
}

fn outcome(
    target: &MigrateTarget<'_>,
    after: &MigrationHistory,
    request: &ResolveRequest<'_>,
    result: &CommandResult,
) -> Outcome {
    let ResolveRequest { migration, resolution } = request;
    let recorded = request.is_recorded(after);
    let end = end_text(result, target);
    let state = format!("is {resolution} in the migration history of {}", target.database());
    let (kind, verdict) = if recorded && result.succeeded() {
        (EventKind::Succeeded, format!("{migration} {state}."))
    } else if recorded {
        (EventKind::Partial, format!("{migration} {state}, but {end}: check its output."))
    } else if matches!(result.end, ProcessEnd::Stopped | ProcessEnd::ShutDown) {
        (EventKind::Stopped, format!("{migration} is unchanged: {end}."))
    } else if result.succeeded() {
        (EventKind::Failed, format!("{migration} is not {resolution}: {}.", text::OTHERWISE))
    } else {
        (EventKind::Failed, format!("{migration} is not {resolution}: {end}."))
    };
    let mut outcome = outcome_with_output(target, kind, verdict, result);
    if recorded && let Some(names) = after.pending_names().filter(|names| !names.is_empty()) {
        let text = Text::new().plain(format!("Pending: {}. ", join_names(&names)));
        let text = text.code(format!("migrate {}", target.service.name)).plain(" applies it.");
        outcome.blocks.push(Block::Note(text));
    }
    outcome
}
