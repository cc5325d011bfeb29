//! `enable-stats`: creates pg_stat_statements in one database. CREATE EXTENSION succeeds even where the server has not loaded the
//! library, so that is checked first.

use super::support::database::DatabaseTarget;
use super::support::needs::ensure_met;
use super::support::pg_stat_statements::{STATE, begin, resource};
use super::support::recovery::INTERRUPTED;
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::catalog::Need;
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan};
use crate::postgres::{PgRow, QueryError};
use async_trait::async_trait;

pub struct EnableStats;

const CREATE: &str = "CREATE EXTENSION pg_stat_statements WITH SCHEMA public";

#[async_trait]
impl Action for EnableStats {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let target = DatabaseTarget::from_call(call)?;
        let client = target.connect_executor(call).await?;
        let state = only_row(client.query(STATE, &[]).await, &target)?;
        // The reader sees settings that the owner's login may not.
        let reader = target.connect_reader(call).await?;
        let readers_state = only_row(reader.query(STATE, &[]).await, &target)?;
        if state.get::<Option<String>>("version")?.is_some() && state.get("loaded")? {
            ensure_met(&reader, &target, Need::Statements, None, "").await?;
        }
        let version = creatable_version(&target, &state, &readers_state)?;
        let more = ": that takes a superuser, on Azure a member of azure_pg_admin";
        ensure_met(&client, &target, Need::StatementsCreation, None, more).await?;
        let (database, environment) = (&target.database, &target.address.environment);
        let mut plan =
            Plan::of(format!("Creates pg_stat_statements {version} in {database} in {environment}."));
        target.write_to(&mut plan);
        plan.add_context("statement", CREATE);
        plan.rollback =
            "A DBA drops it: DROP EXTENSION pg_stat_statements. The server continues to collect.".to_owned();
        plan.resource_locks = vec![resource(database)];
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let target = DatabaseTarget::from_plan(execution);
        let session = match begin(execution, &target).await {
            Ok(session) => session,
            Err(outcome) => return outcome,
        };
        match session.execute(CREATE).await {
            Err(err) if err.is_final() => {
                target.failed(format!("has no pg_stat_statements: PostgreSQL refused: {err}"))
            }
            _ => created(execution, &target).await,
        }
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::Repeatable]
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let outcome = created(execution, &DatabaseTarget::from_plan(execution)).await;
        let verdict = outcome.verdict.clone().plain(format!(" {INTERRUPTED}"));
        (outcome.kind != EventKind::Interrupted).then_some(Outcome { verdict, ..outcome })
    }
}

fn only_row(answer: Result<Vec<PgRow>, QueryError>, target: &DatabaseTarget) -> Result<PgRow> {
    let rows = answer.map_err(|err| target.query_error(&err))?;
    rows.into_iter().next().ok_or_else(|| Error::user(format!("{} gave no answer.", target.database)))
}

/// Picks the version to create, or tells the obstacle and how to remove it.
fn creatable_version(target: &DatabaseTarget, state: &PgRow, readers_state: &PgRow) -> Result<String> {
    let database = &target.database;
    let available: Option<String> = state.get("available")?;
    let loaded: bool = state.get("loaded")?;
    let restart = if readers_state.get::<Option<bool>>("waits_for_restart")? == Some(true) {
        "shared_preload_libraries is already changed: a restart of the server applies it."
    } else {
        "A DBA adds pg_stat_statements to shared_preload_libraries and restarts the server."
    };
    if let Some(version) = state.get::<Option<String>>("version")? {
        let exists = format!("{database} already has pg_stat_statements {version}.");
        return Err(match available.filter(|available| *available != version) {
            _ if !loaded => Error::instead(format!("{exists} But the server doesn't load it."), restart),
            Some(newer) => Error::instead(
                format!("{exists} The server has version {newer}."),
                "Its owner updates it: `ALTER EXTENSION pg_stat_statements UPDATE`.",
            ),
            None => Error::instead(exists, "`slow` reads it; nothing has to be done."),
        });
    }
    let allowed: Option<Vec<String>> = state.get("allowed")?;
    if allowed.is_some_and(|allowed| !allowed.iter().any(|name| name == "pg_stat_statements")) {
        let problem = format!("Azure doesn't allow pg_stat_statements in {database}.");
        return Err(Error::instead(problem, "Add it to the server parameter `azure.extensions`."));
    }
    let Some(available) = available else {
        let install = "A DBA installs PostgreSQL's package of additional modules (contrib), which has it.";
        return Err(Error::instead("pg_stat_statements is not installed on the server.", install));
    };
    if !loaded {
        let problem = format!(
            "The server doesn't load pg_stat_statements: created in {database}, it would give no answers."
        );
        return Err(Error::instead(problem, restart));
    }
    Ok(available)
}

/// Looks at the extension as the reader, who will query it.
async fn created(execution: &Execution<'_>, target: &DatabaseTarget) -> Outcome {
    let database = &target.database;
    let unchecked = format!("pg_stat_statements in {database} can't be checked now: try `slow` later.");
    let Some(observer) = target.connect_reader_for_execution(execution).await else {
        return Outcome::unknown(unchecked);
    };
    let extension = "SELECT e.extversion, format('%I.pg_stat_statements(false)', n.nspname)
                     FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'";
    let Ok(rows) = observer.query(extension, &[]).await else { return Outcome::unknown(unchecked) };
    let columns = |row: &PgRow| row.value::<String>(0).zip(row.value::<String>(1));
    let Some((version, view)) = rows.first().and_then(columns) else {
        return Outcome::new(EventKind::Failed, format!("pg_stat_statements is not in {database}."));
    };
    match observer.query(&format!("SELECT count(*) FROM {view}"), &[]).await {
        Ok(_) => {
            Outcome::done(format!("pg_stat_statements {version} is in {database}: `slow` works from now on."))
        }
        Err(err) => Outcome::partial(format!(
            "pg_stat_statements {version} is in {database}, but can't be queried: {err}."
        )),
    }
}
