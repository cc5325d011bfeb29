//! `vacuum` and `analyze`: a table or all of a database (`each_database` for all of them). PostgreSQL calls a VACUUM done that skipped the table, so here it is done when
//! PostgreSQL's own times of it have moved. A warning tells why they have not, or is advice if they have. Tables are done one by one, so that each has an outcome of its
//! own and a stop loses no table that was done.

use super::support::blocks::{count, note};
use super::support::database::DatabaseTarget;
use super::support::each_database::EachDatabase;
use super::support::maintenance::{
    MaintenanceSession, Nouns, POLL_INTERVAL, TableOutcome, TableResult, VISIBLE_WITHIN, done, recovered,
    resource, results_block, summarize, warnings_block,
};
use super::support::needs::refuse_maintenance;
use super::support::relations::{
    PlannedRelation, RelationInfo, RelationKind, TO_INCLUDE_THEM, add_left_out, add_unnameable,
    left_out_sentence,
};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::error::Result;
use crate::model::{Block, EventKind, Plan, to_identity};
use crate::postgres::{PgRow, PooledClient, QueryResult};
use crate::sql::{bytes, duration, fill, grouped};
use async_trait::async_trait;
use serde_json::json;
use std::time::{Duration, Instant};

/// Returns whether a table was vacuumed and analyzed since a moment, and its dead rows.
const EVIDENCE: &str = include_str!("evidence.sql");

/// Since this version PostgreSQL publishes the times of a statement at once; before, half a second later.
const PUBLISHES_AT_ONCE: u32 = 15;
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);

/// In seconds. A younger transaction is over before VACUUM gets to its rows.
const OLD_TRANSACTION_S: f64 = 1.0;

/// In transactions. A replication slot has no time: one that is behind by fewer keeps up.
const OLD_XID_AGE: i32 = 1_000;

/// The command `vacuum`.
pub const COMMAND: EachDatabase<Operation> = EachDatabase {
    action: Operation::Vacuum,
    verb: "Vacuums and analyzes",
    participle: "vacuumed and analyzed",
};

/// The work on a table, one command each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Vacuum,
    Analyze,
}

impl Operation {
    fn participle(self) -> &'static str {
        if self == Operation::Vacuum { "vacuumed and analyzed" } else { "analyzed" }
    }

    /// Reads a row of [`EVIDENCE`]. VACUUM analyzes the table, too.
    fn is_done(self, evidence: &PgRow) -> bool {
        let has_moved = |name: &str| evidence.is_true(name);
        has_moved("analyzed") && (self == Operation::Analyze || has_moved("vacuumed"))
    }
}

#[async_trait]
impl Action for Operation {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let database = DatabaseTarget::from_call(call)?;
        let client = database.connect_executor(call).await?;
        database.refuse_replica(&client, call).await?;
        let kind = match self {
            Operation::Vacuum => RelationKind::Vacuumed,
            Operation::Analyze => RelationKind::Analyzed,
        };
        let (tables, left_out): (Vec<RelationInfo>, Vec<RelationInfo>) = match call.value("table") {
            Some(typed) => (vec![kind.resolve(call, &client, &database.database, typed).await?], Vec::new()),
            None => {
                let all = kind.list(&client, None).await.map_err(|error| database.query_error(&error))?;
                all.into_iter().partition(|table| table.may)
            }
        };
        let first_left_out = if tables.is_empty() { left_out.first() } else { None };
        if let Some(table) = tables.iter().find(|table| !table.may).or(first_left_out) {
            return Err(refuse_maintenance(&client, &database, table).await);
        }
        if tables.is_empty() {
            return Ok(describe(*self, &database, &tables));
        }
        let mut plan = describe(*self, &database, &tables);
        add_unnameable(&mut plan, "table", "tables");
        if *self == Operation::Vacuum
            && let Ok(reader) = database.connect_reader(call).await
            && let Some(holder) = horizon_holder(&reader, is_old).await
        {
            plan.effect.push_str(&format!(" VACUUM can't remove dead rows that are newer than {holder}."));
        }
        let are = count(left_out.len(), "table is", "tables are");
        add_left_out(&mut plan, &database.role, &left_out, &are);
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        if execution.plan.target_identities.is_empty() {
            let DatabaseTarget { database, .. } = DatabaseTarget::from_plan(execution);
            return Outcome::done(format!("No table is {}: {database} {NONE}.", self.participle()));
        }
        let session = match MaintenanceSession::begin(execution, "table").await {
            Ok(session) => session,
            Err(outcome) => return outcome,
        };
        let began = Instant::now();
        let mut results: Vec<TableResult> = Vec::new();
        for (index, target) in session.targets.iter().enumerate() {
            if execution.stop.is_cancelled() || results.last().is_some_and(|last| last.outcome.ends_run()) {
                break;
            }
            let step = TableStep { session: &session, operation: *self, target };
            let outcome = session.with_progress(index, step.execute()).await;
            session.unlock(&target.relation).await;
            results.push(TableResult { relation: target.relation.clone(), before: target.dead, outcome });
        }
        let took = began.elapsed();
        let has_dead =
            |result: &TableResult| matches!(result.outcome, TableOutcome::Done { left, .. } if left > 0);
        // What kept dead rows from being removed.
        let holder = match &session.observer {
            Some(observer) if results.iter().any(has_dead) => horizon_holder(observer, |_| true).await,
            _ => None,
        };
        outcome(&session, *self, &results, took, holder)
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::StepCheck, EffectGuard::Repeatable]
    }

    /// Counts the tables whose times have moved since the run started.
    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        let observer = DatabaseTarget::from_plan(execution).connect_reader_for_execution(execution).await?;
        let since = execution.run.event(EventKind::Started)?.at.to_string();
        let targets = PlannedRelation::all(execution.plan);
        let mut done = 0;
        for target in &targets {
            let rows = observer.query(EVIDENCE, &[&target.oid, &since]).await.ok()?;
            done += usize::from(rows.first().is_some_and(|row| self.is_done(row)));
        }
        let past = format!("{} since it began", self.participle());
        Some(recovered(done, targets.len(), &Nouns { one: "table", many: "tables", done: &past }))
    }
}

/// Finds the oldest holder of the xmin horizon that `counts`, which keeps dead rows from being removed.
async fn horizon_holder(client: &PooledClient, counts: impl Fn(&PgRow) -> bool) -> Option<String> {
    let rows = client.query(include_str!("horizon.sql"), &[]).await.ok()?;
    let row = rows.iter().find(|row| counts(row))?;
    let holder: String = row.value("what")?;
    match row.value::<f64>("held_s") {
        Some(seconds) => Some(format!("{holder}, open for {}", duration(seconds))),
        None => Some(holder),
    }
}

fn is_old(row: &PgRow) -> bool {
    match row.value::<f64>("held_s") {
        Some(seconds) => seconds >= OLD_TRANSACTION_S,
        None => row.value::<i32>("xid_age").is_some_and(|age| age >= OLD_XID_AGE),
    }
}

fn describe(operation: Operation, database: &DatabaseTarget, tables: &[RelationInfo]) -> Plan {
    let objects = match tables {
        [only] => only.relation.clone(),
        all => count(all.len(), "table", "tables"),
    };
    let verb = if operation == Operation::Vacuum { "Vacuums and analyzes" } else { "Analyzes" };
    let (name, environment) = (&database.database, &database.address.environment);
    if tables.is_empty() {
        let mut plan = Plan::of(format!("{verb} no table of {name} in {environment}: it {NONE}."));
        database.write_to(&mut plan);
        return plan;
    }
    let mut plan = Plan::of(format!("{verb} {objects} of {name} in {environment}."));
    database.write_to(&mut plan);
    plan.target_identities = tables.iter().map(|table| to_identity(&table.planned())).collect();
    let size: i64 = tables.iter().map(|table| table.bytes).sum();
    let dead: i64 = tables.iter().map(|table| table.dead).sum();
    plan.add_context("size", format!("about {}, {} dead rows", bytes(size as f64), grouped(dead)));
    plan.impact = "None: it runs alongside reads and writes and skips locked tables. It reads from the disk."
        .to_owned();
    plan.rollback = "Not needed.".to_owned();
    plan.resource_locks = tables.iter().map(|table| resource(&database.database, &table.relation)).collect();
    plan
}

/// The end of the sentence about a database without tables.
const NONE: &str = "has no table of its own";

struct TableStep<'a> {
    session: &'a MaintenanceSession<'a>,
    operation: Operation,
    target: &'a PlannedRelation,
}

impl TableStep<'_> {
    async fn execute(&self) -> TableOutcome {
        let PlannedRelation { relation, oid, .. } = self.target;
        if let Err(error) = self.session.try_lock(relation).await {
            return error.into();
        }
        let sql = "SELECT to_regclass($1)::oid::int8 IS NOT DISTINCT FROM $2, clock_timestamp()::text";
        let rows = match self.session.query(sql, &[relation, oid]).await {
            Ok(rows) => rows,
            Err(error) => return TableOutcome::Rejected(error),
        };
        let Some(row) = rows.first() else { return TableOutcome::NoTrace };
        if row.value(0) != Some(true) {
            return TableOutcome::not_found(relation);
        }
        let Some(since) = row.value::<String>(1) else { return TableOutcome::NoTrace };
        let statement = match self.operation {
            Operation::Vacuum => "VACUUM (ANALYZE, SKIP_LOCKED)",
            Operation::Analyze => "ANALYZE (SKIP_LOCKED)",
        };
        let warnings = match self.session.execute(&format!("{statement} {relation}")).await {
            Ok(warnings) => warnings,
            Err(error) if self.session.is_stopped(&error) => {
                return self.unless_vacuumed(&since, TableOutcome::Stopped, None).await;
            }
            Err(error) if error.is_final() => {
                let reason = format!("PostgreSQL refused: {error}");
                return self.unless_vacuumed(&since, TableOutcome::Rejected(error), Some(reason)).await;
            }
            Err(error) => return TableOutcome::Unknown(error),
        };
        let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        match (self.evident_outcome(&since, warning.as_ref()).await, warning) {
            (Some(outcome), _) => outcome,
            (None, Some(warning)) => {
                let reason = format!("PostgreSQL skipped it: {warning}");
                self.unless_vacuumed(&since, TableOutcome::Skipped(warning), Some(reason)).await
            }
            (None, None) => TableOutcome::NoTrace,
        }
    }

    /// The outcome that PostgreSQL's own times show. A table that was skipped has a warning, and its times never move.
    async fn evident_outcome(&self, since: &str, warning: Option<&String>) -> Option<TableOutcome> {
        let within = if warning.is_none() { VISIBLE_WITHIN } else { self.published_within() };
        let outcome = |rows: QueryResult| match rows.map(|rows| rows.into_iter().next()) {
            Ok(Some(row)) if !self.operation.is_done(&row) => None,
            Ok(Some(row)) => Some(TableOutcome::Done {
                left: row.value("dead").unwrap_or_default(),
                warning: warning.cloned(),
            }),
            Ok(None) => Some(TableOutcome::Replaced),
            Err(error) => Some(TableOutcome::Unknown(error)),
        };
        self.poll(since, within, outcome).await
    }

    /// The outcome of a statement that was not done: VACUUM commits before the ANALYZE behind it begins.
    async fn unless_vacuumed(
        &self,
        since: &str,
        outcome: TableOutcome,
        reason: Option<String>,
    ) -> TableOutcome {
        let vacuumed = |rows: QueryResult| {
            let row = rows.ok()?.into_iter().next()?;
            row.is_true("vacuumed").then_some(())
        };
        if self.operation == Operation::Vacuum
            && self.poll(since, self.published_within(), vacuumed).await.is_some()
        {
            return TableOutcome::OnlyVacuumed(reason);
        }
        outcome
    }

    /// The time until the times of the statement before can be read.
    fn published_within(&self) -> Duration {
        let at_once = self.session.worker.major() >= PUBLISHES_AT_ONCE;
        if at_once { Duration::ZERO } else { PUBLISHED_WITHIN }
    }

    /// Looks at PostgreSQL's own times until `read` returns something, or it takes too long.
    async fn poll<T>(
        &self,
        since: &str,
        within: Duration,
        read: impl Fn(QueryResult) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + within;
        loop {
            let found = read(self.session.query(EVIDENCE, &[&self.target.oid, &since]).await);
            if found.is_some() || Instant::now() >= deadline {
                return found;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

fn outcome(
    session: &MaintenanceSession<'_>,
    operation: Operation,
    results: &[TableResult],
    took: Duration,
    holder: Option<String>,
) -> Outcome {
    let targets = &session.targets;
    let nouns = Nouns { one: "table", many: "tables", done: operation.participle() };
    let (kind, mut verdict) = summarize(results, targets.len(), &nouns, took);
    let left_out = left_out_sentence(session.execution.plan, &session.database.role);
    verdict.push_str(left_out.as_deref().unwrap_or_default());
    let done = done(results);
    let mut outcome = Outcome::new(kind, verdict);
    outcome.facts = json!({ "tables": targets.len(), "done": done.len() });
    if operation == Operation::Vacuum && !done.is_empty() {
        let before: i64 = done.iter().map(|(result, _)| result.before).sum();
        let after: i64 = done.iter().map(|(_, dead)| dead).sum();
        let (before, after) = (grouped(before), grouped(after));
        let dead = format!("Dead rows, estimated by PostgreSQL: {before} before, {after} now.");
        outcome.blocks.push(Block::Note(dead.into()));
        if let Some(holder) = holder {
            let text =
                "The remaining dead rows are newer than {who}: `autovacuum` shows what holds VACUUM back.";
            outcome.blocks.push(Block::Note(fill(text, &|_| Some(holder.clone()))));
        }
    }
    let is_stopped = |result: &TableResult| matches!(result.outcome, TableOutcome::Stopped);
    if operation == Operation::Vacuum && results.iter().any(is_stopped) {
        outcome.blocks.push(note("Dead rows removed before the stop stay removed; no cleanup is needed."));
    }
    if left_out.is_some() {
        outcome.blocks.push(note(TO_INCLUDE_THEM));
    }
    outcome.blocks.extend(warnings_block(results));
    outcome.blocks.extend(results_block(results, targets, "table"));
    outcome
}
