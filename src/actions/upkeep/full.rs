//! `vacuum-full`: a table written anew, while nobody can read it. It gives up when it doesn't get its lock at once, since from
//! the moment that it waits, every reader waits behind it. Done is what has another file now.

use super::names::{Relation, RelationName};
use super::work::{MaintenanceSession, Position, gave_up, resource};
use super::{seen, table, words};
use crate::actions::support::blocks;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{Block, Cell, EventKind, Plan, Shape, Table as Shown};
use crate::postgres::{PooledClient, QueryError};
use crate::sql::{bytes, duration};
use async_trait::async_trait;
use serde_json::json;
use std::time::Instant;

pub struct VacuumFull;

const MEASURE: &str = include_str!("measure.sql");

/// How much larger than shown the table may be: 1.2 times, rounded up.
fn at_most(shown: i64) -> i64 {
    shown.saturating_add(shown / 5).saturating_add(1)
}

/// A table as it is measured.
struct TableSize {
    same: bool,
    filenode: Option<i64>,
    bytes: Option<i64>,
}

impl TableSize {
    fn of(rows: &[tokio_postgres::Row]) -> Option<TableSize> {
        let row = rows.first()?;
        Some(TableSize { same: row.get("same"), filenode: row.get("filenode"), bytes: row.get("bytes") })
    }
}

#[async_trait]
impl Action for VacuumFull {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let site = DatabaseTarget::of(call)?;
        let lease = site.lease(call).await?;
        let typed = call.values.get("table").cloned().unwrap_or_default();
        let found = table(call, &typed, (&site, &lease)).await?;
        if found.kind == "p" {
            return Err(parts(call, &found, (&site, &lease)).await);
        }
        if !found.may {
            return Err(words::may_not(&found, &site.role, "vacuum"));
        }
        let measured = lease.ask(MEASURE, &[&found.oid, &found.relation]).await;
        let measured = match measured {
            Ok(rows) => TableSize::of(&rows).and_then(|measured| measured.filenode.zip(measured.bytes)),
            Err(why) if gave_up(&why) => {
                return Err(Error::instead(
                    format!("{} is locked, so that its size can't be measured.", found.relation),
                    "`blocked` shows who holds it. Ask again when it is free.",
                ));
            }
            Err(why) => return Err(site.told(&why)),
        };
        let (file, size) = measured.ok_or_else(|| Error::user(format!("{} is gone.", found.relation)))?;
        let users = site.reader(call).await?.ask(include_str!("users.sql"), &[&found.oid]).await;
        let users = users.map_err(|why| site.told(&why))?;
        let patience = call.app.environments.environment(&site.address.environment)?.lock_timeout;
        let mut plan = describe(&site, (&found, size), &duration(patience.as_secs_f64()));
        for target in &mut plan.targets {
            target.insert("file".to_owned(), file.to_string());
        }
        plan.context.push(("used now".to_owned(), used_by(users.len())));
        plan.tables.extend(sessions("Uses it now", &users));
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let work = match MaintenanceSession::begin(doing).await {
            Ok(work) => work,
            Err(nothing) => return nothing,
        };
        let targets = Relation::all(doing);
        let Some(target) = targets.first() else { return work.site.nothing("has no such table") };
        let began = Instant::now();
        let before = match check(&work, target).await {
            Ok(before) => before,
            Err(nothing) => return *nothing,
        };
        let part = Position { targets: &targets, at: 0, kind: "table" };
        let statement = format!("VACUUM (FULL) {}", target.relation);
        let ended = work.telling(part, work.run(&statement)).await;
        let took = duration(began.elapsed().as_secs_f64());
        conclude(&work, (target, &before), (ended, &took)).await
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        seen::full(doing).await
    }

    fn all_or_nothing(&self) -> bool {
        true
    }
}

fn used_by(users: usize) -> String {
    match users {
        0 => "nobody, at this moment".to_owned(),
        1 => "1 session holds a lock on it".to_owned(),
        more => format!("{more} sessions hold locks on it"),
    }
}

/// A partitioned table is written anew a partition at a time, each with its own card.
async fn parts(
    call: &Call<'_>,
    found: &RelationName,
    (site, lease): (&DatabaseTarget, &PooledClient),
) -> Error {
    let sql = "SELECT string_agg(format('%s.%s', n.nspname, c.relname), ', ' ORDER BY c.relname) FROM
                 (SELECT relid FROM pg_partition_tree($1::int8::oid) WHERE isleaf ORDER BY relid LIMIT 12) l
               JOIN pg_class c ON c.oid = l.relid JOIN pg_namespace n ON n.oid = c.relnamespace";
    let names = match lease.ask(sql, &[&found.oid]).await {
        Ok(rows) => rows.first().and_then(|row| row.get::<_, Option<String>>(0)),
        Err(why) => return site.told(&why),
    };
    Error::instead(
        format!("{} is partitioned: `{}` takes one partition at a time.", found.relation, call.command.name),
        names.map_or("It has none.".to_owned(), |names| format!("Name one: {names}.")),
    )
}

fn describe(site: &DatabaseTarget, (found, size): (&RelationName, i64), patience: &str) -> Plan {
    let environment = &site.address.environment;
    let relation = &found.relation;
    let shown = bytes(size as f64);
    let mut plan =
        Plan::of(format!("Writes {relation} of {} in {environment} anew (VACUUM FULL).", site.database));
    site.identify(&mut plan);
    plan.identity.insert("relation".to_owned(), relation.clone());
    plan.identity.insert("oid".to_owned(), found.oid.to_string());
    plan.targets = vec![RelationName { bytes: size, ..found.clone() }.identity()];
    plan.guards.insert("table".to_owned(), "it is still this very table".to_owned());
    let most = bytes(at_most(size) as f64);
    plan.guards.insert("bytes".to_owned(), format!("it is no larger than {most}"));
    plan.guards.insert("file".to_owned(), "nobody has written it anew meanwhile".to_owned());
    plan.impact = format!(
        "Everyone who uses {relation}: an AccessExclusive lock stops reads too. While it waits for the lock, they wait behind it, \
         {patience} at most: then it gives up. Once it has the lock, they wait until all of it is written, and nothing but a stop ends that."
    );
    plan.rollback = "None is needed: the rows stay as they are.".to_owned();
    plan.context = vec![
        ("size".to_owned(), format!("{shown} with indexes and TOAST")),
        (
            "disk".to_owned(),
            format!(
                "it may need {shown} more until it is done, and writes as much WAL. How much is free can't be seen from here; \
                 Azure makes a server read-only at 95 %."
            ),
        ),
        (
            "no disk emergency".to_owned(),
            "it takes space before it gives any back: then enlarge the storage or drop what is abandoned instead".to_owned(),
        ),
    ];
    plan.resource_locks = vec![resource(&site.database, relation)];
    plan
}

/// Who stands in the way, as `users.sql` and `older.sql` tell it.
pub(super) fn sessions(title: &str, rows: &[tokio_postgres::Row]) -> Option<Shown> {
    let cells = |row: &tokio_postgres::Row| -> Vec<Cell> {
        let since = row.get::<_, Option<f64>>("held_s").map_or("-".to_owned(), duration);
        let text = |name: &str| Cell::from(row.get::<_, String>(name));
        vec![text("who"), text("app"), text("state"), since.into()]
    };
    let columns = [
        ("who", Shape::Left),
        ("app", Shape::Left),
        ("state", Shape::Left),
        ("in its transaction for", Shape::Right),
    ];
    let total = usize::try_from(rows.first()?.get::<_, i64>("total")).unwrap_or_default();
    let shown = blocks::table(&columns, rows.iter().map(cells).collect());
    Some(Shown { title: Some(title.to_owned()), total, ..shown })
}

/// Identity and guard, in the statement before the one that acts and on its connection. VACUUM takes no condition and runs in
/// no transaction, and a lock that another connection held meanwhile would stand in its own way: PostgreSQL allows no closer test.
/// A table that takes the name in between is found by the file of this one, which has not changed then.
async fn check(
    work: &MaintenanceSession<'_>,
    target: &Relation,
) -> std::result::Result<TableSize, Box<Outcome>> {
    let relation = &target.relation;
    let voided =
        |words: String| Box::new(Outcome::new(EventKind::Invalidated, format!("{words} Nothing was done.")));
    let failed = |why: &QueryError| Box::new(not_done(work, relation, why));
    match work.hold(relation).await {
        Ok(true) => {}
        Ok(false) => {
            let words = format!("Another Countersign is at work on {relation}. Nothing was done.");
            return Err(Box::new(Outcome::new(EventKind::Failed, words)));
        }
        Err(why) => return Err(failed(&why)),
    }
    let rows = work.ask(MEASURE, &[&target.oid, relation]).await.map_err(|why| failed(&why))?;
    let measured = TableSize::of(&rows).filter(|measured| measured.same);
    let gone = || voided(format!("{relation} is gone, or another table has its name now."));
    let measured = measured.ok_or_else(gone)?;
    // An older plan says nothing of its file.
    if target.file.is_some() && target.file != measured.filenode {
        return Err(voided(format!("{relation} was written anew since the card was made.")));
    }
    match measured.bytes {
        Some(now) if now <= at_most(target.bytes) => Ok(measured),
        Some(now) => Err(voided(format!(
            "{relation} has {} now; the card showed {}, and {} at most may be written anew.",
            bytes(now as f64),
            bytes(target.bytes as f64),
            bytes(at_most(target.bytes) as f64)
        ))),
        None => Err(gone()),
    }
}

fn not_done(work: &MaintenanceSession<'_>, relation: &str, why: &QueryError) -> Outcome {
    let after = "Nothing was done, and nobody waits for it any more.";
    if gave_up(why) {
        let text =
            format!("{relation} was not written anew: somebody uses it, and it gave up waiting. {after}");
        let mut outcome = Outcome::new(EventKind::Failed, text);
        outcome
            .blocks
            .push(Block::Note("`blocked` and `long` show who uses it. Ask at a quieter time.".into()));
        return outcome;
    }
    if work.is_cut(why) {
        let text = format!("Stopped: {relation} is as it was. What was written by then is thrown away.");
        return Outcome::new(EventKind::Stopped, text);
    }
    Outcome::new(
        EventKind::Failed,
        format!("{relation} was not written anew: PostgreSQL refused: {why}. {after}"),
    )
}

/// What the table's file tells, over a new connection if the worker's is lost.
async fn look(
    work: &MaintenanceSession<'_>,
    target: &Relation,
) -> std::result::Result<Option<TableSize>, QueryError> {
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&target.oid, &target.relation];
    let rows = match work.ask(MEASURE, &values).await {
        Err(QueryError::Lost | QueryError::TimedOut(_)) => match work.site.worker(work.doing).await {
            Ok(another) => another.ask(MEASURE, &values).await?,
            Err(_) => return Err(QueryError::Lost),
        },
        answer => answer?,
    };
    Ok(TableSize::of(&rows))
}

async fn conclude(
    work: &MaintenanceSession<'_>,
    (target, before): (&Relation, &TableSize),
    (ended, took): (std::result::Result<Vec<String>, QueryError>, &str),
) -> Outcome {
    let relation = &target.relation;
    let unknown = |why: &QueryError| {
        let text = format!("Whether {relation} is written anew can't be seen: {} {why}.", work.site.database);
        Outcome::new(EventKind::Interrupted, text)
    };
    let warning = match ended {
        Ok(warnings) => warnings.into_iter().next(),
        Err(why) if why.is_final() => return not_done(work, relation, &why),
        Err(why) if !work.is_over().await => return unknown(&why),
        Err(why) => Some(format!("the server {why}")),
    };
    let after = match look(work, target).await {
        Ok(after) => after,
        Err(why) => return unknown(&why),
    };
    let moved =
        after.as_ref().is_some_and(|after| after.filenode != before.filenode && after.filenode.is_some());
    let Some(after) = after.filter(|_| moved) else {
        let why = warning.unwrap_or_else(|| "PostgreSQL said nothing, and its file is the same".to_owned());
        return Outcome::new(EventKind::Failed, format!("{relation} was not written anew: {why}."));
    };
    let (had, has) = (before.bytes.unwrap_or_default(), after.bytes.unwrap_or_default());
    let sizes = format!("{} before, {} now", bytes(had as f64), bytes(has as f64));
    let mut outcome = match warning {
        None => {
            Outcome::new(EventKind::Succeeded, format!("{relation} is written anew, in {took}: {sizes}."))
        }
        Some(warning) => {
            Outcome::new(EventKind::Partial, format!("{relation} is written anew ({sizes}), but: {warning}."))
        }
    };
    outcome.facts = json!({ "before": had, "after": has });
    outcome
}
