//! A `.sql` command that changes data. The card shows its exact text, its values and the number of rows that it changes. The
//! execution is one transaction with a time limit, through the login that the file names; it changes at most a fifth more rows than
//! the card showed, or is rolled back. A stop rolls it back, too.

use super::support::blocks::table;
use super::support::database::read_only_error;
use super::support::{max_change, row_count_text};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::app::App;
use crate::catalog::{COUNT_COLUMN, Command, Scope, Section, Variant};
use crate::clock::duration_seconds;
use crate::command_line::{ArgType, Values};
use crate::error::{Error, Result};
use crate::model::{Block, Cell, ColumnKind, EventKind, Plan, Table, as_text};
use crate::postgres::{
    AccessMode, Address, BoundSql, PooledClient, QueryError, QueryResult, SqlValues, Transaction,
};
use crate::sql::analysis::{self, Analysis, AnalysisError};
use crate::sql::{Target, Value, decode, explain, parameters, user_error, value_text};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

pub struct SqlCommand;

/// Rows listed on the card, if the file allows any of their columns.
const MAX_PREVIEW_ROWS: usize = 10;

/// The parameter that holds the plan's time, so that preview and execution use the same moment.
const REQUESTED_AT: &str = "asked_at";

#[derive(Default, Serialize, Deserialize)]
struct SqlIdentity {
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    role: String,
    command_sha256: String,
}

impl SqlIdentity {
    fn address(&self, environment: &str, command: &Command) -> Address {
        Address::new(environment, &self.server, command.header.login).in_database(self.database.clone())
    }
}

/// The number of rows on the card, in the identity of a command with a preview.
#[derive(Serialize, Deserialize)]
struct RowCount {
    #[serde(with = "as_text")]
    rows: i64,
}

struct Preview {
    rows: i64,
    /// The values of the header's `preview_columns`.
    sample_rows: Vec<Vec<Cell>>,
}

#[async_trait]
impl Action for SqlCommand {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let command = call.command;
        let target = only_target(call)?;
        let label = target.label();
        let identity = SqlIdentity {
            server: target.server.clone(),
            database: target.database.clone(),
            role: role(call.app, call.environment_name(), command)?,
            command_sha256: command.hash.clone(),
        };
        let mut plan = describe(call, label)?;
        plan.set_target(&identity);
        let address = identity.address(call.environment_name(), command);
        let analyses = analyze(call.app, &address, &call.asker, command).await;
        let analyses = analyses.map_err(|error| analysis_error(call, label, &error))?;
        let client = call.app.environments.acquire_single_use(&address, &call.asker).await;
        let client = client.map_err(|error| user_error(label, &error.to_string()))?;
        let variant = variant(command, &client).map_err(|error| user_error(label, error))?;
        let is_read_only = "SELECT current_setting('default_transaction_read_only')::bool";
        let rows = client.query(is_read_only, &[]).await;
        let rows = rows.map_err(|error| user_error(label, &error.to_string()))?;
        if rows.first().and_then(|row| row.value(0)) != Some(false) {
            return Err(read_only_error());
        }
        plan.code = Some(("The reviewed SQL".to_owned(), variant.source.clone()));
        let requested_at = requested_at(&plan);
        let source = ParameterSource { identity: &identity, requested_at, values: call.values };
        let preview = async {
            if !has_preview(variant) {
                return Ok(None);
            }
            let transaction = client.begin(AccessMode::Read, time_limit(command, &client)).await?;
            let statements = Statements { variant, analyses };
            let preview = preview(&transaction, command, &statements, &source).await;
            transaction.roll_back().await;
            preview
        };
        let preview = preview.await.map_err(|error| user_error(label, &explain(&error, command)))?;
        if variant.sections.iter().any(|section| section.parameters.iter().any(|name| name == REQUESTED_AT)) {
            plan.add_context(REQUESTED_AT, source.requested_at);
        }
        let Some(preview) = preview else { return Ok(plan) };
        if preview.rows == 0 {
            return Err(Error::user(format!("No row matches on {label}, so there is nothing to change.")));
        }
        show_preview(&mut plan, preview, command);
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        execute(execution).await.unwrap_or_else(|outcome| outcome)
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock]
    }

    fn is_transactional(&self) -> bool {
        true
    }
}

async fn execute(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    let command = execution.command;
    let identity: SqlIdentity = execution.plan.target().unwrap_or_default();
    if identity.command_sha256 != command.hash {
        return Err(Outcome::invalidated("The command's file has changed since the plan was made."));
    }
    let environment = execution.environment().unwrap_or_default();
    if role(execution.app, environment, command).ok().as_ref() != Some(&identity.role) {
        return Err(Outcome::invalidated("The login's role has changed since the plan was made."));
    }
    let fail = |error: &str| failed_outcome(&identity.server, error);
    let address = identity.address(environment, command);
    let analyses = tokio::select! {
        analyses = analyze(execution.app, &address, &execution.asker, command) => {
            analyses.map_err(|error| fail(&analysis::explain(&error, command)))?
        }
        () = execution.stop.cancelled() => return Err(stopped()),
    };
    let client = execution.connect_single_use(&address).await;
    let client = client.map_err(|error| fail(&error.to_string()))?;
    let variant = variant(command, &client).ok();
    let matches_card =
        |variant: &&Variant| execution.plan.code.as_ref().is_some_and(|(_, sql)| *sql == variant.source);
    let Some(variant) = variant.filter(matches_card) else {
        let text = "The server's version has changed, and its SQL is not the one that was shown.";
        return Err(Outcome::invalidated(text));
    };
    let card_rows = card_rows(execution.plan, has_preview(variant))?;
    let transaction = client.begin(AccessMode::Write, time_limit(command, &client)).await;
    let transaction = transaction.map_err(|error| fail(&explain(&error, command)))?;
    let values = &execution.run.request.arguments;
    let requested_at = requested_at(execution.plan);
    let source = ParameterSource { identity: &identity, requested_at, values };
    let change = Change { execution, statements: Statements { variant, analyses }, source, card_rows };
    let result = client.run_until_stopped(execution.stop, change.run(&transaction)).await;
    if execution.stop.is_cancelled() {
        transaction.roll_back().await;
        return Err(stopped());
    }
    match result {
        Ok(changed_rows) => Ok(change.commit(transaction, changed_rows).await),
        Err(outcome) => {
            transaction.roll_back().await;
            Err(outcome)
        }
    }
}

/// Name of the lock that keeps two runs from doing the same at once.
fn resource(command: &Command, values: &Values) -> String {
    format!("{} {}", command.name, serde_json::to_string(values).unwrap_or_default())
}

fn stopped() -> Outcome {
    Outcome::new(EventKind::Stopped, "Stopped and rolled back: nothing was changed.")
}

/// The statements of a command, each with what it reaches unless the command may do anything.
struct Statements<'a> {
    variant: &'a Variant,
    /// By the section's index.
    analyses: Vec<Analysis>,
}

impl Statements<'_> {
    async fn query(&self, transaction: &Transaction<'_>, index: usize, values: SqlValues<'_>) -> QueryResult {
        let sql = &self.variant.sections[index].sql;
        match self.analyses.get(index) {
            Some(analysis) => analysis.query(transaction, BoundSql { sql, values }).await,
            None => transaction.query(sql, values).await,
        }
    }

    /// Returns the number of rows that the statement changed or gave.
    async fn execute(
        &self,
        transaction: &Transaction<'_>,
        index: usize,
        values: SqlValues<'_>,
    ) -> QueryResult<u64> {
        let sql = &self.variant.sections[index].sql;
        match self.analyses.get(index) {
            Some(analysis) => analysis.execute(transaction, BoundSql { sql, values }).await,
            None => transaction.execute(sql, values).await,
        }
    }
}

/// Analyses a custom command's sections; refuses one that would execute what is not on the allowlist; the error is in words that follow the target's name.
async fn analyze(
    app: &App,
    address: &Address,
    application_name: &str,
    command: &Command,
) -> Result<Vec<Analysis>, AnalysisError> {
    if !command.is_limited {
        return Ok(Vec::new());
    }
    analysis::check(&app.environments, address, application_name, |major| {
        command.sections(major).iter().collect()
    })
    .await
}

/// The refusal of a command that was analysed. What fires triggers is for `run-sql`, whose file is reviewed with them.
fn analysis_error(call: &Call<'_>, label: &str, error: &AnalysisError) -> Error {
    let problem = format!("{label} {}.", analysis::explain(error, call.command));
    let AnalysisError::Triggers(_) = error else { return Error::user(problem) };
    let name = &call.command.name;
    let service = call.value("service").unwrap_or("<service>");
    let environment = call.environment_name();
    let hint = format!(
        "Save its statements as `{name}.sql` in the directory of `[sql]`, then type `run-sql {name} {service} --env {environment}`."
    );
    Error::instead(problem, hint)
}

fn failed_outcome(server: &str, error: &str) -> Outcome {
    Outcome::new(EventKind::Failed, format!("{server} {error}. Nothing was changed."))
}

fn has_preview(variant: &Variant) -> bool {
    variant.sections.iter().any(|section| section.preview)
}

/// The number of rows on the card; `None` for a command without a preview, which has no limit.
fn card_rows(plan: &Plan, has_preview: bool) -> Result<Option<i64>, Outcome> {
    let card_rows = plan.target().map(|count: RowCount| count.rows);
    if has_preview && card_rows.is_none() {
        return Err(Outcome::invalidated("The plan doesn't say how many rows the card showed."));
    }
    Ok(card_rows)
}

fn requested_at(plan: &Plan) -> String {
    plan.created_at.strftime("%Y-%m-%d %H:%M:%S+00").to_string()
}

struct ParameterSource<'a> {
    identity: &'a SqlIdentity,
    requested_at: String,
    values: &'a Values,
}

impl ParameterSource<'_> {
    fn values_for(&self, section: &Section) -> Vec<Option<String>> {
        let value = |name: &String| match self.values.get(name) {
            None if name == "database" => self.identity.database.clone(),
            None if name == REQUESTED_AT => Some(self.requested_at.clone()),
            known => known.cloned(),
        };
        section.parameters.iter().map(value).collect()
    }
}

fn describe(call: &Call<'_>, label: &str) -> Result<Plan> {
    let (command, environment) = (call.command, call.environment_name());
    let mut plan = Plan::of(format!("Runs {} on {label} of {environment}.", command.name));
    for spec in &command.header.args {
        let value = match call.value(&spec.name) {
            None => "not given".to_owned(),
            Some(value) => match duration_seconds(value).filter(|_| spec.kind == ArgType::Duration) {
                Some(seconds) => format!("{value} ({})", in_largest_unit(Duration::from_secs(seconds))),
                None => value.to_owned(),
            },
        };
        plan.add_context(&spec.name, value);
    }
    plan.add_context("login", command.header.login.to_string());
    let limits = call.app.environments.environment(environment)?;
    let total_limit = in_largest_unit(header_timeout(command).unwrap_or(limits.statement_timeout));
    let lock_limit = in_largest_unit(limits.lock_timeout);
    plan.add_context(
        "time limit",
        format!("{total_limit} in all, {lock_limit} for a lock; then nothing is changed"),
    );
    plan.impact = "Everyone who uses the data that the SQL changes.".to_owned();
    plan.rollback = "None: deleted or overwritten rows exist only in a backup.".to_owned();
    Ok(plan)
}

/// Formats a duration in the largest unit without a remainder: "90 d", "36 h", "500 ms".
fn in_largest_unit(limit: Duration) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let milliseconds = limit.as_millis();
    let (size, unit) =
        units.into_iter().find(|(size, _)| milliseconds.is_multiple_of(*size)).unwrap_or((1, "ms"));
    format!("{} {unit}", milliseconds / size)
}

fn role(app: &App, environment: &str, command: &Command) -> Result<String> {
    let environment = app.environments.environment(environment)?;
    app.environments.login(environment, command.header.login).map(|(_, login)| login.user)
}

fn variant<'a>(command: &'a Command, client: &PooledClient) -> Result<&'a Variant, &'static str> {
    command.variant(client.major()).ok_or("has a version that the command has no SQL for")
}

fn time_limit(command: &Command, client: &PooledClient) -> Duration {
    header_timeout(command).unwrap_or_else(|| client.statement_timeout())
}

fn header_timeout(command: &Command) -> Option<Duration> {
    command.header.timeout.as_deref().and_then(duration_seconds).map(Duration::from_secs)
}

/// The number of rows that would change, and the first of them; `None` for a command without a preview.
async fn preview(
    transaction: &Transaction<'_>,
    command: &Command,
    statements: &Statements<'_>,
    source: &ParameterSource<'_>,
) -> Result<Option<Preview>, QueryError> {
    let mut sections = statements.variant.sections.iter().enumerate();
    let Some((index, section)) = sections.find(|(_, section)| section.preview) else { return Ok(None) };
    let rows = statements.query(transaction, index, &parameters(&source.values_for(section))).await?;
    let Some(first) = rows.first() else { return Ok(Some(Preview { rows: 0, sample_rows: Vec::new() })) };
    let index_of = |name: &str| first.columns().iter().position(|column| column.name() == name);
    let count_value = index_of(COUNT_COLUMN).and_then(|index| decode(first).ok()?.into_iter().nth(index));
    let Some(Value::Int(count)) = count_value else {
        // A guard can't compare NULL or text.
        let message = "the preview's column count is no whole number".to_owned();
        return Err(QueryError::Refused { code: "0A000".to_owned(), message });
    };
    let columns = command.header.preview_columns.iter();
    let columns: Vec<(&str, usize)> =
        columns.filter_map(|name| Some((name.as_str(), index_of(name)?))).collect();
    let mut sample_rows = Vec::new();
    for row in rows.iter().take(MAX_PREVIEW_ROWS).filter(|_| !columns.is_empty()) {
        let values = decode(row)?;
        let cell = |(name, index): &(&str, usize)| {
            Cell::from(value_text(name, values.get(*index).unwrap_or(&Value::Null)))
        };
        sample_rows.push(columns.iter().map(cell).collect());
    }
    Ok(Some(Preview { rows: count.max(0), sample_rows }))
}

fn show_preview(plan: &mut Plan, preview: Preview, command: &Command) {
    let verb = if preview.rows == 1 { "changes" } else { "change" };
    plan.effect = format!("{} {} {verb}.", plan.effect, row_count_text(preview.rows));
    plan.set_target(&RowCount { rows: preview.rows });
    plan.add_guard("rows", format!("it changes {} at most", row_count_text(max_change(preview.rows))));
    plan.impact.push_str(" Changes by triggers and cascading foreign keys are not counted.");
    if preview.sample_rows.is_empty() {
        return;
    }
    let columns: Vec<(&str, ColumnKind)> =
        command.header.preview_columns.iter().map(|key| (key.as_str(), ColumnKind::Left)).collect();
    let title = format!("{} of the {}", preview.sample_rows.len(), row_count_text(preview.rows));
    plan.tables.push(Table { title: Some(title), ..table(&columns, preview.sample_rows) });
}

struct Change<'a> {
    execution: &'a Execution<'a>,
    statements: Statements<'a>,
    source: ParameterSource<'a>,
    /// Number of rows on the card; `None` for a command without a preview.
    card_rows: Option<i64>,
}

impl Change<'_> {
    fn check_limit(&self, current_rows: i64) -> Result<(), Outcome> {
        match self.card_rows {
            Some(card_rows) if current_rows > max_change(card_rows) => Err(Outcome::invalidated(format!(
                "It would change {} now; the card showed {}, and {} may change at most.",
                row_count_text(current_rows),
                row_count_text(card_rows),
                row_count_text(max_change(card_rows))
            ))),
            _ => Ok(()),
        }
    }

    /// Keeps out every other run of the command with the same arguments, and makes sure that this run is still this process'.
    async fn lock(&self, transaction: &Transaction<'_>) -> Result<(), Outcome> {
        let command = self.execution.command;
        let locked = transaction.lock(&resource(command, self.source.values)).await;
        locked.map_err(|error| match error {
            QueryError::Refused { code, .. } if code == "55P03" => Outcome::failed(format!(
                "Another run of {} with the same arguments holds Countersign's lock on {}.",
                command.name, self.source.identity.server
            )),
            error => failed_outcome(&self.source.identity.server, &explain(&error, command)),
        })?;
        Ok(self.execution.ensure_current().await?)
    }

    /// Runs the preview again, then every statement, up to the row limit. Returns the number of changed rows.
    async fn run(&self, transaction: &Transaction<'_>) -> Result<i64, Outcome> {
        let command = self.execution.command;
        let fail = |error| failed_outcome(&self.source.identity.server, &explain(&error, command));
        self.lock(transaction).await?;
        // Cheaper than changing too many rows and rolling back.
        let preview = preview(transaction, command, &self.statements, &self.source).await;
        if let Some(preview) = preview.map_err(fail)? {
            self.check_limit(preview.rows)?;
        }
        let sections = self.statements.variant.sections.iter().enumerate();
        let sections: Vec<(usize, &Section)> = sections.filter(|(_, section)| !section.preview).collect();
        let mut changed_rows = 0_i64;
        for (number, (index, section)) in (1..).zip(&sections) {
            self.execution.progress(None, format!("statement {number} of {}", sections.len()));
            let values = self.source.values_for(section);
            let rows = self.statements.execute(transaction, *index, &parameters(&values)).await;
            let rows = rows.map_err(fail)?;
            if section.changes_data {
                changed_rows = changed_rows.saturating_add(i64::try_from(rows).unwrap_or(i64::MAX));
            }
            self.check_limit(changed_rows)?;
        }
        Ok(changed_rows)
    }

    /// Commits; without PostgreSQL's confirmation the outcome is unknown.
    async fn commit(&self, transaction: Transaction<'_>, changed_rows: i64) -> Outcome {
        let server = &self.source.identity.server;
        match transaction.commit().await {
            Ok(()) => {
                let target_name = self.source.values.get("service").unwrap_or(server);
                let mut outcome =
                    Outcome::done(format!("{} ran on {target_name}.", self.execution.command.name));
                outcome.facts = json!({ "rows": changed_rows, "shown": self.card_rows });
                if let Some(shown) = self.card_rows {
                    let (changed, shown) = (row_count_text(changed_rows), row_count_text(shown));
                    let line = format!("{changed} changed, in one transaction; the card showed {shown}.");
                    outcome.blocks.push(Block::Note(line.into()));
                }
                outcome
            }
            Err(error) if error.is_final() => {
                failed_outcome("PostgreSQL", &format!("rejected the commit: {error}"))
            }
            Err(error) => Outcome::unknown(format!(
                "{server} {error} during the commit, so the result is unknown. Check the data before you request it again."
            )),
        }
    }
}

/// The single server or database that the values name.
pub(super) fn only_target(call: &Call<'_>) -> Result<Target> {
    let scope = if call.command.header.scope == Scope::Database { Scope::Database } else { Scope::Server };
    let mut targets = call.targets(scope)?;
    match (targets.pop(), targets.is_empty()) {
        (Some(target), true) => Ok(target),
        (None, _) => Err(Error::user("There is no database to run it on.")),
        _ => Err(Error::instead(
            format!("`{}` works on one database at a time.", call.command.name),
            format!("Name it: `{}`.", call.command.usage()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_without_a_readable_number_of_rows_runs_nothing() {
        let mut plan = Plan::of("Deletes old rows.".to_owned());
        assert_eq!(card_rows(&plan, false).unwrap(), None);
        for rows in [None, Some(""), Some("many")] {
            plan.identity.extend(rows.map(|rows| ("rows".to_owned(), rows.to_owned())));
            assert_eq!(card_rows(&plan, true).unwrap_err().kind, EventKind::Invalidated, "{rows:?}");
        }
        plan.set_target(&RowCount { rows: 120 });
        assert_eq!(card_rows(&plan, true).unwrap(), Some(120));
    }
}
