//! Runs a SQL command: every target at once, each under its own time limit, values bound. A target that is dead or slow is
//! named and neither hides nor holds up the others. How rows look to a person is in `sql/present.rs`.

use crate::catalog::{Command, MIGRATIONS_DIRECTORY, Scope, Section};
use crate::command_line::Values;
use crate::error::{Error, Result};
use crate::postgres::{AccessMode, Address, Environments, PooledClient, QueryError};
use std::time::Duration;
use tokio_postgres::types::{ToSql, Type};

mod format;
mod present;

pub use crate::clock::{duration, minute, moment};
pub use format::{bytes, fill, grouped, value_text};
pub use present::{Answer, present, tone};

/// More rows than this from one target are not kept; the statement's own LIMIT is the rule, this is the fence.
const MOST_ROWS: usize = 500;

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

/// Whom a row came from.
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

/// One row and whom it came from.
#[derive(Debug, Clone)]
pub struct TargetRow {
    pub target: Target,
    pub values: Vec<Value>,
}

/// What one section answered, over all its targets.
#[derive(Debug, Clone, Default)]
pub struct SectionResult {
    pub title: Option<String>,
    pub scope: Scope,
    /// One row of each target, shown standing.
    pub facts: bool,
    pub columns: Vec<String>,
    pub rows: Vec<TargetRow>,
    /// Targets without an answer, and why, in words for people.
    pub failures: Vec<(Target, String)>,
    /// How many targets were asked.
    pub asked: usize,
}

/// What is asked, of whom, for whom.
#[derive(Debug, Clone)]
pub struct QueryRequest<'a> {
    pub command: &'a Command,
    pub environment: &'a str,
    pub values: &'a Values,
    /// For `application_name`: "countersign #128 ana".
    pub asker: &'a str,
}

/// Asks every section of every target.
///
/// # Errors
/// [`Error::User`] for an unknown environment or service. A target's failure is part of the answer.
pub async fn run(targets: &Environments, question: &QueryRequest<'_>) -> Result<Vec<SectionResult>> {
    let shapes = question.command.sections(0);
    let asked = shapes.iter().enumerate().filter(|(_, shape)| is_asked(shape, question.values));
    let all = asked.map(|section| run_section(targets, question, section));
    futures::future::join_all(all).await.into_iter().collect()
}

/// The argument's value; "all" services is nobody in particular.
fn given<'a>(values: &'a Values, argument: &str) -> Option<&'a str> {
    values.get(argument).map(String::as_str).filter(|value| *value != "all")
}

fn is_asked(section: &Section, values: &Values) -> bool {
    section.when.as_ref().is_none_or(|when| given(values, &when.argument).is_some() == when.given)
}

async fn run_section(
    targets: &Environments,
    question: &QueryRequest<'_>,
    (index, shape): (usize, &Section),
) -> Result<SectionResult> {
    let asked = scope_targets(targets, question, shape.scope)?;
    let mut answer = SectionResult {
        title: shape.title.clone(),
        scope: shape.scope,
        facts: shape.facts,
        asked: asked.len(),
        ..SectionResult::default()
    };
    let all = asked.iter().map(|target| ask(targets, question, (index, target)));
    for (target, result) in asked.iter().zip(futures::future::join_all(all).await) {
        match result {
            Ok((columns, rows)) => {
                if !rows.is_empty() {
                    answer.columns = columns;
                }
                answer
                    .rows
                    .extend(rows.into_iter().map(|values| TargetRow { target: target.clone(), values }));
            }
            Err(why) => answer.failures.push((target.clone(), why)),
        }
    }
    sort(&mut answer, question.command.header.sort.as_deref());
    Ok(answer)
}

/// The servers of the environment, or the databases of all services; of one service, its server or its database.
pub fn scope_targets(
    targets: &Environments,
    question: &QueryRequest<'_>,
    scope: Scope,
) -> Result<Vec<Target>> {
    let environment = targets.environment(question.environment)?;
    let chosen = given(question.values, "service");
    if scope != Scope::Database {
        let of_service = match chosen {
            Some(name) => targets.server_of(environment, targets.service(name)?).map(|s| s.name.as_str()),
            None => None,
        };
        let wanted = question.values.get("server").map(String::as_str).or(of_service);
        let servers = targets.servers(environment, wanted)?.into_iter();
        return Ok(servers
            .map(|server| Target { server: server.name.clone(), service: None, database: None })
            .collect());
    }
    let services =
        targets.services().iter().filter(|service| chosen.is_none_or(|name| service.name == *name));
    let found = services.filter_map(|service| {
        Some(Target {
            server: targets.server_of(environment, service)?.name.clone(),
            service: Some(service.name.clone()),
            database: Some(service.database.clone()),
        })
    });
    Ok(found.collect())
}

type Rows = (Vec<String>, Vec<Vec<Value>>);

/// One section of one target; the error is for people.
async fn ask(
    targets: &Environments,
    question: &QueryRequest<'_>,
    (index, target): (usize, &Target),
) -> Result<Rows, String> {
    let header = &question.command.header;
    let address = Address {
        environment: question.environment.to_owned(),
        server: target.server.clone(),
        database: target.database.clone(),
        login: header.login,
    };
    let lease = targets.acquire(&address, question.asker).await.map_err(|why| why.to_string())?;
    let section = question.command.sections(lease.major()).get(index).ok_or("has no such question")?;
    let within = header.timeout.as_deref().and_then(crate::clock::duration_seconds).map(Duration::from_secs);
    let limit = within.unwrap_or(Duration::MAX);
    let directory = match section.parameters.iter().any(|name| name == MIGRATIONS_DIRECTORY) {
        true => migrations_directory(targets, target).await,
        false => None,
    };
    let bound = bound(targets, question, (section, &directory));
    // Sent in one go, but for a team's own: the right costs no round trip of its own.
    let allowed = async {
        match header.needs_pg_read_all_stats {
            true => lease.sees_sessions(limit).await.map_err(|why| why.to_string()),
            false => Ok(true),
        }
    };
    let (allowed, rows) =
        tokio::join!(allowed, values(&lease, section, (&bound, limit, question.command.team)));
    if !allowed? {
        return Err("may not show other sessions: grant pg_monitor to Countersign's reader".to_owned());
    }
    rows.map_err(|why| explain(&why, question.command))
}

/// The values behind `$1`, `$2` …: `database` is the chosen service's, unless the command has an argument of that name.
fn bound(
    targets: &Environments,
    question: &QueryRequest<'_>,
    (section, directory): (&Section, &Option<String>),
) -> Vec<Option<String>> {
    let database = || {
        let service = targets.service(given(question.values, "service")?).ok()?;
        Some(service.database.clone())
    };
    let value = |name: &String| match question.values.get(name) {
        None if name == "database" => database(),
        None if name == MIGRATIONS_DIRECTORY => directory.clone(),
        known => known.cloned(),
    };
    section.parameters.iter().map(value).collect()
}

/// As JSON: the migrations, or why there are none to be seen; nothing where the configuration names no directory.
async fn migrations_directory(targets: &Environments, target: &Target) -> Option<String> {
    let service = targets.service(target.service.as_deref()?).ok()?;
    let listed = match crate::prisma::read(service.migrations.clone()?).await {
        Ok(migrations) => serde_json::to_value(migrations),
        Err(why) => serde_json::to_value(why),
    };
    listed.ok().map(|listed| listed.to_string())
}

/// As the driver takes them.
pub fn parameters(values: &[Option<String>]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

async fn values(
    lease: &PooledClient,
    section: &Section,
    (bound, limit, fenced): (&[Option<String>], Duration, bool),
) -> Result<Rows, QueryError> {
    let parameters = parameters(bound);
    let rows = match fenced {
        true => {
            let limit = limit.min(lease.statement_timeout());
            let transaction = lease.begin(AccessMode::Read, limit).await?;
            let rows = transaction.query(&section.sql, &parameters).await;
            transaction.roll_back().await;
            rows?
        }
        false => lease.query_within(limit, &section.sql, &parameters).await?,
    };
    let columns = rows.first().map(|row| row.columns().iter().map(|c| c.name().to_owned()).collect());
    let decoded = rows.iter().take(MOST_ROWS).map(decode).collect::<Result<Vec<_>, _>>()?;
    Ok((columns.unwrap_or_default(), decoded))
}

/// Why a target has no answer, in words that follow its name.
pub fn explain(why: &QueryError, command: &Command) -> String {
    match why {
        QueryError::Refused { code, .. } if command.header.on_error.contains_key(code) => {
            command.header.on_error[code].clone()
        }
        QueryError::Refused { code, .. } if code == "57014" => "was too slow and was cancelled".to_owned(),
        QueryError::Refused { code, .. } if code == "42501" => {
            "refuses it: Countersign's login lacks the right".to_owned()
        }
        QueryError::Refused { code, .. } if code == "55P03" => "is locked by somebody else".to_owned(),
        other => other.to_string(),
    }
}

/// Rows by type; a type without a decoder is a mistake in the command's file.
pub fn decode(row: &tokio_postgres::Row) -> Result<Vec<Value>, QueryError> {
    (0..row.len())
        .map(|at| {
            let wrong = |_| QueryError::Refused {
                code: "0A000".to_owned(),
                message: format!(
                    "the column {} has the type {}",
                    row.columns()[at].name(),
                    row.columns()[at].type_()
                ),
            };
            decode_one(row, at).map_err(wrong)
        })
        .collect()
}

fn decode_one(row: &tokio_postgres::Row, at: usize) -> Result<Value, tokio_postgres::Error> {
    fn or_null<T>(value: Option<T>, make: impl Fn(T) -> Value) -> Value {
        value.map_or(Value::Null, make)
    }
    let texts =
        |list: Option<Vec<Option<String>>>| or_null(list, |l| Value::List(l.into_iter().flatten().collect()));
    Ok(match *row.columns()[at].type_() {
        Type::INT2 => or_null(row.try_get(at)?, |n: i16| Value::Int(n.into())),
        Type::INT4 => or_null(row.try_get(at)?, |n: i32| Value::Int(n.into())),
        Type::INT8 => or_null(row.try_get(at)?, Value::Int),
        Type::OID => or_null(row.try_get(at)?, |n: u32| Value::Int(n.into())),
        Type::FLOAT4 => or_null(row.try_get(at)?, |n: f32| Value::Float(n.into())),
        Type::FLOAT8 => or_null(row.try_get(at)?, Value::Float),
        Type::BOOL => or_null(row.try_get(at)?, Value::Bool),
        Type::TIMESTAMPTZ => or_null(row.try_get(at)?, Value::Time),
        Type::TEXT_ARRAY | Type::NAME_ARRAY | Type::VARCHAR_ARRAY => texts(row.try_get(at)?),
        Type::INT4_ARRAY => or_null(row.try_get(at)?, |list: Vec<Option<i32>>| {
            Value::List(list.into_iter().flatten().map(|n| n.to_string()).collect())
        }),
        _ => or_null(row.try_get(at)?, Value::Text),
    })
}

/// Merged rows, largest first.
fn sort(answer: &mut SectionResult, by: Option<&str>) {
    let Some(at) = by.and_then(|by| answer.columns.iter().position(|column| column == by)) else { return };
    let key = |found: &TargetRow| found.values.get(at).and_then(Value::number).unwrap_or(f64::MIN);
    answer.rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
}

/// A refusal of one target in words, as an error: for commands that ask one target only.
pub fn user_error(label: &str, why: &str) -> Error {
    Error::user(format!("{label} {why}."))
}
