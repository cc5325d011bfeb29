//! `purge`: a table's old rows, deleted in batches up to one cutoff, which is computed once, when it is planned. It is resumable:
//! checkpoints are noted, deleting the same rows again deletes nothing, and one purge of a table runs at a time.

use super::support::blocks::run_argument;
use super::support::database::{DatabaseIdentity, DatabaseTarget, read_only_error};
use super::support::relations::{RelationInfo, RelationKind};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::clock::duration_seconds;
use crate::command_line::Values;
use crate::error::{Error, Result};
use crate::model::{Plan, Run};
use crate::postgres::{AccessMode, PgRow, PooledClient, QueryError};
use crate::privileges::row_deletion_shortfalls;
use crate::sql::parameters;
use crate::suggest::{nearest, shown};
use async_trait::async_trait;
use std::time::Duration;

mod batch;
mod execute;
mod planned_calls;
mod text;

use batch::{KeyColumn, PurgeSpec, TimeType};
use execute::{PurgeProgress, lag_limit_text};

pub struct Purge;

#[async_trait]
impl Action for Purge {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        check_arguments(call)?;
        let database = DatabaseTarget::from_call(call)?;
        let client = database.connect_executor(call).await?;
        let typed = call.value("table").unwrap_or_default();
        let table = RelationKind::Purged.resolve(call, &client, &database.database, typed).await?;
        let relation = &table.relation;
        if table.kind == "p" {
            return Err(Error::instead(
                format!("{relation} is partitioned, and rows are deleted from one table at a time."),
                "Name one of its partitions. Better, where all of a partition is old: drop it, which frees the disk at once.",
            ));
        }
        let rows = client.query(include_str!("facts.sql"), &[&table.oid]).await;
        let rows = rows.map_err(|error| database.query_error(&error))?;
        let facts = rows.first().ok_or_else(|| Error::user(format!("{relation} is gone.")))?;
        check_writable(facts)?;
        check_privileges(&client, &table, &database).await?;
        check_rows_are_visible(facts, relation, &database.role)?;
        planned_calls::check(&client, &table, &database).await?;
        let (mut spec, indexed) = spec(call, &client, &database, &table, facts).await?;
        let counts =
            count(&client, &spec).await.map_err(|error| text::count_error(&error, &spec, indexed))?;
        spec.shown_rows = counts.get("rows")?;
        let continued_run = call.value("continue").and_then(|run| run.parse().ok());
        if spec.shown_rows == 0 {
            return Err(text::nothing_to_do(&spec, continued_run));
        }
        let mut plan = text::describe(&database, &spec, facts, &counts, continued_run);
        plan.resource_locks = vec![resource(&database.database, relation)];
        let limit = lag_limit_text(max_lag(call.values));
        plan.add_guard("replicas", format!("no replica is more than {limit}"));
        plan.add_context("replicas", replicas(call, &database).await);
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        execute::execute(execution).await
    }

    /// Of the table nothing is known yet where a form offers the runs.
    fn check_run(&self, call: &Call<'_>, run: &Run) -> Result<()> {
        let (before, planned) = planned_purge(call, run)?;
        if planned.database != DatabaseTarget::from_call(call)?.database {
            return Err(is_elsewhere(run, &before, &planned));
        }
        check_is_incomplete(run)
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::PlannedTarget, EffectGuard::StepCheck]
    }

    fn is_resumable(&self) -> bool {
        true
    }

    fn outcome_if_abandoned(&self, run: &Run) -> Option<Outcome> {
        let spec: PurgeSpec = run.text("plan").and_then(Plan::from_json)?.target()?;
        let progress = PurgeProgress { is_lower_bound: true, ..PurgeProgress::last_checkpoint(run, &spec) };
        Some(text::abandoned_outcome(run, &spec, &progress))
    }
}

fn max_lag(arguments: &Values) -> Duration {
    let seconds = arguments.get("most-lag").and_then(|typed| duration_seconds(typed));
    Duration::from_secs(seconds.unwrap_or(30))
}

fn resource(database: &str, relation: &str) -> String {
    format!("purge of {database}: {relation}")
}

fn check_arguments(call: &Call<'_>) -> Result<()> {
    let given = |name: &str| call.values.contains_key(name);
    match (given("continue"), given("column"), given("older-than")) {
        (true, false, false) | (false, true, true) => Ok(()),
        (true, ..) => Err(Error::instead(
            "`--continue` keeps that purge's column and cutoff: `--column` and `--older-than` would change them.",
            "Leave them out, or ask for a new purge without `--continue`.",
        )),
        (false, false, _) => Err(Error::instead(
            "`--column` is missing: the column that tells how old a row is.",
            format!("Type `{}`.", call.command.usage()),
        )),
        (false, true, false) => Err(Error::instead(
            "`--older-than` is missing: the minimum age of the rows to delete.",
            "Add `--older-than 90d`.",
        )),
    }
}

fn check_writable(facts: &PgRow) -> Result<()> {
    if facts.is_true("replica") {
        return Err(Error::user("That server is a replica: rows can't be deleted there."));
    }
    if facts.is_true("read_only") { Err(read_only_error()) } else { Ok(()) }
}

/// Refuses a login that may not delete rows of the table, with the grant.
async fn check_privileges(
    client: &PooledClient,
    table: &RelationInfo,
    target: &DatabaseTarget,
) -> Result<()> {
    let missing = row_deletion_shortfalls(client, table.oid).await;
    let missing = missing.map_err(|error| target.query_error(&error))?;
    missing.first().map_or(Ok(()), |missing| Err(missing.refusal(&target.database, "")))
}

/// Refuses a table whose old rows can't all be counted or deleted: row security hides some from the role, or a rule does something
/// else in place of a DELETE or beside it, which PostgreSQL allows in no batch.
fn check_rows_are_visible(facts: &PgRow, relation: &str, role: &str) -> Result<()> {
    if facts.value("row_security").unwrap_or(true) {
        return Err(Error::instead(
            format!(
                "Row security can hide rows of {relation} from {role}, so its old rows can't be counted or deleted for certain."
            ),
            format!(
                "Name a login `owner` in the configuration that row security lets pass, such as a role with BYPASSRLS (`ALTER ROLE {role} BYPASSRLS`)."
            ),
        ));
    }
    let rules: Vec<String> = facts.get("rules")?;
    if !rules.is_empty() {
        return Err(Error::instead(
            format!(
                "{relation} has a rule on DELETE ({}), so PostgreSQL can't delete from it in batches.",
                rules.join(", ")
            ),
            "Delete its rows with SQL that the rule was made for, or have its owner disable the rule first (ALTER TABLE … DISABLE RULE).",
        ));
    }
    Ok(())
}

/// Determines the rows to delete, before they are counted. `true`: an index begins with the column.
async fn spec(
    call: &Call<'_>,
    client: &PooledClient,
    database: &DatabaseTarget,
    table: &RelationInfo,
    facts: &PgRow,
) -> Result<(PurgeSpec, bool)> {
    let name = facts.get::<Option<String>>("key_name")?;
    let key = name.zip(facts.get("key_type")?).map(|(name, type_name)| KeyColumn { name, type_name });
    if call.values.contains_key("continue") {
        let run = run_argument(call, "continue", "`history --command purge` shows them.").await?;
        let before = continued_spec(call, &run, database, table)?;
        let column = resolve_column(client, table, &before.column).await?;
        if column.time_type != before.time_type {
            let (column, id) = (before.column, run.id);
            return Err(Error::user(format!("{column} is of another type now than in run #{id}.")));
        }
        let same_key = key.is_some() && key == before.key;
        let after_key = if same_key { last_key(&run).or(before.after_key.clone()) } else { None };
        return Ok((PurgeSpec { key, after_key, ..before }, column.indexed));
    }
    let typed = |name: &str| call.value(name).unwrap_or_default();
    let column = resolve_column(client, table, typed("column")).await?;
    let cutoff = cutoff(client, column.time_type, typed("older-than")).await?;
    let spec = PurgeSpec {
        relation: table.relation.clone(),
        oid: table.oid,
        column: column.quoted,
        time_type: column.time_type,
        cutoff,
        key,
        after_key: None,
        shown_rows: 0,
    };
    Ok((spec, column.indexed))
}

async fn cutoff(client: &PooledClient, time_type: TimeType, older_than: &str) -> Result<String> {
    let rejected = |error| Error::user(format!("The cutoff can't be computed: {error}."));
    let rows = client.query(&time_type.cutoff_sql(), &[&older_than]).await.map_err(rejected)?;
    let cutoff = rows.first().and_then(|row| row.value::<String>(0));
    cutoff.ok_or_else(|| Error::user("The cutoff can't be computed."))
}

/// Reads the rows that a run was to delete, if it is one to continue.
fn continued_spec(
    call: &Call<'_>,
    run: &Run,
    database: &DatabaseTarget,
    table: &RelationInfo,
) -> Result<PurgeSpec> {
    let id = run.id;
    let (before, planned) = planned_purge(call, run)?;
    if before.relation != table.relation || planned.database != database.database {
        return Err(is_elsewhere(run, &before, &planned));
    }
    if before.oid != table.oid || planned.server != database.address.server {
        return Err(Error::user(format!("{} is another table now than in run #{id}.", table.relation)));
    }
    check_is_incomplete(run)?;
    Ok(before)
}

/// Reads the plan of a run that was a purge of this environment.
fn planned_purge(call: &Call<'_>, run: &Run) -> Result<(PurgeSpec, DatabaseIdentity)> {
    let id = run.id;
    if run.request.command != call.command.name {
        return Err(Error::user(format!("Run #{id} is a `{}`, not a purge.", run.request.command)));
    }
    if run.request.environment.as_deref() != call.environment {
        let other = run.request.environment.as_deref().unwrap_or_default();
        let problem = format!("Run #{id} is a purge of {other}.");
        return Err(Error::instead(problem, format!("Add `--env {other}`.")));
    }
    let plan = run.text("plan").and_then(Plan::from_json);
    let plan = plan.ok_or_else(|| Error::user(format!("The plan of run #{id} is no longer known.")))?;
    let spec = plan.target().ok_or_else(|| Error::user(format!("The plan of run #{id} can't be read.")))?;
    Ok((spec, plan.target().unwrap_or_default()))
}

fn is_elsewhere(run: &Run, spec: &PurgeSpec, planned: &DatabaseIdentity) -> Error {
    Error::user(format!("Run #{} is a purge of {} of {}.", run.id, spec.relation, planned.database))
}

fn check_is_incomplete(run: &Run) -> Result<()> {
    if run.state.is_incomplete() {
        return Ok(());
    }
    let state = format!("{:?}", run.state).to_lowercase();
    Err(Error::instead(
        format!("Run #{} is {state}: there is nothing to continue.", run.id),
        "Ask for a new purge, with `--column` and `--older-than`.",
    ))
}

/// The key that a run got to, as its outcome or its last checkpoint noted it.
fn last_key(run: &Run) -> Option<String> {
    run.events.iter().rev().find_map(PurgeProgress::read)?.last_key
}

async fn count(client: &PooledClient, spec: &PurgeSpec) -> Result<PgRow, QueryError> {
    let transaction = client.begin(AccessMode::Read, client.statement_timeout()).await?;
    let values = spec.sql_values(spec.after_key.as_deref());
    let rows = transaction.query(&spec.count_sql(), &parameters(&values)).await;
    transaction.roll_back().await;
    rows?.into_iter().next().ok_or(QueryError::Lost)
}

async fn replicas(call: &Call<'_>, database: &DatabaseTarget) -> String {
    match execute::read_lags(call.app, &database.address, &call.asker).await {
        Ok(replicas) if replicas.is_empty() => "none".to_owned(),
        Ok(replicas) => replicas.iter().map(execute::ReplicaLag::text).collect::<Vec<_>>().join("; "),
        Err(error) => format!("the server {error}"),
    }
}

struct TimeColumn {
    /// Quoted.
    quoted: String,
    time_type: TimeType,
    indexed: bool,
}

/// Resolves a name as typed: the exact match, else the only one.
async fn resolve_column(client: &PooledClient, table: &RelationInfo, typed: &str) -> Result<TimeColumn> {
    let relation = &table.relation;
    let rejected = |error| Error::user(format!("{relation}: {error}."));
    let columns = client.query(include_str!("columns.sql"), &[&table.oid]).await.map_err(rejected)?;
    let name = |row: &PgRow| row.value::<String>("name").unwrap_or_default();
    let is_exact =
        |row: &PgRow| name(row) == typed || row.value::<String>("quoted").as_deref() == Some(typed);
    let is_alike = |row: &&PgRow| is_exact(row) || name(row).to_lowercase() == typed.to_lowercase();
    let alike: Vec<&PgRow> = columns.iter().filter(is_alike).collect();
    let exact = alike.iter().find(|row| is_exact(row));
    let times: Vec<String> =
        columns.iter().filter(|row| row.value::<String>("kind").is_some()).map(&name).collect();
    let row = match (exact, alike.as_slice()) {
        (Some(exact), _) => *exact,
        (None, [only]) => *only,
        (None, [_, _, ..]) => {
            return Err(Error::user(format!(
                "{relation} has several columns “{}”: type it with its capitals.",
                shown(typed)
            )));
        }
        (None, []) => {
            let problem = format!("{relation} has no column “{}”.", shown(typed));
            let names: Vec<String> = columns.iter().map(&name).collect();
            let near = nearest(typed, names.iter().map(String::as_str));
            let choices = || time_columns(&times);
            let instead = near.map_or_else(choices, |near| format!("Did you mean `--column {near}`?"));
            return Err(Error::instead(problem, instead));
        }
    };
    let kind: Option<String> = row.get("kind")?;
    let time_type = serde_json::from_value(kind.into()).map_err(|_| {
        let (name, kind) = (name(row), row.value::<String>("type").unwrap_or_default());
        Error::instead(format!("{name} of {relation} is of type {kind}, not a time."), time_columns(&times))
    })?;
    Ok(TimeColumn { quoted: row.get("quoted")?, time_type, indexed: row.get("indexed")? })
}

fn time_columns(times: &[String]) -> String {
    if times.is_empty() {
        return "The table has no column of type date, timestamp or timestamptz, so it doesn't show how old its rows are.".to_owned();
    }
    format!("These hold a time: {}.", times.join(", "))
}
