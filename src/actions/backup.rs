//! `backup`: a service's database, or all of them one after another, dumped into the storage. How one dump is made stands
//! in `backup/dump.rs`; the plan, the outcome and their words stand here. Two backups of one database at once are kept out
//! by what the plan holds.

use super::{Act, Call, Doing, Outcome};
use crate::error::{Error, Result};
use crate::message::{Block, Cell, Column, Row, Shape, Table, Text};
use crate::plan::Plan;
use crate::runs::Happening;
use crate::sql::{Question, bytes, duration, scope_targets};
use crate::storage::StorageError;
use async_trait::async_trait;
use serde_json::json;

mod child;
mod dump;
mod estimate;
mod manifest;
mod survey;
mod tools;
mod verify;

pub use child::Connection;
pub use dump::{Dump, Moved, dump};
pub use manifest::{Manifest, all, prefix};
pub use tools::{Missing, Tool, choose, find};

use estimate::Estimate;
use survey::{Aim, Facts, Obstacle, connection, survey};

pub struct Backup;

/// Why there is no backup. `Display` is for people; nothing of the attempt is left.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the client program can't be started ({0})")]
    Start(#[source] std::io::Error),
    #[error("the client program's output can't be read ({0})")]
    Pipe(#[source] std::io::Error),
    #[error("pg_dump did not finish: {0}")]
    Dump(String),
    #[error("pg_restore can't read the archive: {0}")]
    Unreadable(String),
    #[error("the storage gave back other bytes than it was given")]
    Differs,
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the backup's manifest can't be made")]
    Internal(#[source] anyhow::Error),
}

impl Failure {
    /// For the record: no free text.
    pub fn word(&self) -> &'static str {
        match self {
            Failure::Start(_) | Failure::Pipe(_) => "client",
            Failure::Dump(_) => "pg_dump",
            Failure::Unreadable(_) => "pg_restore",
            Failure::Differs => "differs",
            Failure::Storage(StorageError::Full) => "storage_full",
            Failure::Storage(_) => "storage",
            Failure::Internal(_) => "internal",
        }
    }
}

#[async_trait]
impl Act for Backup {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment.unwrap_or_default();
        let aims = aims(call, environment)?;
        let tools = find(&call.app.config.backups).await;
        let login = &call.command.header.login;
        let surveys =
            aims.iter().map(|aim| survey(&call.app.targets, &tools, (environment, aim, login, &call.asker)));
        let found = futures::future::join_all(surveys).await;
        if let (false, Some(Err(obstacle))) = (found.iter().any(|found| found.is_ok()), found.first()) {
            return Err(obstacle.told(&aims[0]));
        }
        Ok(describe(environment, &aims, &found))
    }

    async fn act(&self, doing: &Doing<'_>) -> Outcome {
        let environment = doing.environment().unwrap_or_default();
        let aims = Aim::of(doing.plan);
        if aims.is_empty() {
            return Outcome::new(Happening::Voided, "The plan names no database. Nothing was done.");
        }
        let tools = find(&doing.app.config.backups).await;
        let login = &doing.command.header.login;
        let surveys = aims
            .iter()
            .map(|aim| survey(&doing.app.targets, &tools, (environment, aim, login, &doing.asker)));
        let found = futures::future::join_all(surveys).await;
        let mut estimate = Estimate::of(&doing.app.storage, environment, &aims, &found).await;
        let mut results = Vec::new();
        for (at, (aim, found)) in aims.into_iter().zip(found).enumerate() {
            let result = match found {
                Ok(facts) => one(doing, (&aim, &facts), (&estimate, at)).await,
                Err(obstacle) => Err((obstacle.word(), obstacle.to_string())),
            };
            estimate.done(at);
            results.push((aim, result));
        }
        outcome(&results)
    }
}

/// The databases that were asked for; services that share one count once.
fn aims(call: &Call<'_>, environment: &str) -> Result<Vec<Aim>> {
    let asker = &call.asker;
    let question = Question { command: call.command, environment, values: call.values, asker };
    let targets = scope_targets(&call.app.targets, &question, call.command.header.scope)?;
    let mut aims: Vec<Aim> = Vec::new();
    for target in targets {
        let aim = Aim { server: target.server, database: target.database.unwrap_or_default() };
        if !aim.database.is_empty() && !aims.contains(&aim) {
            aims.push(aim);
        }
    }
    if aims.is_empty() { Err(Error::user("There is no database there to back up.")) } else { Ok(aims) }
}

fn describe(environment: &str, aims: &[Aim], found: &[std::result::Result<Facts, Obstacle>]) -> Plan {
    let what = match aims {
        [only] => only.database.clone(),
        more => format!("{} databases, one after another,", more.len()),
    };
    let mut plan = Plan::of(format!("Dumps {what} of {environment} into the backup storage."));
    for (at, aim) in aims.iter().enumerate() {
        plan.identity.insert(aim.name(at, aims.len()), aim.to_string());
        plan.holds.push(format!("backup of {}", aim.database));
    }
    let total: i64 = found.iter().flatten().map(|facts| facts.database_bytes).sum();
    plan.context.push(("size on the server".to_owned(), bytes(total as f64)));
    if let ([aim], [Ok(facts)]) = (aims, found) {
        plan.context.push(("dumped by".to_owned(), facts.dumped_by()));
        let key = format!("{}/<time>-<run>.dump", prefix(environment, &aim.database));
        plan.context.push(("stored as".to_owned(), key));
    } else {
        plan.tables.push(planned(aims, found));
    }
    plan.hurts =
        "Nobody: it reads, and gives up on a table that stays locked for 10 s. A migration waits until it is over."
            .to_owned();
    plan.undo = "It changes nothing on the server.".to_owned();
    plan
}

fn planned(aims: &[Aim], found: &[std::result::Result<Facts, Obstacle>]) -> Table {
    let rows = aims.iter().zip(found).map(|(aim, found)| {
        let (size, by) = match found {
            Ok(facts) => (bytes(facts.database_bytes as f64), facts.dumped_by()),
            Err(obstacle) => ("-".to_owned(), format!("can't be dumped: it {obstacle}")),
        };
        vec![aim.database.clone(), size, by]
    });
    table(&[("database", Shape::Left), ("size", Shape::Right), ("dumped by", Shape::Left)], rows.collect())
}

fn table(columns: &[(&str, Shape)], rows: Vec<Vec<String>>) -> Table {
    let columns = columns.iter().map(|(title, shape)| Column { title: (*title).to_owned(), shape: *shape });
    let total = rows.len();
    let rows = rows
        .into_iter()
        .map(|cells| Row { cells: cells.into_iter().map(Cell::from).collect(), buttons: Vec::new() });
    Table { title: None, columns: columns.collect(), rows: rows.collect(), total, empty: None }
}

/// A word for the record and one for people.
type Told = (&'static str, String);

async fn one(
    doing: &Doing<'_>,
    (aim, facts): (&Aim, &Facts),
    (estimate, at): (&Estimate, usize),
) -> std::result::Result<Manifest, Told> {
    let environment = doing.environment().unwrap_or_default();
    let login = &doing.command.header.login;
    let connection = connection(&doing.app.targets, (environment, aim, login, &doing.asker));
    let connection = connection.map_err(|obstacle| (obstacle.word(), obstacle.to_string()))?;
    let job = Dump {
        storage: &doing.app.storage,
        tool: &facts.tool,
        connection,
        environment,
        server_version: facts.version.clone(),
        table_bytes: u64::try_from(facts.table_bytes).unwrap_or_default(),
        asked_by: &doing.run.request.requester.id,
        run: doing.run.id,
    };
    let tell = |moved: Moved| {
        let (percent, label) = estimate.told(&aim.database, at, &moved);
        doing.progress(percent, label);
    };
    tell(Moved { bytes: 0, elapsed: std::time::Duration::ZERO, checking: false });
    dump(&job, &tell).await.map_err(|failure| {
        tracing::warn!(run = doing.run.id, database = aim.database, why = ?failure, "a backup failed");
        (failure.word(), failure.to_string())
    })
}

fn outcome(results: &[(Aim, std::result::Result<Manifest, Told>)]) -> Outcome {
    let made: Vec<&Manifest> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let failed: Vec<(&Aim, &Told)> =
        results.iter().filter_map(|(aim, result)| Some((aim, result.as_ref().err()?))).collect();
    let size = bytes(made.iter().map(|manifest| manifest.bytes).sum::<u64>() as f64);
    let time = duration(made.iter().map(|manifest| manifest.duration_ms).sum::<u64>() as f64 / 1000.0);
    let (happening, verdict) = match (made.as_slice(), failed.as_slice()) {
        ([only], []) => (
            Happening::Succeeded,
            format!("{} is backed up: {size} in {time}, read back and whole.", only.database),
        ),
        (all, []) => (
            Happening::Succeeded,
            format!("All {} databases are backed up: {size} in {time}, read back and whole.", all.len()),
        ),
        ([], [(aim, (_, why))]) => {
            (Happening::Failed, format!("There is no backup of {}: {why}.", aim.database))
        }
        ([], [(_, (_, why)), ..]) => (Happening::Failed, format!("There is no backup of any: {why}.")),
        (some, _) => (
            Happening::Partial,
            format!("{} of {} databases are backed up: {size} in {time}.", some.len(), results.len()),
        ),
    };
    let mut outcome = Outcome::new(happening, verdict);
    outcome.blocks = blocks(results);
    outcome.facts = json!({
        "backups": made.iter().map(|manifest| json!({
            "database": manifest.database, "key": manifest.key, "bytes": manifest.bytes,
            "sha256": manifest.sha256, "duration_ms": manifest.duration_ms,
        })).collect::<Vec<_>>(),
        "failed": failed.iter().map(|(aim, (word, _))| json!({
            "database": aim.database, "server": aim.server, "why": word,
        })).collect::<Vec<_>>(),
    });
    outcome
}

fn blocks(results: &[(Aim, std::result::Result<Manifest, Told>)]) -> Vec<Block> {
    if let [(_, Ok(manifest))] = results {
        let client = format!("pg_dump {}", manifest.client_version);
        return vec![Block::Facts(vec![
            ("stored as".to_owned(), Text::new().code(manifest.key.clone())),
            ("SHA-256".to_owned(), Text::new().code(manifest.sha256.clone())),
            ("dumped by".to_owned(), client.into()),
        ])];
    }
    if results.len() < 2 {
        return Vec::new();
    }
    let rows = results.iter().map(|(aim, result)| match result {
        Ok(manifest) => {
            vec![aim.database.clone(), bytes(manifest.bytes as f64), manifest.key.clone()]
        }
        Err((_, why)) => vec![aim.database.clone(), "-".to_owned(), format!("no backup: {why}")],
    });
    let columns = [("database", Shape::Left), ("size", Shape::Right), ("stored as", Shape::Left)];
    vec![Block::Table(table(&columns, rows.collect()))]
}
