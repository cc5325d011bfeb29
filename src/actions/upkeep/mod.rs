//! `vacuum` and `analyze`: a table or all of a database. PostgreSQL calls a VACUUM done that skipped the table, so here it is
//! done when nothing was warned of and PostgreSQL's own times of it have moved. Tables are done one by one, so that what happened
//! to each can be told, and a stop loses no table that was done. `vacuum-full` and `reindex` are beside them.

use super::support::database::DatabaseTarget;
use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::Plan;
use crate::postgres::{PooledClient, QueryError};
use crate::sql::duration;
use async_trait::async_trait;
use names::{Relation, RelationName};
use std::time::{Duration, Instant};
use tokio_postgres::Row;
use work::{LOOK_EVERY, MaintenanceSession, Position, SEEN_WITHIN};

mod full;
mod leftovers;
mod names;
mod reindex;
mod seen;
mod words;
mod work;

pub use full::VacuumFull;
pub use reindex::Reindex;

pub struct Vacuum;
pub struct Analyze;

const EVIDENCE: &str = include_str!("evidence.sql");

/// Since this version PostgreSQL tells its times at once; before, half a second later.
const TOLD_AT_ONCE: u32 = 15;
const HALF_WITHIN: Duration = Duration::from_secs(1);

/// What is done to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Vacuum,
    Analyze,
}

impl Operation {
    fn statement(self, relation: &str) -> String {
        match self {
            Operation::Vacuum => format!("VACUUM (ANALYZE, SKIP_LOCKED) {relation}"),
            Operation::Analyze => format!("ANALYZE (SKIP_LOCKED) {relation}"),
        }
    }
}

/// What became of a table or an index.
#[derive(Debug)]
enum TableOutcome {
    /// Of a table the dead rows left, as PostgreSQL estimates them; of an index its bytes.
    Done {
        left: i64,
    },
    /// PostgreSQL's warning.
    Skipped(String),
    /// No warning, and no trace of it either.
    Unseen,
    /// The name belongs to another now, or to none.
    Another,
    /// Another Countersign is at work there.
    Held,
    /// The run was asked to stop.
    Cut,
    /// Its VACUUM is done, and its ANALYZE is not: why, or `None` for the stop.
    Half(Option<String>),
    Refused(QueryError),
    /// Its session is over, and it was not done.
    Broken(QueryError),
    Lost(QueryError),
}

/// A table of the plan, and what became of it.
struct TableResult {
    relation: String,
    /// What was there before, of that which [`TableOutcome::Done`] counts.
    before: i64,
    fate: TableOutcome,
}

#[async_trait]
impl Action for Vacuum {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan(call, Operation::Vacuum).await
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        act(doing, Operation::Vacuum).await
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        seen::upkeep(doing, Operation::Vacuum).await
    }
}

#[async_trait]
impl Action for Analyze {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan(call, Operation::Analyze).await
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        act(doing, Operation::Analyze).await
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        seen::upkeep(doing, Operation::Analyze).await
    }
}

async fn plan(call: &Call<'_>, kind: Operation) -> Result<Plan> {
    let site = DatabaseTarget::of(call)?;
    let lease = site.lease(call).await?;
    let (chosen, left): (Vec<RelationName>, Vec<RelationName>) = match call.values.get("table") {
        Some(typed) => (vec![table(call, typed, (&site, &lease)).await?], Vec::new()),
        None => {
            let found = tables(&lease, None).await.map_err(|why| site.told(&why))?;
            found.into_iter().partition(|table| table.may)
        }
    };
    let none = left.first().filter(|_| chosen.is_empty());
    if let Some(foreign) = chosen.iter().find(|table| !table.may).or(none) {
        let does = match kind {
            Operation::Vacuum => "vacuum",
            Operation::Analyze => "analyze",
        };
        return Err(words::may_not(foreign, &site.role, does));
    }
    if chosen.is_empty() {
        return Err(Error::user(format!("{} has no table of its own.", site.database)));
    }
    let mut plan = words::describe(kind, &site, &chosen);
    if kind == Operation::Vacuum
        && let Ok(watcher) = site.reader(call).await
        && let Some(who) = holder(&watcher, is_old).await
    {
        plan.effect.push_str(&format!(" It can't remove dead rows that are newer than {who}."));
    }
    words::leave_out(&mut plan, &left);
    Ok(plan)
}

async fn tables(
    lease: &PooledClient,
    typed: Option<&str>,
) -> std::result::Result<Vec<RelationName>, QueryError> {
    let rows = lease.ask(include_str!("tables.sql"), &[&typed]).await?;
    Ok(rows.iter().map(RelationName::of).collect())
}

/// The one table that a name means.
async fn table(
    call: &Call<'_>,
    typed: &str,
    (site, lease): (&DatabaseTarget, &PooledClient),
) -> Result<RelationName> {
    let found = tables(lease, Some(typed)).await.map_err(|why| site.told(&why))?;
    match names::one(call, typed, found)? {
        Some(table) => Ok(table),
        None => {
            let all = tables(lease, None).await.unwrap_or_default();
            Err(names::unknown((typed, &site.database), "table", &all))
        }
    }
}

async fn act(doing: &Execution<'_>, kind: Operation) -> Outcome {
    let work = match MaintenanceSession::begin(doing).await {
        Ok(work) => work,
        Err(nothing) => return nothing,
    };
    let targets = Relation::all(doing);
    let began = Instant::now();
    let mut told = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        if doing.stop.is_cancelled() {
            break;
        }
        let step = TableStep { work: &work, kind, target };
        let fate = work.telling(Position { targets: &targets, at, kind: "table" }, step.take()).await;
        let over = matches!(
            fate,
            TableOutcome::Lost(_) | TableOutcome::Broken(_) | TableOutcome::Cut | TableOutcome::Half(None)
        );
        told.push(TableResult { relation: target.relation.clone(), before: target.dead, fate });
        if over {
            break;
        }
    }
    let took = began.elapsed();
    let held_back = match &work.watcher {
        Some(watcher)
            if told.iter().any(|told| matches!(told.fate, TableOutcome::Done { left } if left > 0)) =>
        {
            holder(watcher, |_| true).await
        }
        _ => None,
    };
    words::outcome(kind, doing.plan, (&targets, &told, took), held_back)
}

/// In seconds: what holds rows back for less is over before VACUUM comes to them.
const OLD: f64 = 1.0;

/// A replication slot tells no time: behind by fewer transactions, it follows.
const MANY: i32 = 1_000;

fn is_old(row: &Row) -> bool {
    row.get::<_, Option<f64>>("held_s").map_or_else(
        || row.get::<_, Option<i32>>("xid_age").is_some_and(|age| age >= MANY),
        |held| held >= OLD,
    )
}

/// Who keeps dead rows from being removed, the oldest that counts.
async fn holder(watcher: &PooledClient, counts: impl Fn(&Row) -> bool) -> Option<String> {
    let rows = watcher.ask(include_str!("horizon.sql"), &[]).await.ok()?;
    let row = rows.iter().find(|row| counts(row))?;
    let since = row.get::<_, Option<f64>>("held_s").map(|held| format!(", open for {}", duration(held)));
    Some(format!("{}{}", row.get::<_, String>("what"), since.unwrap_or_default()))
}

/// One table.
struct TableStep<'a> {
    work: &'a MaintenanceSession<'a>,
    kind: Operation,
    target: &'a Relation,
}

impl TableStep<'_> {
    async fn take(&self) -> TableOutcome {
        let Relation { relation, oid, .. } = self.target;
        match self.work.hold(relation).await {
            Ok(true) => {}
            Ok(false) => return TableOutcome::Held,
            Err(why) => return TableOutcome::Refused(why),
        }
        let asked = "SELECT to_regclass($1)::oid::int8 IS NOT DISTINCT FROM $2, clock_timestamp()::text";
        let (same, since): (bool, String) = match self.work.ask(asked, &[relation, oid]).await {
            Ok(rows) => match rows.first() {
                Some(row) => (row.get(0), row.get(1)),
                None => return TableOutcome::Unseen,
            },
            Err(why) => return TableOutcome::Refused(why),
        };
        if !same {
            return TableOutcome::Another;
        }
        let (fate, why) = match self.work.run(&self.kind.statement(relation)).await {
            Ok(warnings) => match warnings.into_iter().next() {
                Some(warning) => (
                    TableOutcome::Skipped(warning.clone()),
                    Some(format!("PostgreSQL skipped it: {warning}")),
                ),
                None => return self.evidence(&since).await,
            },
            Err(why) if self.work.is_cut(&why) => (TableOutcome::Cut, None),
            Err(why) if why.is_final() => {
                let words = format!("PostgreSQL refused: {why}");
                (TableOutcome::Refused(why), Some(words))
            }
            Err(why) => return TableOutcome::Lost(why),
        };
        // VACUUM commits before the ANALYZE behind it begins.
        if self.kind == Operation::Vacuum && self.is_vacuumed(&since).await {
            TableOutcome::Half(why)
        } else {
            fate
        }
    }

    async fn is_vacuumed(&self, since: &str) -> bool {
        let late = self.work.worker.lease().major() < TOLD_AT_ONCE;
        let until = Instant::now() + if late { HALF_WITHIN } else { Duration::ZERO };
        loop {
            let rows = self.work.ask(EVIDENCE, &[&self.target.oid, &since]).await.unwrap_or_default();
            let seen = rows.first().and_then(|row| row.get::<_, Option<bool>>("vacuumed")).unwrap_or(false);
            if seen || Instant::now() >= until {
                return seen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until PostgreSQL's own times tell that it happened.
    async fn evidence(&self, since: &str) -> TableOutcome {
        let until = Instant::now() + SEEN_WITHIN;
        loop {
            let rows = match self.work.ask(EVIDENCE, &[&self.target.oid, &since]).await {
                Ok(rows) => rows,
                Err(why) => return TableOutcome::Lost(why),
            };
            let Some(row) = rows.first() else { return TableOutcome::Another };
            let seen = |name: &str| row.get::<_, Option<bool>>(name).unwrap_or(false);
            if seen("analyzed") && (self.kind == Operation::Analyze || seen("vacuumed")) {
                return TableOutcome::Done { left: row.get("dead") };
            }
            if Instant::now() >= until {
                return TableOutcome::Unseen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
