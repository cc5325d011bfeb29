//! A `.sql` command that acts: its exact text, its values and how many rows it changes on the card; then one transaction with a
//! time limit, under the login that it names, which changes no more than what was shown or nothing. A stop takes all of it back.

use super::{Action, Call, Execution, Outcome};
use crate::catalog::{COUNT, Command, Scope, Section, Variant};
use crate::clock::{duration_seconds, exact_duration};
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

pub struct Statement;

/// So many rows are told apart on the card, if the file allows any of their columns.
const MOST_KEYS: usize = 10;

/// What a preview counted.
struct Preview {
    rows: u64,
    /// The values of the header's `preview_columns`.
    keys: Vec<Vec<Cell>>,
}

#[async_trait]
impl Action for Statement {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment.unwrap_or_default();
        let target = the_target(call, environment)?;
        let label = target.label();
        let mut plan = describe(call, environment, &target)?;
        let address = address(environment, &plan, call.command);
        let lease = call.app.environments.lease(&address, &call.asker).await;
        let lease = lease.map_err(|why| user_error(label, &why.to_string()))?;
        let variant = variant(call.command, &lease).map_err(|why| user_error(label, why))?;
        plan.code = Some(("The reviewed SQL".to_owned(), variant.source.clone()));
        let asked = BoundRequest { plan: &plan, values: call.values };
        let preview = look_ahead(&lease, call.command, (variant, &asked)).await;
        let preview = preview.map_err(|why| user_error(label, &explain(&why, call.command)))?;
        if variant.sections.iter().any(|section| section.parameters.iter().any(|name| name == ASKED_AT)) {
            plan.context.push((ASKED_AT.to_owned(), asked_at(&plan)));
        }
        let Some(preview) = preview else { return Ok(plan) };
        if preview.rows == 0 {
            return Err(Error::user(format!("There is nothing to do on {label}: no row fits.")));
        }
        foretell(&mut plan, preview, call.command);
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let command = doing.command;
        let planned = |name: &str| doing.plan.identity.get(name).cloned().unwrap_or_default();
        let voided = |why: &str| Outcome::new(EventKind::Invalidated, format!("{why} Nothing was done."));
        if planned("command_sha256") != command.hash {
            return voided("The command's file is no longer the one that was shown.");
        }
        let environment = doing.environment().unwrap_or_default();
        if role(doing.app, environment, command).ok() != Some(planned("role")) {
            return voided("Its login is another role now than the one that was shown.");
        }
        let address = address(environment, doing.plan, command);
        let failed = |why: &str| {
            Outcome::new(EventKind::Failed, format!("{} {why}. Nothing was changed.", address.server))
        };
        let lease = match doing.app.environments.lease(&address, &doing.asker).await {
            Ok(lease) => lease,
            Err(why) => return failed(&why.to_string()),
        };
        let shown = match variant(command, &lease) {
            Ok(variant) if doing.plan.code.as_ref().is_some_and(|(_, sql)| *sql == variant.source) => variant,
            _ => {
                return voided(
                    "The server's version is another now, and its SQL not the one that was shown.",
                );
            }
        };
        let transaction = match lease.begin(AccessMode::Write, within(command, &lease)).await {
            Ok(transaction) => transaction,
            Err(why) => return failed(&explain(&why, command)),
        };
        let asked = BoundRequest { plan: doing.plan, values: &doing.run.request.arguments };
        let changed = lease.until(doing.stop, change(&transaction, doing, (shown, &asked))).await;
        if doing.stop.is_cancelled() {
            transaction.give_up().await;
            return Outcome::new(
                EventKind::Stopped,
                "Stopped, and all of it is taken back: nothing was changed.",
            );
        }
        match changed {
            Ok(changed) => committed(transaction, (changed, asked.shown()), &address.server).await,
            Err(stop) => {
                transaction.roll_back().await;
                match stop {
                    StatementAbort::Grown(why) => voided(&why),
                    StatementAbort::Refused(why) => failed(&explain(&why, command)),
                }
            }
        }
    }

    fn all_or_nothing(&self) -> bool {
        true
    }
}

/// The parameter that is the plan's own time: preview and act draw the same line.
const ASKED_AT: &str = "asked_at";

/// To the second, in UTC.
fn asked_at(plan: &Plan) -> String {
    plan.created_at.strftime("%Y-%m-%d %H:%M:%S+00").to_string()
}

/// What the statements are asked with.
struct BoundRequest<'a> {
    plan: &'a Plan,
    values: &'a Values,
}

impl BoundRequest<'_> {
    fn bound(&self, section: &Section) -> Vec<Option<String>> {
        let value = |name: &String| match self.values.get(name) {
            None if name == "database" => self.plan.identity.get(name).cloned(),
            None if name == ASKED_AT => Some(asked_at(self.plan)),
            known => known.cloned(),
        };
        section.parameters.iter().map(value).collect()
    }

    /// How many rows the card says; `None` where nothing is changed.
    fn shown(&self) -> Option<u64> {
        self.plan.identity.get("rows").and_then(|rows| rows.parse().ok())
    }
}

/// A fifth more than was shown may have come since.
fn at_most(shown: u64) -> u64 {
    shown.saturating_add(shown / 5)
}

fn rows(number: u64) -> String {
    if number == 1 {
        "1 row".to_owned()
    } else {
        format!("{} rows", grouped(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

/// The target, the login, the values and the limits.
fn describe(call: &Call<'_>, environment: &str, target: &Target) -> Result<Plan> {
    let command = call.command;
    let mut plan = Plan::of(format!("Runs {} on {} of {environment}.", command.name, target.label()));
    plan.identity.insert("server".to_owned(), target.server.clone());
    plan.identity.insert("command_sha256".to_owned(), command.hash.clone());
    plan.identity.insert("role".to_owned(), role(call.app, environment, command)?);
    if let Some(database) = &target.database {
        plan.identity.insert("database".to_owned(), database.clone());
    }
    let given = |spec: &ArgSpec| (spec.name.clone(), told(spec, call.values));
    plan.context = command.header.args.iter().map(given).collect();
    plan.context.push(("login".to_owned(), command.header.login.clone()));
    let limits = call.app.environments.environment(environment)?;
    let whole = asked_for(command).unwrap_or(limits.statement_timeout);
    let line = format!(
        "{} in all, {} for a lock; then nothing is changed",
        exact_duration(whole),
        exact_duration(limits.lock_timeout)
    );
    plan.context.push(("time limit".to_owned(), line));
    plan.impact = "Whoever uses what the SQL changes.".to_owned();
    plan.rollback = "None by itself: what it deletes or overwrites is in a backup, or nowhere.".to_owned();
    Ok(plan)
}

/// A value as it is bound, and a duration as people say it.
fn told(spec: &ArgSpec, values: &Values) -> String {
    match values.get(&spec.name) {
        None => "not given".to_owned(),
        Some(value) => match duration_seconds(value).filter(|_| spec.kind == ArgType::Duration) {
            Some(seconds) => format!("{value} ({})", exact_duration(Duration::from_secs(seconds))),
            None => value.clone(),
        },
    }
}

fn role(app: &crate::app::App, environment: &str, command: &Command) -> Result<String> {
    let environment = app.environments.environment(environment)?;
    app.environments.login(environment, &command.header.login).map(|(_, login)| login.user)
}

fn address(environment: &str, plan: &Plan, command: &Command) -> Address {
    Address {
        environment: environment.to_owned(),
        server: plan.identity.get("server").cloned().unwrap_or_default(),
        database: plan.identity.get("database").cloned(),
        login: command.header.login.clone(),
    }
}

fn variant<'a>(command: &'a Command, lease: &PooledClient) -> std::result::Result<&'a Variant, &'static str> {
    command.variant(lease.major()).ok_or("has a version that the command has no SQL for")
}

/// How long the whole transaction may take.
fn within(command: &Command, lease: &PooledClient) -> Duration {
    asked_for(command).unwrap_or_else(|| lease.statement_timeout())
}

fn asked_for(command: &Command) -> Option<Duration> {
    command.header.timeout.as_deref().and_then(duration_seconds).map(Duration::from_secs)
}

/// The preview before anybody is asked: in a transaction that can only read.
async fn look_ahead(
    lease: &PooledClient,
    command: &Command,
    (variant, asked): (&Variant, &BoundRequest<'_>),
) -> std::result::Result<Option<Preview>, QueryError> {
    let Some(section) = variant.sections.iter().find(|section| section.preview) else { return Ok(None) };
    let transaction = lease.begin(AccessMode::Read, within(command, lease)).await?;
    let preview = preview(&transaction, command, (section, asked)).await;
    transaction.roll_back().await;
    preview.map(Some)
}

async fn preview(
    transaction: &Transaction<'_>,
    command: &Command,
    (section, asked): (&Section, &BoundRequest<'_>),
) -> std::result::Result<Preview, QueryError> {
    let found = transaction.ask(&section.sql, &parameters(&asked.bound(section))).await?;
    let Some(first) = found.first() else { return Ok(Preview { rows: 0, keys: Vec::new() }) };
    let at = |name: &str| first.columns().iter().position(|column| column.name() == name);
    let counted = at(COUNT).and_then(|at| decode(first).ok()?.into_iter().nth(at));
    let rows = match counted {
        Some(Value::Int(rows)) => u64::try_from(rows).unwrap_or(0),
        // A preview that counts NULL, or text, counts nothing that could be guarded.
        _ => {
            let message = "the preview's column count is no whole number".to_owned();
            return Err(QueryError::Refused { code: "0A000".to_owned(), message });
        }
    };
    let keys: Vec<(&str, usize)> =
        command.header.preview_columns.iter().filter_map(|key| Some((key.as_str(), at(key)?))).collect();
    let mut shown = Vec::new();
    for row in found.iter().take(MOST_KEYS).filter(|_| !keys.is_empty()) {
        let values = decode(row)?;
        let cell =
            |(key, at): &(&str, usize)| Cell::from(value_text(key, values.get(*at).unwrap_or(&Value::Null)));
        shown.push(keys.iter().map(cell).collect());
    }
    Ok(Preview { rows, keys: shown })
}

/// Puts the count on the card, with the guard that follows from it.
fn foretell(plan: &mut Plan, preview: Preview, command: &Command) {
    let change = if preview.rows == 1 { "changes" } else { "change" };
    plan.effect = format!("{} {} {change}.", plan.effect, rows(preview.rows));
    plan.identity.insert("rows".to_owned(), preview.rows.to_string());
    let most = rows(at_most(preview.rows));
    plan.guards.insert("rows".to_owned(), format!("it changes {most} at most"));
    plan.impact.push_str(" What triggers and cascading keys change besides is not counted.");
    if preview.keys.is_empty() {
        return;
    }
    let columns: Vec<(&str, Shape)> =
        command.header.preview_columns.iter().map(|key| (key.as_str(), Shape::Left)).collect();
    let title = format!("{} of the {}", preview.keys.len(), rows(preview.rows));
    plan.tables.push(Table { title: Some(title), ..super::support::blocks::table(&columns, preview.keys) });
}

/// Why an act ends without anything done.
enum StatementAbort {
    /// More rows than was shown, and may be.
    Grown(String),
    Refused(QueryError),
}

/// Counts once more, then runs every statement, and stops at one row too many: how many rows were changed.
async fn change(
    transaction: &Transaction<'_>,
    doing: &Execution<'_>,
    (variant, asked): (&Variant, &BoundRequest<'_>),
) -> std::result::Result<u64, StatementAbort> {
    let (command, mut changed) = (doing.command, 0);
    let shown = asked.shown();
    let fits = |now: u64| match shown {
        Some(shown) if now > at_most(shown) => Err(StatementAbort::Grown(format!(
            "It would change {} now; the card showed {}, and {} may change at most.",
            rows(now),
            rows(shown),
            rows(at_most(shown))
        ))),
        _ => Ok(()),
    };
    if let Some(section) = variant.sections.iter().find(|section| section.preview) {
        // Cheaper than to change too many rows and take them back.
        let now = preview(transaction, command, (section, asked)).await.map_err(StatementAbort::Refused)?;
        fits(now.rows)?;
    }
    let statements: Vec<&Section> = variant.sections.iter().filter(|section| !section.preview).collect();
    for (at, section) in statements.iter().enumerate() {
        doing.progress(None, format!("statement {} of {}", at + 1, statements.len()));
        let run = transaction.run(&section.sql, &parameters(&asked.bound(section))).await;
        let rows = run.map_err(StatementAbort::Refused)?;
        changed += if section.changes { rows } else { 0 };
        fits(changed)?;
    }
    Ok(changed)
}

/// Nothing is done until PostgreSQL has confirmed the COMMIT.
async fn committed(
    transaction: Transaction<'_>,
    (changed, shown): (u64, Option<u64>),
    server: &str,
) -> Outcome {
    match transaction.commit().await {
        Ok(()) => {
            let facts = json!({ "rows": changed, "shown": shown });
            let mut done = Outcome { facts, ..Outcome::new(EventKind::Succeeded, "Done.") };
            if let Some(shown) = shown {
                let line = format!(
                    "{} changed, in one transaction; the card showed {}.",
                    rows(changed),
                    rows(shown)
                );
                done.blocks.push(Block::Note(line.into()));
            }
            done
        }
        Err(why) if why.is_final() => {
            let text = format!("PostgreSQL refused it at the end: {why}. Nothing was changed.");
            Outcome::new(EventKind::Failed, text)
        }
        Err(why) => {
            let text = format!(
                "{server} {why} while it committed: whether it was done is unknown. Look before asking again."
            );
            Outcome::new(EventKind::Interrupted, text)
        }
    }
}

/// The one that the values name.
///
/// # Errors
/// [`Error::User`]: there is none, or several.
pub(super) fn the_target(call: &Call<'_>, environment: &str) -> Result<Target> {
    let asker = &call.asker;
    let question = QueryRequest { command: call.command, environment, values: call.values, asker };
    let scope = match call.command.header.scope {
        Scope::Database => Scope::Database,
        _ => Scope::Server,
    };
    let mut targets = scope_targets(&call.app.environments, &question, scope)?;
    match (targets.pop(), targets.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Error::user("There is nothing there to run it on.")),
        _ => Err(Error::instead(
            "It acts on one database at a time.",
            format!("Name it: `{}`.", call.command.usage()),
        )),
    }
}
