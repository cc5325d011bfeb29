//! `backup`: a service's database, or all of them one after another, dumped into the storage. This file holds which databases
//! and in which order; `execute.rs` makes one dump. The plan's resource locks keep out a second backup of the same database.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::Plan;
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
use plan::{Asker, BackupTarget, DatabaseInfo, connection, inspect};

pub struct Backup;

/// A failed backup. `Display` is for people; the attempt leaves no files behind.
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
    #[error("the storage returned other bytes than were written")]
    Differs,
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the backup's manifest can't be written")]
    Internal(#[source] anyhow::Error),
}

impl BackupError {
    /// A word for the audit log, without free text.
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
        let targets = requested_targets(call, environment)?;
        let tools = find(&call.app.config.backups).await;
        let asker = Asker { environment, application: &call.asker };
        let checks = inspect(&call.app.environments, &tools, asker, &targets).await;
        if let Some(Err(error)) = checks.first()
            && checks.iter().all(std::result::Result::is_err)
        {
            return Err(error.user_error(&targets[0]));
        }
        Ok(text::describe(environment, &targets, &checks))
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let environment = execution.environment().unwrap_or_default();
        let targets = BackupTarget::from_plan(execution.plan);
        if targets.is_empty() {
            return Outcome::invalidated("The plan names no database.");
        }
        let tools = find(&execution.app.config.backups).await;
        let asker = Asker { environment, application: &execution.asker };
        let checks = inspect(&execution.app.environments, &tools, asker, &targets).await;
        let mut estimate = Estimate::new(&execution.app.storage, environment, &targets, &checks).await;
        let mut results = Vec::new();
        for (index, (target, check)) in targets.into_iter().zip(checks).enumerate() {
            let result = match check {
                Ok(_) if execution.stop.is_cancelled() => Err(stopped()),
                Ok(info) => tokio::select! {
                    result = back_up(execution, &target, &info, &estimate, index) => result,
                    // A dump that is dropped half-way leaves nothing behind.
                    () = execution.stop.cancelled() => Err(stopped()),
                },
                Err(error) => Err(error.reason()),
            };
            estimate.finish(index);
            results.push((target, result));
        }
        text::outcome(&results)
    }
}

/// The requested databases; a database that several services share counts once.
fn requested_targets(call: &Call<'_>, environment: &str) -> Result<Vec<BackupTarget>> {
    let asker = &call.asker;
    let request = QueryRequest { command: call.command, environment, values: call.values, asker };
    let mut targets: Vec<BackupTarget> = Vec::new();
    for found in scope_targets(&call.app.environments, &request, call.command.header.scope)? {
        let target = BackupTarget { server: found.server, database: found.database.unwrap_or_default() };
        if !target.database.is_empty() && !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.is_empty() { Err(Error::user("There is no database to back up.")) } else { Ok(targets) }
}

/// A word for the audit log and a text for people.
type FailureReason = (&'static str, String);

const STOPPED: &str = "stopped";

fn stopped() -> FailureReason {
    (STOPPED, "it was stopped".to_owned())
}

async fn back_up(
    execution: &Execution<'_>,
    target: &BackupTarget,
    info: &DatabaseInfo,
    estimate: &Estimate,
    index: usize,
) -> std::result::Result<Manifest, FailureReason> {
    let environment = execution.environment().unwrap_or_default();
    let login = execution.command.header.login;
    let asker = Asker { environment, application: &execution.asker };
    let connection = connection(&execution.app.environments, asker, target, login);
    let job = Dump {
        storage: &execution.app.storage,
        tool: &info.tool,
        connection: connection.map_err(|error| error.reason())?,
        environment,
        server_version: info.version.clone(),
        table_bytes: u64::try_from(info.table_bytes).unwrap_or_default(),
        asked_by: &execution.run.request.requester.id,
        run: execution.run.id,
    };
    let report_progress = |transferred: Transferred| {
        let (percent, label) = estimate.progress(&target.database, index, &transferred);
        execution.progress(percent, label);
    };
    report_progress(Transferred { bytes: 0, elapsed: std::time::Duration::ZERO, checking: false });
    dump(&job, &report_progress).await.map_err(|error| {
        tracing::warn!(run = execution.run.id, database = target.database, ?error, "backup failed");
        (error.word(), text::failure(&error, &job.connection.user))
    })
}
