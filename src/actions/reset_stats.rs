//! `reset-stats`: resets pg_stat_statements for one database. The plain reset would discard every database's counters.

use super::support::database::DatabaseTarget;
use super::support::needs::ensure_met;
use super::support::pg_stat_statements::{STATE, begin, resource};
use super::support::recovery::INTERRUPTED;
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::catalog::Need;
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, as_text};
use crate::postgres::{PooledClient, QueryError};
use crate::sql::grouped;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub struct ResetStats;

/// The database by its oid: a later database may have the same name.
#[derive(Serialize, Deserialize)]
struct ResetTarget {
    #[serde(with = "as_text")]
    dbid: i64,
}

/// The counters of one database, without Countersign's own statements.
struct Counters {
    statements: i64,
    calls: i64,
}

impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} calls of {} statements", grouped(self.calls), grouped(self.statements))
    }
}

struct ResetFunction {
    /// A call for the database with the oid $1, which must not be 0: that would reset every database.
    call: String,
    schema: String,
    dbid: i64,
}

impl ResetFunction {
    async fn find(client: &PooledClient, target: &DatabaseTarget) -> Result<ResetFunction> {
        let rows = client.query(include_str!("reset_stats.sql"), &[]).await;
        let rows = rows.map_err(|err| target.query_error(&err))?;
        let Some(row) = rows.first() else { return Err(ResetFunction::missing(client, target).await) };
        let schema = row.get("schema")?;
        ensure_met(client, target, Need::StatementsReset, None, "").await?;
        Ok(ResetFunction { call: row.get("call")?, schema, dbid: row.get("dbid")? })
    }

    /// The extension is missing, or older than the function for one database.
    async fn missing(client: &PooledClient, target: &DatabaseTarget) -> Error {
        let database = &target.database;
        let installed = "SELECT extversion FROM pg_extension WHERE extname = 'pg_stat_statements'";
        let rows = client.query(installed, &[]).await.unwrap_or_default();
        match rows.first().and_then(|row| row.value::<String>(0)) {
            Some(version) => Error::instead(
                format!(
                    "{database} has pg_stat_statements {version}, which can't reset one database alone: that takes 1.7."
                ),
                "Its owner updates it there: `ALTER EXTENSION pg_stat_statements UPDATE`.",
            ),
            None => Error::instead(
                format!("{database} has no pg_stat_statements, so there is nothing to reset."),
                "`enable-stats` creates it.",
            ),
        }
    }

    async fn counters(&self, client: &PooledClient, own_roles: &[String]) -> Result<Counters, QueryError> {
        let sql = format!(
            "SELECT count(*), COALESCE(sum(calls), 0)::int8 FROM {}.pg_stat_statements(false)
             WHERE dbid = $1::int8::oid AND userid NOT IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($2::text[]))",
            self.schema
        );
        let rows = client.query(&sql, &[&self.dbid, &own_roles]).await?;
        let row = rows.first().ok_or(QueryError::Lost)?;
        Ok(Counters { statements: row.get(0)?, calls: row.get(1)? })
    }
}

#[async_trait]
impl Action for ResetStats {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let target = DatabaseTarget::from_call(call)?;
        let reset = ResetFunction::find(&target.connect_executor(call).await?, &target).await?;
        let environment = call.app.environments.environment(&target.address.environment)?;
        let own_roles = call.app.environments.own_roles(environment);
        let reader = target.connect_reader(call).await?;
        ensure_met(&reader, &target, Need::Statements, None, "").await?;
        let counters = reset.counters(&reader, &own_roles).await;
        let counters = counters.map_err(|err| target.query_error(&err))?;
        let (database, name) = (&target.database, &environment.name);
        let mut plan = Plan::of(format!("Resets pg_stat_statements for {database} in {name}."));
        target.write_to(&mut plan);
        plan.set_target(&ResetTarget { dbid: reset.dbid });
        plan.add_context("counters", counters.to_string());
        plan.add_guard("database", "this is still the same database");
        plan.impact = "`slow`, and comparisons with earlier numbers, start from zero. Other databases' counters and running work \
                       are not affected."
            .to_owned();
        plan.rollback = "Not possible: the counters can't be restored.".to_owned();
        plan.resource_locks = vec![resource(database)];
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        execute(execution).await.unwrap_or_else(|outcome| outcome)
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock]
    }

    /// Reads since when the statements are counted. PostgreSQL before 17 doesn't tell: `None`.
    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let target = DatabaseTarget::from_plan(execution);
        let since = execution.run.event(EventKind::Started)?.at.to_string();
        let observer = target.connect_reader_for_execution(execution).await?;
        let rows = observer.query(STATE, &[]).await.ok()?;
        let schema: String = rows.first()?.value("schema")?;
        // As JSON, since a column that doesn't exist can't be named.
        let sql = format!(
            "SELECT bool_and((to_jsonb(s) ->> 'stats_since')::timestamptz >= $1::text::timestamptz) FROM {schema}.pg_stat_statements(false) s
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND to_jsonb(s) ? 'stats_since'"
        );
        let rows = observer.query(&sql, &[&since]).await.ok()?;
        let database = &target.database;
        let all_since: bool = rows.first()?.value(0)?;
        if all_since {
            return Some(Outcome::done(format!(
                "All statements of {database} are counted from after the start of the run: its statistics were reset. {INTERRUPTED}"
            )));
        }
        let verdict = format!(
            "Statements of {database} are counted from before the start of the run: its statistics were not reset."
        );
        Some(Outcome::new(EventKind::Failed, verdict))
    }
}

async fn execute(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    let target = DatabaseTarget::from_plan(execution);
    let session = begin(execution, &target).await?;
    let unread = || target.failed("can't be read, so the reset could not be verified");
    let observer = target.connect_reader_for_execution(execution).await.ok_or_else(unread)?;
    let reset = ResetFunction::find(&session, &target).await;
    let reset = reset.map_err(|err| Outcome::failed(err.to_string()))?;
    let environment = execution.app.environments.environment(&target.address.environment);
    let own_roles = environment.map(|environment| execution.app.environments.own_roles(environment));
    let own_roles = own_roles.unwrap_or_default();
    let before = reset.counters(&observer, &own_roles).await.map_err(|err| target.failed(err))?;
    let Some(ResetTarget { dbid }) = execution.plan.target() else {
        return Err(Outcome::invalidated("The plan names no database."));
    };
    let sql = format!(
        "SELECT {} FROM pg_database d WHERE d.datname = current_database() AND d.oid = $1::int8::oid",
        reset.call
    );
    match session.query(&sql, &[&dbid]).await {
        Ok(rows) if rows.is_empty() => {
            Err(Outcome::invalidated(format!("Another database is called {} now.", target.database)))
        }
        Err(err) if err.is_final() => {
            Err(target.failed(format!("keeps its counters: PostgreSQL refused: {err}")))
        }
        _ => Ok(verified(&target, &before, reset.counters(&observer, &own_roles).await)),
    }
}

/// Verifies the reset: fewer calls are counted than before.
fn verified(target: &DatabaseTarget, before: &Counters, after: Result<Counters, QueryError>) -> Outcome {
    let database = &target.database;
    let outcome = match after {
        Ok(after) if after.calls < before.calls || before.calls == 0 => Outcome::done(format!(
            "The statistics of {database} are reset: {before} before, {after} now. Other databases' are unchanged."
        )),
        Ok(after) => Outcome::unknown(format!(
            "The reset of the statistics of {database} can't be verified: {before} before, {after} now. Look with `slow`."
        )),
        Err(err) => {
            Outcome::unknown(format!("The reset of the statistics of {database} can't be verified: {err}."))
        }
    };
    Outcome { facts: json!({ "statements": before.statements, "calls": before.calls }), ..outcome }
}
