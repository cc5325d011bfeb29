//! Maintenance of every database of an environment: the work on one database, done for one after another in one run, with a line for
//! each. A database that can't be worked on holds up no other.

use super::blocks::{count, table};
use crate::actions::{Action, Call, EffectGuard, Execution, Outcome, WorkPart};
use crate::error::{Error, Result, User};
use crate::model::ColumnKind::Left;
use crate::model::{Block, Cell, EventKind, Plan, Severity};
use crate::sql::duration;
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use std::time::Instant;

/// Databases that are planned at the same time.
const PLANNED_AT_ONCE: usize = 4;

/// Work on the database of one service, and with `all` in its place on every database.
pub struct EachDatabase<A> {
    pub action: A,
    /// "Vacuums and analyzes"
    pub verb: &'static str,
    /// "vacuumed and analyzed"
    pub participle: &'static str,
}

/// A database of the environment, and the name of a service that uses it.
struct ServiceDatabase {
    service: String,
    database: String,
}

/// A database in the plan's identity that is not worked on, and the reason.
const LEFT_OUT: &str = "left out";

impl<A: Action> EachDatabase<A> {
    async fn plan_all(&self, call: &Call<'_>) -> Result<Plan> {
        if let Some(name) = call.value("table").or(call.value("name")) {
            let (command, name) = (&call.command.name, crate::suggest::shown(name));
            return Err(Error::instead(
                format!("`{command} all` works on every database, and “{name}” is in one of them."),
                format!("Type `{command} all`, or name the service: `{command} <service> {name}`."),
            ));
        }
        let databases = databases(call)?;
        let planned: Vec<_> = databases.iter().map(|database| self.plan_one(call, database)).collect();
        let planned: Vec<Result<Plan, User>> =
            stream::iter(planned).buffered(PLANNED_AT_ONCE).try_collect().await?;
        if let Some(Err(user)) = planned.first()
            && planned.iter().all(Result::is_err)
        {
            return Err(Error::User(user.clone()));
        }
        let environment = call.environment_name();
        let number = count(planned.iter().flatten().count(), "database", "databases");
        let mut plan = Plan::of(format!("{} {number} in {environment}.", self.verb));
        let mut rows = Vec::new();
        for (index, (planned, ServiceDatabase { database, .. })) in
            planned.into_iter().zip(&databases).enumerate()
        {
            match planned {
                Ok(part) => {
                    rows.push(vec![database.as_str().into(), part.effect.as_str().into()]);
                    plan.identity.insert(format!("database {:03}", index + 1), database.clone());
                    plan.resource_locks.extend(part.resource_locks.iter().cloned());
                    (plan.impact, plan.rollback) = (part.impact.clone(), part.rollback.clone());
                    plan.parts.push(part);
                }
                Err(user) => plan.add_context(LEFT_OUT, format!("{database}: {}", user.problem)),
            }
        }
        plan.tables.push(table(&[("database", Left), ("work", Left)], rows));
        Ok(plan)
    }

    /// Plans the work on one database, or returns why it is left out.
    async fn plan_one(&self, call: &Call<'_>, database: &ServiceDatabase) -> Result<Result<Plan, User>> {
        let mut values = call.values.clone();
        values.insert("service".to_owned(), database.service.clone());
        let Call { app, command, person, conversation, environment, run, .. } = *call;
        let asker = call.asker.clone();
        let one = Call { app, command, person, conversation, environment, values: &values, asker, run };
        match self.action.plan(&one).await {
            Ok(plan) => Ok(Ok(plan)),
            Err(Error::User(user)) => Ok(Err(user)),
            Err(error) => Err(error),
        }
    }

    async fn execute_all(&self, execution: &Execution<'_>) -> Outcome {
        let (began, parts) = (Instant::now(), &execution.plan.parts);
        let mut outcomes = Vec::new();
        for (index, plan) in parts.iter().enumerate() {
            if execution.stop.is_cancelled() {
                break;
            }
            let name = database_of(plan);
            let part = Some(WorkPart { name: &name, index, count: parts.len(), began });
            outcomes.push(self.action.execute(&part_of(execution, plan, part)).await);
        }
        self.combined(execution.plan, outcomes, Some(began))
    }

    /// One outcome with a line for each database, those first that are not done.
    fn combined(&self, plan: &Plan, outcomes: Vec<Outcome>, began: Option<Instant>) -> Outcome {
        let is_done = |outcome: &&Outcome| outcome.kind == EventKind::Succeeded;
        let left_out: Vec<&String> =
            plan.context.iter().filter(|(name, _)| name == LEFT_OUT).map(|(_, why)| why).collect();
        let (done, total) = (outcomes.iter().filter(is_done).count(), plan.parts.len() + left_out.len());
        let kind = kind_of(&outcomes, total);
        let took =
            began.map_or(String::new(), |began| format!(", in {}", duration(began.elapsed().as_secs_f64())));
        let past = self.participle;
        let databases = count(total, "database is", "databases are");
        let verdict = match kind {
            EventKind::Succeeded => format!("{databases} {past}{took}."),
            EventKind::Stopped => format!("Stopped: {done} of {total} databases are {past}."),
            _ => format!("{done} of {total} databases are {past}{took}; the others are below."),
        };
        let mut combined = Outcome::new(kind, verdict);
        combined.facts = json!({ "databases": total, "done": done });
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        let mut details = Vec::new();
        for why in left_out {
            let (database, why) = why.split_once(": ").unwrap_or((why, ""));
            rows.push(vec![database.into(), Cell { text: why.to_owned(), severity: Severity::Critical }]);
        }
        let not_started = plan.parts.iter().skip(outcomes.len());
        let not_started = not_started.map(|part| {
            vec![
                database_of(part).into(),
                Cell { text: "not started".to_owned(), severity: Severity::Warning },
            ]
        });
        let mut done_rows = Vec::new();
        for (part, outcome) in plan.parts.iter().zip(outcomes) {
            let (database, text) = (database_of(part), outcome.verdict.words());
            if outcome.kind == EventKind::Succeeded {
                done_rows.push(vec![database.into(), Cell { text, severity: Severity::Ok }]);
                continue;
            }
            rows.push(vec![database.as_str().into(), Cell { text, severity: Severity::Critical }]);
            details.extend(outcome.blocks.into_iter().filter_map(|block| titled(block, &database)));
        }
        rows.extend(not_started);
        rows.extend(done_rows);
        combined.blocks.push(Block::Table(table(&[("database", Left), ("result", Left)], rows)));
        combined.blocks.extend(details);
        combined
    }
}

/// Each database once, by the first service that uses it.
fn databases(call: &Call<'_>) -> Result<Vec<ServiceDatabase>> {
    let mut databases: Vec<ServiceDatabase> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for target in call.targets(call.command.header.scope)? {
        let (Some(service), Some(database)) = (target.service, target.database) else { continue };
        if seen.insert((target.server, database.clone())) {
            databases.push(ServiceDatabase { service, database });
        }
    }
    if databases.is_empty() { Err(Error::user("There is no database to work on.")) } else { Ok(databases) }
}

fn database_of(part: &Plan) -> String {
    part.identity.get("database").cloned().unwrap_or_default()
}

fn part_of<'a>(execution: &Execution<'a>, plan: &'a Plan, part: Option<WorkPart<'a>>) -> Execution<'a> {
    let Execution { app, command, run, stop, .. } = *execution;
    Execution { app, command, run, plan, asker: execution.asker.clone(), stop, part }
}

/// The end of the whole: done only if all of it is, and unknown if a part is.
fn kind_of(outcomes: &[Outcome], total: usize) -> EventKind {
    let has = |kind: EventKind| outcomes.iter().any(|outcome| outcome.kind == kind);
    let all_done =
        outcomes.len() == total && outcomes.iter().all(|outcome| outcome.kind == EventKind::Succeeded);
    match () {
        () if all_done => EventKind::Succeeded,
        () if has(EventKind::Interrupted) => EventKind::Interrupted,
        () if has(EventKind::Stopped) || outcomes.is_empty() => EventKind::Stopped,
        () if has(EventKind::Succeeded) || has(EventKind::Partial) => EventKind::Partial,
        () => EventKind::Failed,
    }
}

/// A table of a part's outcome, with the database's name.
fn titled(block: Block, database: &str) -> Option<Block> {
    match block {
        Block::Table(mut table) => {
            let title =
                table.title.take().map_or(database.to_owned(), |title| format!("{database}: {title}"));
            table.title = Some(title);
            Some(Block::Table(table))
        }
        _ => None,
    }
}

#[async_trait]
impl<A: Action> Action for EachDatabase<A> {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        if call.value("service") == Some(crate::command_line::ALL_SERVICES) {
            return self.plan_all(call).await;
        }
        self.action.plan(call).await
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        if execution.plan.parts.is_empty() {
            return self.action.execute(execution).await;
        }
        self.execute_all(execution).await
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        self.action.effect_guards()
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        if execution.plan.parts.is_empty() {
            return self.action.observe_outcome(execution).await;
        }
        let mut outcomes = Vec::new();
        for plan in &execution.plan.parts {
            outcomes.push(self.action.observe_outcome(&part_of(execution, plan, None)).await?);
        }
        Some(self.combined(execution.plan, outcomes, None))
    }
}
