//! `reindex`: a table's indexes or one of them, built anew beside reads and writes (REINDEX INDEX CONCURRENTLY), one after another,
//! so that a stop loses no index that was done and the disk needs room for one at a time. Done is what PostgreSQL shows as another,
//! valid index of the same name. What a broken one leaves is looked for before and after (`leftovers`).

use super::leftovers::{self, DropResult, InvalidIndex, Leftovers};
use super::names::{self, Relation, RelationName};
use super::work::{MaintenanceSession, Position, gave_up, resource};
use super::{TableOutcome, TableResult, full, seen, words};
use crate::actions::support::blocks::count;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{Block, EventKind, Plan};
use crate::postgres::{DedicatedSession, PooledClient, QueryError};
use crate::sql::{bytes, duration};
use async_trait::async_trait;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio_postgres::Row;

pub struct Reindex;

/// So many times the environment's lock_timeout: nobody who reads or writes waits behind it, so it can wait for theirs.
const PATIENCE: u32 = 15;

/// In seconds: a younger transaction is over before it is waited for.
const OLD: f64 = 1.0;

#[async_trait]
impl Action for Reindex {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let site = DatabaseTarget::of(call)?;
        let lease = site.lease(call).await?;
        let typed = call.values.get("name").cloned().unwrap_or_default();
        let found = object(call, &typed, (&site, &lease)).await?;
        if !found.may {
            return Err(may_not(&found, &site.role));
        }
        let told = |why: QueryError| match gave_up(&why) {
            true => Error::instead(
                format!("{} is locked, so that its indexes can't be measured.", found.relation),
                "`blocked` shows who holds it.",
            ),
            false => site.told(&why),
        };
        let indexes = lease.ask(include_str!("indexes.sql"), &[&found.oid]).await.map_err(told)?;
        if indexes.is_empty() {
            return Err(Error::user(format!("{} has no index to build anew.", found.relation)));
        }
        let targets: Vec<BTreeMap<String, String>> = indexes.iter().map(target).collect();
        let oids = tables(&targets.iter().map(Relation::of).collect::<Vec<_>>());
        let left = leftovers::find(&lease, &oids).await.map_err(|why| site.told(&why))?;
        let older = site.reader(call).await?.ask(include_str!("older.sql"), &[]).await;
        let older = older.map_err(|why| site.told(&why))?;
        let patience = patience(call.app.environments.environment(&site.address.environment)?.lock_timeout);
        let mut plan = describe(&site, (&found.relation, targets), patience);
        plan.effect.push_str(&oldest(&older));
        plan.context.extend(left_before(&left));
        plan.tables.extend(full::sessions("Open transactions that could hold it up", &older));
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let work = match MaintenanceSession::begin(doing).await {
            Ok(work) => work,
            Err(nothing) => return nothing,
        };
        let targets = Relation::all(doing);
        let oids = tables(&targets);
        let before = match prepare(&work, &targets).await {
            Ok(before) => before,
            Err(nothing) => return *nothing,
        };
        let began = Instant::now();
        let mut told = Vec::new();
        for (at, target) in targets.iter().enumerate() {
            if doing.stop.is_cancelled() {
                break;
            }
            let part = Position { targets: &targets, at, kind: "index" };
            let fate = work.telling(part, rebuild(&work, target)).await;
            let over = matches!(fate, TableOutcome::Lost(_) | TableOutcome::Broken(_) | TableOutcome::Cut);
            told.push(TableResult { relation: target.relation.clone(), before: target.bytes, fate });
            if over {
                break;
            }
        }
        let took = began.elapsed();
        let after = clear_after(&work, &oids).await;
        outcome(&targets, (&told, took), (before, after))
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        seen::reindex(doing, REBUILT).await
    }
}

/// The table or index that a name means.
async fn object(
    call: &Call<'_>,
    typed: &str,
    (site, lease): (&DatabaseTarget, &PooledClient),
) -> Result<RelationName> {
    let sql = include_str!("objects.sql");
    let list = async |typed: Option<&str>| -> std::result::Result<Vec<RelationName>, QueryError> {
        Ok(lease.ask(sql, &[&typed]).await?.iter().map(RelationName::of).collect())
    };
    let found = list(Some(typed)).await.map_err(|why| site.told(&why))?;
    match names::one(call, typed, found)? {
        Some(found) => Ok(found),
        None => {
            let all = list(None).await.unwrap_or_default();
            Err(names::unknown((typed, &site.database), "table or index", &all))
        }
    }
}

fn may_not(found: &RelationName, role: &str) -> Error {
    Error::instead(
        format!("{role} may not reindex {}, which belongs to {}.", found.relation, found.owner),
        format!(
            "Name a login `maintain` in the configuration whose role is a member of {}; from PostgreSQL 17 on, `GRANT pg_maintain` to it is enough to build, though not to drop what a broken one leaves.",
            found.owner
        ),
    )
}

fn target(row: &Row) -> BTreeMap<String, String> {
    let number = |name: &str| row.get::<_, Option<i64>>(name).unwrap_or_default().to_string();
    [
        ("relation", row.get::<_, String>("relation")),
        ("oid", number("oid")),
        ("bytes", number("bytes")),
        ("table", row.get::<_, String>("table")),
        ("table_oid", number("table_oid")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The tables whose indexes they are.
fn tables(targets: &[Relation]) -> Vec<i64> {
    targets.iter().map(|target| target.table_oid).collect::<BTreeSet<_>>().into_iter().collect()
}

fn patience(lock_timeout: Duration) -> Duration {
    lock_timeout.saturating_mul(PATIENCE)
}

fn describe(
    site: &DatabaseTarget,
    (relation, targets): (&str, Vec<BTreeMap<String, String>>),
    patience: Duration,
) -> Plan {
    let parsed: Vec<Relation> = targets.iter().map(Relation::of).collect();
    let what = match parsed.as_slice() {
        [only] if only.relation == relation => relation.to_owned(),
        all => format!("the {} of {relation}", count(all.len(), "index", "indexes")),
    };
    let environment = &site.address.environment;
    let mut plan = Plan::of(format!("Builds {what} anew, in {} in {environment}.", site.database));
    site.identify(&mut plan);
    let size: i64 = parsed.iter().map(|target| target.bytes).sum();
    let largest = parsed.iter().map(|target| target.bytes).max().unwrap_or_default();
    let needs = format!("{}; needs {} of disk meanwhile", bytes(size as f64), bytes(largest as f64));
    plan.context.push(("size".to_owned(), needs));
    plan.context.push((
        "waits".to_owned(),
        format!(
            "for each transaction that is older, {} at a time; then it gives up, and drops what it had begun",
            duration(patience.as_secs_f64())
        ),
    ));
    plan.impact =
        "Nobody: it runs beside reads and writes (CONCURRENTLY). It reads and writes the disk.".to_owned();
    plan.rollback = "None is needed.".to_owned();
    let held: BTreeSet<String> =
        parsed.iter().map(|target| resource(&site.database, &target.table)).collect();
    plan.resource_locks = held.into_iter().collect();
    plan.targets = targets;
    plan
}

/// Told at once, since a message that stands while it runs holds no table.
fn oldest(older: &[Row]) -> String {
    let oldest = older.first().and_then(|row| Some((row, row.get::<_, Option<f64>>("held_s")?)));
    let Some((row, held)) = oldest.filter(|(_, held)| *held >= OLD) else { return String::new() };
    let (who, app): (String, String) = (row.get("who"), row.get("app"));
    format!(" It waits for open transactions; the oldest is {who} ({app}), open for {}.", duration(held))
}

fn left_before(left: &[InvalidIndex]) -> Option<(String, String)> {
    let names: Vec<&str> = left.iter().map(|leftover| leftover.relation.as_str()).collect();
    let words = format!("{}: invalid; dropped first, if nobody builds there", names.join(", "));
    (!left.is_empty()).then(|| ("left by an earlier one".to_owned(), words))
}

/// Everything that it works on is held, or nothing is done; and what an earlier one left is cleared away.
async fn prepare(
    work: &MaintenanceSession<'_>,
    targets: &[Relation],
) -> std::result::Result<Leftovers, Box<Outcome>> {
    let nothing = |why: QueryError| Box::new(work.site.nothing(why));
    let held: BTreeSet<&str> = targets.iter().map(|target| target.table.as_str()).collect();
    for table in held {
        if !work.hold(table).await.map_err(nothing)? {
            let words = format!("Another Countersign is at work on {table}. Nothing was done.");
            return Err(Box::new(Outcome::new(EventKind::Failed, words)));
        }
    }
    let before = leftovers::clear(&work.worker, &tables(targets)).await.map_err(nothing)?;
    wait_for_locks(work, patience(lock_timeout(work))).await.map_err(nothing)?;
    Ok(before)
}

fn lock_timeout(work: &MaintenanceSession<'_>) -> Duration {
    let environment = work.doing.app.environments.environment(&work.site.address.environment);
    environment.map_or(Duration::from_secs(1), |environment| environment.lock_timeout)
}

async fn wait_for_locks(
    work: &MaintenanceSession<'_>,
    limit: Duration,
) -> std::result::Result<(), QueryError> {
    let limit = limit.as_millis().to_string();
    work.ask("SELECT set_config('lock_timeout', $1, false)", &[&limit]).await.map(drop)
}

const REBUILT: &str = include_str!("rebuilt.sql");

/// One index.
async fn rebuild(work: &MaintenanceSession<'_>, target: &Relation) -> TableOutcome {
    let Relation { relation, oid, .. } = target;
    match work.ask(REBUILT, &[relation, oid]).await {
        Ok(rows) if rows.first().is_some_and(|row| row.get("same")) => {}
        Ok(_) => return TableOutcome::Another,
        Err(why) => return TableOutcome::Refused(why),
    }
    let fate = match work.run(&format!("REINDEX INDEX CONCURRENTLY {relation}")).await {
        Ok(warnings) => warnings.into_iter().next().map_or(TableOutcome::Unseen, TableOutcome::Skipped),
        Err(why) if work.is_cut(&why) => TableOutcome::Cut,
        Err(why) if why.is_final() => TableOutcome::Refused(why),
        Err(why) if work.is_over().await => TableOutcome::Broken(why),
        Err(why) => return TableOutcome::Lost(why),
    };
    // Whatever it was that ended it: the new index may have taken its place by then.
    let seen = match (&fate, work.site.worker(work.doing).await) {
        (TableOutcome::Broken(_), Ok(another)) => another.ask(REBUILT, &[relation, oid]).await,
        (TableOutcome::Broken(_), Err(_)) => Err(QueryError::Lost),
        _ => work.ask(REBUILT, &[relation, oid]).await,
    };
    match (seen, fate) {
        (Ok(rows), fate) => match rows.first().filter(|row| row.get("rebuilt")) {
            Some(row) => TableOutcome::Done { left: row.get::<_, Option<i64>>("bytes").unwrap_or_default() },
            None => fate,
        },
        (Err(_), TableOutcome::Broken(why)) | (Err(why), _) => TableOutcome::Lost(why),
    }
}

/// What it left itself, over a new connection if its own is lost.
async fn clear_after(
    work: &MaintenanceSession<'_>,
    tables: &[i64],
) -> std::result::Result<Leftovers, String> {
    let by = async |worker: &DedicatedSession| leftovers::clear(worker, tables).await;
    // Who kept the building waiting too long would keep this waiting as long.
    let ended = match wait_for_locks(work, lock_timeout(work)).await {
        Ok(()) => by(&work.worker).await,
        Err(why) => Err(why),
    };
    match ended {
        Err(QueryError::Lost | QueryError::TimedOut(_)) => {}
        ended => return ended.map_err(|why| why.to_string()),
    }
    by(&work.site.worker(work.doing).await?).await.map_err(|why| why.to_string())
}

fn outcome(
    targets: &[Relation],
    (told, took): (&[TableResult], Duration),
    (before, after): (Leftovers, std::result::Result<Leftovers, String>),
) -> Outcome {
    let all = targets.len();
    let (mut happening, mut verdict) = words::sum_up(told, (all, "index", "indexes"), ("built anew", took));
    let done = words::done(told);
    let stays = |cleared: &[(InvalidIndex, DropResult)]| {
        cleared.iter().any(|(_, fate)| !matches!(fate, DropResult::Dropped))
    };
    let left = after.as_ref().map_or(true, |after| stays(after));
    if happening == EventKind::Succeeded && left {
        happening = EventKind::Partial;
        verdict.push_str(" What a broken one left stays: see below.");
    }
    let mut outcome = Outcome::new(happening, verdict);
    if !done.is_empty() {
        let had: i64 = done.iter().map(|(told, _)| told.before).sum();
        let has: i64 = done.iter().map(|(_, left)| left).sum();
        let sizes = format!("Size: {} before, {} now.", bytes(had as f64), bytes(has as f64));
        outcome.blocks.push(Block::Note(sizes.into()));
        outcome.facts = json!({ "indexes": all, "done": done.len(), "before": had, "after": has });
    } else {
        outcome.facts = json!({ "indexes": all, "done": 0 });
    }
    outcome.blocks.extend(words::fates(told, targets, "index"));
    // What stayed is found again.
    let dropped = |(_, fate): &(InvalidIndex, DropResult)| matches!(fate, DropResult::Dropped);
    let before: Vec<_> = before.into_iter().filter(dropped).collect();
    outcome.blocks.extend(leftovers::told("Left by an earlier one", &before));
    match after {
        Ok(after) => {
            outcome.blocks.extend(leftovers::told("Left by a broken one", &after));
            outcome.blocks.extend(leftovers::remedy(&after).map(|words| Block::Note(words.into())));
        }
        Err(why) => {
            let words = format!(
                "Whether it left an invalid index can't be seen: {why}. `indexes` tells when it can."
            );
            outcome.blocks.push(Block::Note(words.into()));
        }
    }
    outcome
}
