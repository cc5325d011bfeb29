//! `purge`: a table's old rows, deleted in batches up to one cutoff, which is computed once, when it is planned. Resumable: what
//! is done is noted, deleting the same once more deletes nothing, and one purge of a table runs at a time.

use super::{Action, Call, Execution, Outcome};
use crate::clock::duration_seconds;
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan, Run};
use crate::postgres::{Address, DedicatedSession};
use async_trait::async_trait;
use std::time::{Duration, Instant};

mod batch;
mod lag;
mod look;
mod resolve;
mod walk;
mod words;
mod work;

use walk::{BatchLoop, PurgeProgress};
use work::PurgeSpec;

pub struct Purge;

/// A killed process' session may be at its last batch for as long as a batch may take, and holds the table until then; and
/// this much longer.
const HELD_FOR: Duration = Duration::from_secs(10);
const TRY_EVERY: Duration = Duration::from_millis(200);

#[async_trait]
impl Action for Purge {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        look::plan(call).await
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let Some(work) = PurgeSpec::of(&doing.plan.identity) else {
            return Outcome::new(EventKind::Invalidated, "The plan can't be read. Nothing was done.");
        };
        let resumed = doing.run.event(EventKind::Resumed).is_some();
        let noted =
            doing.last_step().and_then(|step| serde_json::from_value::<PurgeProgress>(step.clone()).ok());
        let begin = PurgeProgress { after: work.after.clone(), ..PurgeProgress::default() };
        let mut done = PurgeProgress { at_least: resumed, ..noted.unwrap_or(begin) };
        let began = Instant::now();
        let worker = match worker(doing, resumed).await {
            Ok(worker) => worker,
            Err(why) => return words::not_begun(&why, (&work, &done), doing.run.id),
        };
        let most_lag = most_lag(&doing.run.request.arguments);
        let end = BatchLoop { doing, worker: &worker, work: &work, most_lag }.go(&mut done).await;
        words::outcome(doing, &work, (end, &done, began.elapsed()))
    }

    fn resumable(&self) -> bool {
        true
    }

    fn given_up(&self, run: &Run) -> Option<Outcome> {
        let plan = run.text("plan").and_then(Plan::read)?;
        let work = PurgeSpec::of(&plan.identity)?;
        let noted = run.event(EventKind::Checkpoint).map(|step| step.facts.clone());
        let noted = noted.and_then(|step| serde_json::from_value::<PurgeProgress>(step).ok());
        let done = PurgeProgress {
            at_least: true,
            ..noted.unwrap_or(PurgeProgress { after: work.after.clone(), ..PurgeProgress::default() })
        };
        Some(words::given_up(run, &work, &done))
    }
}

fn most_lag(values: &crate::command_line::Values) -> Duration {
    let given = values.get("most-lag").and_then(|given| duration_seconds(given));
    Duration::from_secs(given.unwrap_or(30))
}

/// The resource that no two purges hold at once: in the record, and in PostgreSQL.
fn held(database: &str, relation: &str) -> String {
    format!("purge of {database}: {relation}")
}

/// The connection that does the work, and holds the table against every other purge.
async fn worker(doing: &Execution<'_>, resumed: bool) -> std::result::Result<DedicatedSession, String> {
    let planned = |name: &str| doing.plan.identity.get(name).cloned().unwrap_or_default();
    let environment = doing.environment().unwrap_or_default();
    let login = &doing.command.header.login;
    let targets = &doing.app.environments;
    let role = targets.environment(environment).and_then(|environment| targets.login(environment, login));
    if role.ok().map(|(_, login)| login.user) != Some(planned("role")) {
        return Err("Its login is another role now than the one that was shown.".to_owned());
    }
    let database = planned("database");
    let address = Address {
        environment: environment.to_owned(),
        server: planned("server"),
        database: Some(database.clone()),
        login: login.clone(),
    };
    let unreachable = |why: String| format!("{database} {why}.");
    let lease = targets.lease(&address, &doing.asker).await.map_err(|why| unreachable(why.to_string()))?;
    let worker = lease.alone().await.map_err(|why| unreachable(why.to_string()))?;
    let resource = held(&database, &planned("relation"));
    let patience = if resumed { worker.statement_timeout() + HELD_FOR } else { Duration::ZERO };
    let until = Instant::now() + patience;
    loop {
        match worker.hold(&resource).await {
            Ok(true) => return Ok(worker),
            Ok(false) if Instant::now() >= until => {
                return Err(format!(
                    "Another purge of {} is at work (it holds Countersign's advisory lock on {database}).",
                    planned("relation")
                ));
            }
            Ok(false) => tokio::time::sleep(TRY_EVERY).await,
            Err(why) => return Err(unreachable(why.to_string())),
        }
    }
}

/// Both were left out, or one of them, or given where they may not be.
fn wanting(call: &Call<'_>) -> Result<()> {
    let given = |name: &str| call.values.contains_key(name);
    match (given("continue"), given("column"), given("older-than")) {
        (true, false, false) | (false, true, true) => Ok(()),
        (true, ..) => Err(Error::instead(
            "`--continue` keeps that purge's column and cutoff: `--column` and `--older-than` would change them.",
            "Leave them out, or ask for a new purge without `--continue`.",
        )),
        (false, false, _) => Err(Error::instead(
            "It lacks the column that tells how old a row is.",
            format!("Type `{}`.", call.command.usage()),
        )),
        (false, true, false) => {
            Err(Error::instead("It lacks how old a row must be to go.", "Add `--older-than 90d`."))
        }
    }
}
