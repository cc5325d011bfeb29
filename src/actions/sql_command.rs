//! A `.sql` command that changes data. The card shows its exact text, its values and the number of rows that it changes. The
//! execution is one transaction with a time limit, through the login that the file names; it changes at most what was shown, or is
//! rolled back. A stop rolls it back, too.

use super::{Action, Call, Execution, Outcome};
use crate::catalog::{COUNT, Command, Scope, Section, Variant};
use crate::clock::duration_seconds;
use crate::command_line::{ArgSpec, ArgType, Values};
use crate::error::{Error, Result};
use crate::model::{Block, Cell, EventKind, Plan, Shape, Table};
use crate::postgres::{AccessMode, Address, PooledClient, QueryError, Transaction};
use crate::sql::{
    QueryRequest, Target, Value, decode, explain, grouped, parameters, scope_targets, user_error, value_text,
};
use async_trait::async_trait;
use serde_json::json;
use std::time::Duration;

pub struct SqlCommand;

/// Rows listed on the card, if the file allows any of their columns.
const MAX_PREVIEW_ROWS: usize = 10;

/// Result of a preview.
struct Preview {
    rows: u64,
    /// The values of the header's `preview_columns`.
    keys: Vec<Vec<Cell>>,
}

#[async_trait]
impl Action for SqlCommand {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment.unwrap_or_default();
        let target = only_target(call, environment)?;
        let label = target.label();
        let mut plan = describe(call, environment, &target)?;
        let address = address(environment, &plan, call.command);
        let client = call.app.environments.lease(&address, &call.asker).await;
        let client = client.map_err(|error| user_error(label, &error.to_string()))?;
        let variant = variant(call.command, &client).map_err(|error| user_error(label, error))?;
        plan.code = Some(("The reviewed SQL".to_owned(), variant.source.clone()));
        let request = BoundRequest { plan: &plan, values: call.values };
        let preview = preview_in_transaction(&client, call.command, variant, &request).await;
        let preview = preview.map_err(|error| user_error(label, &explain(&error, call.command)))?;
        if variant.sections.iter().any(|section| section.parameters.iter().any(|name| name == ASKED_AT)) {
            plan.context.push((ASKED_AT.to_owned(), asked_at(&plan)));
        }
        let Some(preview) = preview else { return Ok(plan) };
        if preview.rows == 0 {
            return Err(Error::user(format!("No row matches on {label}, so there is nothing to change.")));
        }
        show_preview(&mut plan, preview, call.command);
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let command = execution.command;
        let planned = |name: &str| execution.plan.identity.get(name).cloned().unwrap_or_default();
        if planned("command_sha256") != command.hash {
            return Outcome::invalidated("The command's file has changed since the plan was made.");
        }
        let environment = execution.environment().unwrap_or_default();
        if role(execution.app, environment, command).ok() != Some(planned("role")) {
            return Outcome::invalidated("The login's role has changed since the plan was made.");
        }
        let address = address(environment, execution.plan, command);
        let failed = |error: &str| {
            Outcome::new(EventKind::Failed, format!("{} {error}. Nothing was changed.", address.server))
        };
        let client = match execution.app.environments.lease(&address, &execution.asker).await {
            Ok(client) => client,
            Err(error) => return failed(&error.to_string()),
        };
        let variant = match variant(command, &client) {
            Ok(variant) if execution.plan.code.as_ref().is_some_and(|(_, sql)| *sql == variant.source) => {
                variant
            }
            _ => {
                return Outcome::invalidated(
                    "The server's version has changed, and its SQL is not the one that was shown.",
                );
            }
        };
        let transaction = match client.begin(AccessMode::Write, time_limit(command, &client)).await {
            Ok(transaction) => transaction,
            Err(error) => return failed(&explain(&error, command)),
        };
        let request = BoundRequest { plan: execution.plan, values: &execution.run.request.arguments };
        let changed = client.until(execution.stop, change(&transaction, execution, variant, &request)).await;
        if execution.stop.is_cancelled() {
            transaction.give_up().await;
            return Outcome::new(EventKind::Stopped, "Stopped and rolled back: nothing was changed.");
        }
        match changed {
            Ok(changed) => commit(transaction, execution, changed, &request).await,
            Err(stop) => {
                transaction.roll_back().await;
                match stop {
                    StatementAbort::TooManyRows(reason) => Outcome::invalidated(reason),
                    StatementAbort::Query(error) => failed(&explain(&error, command)),
                }
            }
        }
    }

    fn is_transactional(&self) -> bool {
        true
    }
}

/// The parameter that holds the plan's time, so that preview and execution use the same moment.
const ASKED_AT: &str = "asked_at";

/// The plan's time to the second, in UTC.
fn asked_at(plan: &Plan) -> String {
    plan.created_at.strftime("%Y-%m-%d %H:%M:%S+00").to_string()
}

/// The values that a command's statements are bound with.
struct BoundRequest<'a> {
    plan: &'a Plan,
    values: &'a Values,
}

impl BoundRequest<'_> {
    fn bind(&self, section: &Section) -> Vec<Option<String>> {
        let value = |name: &String| match self.values.get(name) {
            None if name == "database" => self.plan.identity.get(name).cloned(),
            None if name == ASKED_AT => Some(asked_at(self.plan)),
            known => known.cloned(),
        };
        section.parameters.iter().map(value).collect()
    }

    /// Number of rows on the card; `None` for a command without a preview.
    fn shown(&self) -> Option<u64> {
        self.plan.identity.get("rows").and_then(|rows| rows.parse().ok())
    }
}

/// Number of rows that may change: a fifth more than was shown.
fn max_rows(shown: u64) -> u64 {
    shown.saturating_add(shown / 5)
}

fn rows(number: u64) -> String {
    if number == 1 {
        "1 row".to_owned()
    } else {
        format!("{} rows", grouped(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

/// Plan with the target, the login, the values and the limits.
fn describe(call: &Call<'_>, environment: &str, target: &Target) -> Result<Plan> {
    let command = call.command;
    let mut plan = Plan::of(format!("Runs {} on {} of {environment}.", command.name, target.label()));
    plan.identity.insert("server".to_owned(), target.server.clone());
    plan.identity.insert("command_sha256".to_owned(), command.hash.clone());
    plan.identity.insert("role".to_owned(), role(call.app, environment, command)?);
    if let Some(database) = &target.database {
        plan.identity.insert("database".to_owned(), database.clone());
    }
    let given = |spec: &ArgSpec| (spec.name.clone(), displayed_value(spec, call.values));
    plan.context = command.header.args.iter().map(given).collect();
    plan.context.push(("login".to_owned(), command.header.login.to_string()));
    let limits = call.app.environments.environment(environment)?;
    let whole = header_timeout(command).unwrap_or(limits.statement_timeout);
    let line = format!(
        "{} in all, {} for a lock; then nothing is changed",
        in_largest_unit(whole),
        in_largest_unit(limits.lock_timeout)
    );
    plan.context.push(("time limit".to_owned(), line));
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

/// A value as it is bound; a duration also in words.
fn displayed_value(spec: &ArgSpec, values: &Values) -> String {
    match values.get(&spec.name) {
        None => "not given".to_owned(),
        Some(value) => match duration_seconds(value).filter(|_| spec.kind == ArgType::Duration) {
            Some(seconds) => format!("{value} ({})", in_largest_unit(Duration::from_secs(seconds))),
            None => value.clone(),
        },
    }
}

fn role(app: &crate::app::App, environment: &str, command: &Command) -> Result<String> {
    let environment = app.environments.environment(environment)?;
    app.environments.login(environment, command.header.login).map(|(_, login)| login.user)
}

fn address(environment: &str, plan: &Plan, command: &Command) -> Address {
    let server = plan.identity.get("server").map_or("", String::as_str);
    Address::new(environment, server, command.header.login)
        .in_database(plan.identity.get("database").cloned())
}

fn variant<'a>(
    command: &'a Command,
    client: &PooledClient,
) -> std::result::Result<&'a Variant, &'static str> {
    command.variant(client.major()).ok_or("has a version that the command has no SQL for")
}

/// Time limit of the whole transaction.
fn time_limit(command: &Command, client: &PooledClient) -> Duration {
    header_timeout(command).unwrap_or_else(|| client.statement_timeout())
}

fn header_timeout(command: &Command) -> Option<Duration> {
    command.header.timeout.as_deref().and_then(duration_seconds).map(Duration::from_secs)
}

/// Runs the preview for the plan, in a read-only transaction.
async fn preview_in_transaction(
    client: &PooledClient,
    command: &Command,
    variant: &Variant,
    request: &BoundRequest<'_>,
) -> std::result::Result<Option<Preview>, QueryError> {
    let Some(section) = variant.sections.iter().find(|section| section.preview) else { return Ok(None) };
    let transaction = client.begin(AccessMode::Read, time_limit(command, client)).await?;
    let preview = preview(&transaction, command, section, request).await;
    transaction.roll_back().await;
    preview.map(Some)
}

async fn preview(
    transaction: &Transaction<'_>,
    command: &Command,
    section: &Section,
    request: &BoundRequest<'_>,
) -> std::result::Result<Preview, QueryError> {
    let rows = transaction.ask(&section.sql, &parameters(&request.bind(section))).await?;
    let Some(first) = rows.first() else { return Ok(Preview { rows: 0, keys: Vec::new() }) };
    let index_of = |name: &str| first.columns().iter().position(|column| column.name() == name);
    let counted = index_of(COUNT).and_then(|index| decode(first).ok()?.into_iter().nth(index));
    let count = match counted {
        Some(Value::Int(count)) => u64::try_from(count).unwrap_or(0),
        // NULL or text is no count that a guard could compare.
        _ => {
            let message = "the preview's column count is no whole number".to_owned();
            return Err(QueryError::Refused { code: "0A000".to_owned(), message });
        }
    };
    let keys: Vec<(&str, usize)> = command
        .header
        .preview_columns
        .iter()
        .filter_map(|key| Some((key.as_str(), index_of(key)?)))
        .collect();
    if keys.is_empty() {
        return Ok(Preview { rows: count, keys: Vec::new() });
    }
    let mut shown = Vec::new();
    for row in rows.iter().take(MAX_PREVIEW_ROWS) {
        let values = decode(row)?;
        let cell = |(key, index): &(&str, usize)| {
            Cell::from(value_text(key, values.get(*index).unwrap_or(&Value::Null)))
        };
        shown.push(keys.iter().map(cell).collect());
    }
    Ok(Preview { rows: count, keys: shown })
}

/// Adds the count to the plan, with the guard that follows from it.
fn show_preview(plan: &mut Plan, preview: Preview, command: &Command) {
    let change = if preview.rows == 1 { "changes" } else { "change" };
    plan.effect = format!("{} {} {change}.", plan.effect, rows(preview.rows));
    plan.identity.insert("rows".to_owned(), preview.rows.to_string());
    let most = rows(max_rows(preview.rows));
    plan.guards.insert("rows".to_owned(), format!("it changes {most} at most"));
    plan.impact.push_str(" Changes by triggers and cascading foreign keys are not counted.");
    if preview.keys.is_empty() {
        return;
    }
    let columns: Vec<(&str, Shape)> =
        command.header.preview_columns.iter().map(|key| (key.as_str(), Shape::Left)).collect();
    let title = format!("{} of the {}", preview.keys.len(), rows(preview.rows));
    plan.tables.push(Table { title: Some(title), ..super::support::blocks::table(&columns, preview.keys) });
}

/// An error that rolls the transaction back.
enum StatementAbort {
    /// More rows than may change.
    TooManyRows(String),
    Query(QueryError),
}

/// Runs the preview again, then every statement, up to the row limit. Returns the number of changed rows.
async fn change(
    transaction: &Transaction<'_>,
    execution: &Execution<'_>,
    variant: &Variant,
    request: &BoundRequest<'_>,
) -> std::result::Result<u64, StatementAbort> {
    let command = execution.command;
    let mut changed = 0;
    let shown = request.shown();
    let check_limit = |now: u64| match shown {
        Some(shown) if now > max_rows(shown) => Err(StatementAbort::TooManyRows(format!(
            "It would change {} now; the card showed {}, and {} may change at most.",
            rows(now),
            rows(shown),
            rows(max_rows(shown))
        ))),
        _ => Ok(()),
    };
    if let Some(section) = variant.sections.iter().find(|section| section.preview) {
        // Cheaper than changing too many rows and rolling back.
        let now = preview(transaction, command, section, request).await.map_err(StatementAbort::Query)?;
        check_limit(now.rows)?;
    }
    let statements: Vec<&Section> = variant.sections.iter().filter(|section| !section.preview).collect();
    for (index, section) in statements.iter().enumerate() {
        execution.progress(None, format!("statement {} of {}", index + 1, statements.len()));
        let rows = transaction.run(&section.sql, &parameters(&request.bind(section))).await;
        let rows = rows.map_err(StatementAbort::Query)?;
        if section.changes {
            changed += rows;
        }
        check_limit(changed)?;
    }
    Ok(changed)
}

/// Commits. The changes are done once PostgreSQL has confirmed the COMMIT.
async fn commit(
    transaction: Transaction<'_>,
    execution: &Execution<'_>,
    changed: u64,
    request: &BoundRequest<'_>,
) -> Outcome {
    let server = request.plan.identity.get("server").map_or("", String::as_str);
    match transaction.commit().await {
        Ok(()) => {
            let shown = request.shown();
            let place = request.values.get("service").map_or(server, String::as_str);
            let mut outcome = Outcome::done(format!("{} ran on {place}.", execution.command.name));
            outcome.facts = json!({ "rows": changed, "shown": shown });
            if let Some(shown) = shown {
                let line = format!(
                    "{} changed, in one transaction; the card showed {}.",
                    rows(changed),
                    rows(shown)
                );
                outcome.blocks.push(Block::Note(line.into()));
            }
            outcome
        }
        Err(error) if error.is_final() => {
            let verdict = format!("PostgreSQL rejected the commit: {error}. Nothing was changed.");
            Outcome::new(EventKind::Failed, verdict)
        }
        Err(error) => Outcome::unknown(format!(
            "{server} {error} during the commit, so the result is unknown. Check the data before you request it again."
        )),
    }
}

/// The single server or database that the values name.
///
/// # Errors
/// [`Error::User`]: there is none, or several.
pub(super) fn only_target(call: &Call<'_>, environment: &str) -> Result<Target> {
    let asker = &call.asker;
    let query = QueryRequest { command: call.command, environment, values: call.values, asker };
    let scope = match call.command.header.scope {
        Scope::Database => Scope::Database,
        _ => Scope::Server,
    };
    let mut targets = scope_targets(&call.app.environments, &query, scope)?;
    match (targets.pop(), targets.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Error::user("There is no database to run it on.")),
        _ => Err(Error::instead(
            format!("`{}` works on one database at a time.", call.command.name),
            format!("Name it: `{}`.", call.command.usage()),
        )),
    }
}
