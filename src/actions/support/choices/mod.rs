//! The live values that a form offers for an argument. They are only offered: what is chosen is checked like a typed word, and again by
//! the command.

use super::blocks::{between, may_see, request_text};
use super::database::DatabaseTarget;
use super::servers::ask_all;
use crate::actions::{Call, Implementation, migrate};
use crate::catalog::sql_files;
use crate::command_line::{ArgSpec, ArgType, ChoiceSource};
use crate::error::Result;
use crate::incident;
use crate::model::{FormOption, Run, RunState};
use crate::postgres::PgRow;
use crate::redact;
use crate::schedule::PauseState;
use crate::sql::{bytes, duration};
use crate::store::Filter;
use std::time::Duration;
use strum::VariantArray;
use tokio_postgres::types::ToSql;

/// A person waits for the choices while they type.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The values of an argument that contain the query, in the order in which they are offered.
///
/// # Errors
/// As the command's own plan: the environment, the server or the database has no answer.
pub async fn find(call: &Call<'_>, spec: &ArgSpec, query: &str) -> Result<Vec<FormOption>> {
    let Some(source) = spec.choice_source() else {
        let choices = spec.choices.iter().map(String::as_str);
        return Ok(named(choices.chain(configured(call, spec.kind)), query));
    };
    match source {
        ChoiceSource::Sessions | ChoiceSource::ActiveSessions => sessions(call, source, query).await,
        ChoiceSource::Servers => {
            let environment = call.app.environments.environment(call.environment_name())?;
            Ok(named(environment.servers.iter().map(|server| server.name.as_str()), query))
        }
        ChoiceSource::UnpausedWindows | ChoiceSource::PausedWindows => windows(call, source, query).await,
        ChoiceSource::OpenFindings => {
            let store = &*call.app.audit.store;
            let open = incident::open_findings(store, &call.app.schedule, call.environment_name()).await;
            let open = open.map_err(anyhow::Error::from)?;
            let names: Vec<String> = open.iter().map(ToString::to_string).collect();
            Ok(named(names.iter().map(String::as_str), query))
        }
        ChoiceSource::Tables
        | ChoiceSource::UnpartitionedTables
        | ChoiceSource::TablesWithTime
        | ChoiceSource::Relations => relations(call, source, query).await,
        ChoiceSource::Columns => columns(call, query).await,
        ChoiceSource::Migrations => migrations(call, query).await,
        ChoiceSource::Files => match &call.app.config.sql {
            Some(directory) => {
                let names = sql_files::list(directory.clone()).await;
                Ok(named(names.iter().map(String::as_str), query))
            }
            None => Ok(Vec::new()),
        },
        ChoiceSource::Runs
        | ChoiceSource::Pending
        | ChoiceSource::Running
        | ChoiceSource::Unreviewed
        | ChoiceSource::Incomplete => runs(call, source, query).await,
    }
}

/// The names of the configuration for an argument of that type; none for a type that has no list.
pub fn configured<'a>(call: &'a Call<'_>, kind: ArgType) -> impl Iterator<Item = &'a str> + use<'a> {
    let app = call.app;
    let (services, environments, commands): (&[_], &[String], _) = match kind {
        ArgType::Service => (app.environments.services(), &[], None),
        ArgType::Environment => (&[], app.environments.names(), None),
        ArgType::Command => (&[], &[], Some(app.catalog.iter())),
        _ => (&[], &[], None),
    };
    let services = services.iter().map(|service| service.name.as_str());
    let commands = commands.into_iter().flatten().map(|command| command.name.as_str());
    services.chain(environments.iter().map(String::as_str)).chain(commands)
}

fn named<'a>(names: impl Iterator<Item = &'a str>, query: &str) -> Vec<FormOption> {
    let query = query.to_lowercase();
    names.filter(|name| name.to_lowercase().contains(&query)).filter_map(FormOption::plain).collect()
}

async fn windows(call: &Call<'_>, source: ChoiceSource, query: &str) -> Result<Vec<FormOption>> {
    let windows = call.app.schedule.iter().filter(|window| window.environment == call.environment_name());
    let mut names = Vec::new();
    for window in windows {
        let state = PauseState::of(&*call.app.audit.store, window).await.map_err(anyhow::Error::from)?;
        if state.pause.is_some() == (source == ChoiceSource::PausedWindows) {
            names.push(window.name.as_str());
        }
    }
    Ok(named(names.into_iter(), query))
}

async fn sessions(call: &Call<'_>, source: ChoiceSource, query: &str) -> Result<Vec<FormOption>> {
    let name = call.environment_name();
    let environment = call.app.environments.environment(name)?;
    let own_roles = call.app.environments.own_roles(environment);
    let sql = include_str!("sessions.sql");
    let only_active = source == ChoiceSource::ActiveSessions;
    let answers = ask_all(call, &[name], TIMEOUT, sql, &[&own_roles, &query, &only_active]).await?;
    let several = answers.len() > 1;
    let mut options = Vec::new();
    for answer in &answers {
        let server = if several { format!(" · {}", answer.server.name) } else { String::new() };
        let rows = answer.rows.iter().flatten();
        options.extend(rows.filter_map(|row| session(row, &server)));
    }
    Ok(options)
}

/// "4711 · asset-service · idle in transaction 12 min · 5 waiting".
fn session(row: &PgRow, server: &str) -> Option<FormOption> {
    let text = |column: &str| row.value::<String>(column);
    let (pid, app, state) = (text("value")?, redact::name(&text("app")?), text("state")?);
    let since = row.value("for_s").map_or(String::new(), |seconds| format!(" {}", duration(seconds)));
    let waiting = match row.value::<i64>("waiting") {
        Some(number) if number > 0 => format!(" · {number} waiting"),
        _ => String::new(),
    };
    let label = format!("{pid} · {app} · {state}{since}{waiting}{server}");
    FormOption::new(pid, &label)
}

/// The rows of a query on the service's database, through the reader login.
async fn rows_of_database(call: &Call<'_>, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<PgRow>> {
    let database = DatabaseTarget::from_call(call)?;
    let client = database.connect_reader(call).await?;
    let rows = client.query_within(TIMEOUT, sql, values).await;
    rows.map_err(|error| database.query_error(&error))
}

async fn relations(call: &Call<'_>, source: ChoiceSource, query: &str) -> Result<Vec<FormOption>> {
    let kinds: &[&str] = match source {
        ChoiceSource::TablesWithTime => &["r"],
        ChoiceSource::UnpartitionedTables => &["r", "m"],
        ChoiceSource::Relations => &["r", "m", "p", "i", "I"],
        _ => &["r", "m", "p"],
    };
    let with_time = source == ChoiceSource::TablesWithTime;
    let with_indexes = source == ChoiceSource::Relations;
    let values: [&(dyn ToSql + Sync); 4] = [&kinds, &query, &with_time, &with_indexes];
    let rows = rows_of_database(call, include_str!("relations.sql"), &values).await?;
    Ok(rows.iter().filter_map(relation).collect())
}

/// "asset_items · about 12 GB".
fn relation(row: &PgRow) -> Option<FormOption> {
    // No statement of ours can have a name whose bytes aren't UTF-8.
    let name = row.value::<String>("value").filter(|name| !name.contains(char::REPLACEMENT_CHARACTER))?;
    let kind = if row.is_true("is_index") { " · index" } else { "" };
    let size = match row.value::<i64>("bytes") {
        Some(size) if size > 0 => format!(" · about {}", bytes(size as f64)),
        _ => String::new(),
    };
    let label = format!("{}{kind}{size}", redact::name(&name));
    FormOption::new(name, &label)
}

async fn columns(call: &Call<'_>, query: &str) -> Result<Vec<FormOption>> {
    let rows = rows_of_database(call, include_str!("columns.sql"), &[&query]).await?;
    let column = |row: &PgRow| {
        let (name, tables) = (row.value::<String>("value")?, row.value::<String>("tables")?);
        let label = redact::name(&format!("{name} · {tables}"));
        FormOption::new(name, &label)
    };
    Ok(rows.iter().filter_map(column).collect())
}

async fn migrations(call: &Call<'_>, query: &str) -> Result<Vec<FormOption>> {
    let mut names = migrate::names(call).await?;
    names.retain(|(name, _)| name.to_lowercase().contains(&query.to_lowercase()));
    let option = |(name, is_unresolved): (String, bool)| {
        let label = if is_unresolved { format!("{name} · unresolved") } else { name.clone() };
        FormOption::new(name, &redact::name(&label))
    };
    Ok(names.into_iter().filter_map(option).collect())
}

async fn runs(call: &Call<'_>, source: ChoiceSource, query: &str) -> Result<Vec<FormOption>> {
    let incomplete = RunState::VARIANTS.iter().copied().filter(|state| state.is_incomplete());
    let states = match source {
        ChoiceSource::Pending => vec![RunState::Pending],
        ChoiceSource::Running => vec![RunState::Approved, RunState::Running, RunState::Interrupted],
        ChoiceSource::Incomplete => incomplete.collect(),
        _ => Vec::new(),
    };
    let command = (source == ChoiceSource::Incomplete).then(|| call.command.name.clone());
    let break_glass = source == ChoiceSource::Unreviewed;
    let page = call.runs(Filter { states, command, break_glass, limit: 100, ..Filter::default() }).await?;
    let action = match crate::actions::find(call.command) {
        Some(Implementation::Action(action)) => Some(action),
        _ => None,
    };
    let is_offered =
        |run: &&Run| may_see(call, run) && action.is_none_or(|action| action.check_run(call, run).is_ok());
    let now = jiff::Timestamp::now();
    let options = page.runs.iter().filter(is_offered).filter_map(|run| {
        let environment = run.request.environment.as_ref().map_or(String::new(), |name| format!(" · {name}"));
        let (who, age) = (&run.request.requester.id, between(run.opened_at, now));
        let label = format!("#{} · {}{environment} · {who} · {age} ago", run.id, request_text(run));
        FormOption::new(run.id.to_string(), &redact::name(&label))
    });
    let query = query.to_lowercase();
    Ok(options.filter(|option| option.label.to_lowercase().contains(&query)).collect())
}
