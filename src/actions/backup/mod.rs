//! `backup`: a service's database, or all of them one after another, dumped into the storage. How one dump is made stands
//! in `backup/execute.rs`; which databases, and in which order, stands here. Two backups of one database at once are kept out
//! by what the plan holds.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan};
use crate::sql::{QueryRequest, scope_targets};
use crate::storage::StorageError;
use async_trait::async_trait;

mod estimate;
mod execute;
mod manifest;
mod pg_client;
mod plan;
mod tee;
mod text;
mod tools;
mod verify;

pub use execute::{Dump, Transferred, dump};
pub use manifest::{Manifest, NewestBackups, StoredBackup, all, newest, prefix};
pub use pg_client::ClientConnection;
pub use tools::{MissingClient, Tool, choose, find};

use estimate::Estimate;
use plan::{BackupTarget, DatabaseInfo, connection, survey};

pub struct Backup;

/// Why there is no backup. `Display` is for people; nothing of the attempt is left.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
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

impl BackupError {
    /// For the record: no free text.
    pub fn word(&self) -> &'static str {
        match self {
            BackupError::Start(_) | BackupError::Pipe(_) => "client",
            BackupError::Dump(_) => "pg_dump",
            BackupError::Unreadable(_) => "pg_restore",
            BackupError::Differs => "differs",
            BackupError::Storage(StorageError::Full) => "storage_full",
            BackupError::Storage(_) => "storage",
            BackupError::Internal(_) => "internal",
        }
    }
}

#[async_trait]
impl Action for Backup {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment.unwrap_or_default();
        let aims = aims(call, environment)?;
        let tools = find(&call.app.config.backups).await;
        let found = survey(&call.app.environments, &tools, (environment, &call.asker), &aims).await;
        if let (false, Some(Err(obstacle))) = (found.iter().any(|found| found.is_ok()), found.first()) {
            return Err(obstacle.told(&aims[0]));
        }
        Ok(text::describe(environment, &aims, &found))
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let environment = doing.environment().unwrap_or_default();
        let aims = BackupTarget::of(doing.plan);
        if aims.is_empty() {
            return Outcome::new(EventKind::Invalidated, "The plan names no database. Nothing was done.");
        }
        let tools = find(&doing.app.config.backups).await;
        let found = survey(&doing.app.environments, &tools, (environment, &doing.asker), &aims).await;
        let mut estimate = Estimate::of(&doing.app.storage, environment, &aims, &found).await;
        let mut results = Vec::new();
        for (at, (aim, found)) in aims.into_iter().zip(found).enumerate() {
            let result = match found {
                Ok(_) if doing.stop.is_cancelled() => Err(stopped()),
                Ok(facts) => tokio::select! {
                    result = one(doing, (&aim, &facts), (&estimate, at)) => result,
                    // Dropped half-way it leaves nothing.
                    () = doing.stop.cancelled() => Err(stopped()),
                },
                Err(obstacle) => Err((obstacle.word(), obstacle.to_string())),
            };
            estimate.done(at);
            results.push((aim, result));
        }
        text::outcome(&results)
    }
}

/// The databases that were asked for; services that share one count once.
fn aims(call: &Call<'_>, environment: &str) -> Result<Vec<BackupTarget>> {
    let asker = &call.asker;
    let question = QueryRequest { command: call.command, environment, values: call.values, asker };
    let targets = scope_targets(&call.app.environments, &question, call.command.header.scope)?;
    let mut aims: Vec<BackupTarget> = Vec::new();
    for target in targets {
        let aim = BackupTarget { server: target.server, database: target.database.unwrap_or_default() };
        if !aim.database.is_empty() && !aims.contains(&aim) {
            aims.push(aim);
        }
    }
    if aims.is_empty() { Err(Error::user("There is no database there to back up.")) } else { Ok(aims) }
}

/// A word for the record and one for people.
type FailureReason = (&'static str, String);

const STOPPED: &str = "stopped";

fn stopped() -> FailureReason {
    (STOPPED, "it was stopped".to_owned())
}

async fn one(
    doing: &Execution<'_>,
    (aim, facts): (&BackupTarget, &DatabaseInfo),
    (estimate, at): (&Estimate, usize),
) -> std::result::Result<Manifest, FailureReason> {
    let environment = doing.environment().unwrap_or_default();
    let login = &doing.command.header.login;
    let connection = connection(&doing.app.environments, (environment, &doing.asker), (aim, login));
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
    let tell = |moved: Transferred| {
        let (percent, label) = estimate.told(&aim.database, at, &moved);
        doing.progress(percent, label);
    };
    tell(Transferred { bytes: 0, elapsed: std::time::Duration::ZERO, checking: false });
    dump(&job, &tell).await.map_err(|failure| {
        tracing::warn!(run = doing.run.id, database = aim.database, why = ?failure, "a backup failed");
        (failure.word(), text::failure(&failure, &job.connection.user))
    })
}
