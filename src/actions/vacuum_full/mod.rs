//! `vacuum-full`: a table rewritten, while it can't be read. It gives up when it doesn't get its lock at once, since from the moment
//! that it waits, every reader waits behind it. It is done when the table has another file.

use super::support::database::DatabaseTarget;
use super::support::maintenance::{
    MaintenanceSession, is_lock_timeout, locked_error, resource, sessions_table,
};
use super::support::max_change;
use super::support::needs::refuse_maintenance;
use super::support::recovery::INTERRUPTED;
use super::support::relations::{PlannedRelation, RelationInfo, RelationKind};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{Block, EventKind, Plan, as_text, to_identity};
use crate::postgres::{PgRow, PooledClient, QueryError};
use crate::sql::{bytes, duration};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Instant;

pub struct VacuumFull;

const MEASURE: &str = include_str!("measure.sql");

struct TableSize {
    /// The name still belongs to the table of that oid.
    is_same: bool,
    filenode: Option<i64>,
    bytes: Option<i64>,
}

impl TableSize {
    fn from_rows(rows: &[PgRow]) -> Option<TableSize> {
        let row = rows.first()?;
        Some(TableSize {
            is_same: row.is_true("same"),
            filenode: row.value("filenode"),
            bytes: row.value("bytes"),
        })
    }
}

/// The table in the plan's identity, beside its database.
#[derive(Serialize, Deserialize)]
struct TableIdentity {
    relation: String,
    #[serde(with = "as_text")]
    oid: i64,
}

#[async_trait]
impl Action for VacuumFull {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let database = DatabaseTarget::from_call(call)?;
        let client = database.connect_executor(call).await?;
        database.refuse_replica(&client, call).await?;
        let typed = call.value("table").unwrap_or_default();
        let mut table = RelationKind::Vacuumed.resolve(call, &client, &database.database, typed).await?;
        let relation = &table.relation;
        if table.kind == "p" {
            return Err(is_partitioned(call, &table, &database, &client).await);
        }
        if !table.may {
            return Err(refuse_maintenance(&client, &database, &table).await);
        }
        let size = match client.query(MEASURE, &[&table.oid, relation]).await {
            Ok(rows) => TableSize::from_rows(&rows).and_then(|size| size.filenode.zip(size.bytes)),
            Err(error) if is_lock_timeout(&error) => {
                return Err(locked_error(relation, "its size can't be measured"));
            }
            Err(error) => return Err(database.query_error(&error)),
        };
        let (file, size) = size.ok_or_else(|| Error::user(format!("{relation} is gone.")))?;
        table.bytes = size;
        let users =
            database.connect_reader(call).await?.query(include_str!("users.sql"), &[&table.oid]).await;
        let users = users.map_err(|error| database.query_error(&error))?;
        let lock_timeout = call.app.environments.environment(call.environment_name())?.lock_timeout;
        let mut plan = describe(&database, &table, &duration(lock_timeout.as_secs_f64()));
        plan.target_identities = vec![to_identity(&PlannedRelation { file, ..table.planned() })];
        let used_by = match users.len() {
            0 => "no session at the moment".to_owned(),
            1 => "1 session holds a lock on it".to_owned(),
            more => format!("{more} sessions hold locks on it"),
        };
        plan.add_context("used now", used_by);
        plan.tables.extend(sessions_table("Sessions that use it now", &users));
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        rewrite(execution).await.unwrap_or_else(|outcome| outcome)
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::PlannedTarget]
    }

    /// Compares the table's file with the plan's. Only the file is read, which waits for no lock: until the rewrite is committed, it
    /// is the old one.
    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let PlannedRelation { relation, oid, file, .. } =
            PlannedRelation::all(execution.plan).into_iter().next()?;
        let observer = DatabaseTarget::from_plan(execution).connect_reader_for_execution(execution).await?;
        let rows = observer.query("SELECT pg_relation_filenode($1::int8::oid)::int8", &[&oid]).await.ok()?;
        Some(match rows.first()?.get::<Option<i64>>(0).ok()? {
            None => Outcome::new(EventKind::Failed, format!("{relation} is gone. {INTERRUPTED}")),
            Some(now) if now != file => Outcome::done(format!("{relation} was rewritten. {INTERRUPTED}")),
            Some(_) => {
                let stopped = execution.run.event(EventKind::StopRequested).is_some();
                let kind = if stopped { EventKind::Stopped } else { EventKind::Failed };
                let text = "Countersign was interrupted, and nothing was changed";
                Outcome::new(kind, format!("{relation} was not rewritten: {text}."))
            }
        })
    }

    fn is_transactional(&self) -> bool {
        true
    }
}

/// Builds the refusal for a partitioned table: each partition has a card of its own.
async fn is_partitioned(
    call: &Call<'_>,
    table: &RelationInfo,
    database: &DatabaseTarget,
    client: &PooledClient,
) -> Error {
    let sql = "SELECT string_agg(format('%s.%s', n.nspname, c.relname), ', ' ORDER BY c.relname) FROM
                 (SELECT relid FROM pg_partition_tree($1::int8::oid) WHERE isleaf ORDER BY relid LIMIT 12) l
               JOIN pg_class c ON c.oid = l.relid JOIN pg_namespace n ON n.oid = c.relnamespace";
    let names = match client.query(sql, &[&table.oid]).await {
        Ok(rows) => rows.first().and_then(|row| row.value::<String>(0)),
        Err(error) => return database.query_error(&error),
    };
    Error::instead(
        format!("{} is partitioned: `{}` takes one partition at a time.", table.relation, call.command.name),
        names.map_or("It has none.".to_owned(), |names| format!("Name one: {names}.")),
    )
}

fn describe(database: &DatabaseTarget, table: &RelationInfo, lock_timeout: &str) -> Plan {
    let RelationInfo { relation, oid, .. } = table;
    let environment = &database.address.environment;
    let size = bytes(table.bytes as f64);
    let mut plan =
        Plan::of(format!("Rewrites {relation} of {} in {environment} (VACUUM FULL).", database.database));
    database.write_to(&mut plan);
    plan.set_target(&TableIdentity { relation: relation.clone(), oid: *oid });
    plan.add_guard("table", "it is still the same table");
    plan.add_guard("bytes", format!("it is no larger than {}", bytes(max_change(table.bytes) as f64)));
    plan.add_guard("file", "it has not been rewritten since then");
    plan.impact = format!(
        "Everyone who uses {relation}: an AccessExclusive lock stops reads too. While it waits for the lock, other sessions wait behind it, \
         {lock_timeout} at most: then it gives up. Once it has the lock, they wait until the whole table is rewritten; only a stop ends that earlier."
    );
    plan.rollback = "Not needed: the rows stay as they are.".to_owned();
    plan.add_context("size", format!("{size} with indexes and TOAST"));
    let disk = format!(
        "it may need {size} more until it is done, and writes as much WAL. The free space can't be seen from here; \
         Azure makes a server read-only at 95 %."
    );
    plan.add_context("disk", disk);
    plan.add_context(
        "no disk emergency",
        "it takes space before it gives any back: on a full disk, enlarge the storage or drop abandoned tables instead",
    );
    plan.resource_locks = vec![resource(&database.database, relation)];
    plan
}

async fn rewrite(execution: &Execution<'_>) -> Result<Outcome, Outcome> {
    let session = MaintenanceSession::begin(execution, "table").await?;
    let target = session.targets.first().ok_or_else(|| session.database.failed("has no such table"))?;
    let began = Instant::now();
    let before = check(&session, target).await?;
    let statement = format!("VACUUM (FULL) {}", target.relation);
    let result = session.with_progress(0, session.execute(&statement)).await;
    let took = duration(began.elapsed().as_secs_f64());
    conclude(&session, target, &before, result, &took).await
}

/// Tests identity and guard, in the statement before the one that acts and on its connection. VACUUM takes no condition and runs in
/// no transaction, and it would wait for a lock that another connection held meanwhile: PostgreSQL allows no closer test. A table
/// that takes the name in between is found by the file of this one, which has not changed then.
async fn check(session: &MaintenanceSession<'_>, target: &PlannedRelation) -> Result<TableSize, Outcome> {
    let relation = &target.relation;
    let failed = |error: QueryError| not_done(session, relation, &error);
    session.lock(relation, failed).await?;
    let rows = session.query(MEASURE, &[&target.oid, relation]).await.map_err(failed)?;
    let gone = || Outcome::invalidated(format!("{relation} is gone, or another table has its name now."));
    let size = TableSize::from_rows(&rows).filter(|size| size.is_same).ok_or_else(gone)?;
    if size.filenode != Some(target.file) {
        return Err(Outcome::invalidated(format!("{relation} was rewritten since the card was made.")));
    }
    let now = size.bytes.ok_or_else(gone)?;
    let most = max_change(target.bytes);
    if now > most {
        let [now, shown, most] = [now, target.bytes, most].map(|size| bytes(size as f64));
        return Err(Outcome::invalidated(format!(
            "{relation} is {now} now; the card showed {shown}, and at most {most} may be rewritten."
        )));
    }
    Ok(size)
}

fn not_done(session: &MaintenanceSession<'_>, relation: &str, error: &QueryError) -> Outcome {
    let after = "Nothing was done, and no session waits for it any longer.";
    if is_lock_timeout(error) {
        let reason = "other sessions use it, and it gave up waiting";
        let text = format!("{relation} was not rewritten: {reason}. {after}");
        let next = "`blocked` and `long` show the sessions that use it. Try again at a quieter time.";
        return Outcome { blocks: vec![Block::Note(next.into())], ..Outcome::new(EventKind::Failed, text) };
    }
    if session.is_stopped(error) {
        let text = format!("Stopped: {relation} is unchanged. The copy written so far was discarded.");
        return Outcome::new(EventKind::Stopped, text);
    }
    let text = format!("{relation} was not rewritten: PostgreSQL refused: {error}. {after}");
    Outcome::new(EventKind::Failed, text)
}

async fn conclude(
    session: &MaintenanceSession<'_>,
    target: &PlannedRelation,
    before: &TableSize,
    result: Result<Vec<String>, QueryError>,
    took: &str,
) -> Result<Outcome, Outcome> {
    let relation = &target.relation;
    let unknown = |error: QueryError| {
        let database = &session.database.database;
        Outcome::unknown(format!("Can't tell whether {relation} was rewritten: {database} {error}."))
    };
    let warning = match result {
        Ok(warnings) => warnings.into_iter().next().map(|warning| format!("PostgreSQL warns: {warning}")),
        Err(error) if error.is_final() => return Err(not_done(session, relation, &error)),
        Err(error) if !session.has_ended().await => return Err(unknown(error)),
        Err(error) => Some(format!("The server {error}")),
    };
    let rows = match session.query(MEASURE, &[&target.oid, relation]).await {
        Err(QueryError::Lost | QueryError::TimedOut(_)) => {
            session.query_again(MEASURE, &[&target.oid, relation]).await
        }
        answer => answer,
    };
    let after = TableSize::from_rows(&rows.map_err(unknown)?);
    let is_rewritten = |after: &TableSize| after.filenode != before.filenode && after.filenode.is_some();
    let Some(after) = after.filter(is_rewritten) else {
        let reason =
            warning.unwrap_or_else(|| "PostgreSQL reported no warning, but its file is the same".to_owned());
        return Err(Outcome::new(EventKind::Failed, format!("{relation} was not rewritten: {reason}.")));
    };
    let (before, after) = (before.bytes.unwrap_or_default(), after.bytes.unwrap_or_default());
    let sizes = format!("{} before, {} now", bytes(before as f64), bytes(after as f64));
    let mut outcome = Outcome::done(format!("{relation} was rewritten in {took}: {sizes}."));
    // Its file is another: the warning is advice, or its session ended behind the commit.
    outcome.blocks.extend(warning.map(|warning| Block::Note(format!("{warning}.").into())));
    Ok(Outcome { facts: json!({ "before": before, "after": after }), ..outcome })
}
