//! Runs a SQL command: every target at once, each under its own time limit, values bound. A target that is dead or slow is
//! named and neither hides nor holds up the others. How rows look to a person is in `sql/present.rs`.

use crate::catalog::{
    self, Command, IDLE_SESSIONS, MIGRATIONS_DIRECTORY, Need, OWN_ROLES, SERVER_NAME, STATEMENT_TEXTS, Scope,
    Section, WAIT_GRAPH, WAL_POSITIONS,
};
use crate::command_line::Values;
use crate::error::{Error, Result};
use crate::model::{LoginKind, Risk};
use crate::postgres::{Address, ColumnError, Environments, PgRow, PooledClient, QueryError, Unreachable};
use crate::privileges::{self, Shortfall};
use analysis::AnalysisError;
use custom::CustomQuery;
use sections::{NumberedSection, explained, run_group, section_groups};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio_postgres::types::{ToSql, Type};

pub mod analysis;
mod checks;
mod coverage;
mod custom;
mod findings;
mod format;
mod hits;
mod offers;
mod present;
mod sections;
mod small_rows;
mod wait_graph;
mod wal_positions;

pub use crate::clock::{duration, minute, moment};
pub use coverage::place_of;
pub use format::{bytes, fill, grouped, value_text};
pub use hits::severity_of;
pub use present::{Answer, present};
pub use sections::{SectionResult, TargetRow};
pub use wait_graph::{WaitGraph, Waiter};

/// More rows than this from one target are not kept: a safety limit, since statements have their own LIMIT.
const MAX_ROWS: usize = 500;

/// Errors after which a section is read again, and how often. A function was given an object that another session has dropped since the
/// statement's snapshot: undefined table, undefined object, and the internal error "could not open relation with OID", which has no code
/// of its own. Or one was locked since the statement looked at the locks, which it finds the next time.
const READ_AGAIN: [(&str, usize); 4] = [("42P01", 3), ("42704", 3), ("XX000", 3), ("55P03", 1)];

/// A value as PostgreSQL gave it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// UTC.
    Time(jiff::Timestamp),
    List(Vec<String>),
}

impl Value {
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        }
    }
}

/// The server or database that a section runs on, and that a row comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub server: String,
    pub service: Option<String>,
    pub database: Option<String>,
}

impl Target {
    /// "asset-service", or the server's name.
    pub fn label(&self) -> &str {
        self.service.as_deref().unwrap_or(&self.server)
    }
}

/// A SQL command with its values, its environment and its requester.
#[derive(Debug, Clone)]
pub struct QueryRequest<'a> {
    pub command: &'a Command,
    pub environment: &'a str,
    pub values: &'a Values,
    /// "countersign #128 ana".
    pub application_name: &'a str,
}

/// A request while its sections run.
struct QueryRun<'a> {
    environments: &'a Environments,
    query: &'a QueryRequest<'a>,
    /// By server: the rows of [`IDLE_SESSIONS`], read by the first section that needs them.
    idle_sessions: BTreeMap<String, OnceCell<Option<String>>>,
}

/// Runs every section on every target.
///
/// # Errors
/// [`Error::User`] for an unknown environment or service. A target's failure is part of the answer.
pub async fn run(environments: &Environments, query: &QueryRequest<'_>) -> Result<Vec<SectionResult>> {
    let mut values = query.values.clone();
    if query.command.sections(0).iter().any(uses_wal_positions) {
        values.insert(WAL_POSITIONS.to_owned(), wal_positions::read(environments, query).await?);
    }
    let query = &QueryRequest { values: &values, ..query.clone() };
    let servers = environments.environment(query.environment)?.servers.iter();
    let idle_sessions = servers.map(|server| (server.name.clone(), OnceCell::new())).collect();
    let run = QueryRun { environments, query, idle_sessions };
    let groups = section_groups(query);
    let all = groups.iter().map(|group| run_group(&run, group));
    let mut results: Vec<_> = futures::future::try_join_all(all).await?.into_iter().flatten().collect();
    results.sort_by_key(|(place, _)| *place);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// True if a section binds the positions, or a shared query that does.
fn uses_wal_positions(section: &Section) -> bool {
    let binds = |names: &[String]| names.iter().any(|name| name == WAL_POSITIONS);
    let shared = section.parameters.iter().filter_map(|name| catalog::shared_query(name));
    binds(&section.parameters) || shared.into_iter().any(|query| binds(&query.parameters))
}

/// The argument's value; `None` for "all".
fn value_unless_all<'a>(values: &'a Values, argument: &str) -> Option<&'a str> {
    values.get(argument).map(String::as_str).filter(|value| *value != "all")
}

fn applies(section: &Section, values: &Values) -> bool {
    section
        .when
        .as_ref()
        .is_none_or(|when| value_unless_all(values, &when.argument).is_some() == when.must_be_set)
}

/// The servers of the environment, or the databases of all services; of one service, its server or its database.
pub fn scope_targets(
    environments: &Environments,
    query: &QueryRequest<'_>,
    scope: Scope,
) -> Result<Vec<Target>> {
    let environment = environments.environment(query.environment)?;
    let service_name = value_unless_all(query.values, "service");
    if scope != Scope::Database {
        let service_server = match service_name {
            Some(name) => {
                environments.server_of(environment, environments.service(name)?).map(|s| s.name.as_str())
            }
            None => None,
        };
        let server = query.values.get("server").map(String::as_str).or(service_server);
        let servers = environments.servers(environment, server)?.into_iter();
        return Ok(servers
            .map(|server| Target { server: server.name.clone(), service: None, database: None })
            .collect());
    }
    let services = environments
        .services()
        .iter()
        .filter(|service| service_name.is_none_or(|name| service.name == *name));
    let targets = services.filter_map(|service| {
        Some(Target {
            server: environments.server_of(environment, service)?.name.clone(),
            service: Some(service.name.clone()),
            database: Some(service.database.clone()),
        })
    });
    Ok(targets.collect())
}

type Rows = (Vec<String>, Vec<Vec<Value>>);

/// The reason why a target gave no rows.
#[derive(Clone)]
struct TargetFailure {
    /// For people: it follows the target's name.
    reason: String,
    /// The server replied.
    is_reply: bool,
}

impl TargetFailure {
    fn of_connection(error: &Unreachable) -> TargetFailure {
        TargetFailure { reason: error.to_string(), is_reply: error.is_reply() }
    }

    fn of_query(error: &QueryError, command: &Command) -> TargetFailure {
        TargetFailure {
            reason: explain(error, command),
            is_reply: matches!(error, QueryError::Refused { .. } | QueryError::Unreadable(_)),
        }
    }

    fn of_analysis(error: &AnalysisError, command: &Command) -> TargetFailure {
        match error {
            AnalysisError::Query(error) => TargetFailure::of_query(error, command),
            refused => TargetFailure::refusal(&refused.to_string()),
        }
    }

    fn refusal(reason: &str) -> TargetFailure {
        TargetFailure { reason: reason.to_owned(), is_reply: true }
    }
}

/// Runs a group of sections on one target, over one connection.
async fn query_target(
    run: &QueryRun<'_>,
    group: &[NumberedSection<'_>],
    target: &Target,
) -> Result<Vec<Result<Rows, TargetFailure>>, TargetFailure> {
    let QueryRun { environments, query, .. } = run;
    let header = &query.command.header;
    let address =
        Address::new(query.environment, &target.server, header.login).in_database(target.database.clone());
    let client = if query.command.custom {
        environments.acquire_single_use(&address, query.application_name).await
    } else {
        environments.acquire(&address, query.application_name).await
    };
    let client = client.map_err(|error| TargetFailure::of_connection(&error))?;
    let source = ValueSource { run, target, client: &client };
    // Sent in one go, so that the check of the privilege costs no round trip of its own.
    let allowed = async {
        if query.command.needs_sessions() {
            client.has_pg_read_all_stats(time_limit(query.command)).await
        } else {
            Ok(true)
        }
    };
    let sections = group.iter().map(|(index, _)| source.section_rows(&address, *index));
    let sections = futures::future::join_all(sections);
    let (allowed, answers) = if query.command.is_limited {
        // Its sections are transactions, which must not be interrupted.
        let answers = sections.await;
        (allowed.await, answers)
    } else {
        tokio::join!(allowed, sections)
    };
    let allowed = allowed.map_err(|error| TargetFailure::of_query(&error, query.command))?;
    let missing = shortfalls(&client, query.command, allowed).await;
    let answers = answers.into_iter().zip(group);
    Ok(answers.map(|(rows, (_, section))| explained(rows, section, &missing)).collect())
}

/// The reader's shortfalls; none if they can't be read. Where sessions are all that a command needs, the check of the privilege has
/// told that nothing is missing.
async fn shortfalls(client: &PooledClient, command: &Command, sees_sessions: bool) -> Vec<Shortfall> {
    let needs = command.needs_of(LoginKind::Reader);
    if sees_sessions && needs.iter().all(|need| *need == Need::Sessions) {
        return Vec::new();
    }
    let known = privileges::shortfalls(client, &needs).await.unwrap_or_default();
    if known.is_empty() && !sees_sessions {
        let problem = "doesn't let Countersign's reader see other roles' sessions".to_owned();
        let fix = "Grant it pg_monitor.".to_owned();
        return vec![Shortfall { need: Need::Sessions, problem, fix, subject: None }];
    }
    known
}

/// The rows, without the texts of statements where one of them can't be converted.
async fn readable_rows(
    client: &PooledClient,
    command: &Command,
    section: &Section,
    bound_values: &[Option<String>],
) -> Result<Rows, QueryError> {
    match (rows(client, command, &section.sql, bound_values).await, position_of_texts(section)) {
        (Err(error), Some(at)) if error.is_encoding() => {
            let mut without_texts = bound_values.to_vec();
            without_texts[at] = Some("false".to_owned());
            rows(client, command, &section.sql, &without_texts).await
        }
        (rows, _) => rows,
    }
}

fn position_of_texts(section: &Section) -> Option<usize> {
    section.parameters.iter().position(|name| name == STATEMENT_TEXTS)
}

/// The command's own time limit for each target.
fn time_limit(command: &Command) -> Duration {
    let seconds = command.header.timeout.as_deref().and_then(crate::clock::duration_seconds);
    seconds.map_or(Duration::MAX, Duration::from_secs)
}

/// The source of a statement's values: those that were typed, and those that the program fills in.
struct ValueSource<'a> {
    run: &'a QueryRun<'a>,
    target: &'a Target,
    client: &'a PooledClient,
}

impl ValueSource<'_> {
    /// Runs the section of that place in the variant for the server's version.
    async fn section_rows(&self, address: &Address, index: usize) -> Result<Rows, TargetFailure> {
        let ValueSource { run: QueryRun { environments, query, .. }, client, .. } = self;
        let failed = |error: QueryError| TargetFailure::of_query(&error, query.command);
        let section = query.command.sections(client.major()).get(index);
        let section = section.ok_or_else(|| TargetFailure::refusal("has no such section"))?;
        let bound_values = self.bound_values(&section.parameters).await.map_err(failed)?;
        if query.command.is_limited {
            let custom = CustomQuery { environments, query, address };
            let rows = custom.rows(client, section, &bound_values).await;
            return rows.map_err(|error| TargetFailure::of_analysis(&error, query.command));
        }
        readable_rows(client, query.command, section, &bound_values).await.map_err(failed)
    }

    /// The values behind `$1`, `$2` …
    async fn bound_values(&self, names: &[String]) -> Result<Vec<Option<String>>, QueryError> {
        let values = names.iter().map(|name| async {
            match self.run.query.values.get(name) {
                Some(typed) => Ok(Some(typed.clone())),
                None => self.program_value(name).await,
            }
        });
        futures::future::try_join_all(values).await
    }

    /// `database` is the chosen service's, unless the command has an argument of that name.
    async fn program_value(&self, name: &str) -> Result<Option<String>, QueryError> {
        let ValueSource { run: QueryRun { environments, query, idle_sessions }, target, client } = self;
        Ok(match name {
            "database" => value_unless_all(query.values, "service")
                .and_then(|service| environments.service(service).ok())
                .map(|service| service.database.clone()),
            MIGRATIONS_DIRECTORY => migrations_directory(environments, target).await,
            OWN_ROLES => {
                let environment = environments.environment(query.environment).ok();
                environment.map(|environment| array_literal(&environments.own_roles(environment)))
            }
            SERVER_NAME => Some(target.server.clone()),
            STATEMENT_TEXTS => Some("true".to_owned()),
            WAIT_GRAPH => Some(WaitGraph::read(client, time_limit(query.command)).await?.to_json()),
            IDLE_SESSIONS => match idle_sessions.get(&target.server) {
                Some(read_once) => read_once.get_or_try_init(|| self.shared_rows(name)).await?.clone(),
                None => self.shared_rows(name).await?,
            },
            name => self.shared_rows(name).await?,
        })
    }

    /// The rows of a shared query, as JSON; `None` if there is none of that name. It may bind the rows of another.
    async fn shared_rows(&self, name: &str) -> Result<Option<String>, QueryError> {
        let Some(shared) = catalog::shared_query(name) else { return Ok(None) };
        let values = Box::pin(self.bound_values(&shared.parameters)).await?;
        let (_, rows) = rows(self.client, self.run.query.command, &shared.sql, &values).await?;
        Ok(match rows.into_iter().flatten().next() {
            Some(Value::Text(json)) => Some(json),
            _ => None,
        })
    }
}

/// An array of texts as PostgreSQL reads it: `{"a","b"}`.
fn array_literal(texts: &[String]) -> String {
    let quoted = texts.iter().map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}

/// The service's migrations, or the error of reading them, as JSON; `None` if no directory is configured.
async fn migrations_directory(environments: &Environments, target: &Target) -> Option<String> {
    let service = environments.service(target.service.as_deref()?).ok()?;
    let listed = match crate::prisma::read(service.migrations.clone()?).await {
        Ok(migrations) => serde_json::to_value(migrations),
        Err(error) => serde_json::to_value(error),
    };
    listed.ok().map(|listed| listed.to_string())
}

/// Values as parameters of tokio-postgres.
pub fn parameters(values: &[Option<String>]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Runs a statement, again if an object was dropped or locked while it was being read.
async fn rows(
    client: &PooledClient,
    command: &Command,
    sql: &str,
    bound_values: &[Option<String>],
) -> Result<Rows, QueryError> {
    let mut attempt = 0;
    loop {
        let answer = read_rows(client, command, sql, bound_values).await;
        let Err(QueryError::Refused { code, .. }) = &answer else { return answer };
        let retries = READ_AGAIN.iter().find(|(known, _)| known == code).map_or(0, |(_, retries)| *retries);
        if attempt >= retries {
            return answer;
        }
        attempt += 1;
    }
}

async fn read_rows(
    client: &PooledClient,
    command: &Command,
    sql: &str,
    bound_values: &[Option<String>],
) -> Result<Rows, QueryError> {
    let (parameters, limit) = (parameters(bound_values), time_limit(command));
    let rows = client.query_within(limit, sql, &parameters).await?;
    let columns = rows.first().map(|row| row.columns().iter().map(|c| c.name().to_owned()).collect());
    let decoded = rows.iter().take(MAX_ROWS).map(decode).collect::<Result<Vec<_>, _>>()?;
    Ok((columns.unwrap_or_default(), decoded))
}

/// The reason that a target has no answer, in words that follow its name.
pub fn explain(error: &QueryError, command: &Command) -> String {
    let is_custom_read = command.custom && command.header.risk == Risk::Read;
    match error {
        QueryError::Refused { code, .. } if command.header.on_error.contains_key(code) => {
            command.header.on_error[code].clone()
        }
        QueryError::Refused { code, .. } if code == "57014" => "was too slow and was cancelled".to_owned(),
        QueryError::Refused { code, .. } if code == "42501" => {
            "refuses it: Countersign's login is missing the privilege".to_owned()
        }
        QueryError::Refused { code, .. } if code == "55P03" => "is locked by somebody else".to_owned(),
        QueryError::Refused { code, .. } if is_custom_read && error.is_encoding() => format!(
            "can't convert one of the texts that the file reads (SQLSTATE {code}): let the file leave that column out; of \
             pg_stat_statements, the command slow shows the numbers without the texts"
        ),
        QueryError::Unreadable(_) if command.custom => {
            format!("{error}: let the file cast it to text, bigint or float8")
        }
        other => other.to_string(),
    }
}

/// Rows by type; a type without a decoder is a mistake in the command's file.
pub fn decode(row: &PgRow) -> Result<Vec<Value>, ColumnError> {
    (0..row.columns().len()).map(|at| decode_one(row, at)).collect()
}

fn decode_one(row: &PgRow, at: usize) -> Result<Value, ColumnError> {
    fn or_null<T>(value: Option<T>, make: impl Fn(T) -> Value) -> Value {
        value.map_or(Value::Null, make)
    }
    let texts =
        |list: Option<Vec<Option<String>>>| or_null(list, |l| Value::List(l.into_iter().flatten().collect()));
    Ok(match *row.columns()[at].type_() {
        Type::INT2 => or_null(row.get(at)?, |n: i16| Value::Int(n.into())),
        Type::INT4 => or_null(row.get(at)?, |n: i32| Value::Int(n.into())),
        Type::INT8 => or_null(row.get(at)?, Value::Int),
        Type::OID => or_null(row.get(at)?, |n: u32| Value::Int(n.into())),
        Type::FLOAT4 => or_null(row.get(at)?, |n: f32| Value::Float(n.into())),
        Type::FLOAT8 => or_null(row.get(at)?, Value::Float),
        Type::BOOL => or_null(row.get(at)?, Value::Bool),
        Type::TIMESTAMPTZ => or_null(row.get(at)?, Value::Time),
        Type::TEXT_ARRAY | Type::NAME_ARRAY | Type::VARCHAR_ARRAY => texts(row.get(at)?),
        Type::INT4_ARRAY => or_null(row.get(at)?, |list: Vec<Option<i32>>| {
            Value::List(list.into_iter().flatten().map(|n| n.to_string()).collect())
        }),
        _ => or_null(row.get(at)?, Value::Text),
    })
}

/// A refusal of one target in words, as an error: for commands that ask one target only.
pub fn user_error(label: &str, why: &str) -> Error {
    Error::user(format!("{label} {why}."))
}
