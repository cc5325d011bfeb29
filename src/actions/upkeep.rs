//! `vacuum` and `analyze`: a table or all of a database. PostgreSQL calls a VACUUM done that skipped the table, so here it is
//! done when nothing was warned of and PostgreSQL's own times of it have moved. Tables are done one by one, so that what happened
//! to each can be told.

use super::{Act, Call, Doing, Outcome};
use crate::args::shown;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::runs::Happening;
use crate::sql::{Question, duration, scope_targets};
use crate::targets::{Address, Alone, Lease, QueryError};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio_postgres::Row;

mod words;

pub struct Vacuum;
pub struct Analyze;

/// PostgreSQL tells its times a moment after the statement is over.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the progress is asked.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What is done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Vacuum,
    Analyze,
}

impl Kind {
    fn statement(self, relation: &str) -> String {
        match self {
            Kind::Vacuum => format!("VACUUM (ANALYZE, SKIP_LOCKED) {relation}"),
            Kind::Analyze => format!("ANALYZE (SKIP_LOCKED) {relation}"),
        }
    }
}

/// A table as the login that works on it sees it.
#[derive(Debug, Clone)]
struct Table {
    /// Quoted, with its schema: `public."User"`.
    relation: String,
    oid: i64,
    owner: String,
    may: bool,
    exact: bool,
    bytes: i64,
    dead: i64,
}

impl Table {
    fn of(row: &Row) -> Table {
        Table {
            relation: row.get("relation"),
            oid: row.get("oid"),
            owner: row.get("owner"),
            may: row.get::<_, Option<bool>>("may").unwrap_or(false),
            exact: row.get::<_, Option<bool>>("exact").unwrap_or(false),
            bytes: row.get::<_, Option<i64>>("est_bytes").unwrap_or(0),
            dead: row.get("dead"),
        }
    }

    fn identity(&self) -> BTreeMap<String, String> {
        [
            ("relation", self.relation.clone()),
            ("oid", self.oid.to_string()),
            ("dead", self.dead.to_string()),
            ("bytes", self.bytes.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// What became of a table.
#[derive(Debug)]
enum Fate {
    /// Dead rows left, as PostgreSQL estimates them.
    Done {
        dead: i64,
    },
    /// PostgreSQL's warning.
    Skipped(String),
    /// No warning, and no trace of it either.
    Unseen,
    /// The name belongs to another table now, or to none.
    Another,
    Refused(QueryError),
    Lost(QueryError),
}

/// A table of the plan, and what became of it.
struct Told {
    relation: String,
    dead: i64,
    fate: Fate,
}

#[async_trait]
impl Act for Vacuum {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan(call, Kind::Vacuum).await
    }

    async fn act(&self, doing: &Doing<'_>) -> Outcome {
        act(doing, Kind::Vacuum).await
    }
}

#[async_trait]
impl Act for Analyze {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan(call, Kind::Analyze).await
    }

    async fn act(&self, doing: &Doing<'_>) -> Outcome {
        act(doing, Kind::Analyze).await
    }
}

async fn plan(call: &Call<'_>, kind: Kind) -> Result<Plan> {
    let environment = call.environment.unwrap_or_default();
    let address = address(call, environment)?;
    let database = address.database.clone().unwrap_or_default();
    let typed = call.values.get("table").cloned();
    let lease = call.app.targets.lease(&address, &call.asker).await;
    let lease = lease.map_err(|why| Error::user(format!("{database} {why}.")))?;
    let refused = |why: QueryError| Error::user(format!("{database}: {why}."));
    let found = tables(&lease, typed.as_deref()).await.map_err(refused)?;
    let (chosen, left): (Vec<Table>, Vec<Table>) = match &typed {
        Some(typed) => (vec![one(call, (typed, &database), found, &lease).await?], Vec::new()),
        None => found.into_iter().partition(|table| table.may),
    };
    let (_, login) = call.app.targets.login(call.app.targets.environment(environment)?, &address.login)?;
    let none = left.first().filter(|_| chosen.is_empty());
    if let Some(foreign) = chosen.iter().find(|table| !table.may).or(none) {
        return Err(words::may_not(foreign, &login.user, kind));
    }
    if chosen.is_empty() {
        return Err(Error::user(format!("{database} has no table of its own.")));
    }
    let mut plan = words::describe(kind, (environment, &database), &chosen);
    plan.identity.insert("server".to_owned(), address.server.clone());
    plan.identity.insert("role".to_owned(), login.user);
    if !left.is_empty() {
        let left = super::answers::count(left.len(), "table", "tables");
        plan.context.push(("left out".to_owned(), format!("{left} of other owners")));
    }
    Ok(plan)
}

/// The one service's database, through the login that the command's header names.
fn address(call: &Call<'_>, environment: &str) -> Result<Address> {
    let question = Question { command: call.command, environment, values: call.values, asker: &call.asker };
    let targets = scope_targets(&call.app.targets, &question, call.command.header.scope)?;
    match targets.as_slice() {
        [only] => Ok(Address {
            environment: environment.to_owned(),
            server: only.server.clone(),
            database: only.database.clone(),
            login: call.command.header.login.clone(),
        }),
        _ => Err(Error::instead(
            "It works on one service's database at a time.",
            format!("Type `{}`.", call.command.usage()),
        )),
    }
}

async fn tables(lease: &Lease, typed: Option<&str>) -> std::result::Result<Vec<Table>, QueryError> {
    let rows = lease.ask(include_str!("upkeep/tables.sql"), &[&typed]).await?;
    Ok(rows.iter().map(Table::of).collect())
}

/// The one table that a name means: the exact one, else the only one.
async fn one(
    call: &Call<'_>,
    (typed, database): (&str, &str),
    found: Vec<Table>,
    lease: &Lease,
) -> Result<Table> {
    let exact: Vec<Table> = found.iter().filter(|table| table.exact).cloned().collect();
    let fitting = if exact.is_empty() { found } else { exact };
    match fitting.as_slice() {
        [only] => Ok(only.clone()),
        [first, ..] => {
            let names: Vec<&str> = fitting.iter().map(|table| table.relation.as_str()).collect();
            let service = call.values.get("service").cloned().unwrap_or_default();
            Err(Error::instead(
                format!("“{}” can be {}.", shown(typed), names.join(" or ")),
                format!("Say which, as in `{} {service} {}`.", call.command.name, quoted(&first.relation)),
            ))
        }
        [] => {
            let all = tables(lease, None).await.unwrap_or_default();
            let bare = |table: &Table| {
                table.relation.rsplit('.').next().unwrap_or_default().trim_matches('"').to_owned()
            };
            let names: Vec<String> = all.iter().map(bare).collect();
            let problem = format!("{database} has no table “{}”.", shown(typed));
            Err(match crate::catalog::nearest(typed, names.iter().map(String::as_str)) {
                Some(near) => Error::instead(problem, format!("Did you mean `{near}`?")),
                None => Error::instead(problem, "`sizes <service>` shows the tables that there are."),
            })
        }
    }
}

/// A name as it can be typed in chat: quotes inside it would end a word.
fn quoted(relation: &str) -> String {
    relation.replace('"', "")
}

async fn act(doing: &Doing<'_>, kind: Kind) -> Outcome {
    let planned = |name: &str| doing.plan.identity.get(name).cloned().unwrap_or_default();
    let environment = doing.environment().unwrap_or_default();
    let login = doing.command.header.login.clone();
    let (server, database) = (planned("server"), planned("database"));
    let address = |login: &str| Address {
        environment: environment.to_owned(),
        server: server.clone(),
        database: Some(database.clone()),
        login: login.to_owned(),
    };
    let targets = &doing.app.targets;
    let nothing =
        |why: String| Outcome::new(Happening::Failed, format!("{database} {why}. Nothing was done."));
    let worker = match targets.lease(&address(&login), &doing.asker).await {
        Ok(lease) => lease.alone().await,
        Err(why) => return nothing(why.to_string()),
    };
    let worker = match worker {
        Ok(worker) => worker,
        Err(why) => return nothing(why.to_string()),
    };
    // Beside the worker: it tells how far that is. Without it the work goes on all the same.
    let watcher = targets.lease(&address("reader"), &doing.asker).await.ok();
    let began = Instant::now();
    let mut told = Vec::new();
    for (at, target) in doing.plan.targets.iter().enumerate() {
        let get = |name: &str| target.get(name).cloned().unwrap_or_default();
        let relation = get("relation");
        let oid = get("oid").parse().unwrap_or_default();
        let step = Step { worker: &worker, kind, relation: &relation, oid };
        let fate = tokio::select! {
            fate = step.take() => fate,
            never = tell(doing, watcher.as_ref(), (&worker, at)) => match never {},
        };
        let over = matches!(fate, Fate::Lost(_));
        told.push(Told { dead: get("dead").parse().unwrap_or_default(), relation, fate });
        if over {
            break;
        }
    }
    let took = began.elapsed();
    let held_back = match watcher {
        Some(watcher) if kind == Kind::Vacuum => held_back(&watcher, &told).await,
        _ => None,
    };
    words::outcome(kind, doing.plan.targets.len(), (&told, took, held_back))
}

/// Who kept dead rows from being removed, if some are left.
async fn held_back(watcher: &Lease, told: &[Told]) -> Option<String> {
    told.iter().find(|told| matches!(told.fate, Fate::Done { dead } if dead > 0))?;
    let rows = watcher.ask(include_str!("upkeep/horizon.sql"), &[]).await.ok()?;
    let row = rows.first()?;
    let since = row.get::<_, Option<f64>>("held_s").map(|held| format!(", open for {}", duration(held)));
    Some(format!("{}{}", row.get::<_, String>("what"), since.unwrap_or_default()))
}

/// One table.
struct Step<'a> {
    worker: &'a Alone,
    kind: Kind,
    relation: &'a str,
    oid: i64,
}

impl Step<'_> {
    async fn take(&self) -> Fate {
        let asked = "SELECT to_regclass($1)::oid::int8 IS NOT DISTINCT FROM $2, clock_timestamp()::text";
        let (same, since): (bool, String) = match self.worker.ask(asked, &[&self.relation, &self.oid]).await {
            Ok(rows) => match rows.first() {
                Some(row) => (row.get(0), row.get(1)),
                None => return Fate::Unseen,
            },
            Err(why) => return Fate::Refused(why),
        };
        if !same {
            return Fate::Another;
        }
        match self.worker.run(&self.kind.statement(self.relation)).await {
            Ok(warnings) => match warnings.into_iter().next() {
                Some(warning) => Fate::Skipped(warning),
                None => self.evidence(&since).await,
            },
            Err(why @ QueryError::Refused { .. }) if why.is_final() => Fate::Refused(why),
            Err(why) => Fate::Lost(why),
        }
    }

    /// Waits until PostgreSQL's own times tell that it happened.
    async fn evidence(&self, since: &str) -> Fate {
        let until = Instant::now() + SEEN_WITHIN;
        let sql = include_str!("upkeep/evidence.sql");
        loop {
            let rows = match self.worker.ask(sql, &[&self.oid, &since]).await {
                Ok(rows) => rows,
                Err(why) => return Fate::Lost(why),
            };
            let Some(row) = rows.first() else { return Fate::Another };
            let seen = |name: &str| row.get::<_, Option<bool>>(name).unwrap_or(false);
            if seen("analyzed") && (self.kind == Kind::Analyze || seen("vacuumed")) {
                return Fate::Done { dead: row.get("dead") };
            }
            if Instant::now() >= until {
                return Fate::Unseen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Tells how far it is until it is dropped: the tables that are done, and the share of the one in work.
async fn tell(
    doing: &Doing<'_>,
    watcher: Option<&Lease>,
    (worker, at): (&Alone, usize),
) -> std::convert::Infallible {
    let bytes = |target: &BTreeMap<String, String>| -> f64 {
        target.get("bytes").and_then(|bytes| bytes.parse::<f64>().ok()).unwrap_or_default().max(1.0)
    };
    let targets = &doing.plan.targets;
    let all: f64 = targets.iter().map(bytes).sum();
    let before: f64 = targets[..at].iter().map(bytes).sum();
    loop {
        let found = match watcher {
            Some(watcher) => watcher.ask(include_str!("upkeep/progress.sql"), &[&worker.pid]).await.ok(),
            None => None,
        };
        let row = found.as_ref().and_then(|rows| rows.first());
        let share = row.and_then(|row| row.get::<_, Option<f64>>("share")).unwrap_or_default();
        let percent = 100.0 * (before + bytes(&targets[at]) * share / 100.0) / all;
        let relation = targets[at].get("relation").map_or("", String::as_str);
        let mut label = relation.to_owned();
        if targets.len() > 1 {
            label = format!("{label}, table {} of {}", at + 1, targets.len());
        }
        if let Some(phase) = row.map(|row| row.get::<_, String>("phase")) {
            label = format!("{label}: {phase}");
        }
        doing.progress(Some(percent.clamp(0.0, 99.0) as u8), label);
        tokio::time::sleep(TELL_EVERY).await;
    }
}
