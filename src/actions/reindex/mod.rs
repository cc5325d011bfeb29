//! `reindex`: a table's indexes, one of them, or those of a database that are invalid or bloated, rebuilt beside reads and writes (REINDEX INDEX CONCURRENTLY), one after another, so
//! that a stop loses no index that was done and the disk needs room for one at a time. An index is done when PostgreSQL shows another,
//! valid index of the same name. The leftovers of an interrupted rebuild are looked for before and after (`invalid_indexes`).

use super::support::blocks::{count, note};
use super::support::database::DatabaseTarget;
use super::support::each_database::EachDatabase;
use super::support::maintenance::{
    MaintenanceSession, Nouns, TableOutcome, TableResult, done, is_lock_timeout, locked_error, recovered,
    resource, results_block, sessions_table, summarize, warnings_block,
};
use super::support::needs::refuse_maintenance;
use super::support::relations::{
    PlannedRelation, RelationInfo, RelationKind, TO_INCLUDE_THEM, add_left_out, add_unnameable,
    left_out_sentence,
};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::clock::duration_seconds;
use crate::error::{Error, Result};
use crate::model::{Block, EventKind, Plan, to_identity};
use crate::postgres::{ColumnError, PgRow, PooledClient, QueryError};
use crate::sql::{bytes, duration};
use async_trait::async_trait;
use invalid_indexes::{DropResult, Leftovers};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

mod invalid_indexes;

/// The command `reindex`.
pub const COMMAND: EachDatabase<Reindex> = EachDatabase {
    action: Reindex,
    verb: "Rebuilds the invalid and bloated indexes of",
    participle: "reindexed",
};

/// The work on one database.
pub struct Reindex;

/// An index is rebuilt unasked if so much can be reclaimed, in bytes, and so large a share of it. As `bloat` judges tables.
const MIN_GAIN: i64 = 1024 * 1024;
const MIN_GAIN_SHARE: f64 = 0.3;

/// Returns whether a name's index is a new, valid one.
const REBUILT: &str = include_str!("rebuilt.sql");

/// Multiple of the environment's lock_timeout that a rebuild waits: no reader or writer waits behind it meanwhile.
const LOCK_TIMEOUTS: u32 = 15;

/// In seconds. A younger transaction is over before it is waited for.
const OLD_TRANSACTION_S: f64 = 1.0;

const NOUNS: Nouns<'_> = Nouns { one: "index", many: "indexes", done: "rebuilt" };

#[async_trait]
impl Action for Reindex {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let database = DatabaseTarget::from_call(call)?;
        let client = database.connect_executor(call).await?;
        database.refuse_replica(&client, call).await?;
        let (rows, left_out) = match call.value("name") {
            Some(typed) => (indexes_of(call, &client, &database, typed).await?, Vec::new()),
            None => {
                // First, so that nothing is called well that nobody looked at.
                let left_out = not_maintainable(&client, &database).await?;
                (candidates(&client, &database).await?, left_out)
            }
        };
        let are = count(left_out.len(), "index is", "indexes are");
        let indexes = rows.iter().map(planned_index).collect::<Result<Vec<_>, _>>()?;
        if indexes.is_empty() {
            let (name, environment) = (&database.database, &database.address.environment);
            let mut plan = Plan::of(format!("Rebuilds no index of {name} in {environment}: {NONE}."));
            database.write_to(&mut plan);
            add_left_out(&mut plan, &database.role, &left_out, &are);
            return Ok(plan);
        }
        let leftovers = invalid_indexes::find(&client, &table_oids(&indexes)).await;
        let leftovers = leftovers.map_err(|error| database.query_error(&error))?;
        let transactions =
            database.connect_reader(call).await?.query(include_str!("open_transactions.sql"), &[]).await;
        let transactions = transactions.map_err(|error| database.query_error(&error))?;
        let lock_timeout = call.app.environments.environment(call.environment_name())?.lock_timeout;
        let objects = match (call.value("name"), &indexes[..]) {
            (_, [only]) => only.relation.clone(),
            (Some(_), [first, ..]) => {
                format!("the {} of {}", count(indexes.len(), "index", "indexes"), first.table)
            }
            (None, all) => {
                format!("the {}", count(all.len(), "invalid or bloated index", "invalid or bloated indexes"))
            }
            (_, []) => String::new(),
        };
        let mut plan = describe(&database, &objects, &indexes, lock_timeout.saturating_mul(LOCK_TIMEOUTS));
        if call.value("name").is_none() {
            let gain = rows.iter().filter_map(|row| row.value::<i64>("gain")).sum::<i64>();
            plan.add_context("can be reclaimed", format!("about {}", bytes(gain as f64)));
        }
        if let Some(limit) = call.value("within").and_then(duration_seconds) {
            let limit = duration(limit as f64);
            plan.add_context("time limit", format!("no index is begun after {limit}"));
        }
        add_unnameable(&mut plan, "index", "indexes");
        add_left_out(&mut plan, &database.role, &left_out, &are);
        if let Some(oldest) = transactions.first()
            && let Some(seconds) = oldest.get::<Option<f64>>("held_s")?
            && seconds >= OLD_TRANSACTION_S
        {
            let (who, app): (String, String) = (oldest.get("who")?, oldest.get("app")?);
            let held = format!("the oldest is {who} ({app}), open for {}.", duration(seconds));
            // In the effect, which stays while the rebuild runs.
            plan.effect.push_str(&format!(" The rebuild waits for open transactions; {held}"));
        }
        if !leftovers.is_empty() {
            let names: Vec<&str> = leftovers.iter().map(|index| index.relation.as_str()).collect();
            let names = names.join(", ");
            let text = "invalid; dropped first, unless another session is building on the table";
            plan.add_context("leftovers of an earlier rebuild", format!("{names}: {text}"));
        }
        plan.tables.extend(sessions_table("Open transactions that could hold it up", &transactions));
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        rebuild_all(execution).await.unwrap_or_else(|outcome| outcome)
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::PlannedTarget, EffectGuard::StepCheck]
    }

    /// Counts the indexes that are new ones now.
    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let observer = DatabaseTarget::from_plan(execution).connect_reader_for_execution(execution).await?;
        let targets = PlannedRelation::all(execution.plan);
        let mut done = 0;
        for target in &targets {
            let rows = observer.query(REBUILT, &[&target.relation, &target.oid]).await.ok()?;
            done += usize::from(rows.first().is_some_and(|row| row.is_true("rebuilt")));
        }
        let mut outcome = recovered(done, targets.len(), &NOUNS);
        outcome.blocks.push(note(
            "`indexes` shows whether it left an invalid index; the next `reindex` of the table drops that.",
        ));
        Some(outcome)
    }
}

/// The end of the sentence about a database without such an index.
const NONE: &str = "none is invalid or bloated";

/// Reads the indexes of a table, or the one index, of the name as typed.
async fn indexes_of(
    call: &Call<'_>,
    client: &PooledClient,
    database: &DatabaseTarget,
    typed: &str,
) -> Result<Vec<PgRow>> {
    let object = RelationKind::Reindexed.resolve(call, client, &database.database, typed).await?;
    let relation = &object.relation;
    if !object.may {
        return Err(refuse_maintenance(client, database, &object).await);
    }
    let user_error = |error: QueryError| {
        if is_lock_timeout(&error) {
            return locked_error(relation, "its indexes can't be measured");
        }
        database.query_error(&error)
    };
    let rows = client.query(include_str!("indexes.sql"), &[&object.oid]).await.map_err(user_error)?;
    if rows.is_empty() {
        return Err(Error::user(format!("{relation} has no index to rebuild.")));
    }
    Ok(rows)
}

/// The indexes that the login may not rebuild: it may see nothing of their statistics either.
///
/// # Errors
/// It may rebuild none at all, or they can't be read.
async fn not_maintainable(client: &PooledClient, database: &DatabaseTarget) -> Result<Vec<RelationInfo>> {
    let all = RelationKind::Reindexed.list(client, None).await;
    let all = all.map_err(|error| database.query_error(&error))?;
    let indexes = all.into_iter().filter(|relation| relation.kind == "i");
    let (maintainable, left_out): (Vec<RelationInfo>, Vec<RelationInfo>) =
        indexes.partition(|index| index.may);
    match left_out.first() {
        Some(first) if maintainable.is_empty() => Err(refuse_maintenance(client, database, first).await),
        _ => Ok(left_out),
    }
}

/// Reads the indexes that are invalid or bloated.
async fn candidates(client: &PooledClient, database: &DatabaseTarget) -> Result<Vec<PgRow>> {
    let rows = client.query(include_str!("candidates.sql"), &[&MIN_GAIN, &MIN_GAIN_SHARE]).await;
    rows.map_err(|error| database.query_error(&error))
}

fn planned_index(row: &PgRow) -> Result<PlannedRelation, ColumnError> {
    Ok(PlannedRelation {
        relation: row.get("relation")?,
        oid: row.get("oid")?,
        bytes: row.value("bytes").unwrap_or_default(),
        table: row.get("table")?,
        table_oid: row.get("table_oid")?,
        ..PlannedRelation::default()
    })
}

/// The time after which no index is begun, counted from the beginning of the whole run.
fn time_limit(execution: &Execution<'_>) -> Option<Instant> {
    let limit = execution.run.request.arguments.get("within").and_then(|within| duration_seconds(within))?;
    let began = execution.part.map_or_else(Instant::now, |part| part.began);
    began.checked_add(Duration::from_secs(limit))
}

fn table_oids(targets: &[PlannedRelation]) -> Vec<i64> {
    targets.iter().map(|target| target.table_oid).collect::<BTreeSet<_>>().into_iter().collect()
}

fn table_names(targets: &[PlannedRelation]) -> BTreeSet<&str> {
    targets.iter().map(|target| target.table.as_str()).collect()
}

fn describe(
    database: &DatabaseTarget,
    objects: &str,
    indexes: &[PlannedRelation],
    timeout: Duration,
) -> Plan {
    let environment = &database.address.environment;
    let mut plan = Plan::of(format!("Rebuilds {objects} of {} in {environment}.", database.database));
    database.write_to(&mut plan);
    plan.target_identities = indexes.iter().map(to_identity).collect();
    let size: i64 = indexes.iter().map(|index| index.bytes).sum();
    let largest = indexes.iter().map(|index| index.bytes).max().unwrap_or_default();
    let needs = format!("{}; needs {} of disk meanwhile", bytes(size as f64), bytes(largest as f64));
    plan.add_context("size", needs);
    let timeout = duration(timeout.as_secs_f64());
    let then = "then it gives up and drops the unfinished index";
    plan.add_context("waits", format!("for each older transaction, {timeout} at a time; {then}"));
    plan.impact =
        "None: it runs alongside reads and writes (CONCURRENTLY). It reads and writes the disk.".to_owned();
    plan.rollback = "Not needed.".to_owned();
    plan.resource_locks =
        table_names(indexes).into_iter().map(|table| resource(&database.database, table)).collect();
    plan
}

async fn rebuild_all(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    if execution.plan.target_identities.is_empty() {
        let database = DatabaseTarget::from_plan(execution).database;
        let mut outcome = Outcome::done(format!("No index of {database} was rebuilt: {NONE}."));
        add_left_out_to(&mut outcome, execution);
        return Ok(outcome);
    }
    let limit = time_limit(execution);
    let is_over = || limit.is_some_and(|limit| Instant::now() >= limit);
    let session = MaintenanceSession::begin(execution, "index").await?;
    let before = prepare(&session).await?;
    let began = Instant::now();
    let mut results: Vec<TableResult> = Vec::new();
    for (index, target) in session.targets.iter().enumerate() {
        let is_stopped = execution.stop.is_cancelled();
        if is_stopped || is_over() || results.last().is_some_and(|last| last.outcome.ends_run()) {
            break;
        }
        let outcome = session.with_progress(index, rebuild(&session, target)).await;
        results.push(TableResult { relation: target.relation.clone(), before: target.bytes, outcome });
    }
    let took = began.elapsed();
    let after = drop_own_leftovers(&session).await;
    let mut outcome = outcome(&session.targets, &results, took, before, after);
    if outcome.kind == EventKind::Stopped && !execution.stop.is_cancelled() && is_over() {
        let (done, all) = (done(&results).len(), count(session.targets.len(), "index", "indexes"));
        outcome.kind = if done == 0 { EventKind::Failed } else { EventKind::Partial };
        outcome.verdict =
            format!("The time limit is over: {done} of {all} rebuilt, those with the most to gain first.")
                .into();
    }
    add_left_out_to(&mut outcome, execution);
    Ok(outcome)
}

/// Tells in the outcome what the plan left out.
fn add_left_out_to(outcome: &mut Outcome, execution: &Execution<'_>) {
    let role = DatabaseTarget::from_plan(execution).role;
    if let Some(sentence) = left_out_sentence(execution.plan, &role) {
        outcome.verdict = std::mem::take(&mut outcome.verdict).plain(sentence);
        outcome.blocks.push(note(TO_INCLUDE_THEM));
    }
}

/// Locks every table that it works on, or does nothing; and drops the leftovers of an earlier rebuild.
async fn prepare(session: &MaintenanceSession<'_>) -> Result<Leftovers, Outcome> {
    let failed = |error: QueryError| session.database.failed(error);
    for table in table_names(&session.targets) {
        session.lock(table, failed).await?;
    }
    let tables = table_oids(&session.targets);
    let before = invalid_indexes::drop_all(&session.worker, &tables).await.map_err(failed)?;
    set_lock_timeout(session, LOCK_TIMEOUTS).await.map_err(failed)?;
    Ok(before)
}

/// Sets the lock_timeout of the session to a multiple of the environment's.
async fn set_lock_timeout(session: &MaintenanceSession<'_>, times: u32) -> Result<(), QueryError> {
    let environments = &session.execution.app.environments;
    let environment = environments.environment(&session.database.address.environment);
    let timeout = environment.map_or(Duration::from_secs(1), |environment| environment.lock_timeout);
    let timeout = timeout.saturating_mul(times).as_millis().to_string();
    session.query("SELECT set_config('lock_timeout', $1, false)", &[&timeout]).await.map(drop)
}

async fn rebuild(session: &MaintenanceSession<'_>, target: &PlannedRelation) -> TableOutcome {
    let PlannedRelation { relation, oid, .. } = target;
    if session.execution.ensure_current().await.is_err() {
        return TableOutcome::RunLost;
    }
    match session.query(REBUILT, &[relation, oid]).await {
        Ok(rows) if rows.first().is_some_and(|row| row.is_true("same")) => {}
        Ok(_) => return TableOutcome::not_found(relation),
        Err(error) => return TableOutcome::Rejected(error),
    }
    let outcome = match session.execute(&format!("REINDEX INDEX CONCURRENTLY {relation}")).await {
        Ok(warnings) => warnings.into_iter().next().map_or(TableOutcome::NoTrace, TableOutcome::Skipped),
        Err(error) if session.is_stopped(&error) => TableOutcome::Stopped,
        Err(error) if error.is_final() => TableOutcome::Rejected(error),
        Err(error) if session.has_ended().await => TableOutcome::SessionLost(error),
        Err(error) => return TableOutcome::Unknown(error),
    };
    // Whatever ended it: the new index may have replaced the old one by then.
    let rows = if let TableOutcome::SessionLost(_) = &outcome {
        session.query_again(REBUILT, &[relation, oid]).await
    } else {
        session.query(REBUILT, &[relation, oid]).await
    };
    match (rows, outcome) {
        (Ok(rows), outcome) => match rows.first().filter(|row| row.is_true("rebuilt")) {
            Some(row) => {
                let left = row.value("bytes").unwrap_or_default();
                let warning = if let TableOutcome::Skipped(warning) = outcome { Some(warning) } else { None };
                TableOutcome::Done { left, warning }
            }
            None => outcome,
        },
        (Err(_), TableOutcome::SessionLost(error)) | (Err(error), _) => TableOutcome::Unknown(error),
    }
}

/// Drops the leftovers of this rebuild, over a new connection if its own is lost.
async fn drop_own_leftovers(session: &MaintenanceSession<'_>) -> Result<Leftovers, String> {
    let tables = table_oids(&session.targets);
    // A session that kept the rebuild waiting too long would keep the DROP waiting as long.
    let dropped = match set_lock_timeout(session, 1).await {
        Ok(()) => invalid_indexes::drop_all(&session.worker, &tables).await,
        Err(error) => Err(error),
    };
    let dropped = match dropped {
        Err(QueryError::Lost | QueryError::TimedOut(_)) => {
            let worker = session.database.dedicated_session(session.execution).await?;
            invalid_indexes::drop_all(&worker, &tables).await
        }
        dropped => dropped,
    };
    dropped.map_err(|error| error.to_string())
}

/// Builds the outcome, with the leftovers found before and those found after.
fn outcome(
    targets: &[PlannedRelation],
    results: &[TableResult],
    took: Duration,
    mut before: Leftovers,
    after: Result<Leftovers, String>,
) -> Outcome {
    let all = targets.len();
    let (mut kind, mut verdict) = summarize(results, all, &NOUNS, took);
    let are_dropped = |left: &Leftovers| left.iter().all(|(_, result)| matches!(result, DropResult::Dropped));
    if kind == EventKind::Succeeded && !after.as_ref().is_ok_and(are_dropped) {
        kind = EventKind::Partial;
        verdict.push_str(" A leftover of an interrupted rebuild remains: see below.");
    }
    let mut outcome = Outcome::new(kind, verdict);
    let done = done(results);
    outcome.facts = json!({ "indexes": all, "done": done.len() });
    if !done.is_empty() {
        let size_before: i64 = done.iter().map(|(result, _)| result.before).sum();
        let size_after: i64 = done.iter().map(|(_, left)| left).sum();
        let sizes = format!("Size: {} before, {} now.", bytes(size_before as f64), bytes(size_after as f64));
        outcome.blocks.push(Block::Note(sizes.into()));
        outcome.facts =
            json!({ "indexes": all, "done": done.len(), "before": size_before, "after": size_after });
    }
    outcome.blocks.extend(warnings_block(results));
    outcome.blocks.extend(results_block(results, targets, "index"));
    // A leftover that remained is found again afterwards.
    before.retain(|(_, result)| matches!(result, DropResult::Dropped));
    outcome.blocks.extend(invalid_indexes::block("an earlier rebuild", &before));
    match after {
        Ok(after) => {
            outcome.blocks.extend(invalid_indexes::block("an interrupted rebuild", &after));
            outcome.blocks.extend(invalid_indexes::remedy(&after).map(|text| Block::Note(text.into())));
        }
        Err(error) => {
            let text = format!("Can't tell whether it left an invalid index: {error}.");
            outcome.blocks.push(Block::Note(format!("{text} `indexes` shows invalid indexes.").into()));
        }
    }
    outcome
}
