//! `backup`: a service's database, or all of them one after another, dumped into the storage. This file holds which databases
//! and in which order; `execute.rs` makes one dump. The plan's resource locks keep out a second backup of the same database.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::Plan;
use crate::storage::StorageError;
use async_trait::async_trait;
use std::time::Duration;

mod estimate;
mod execute;
mod manifest;
mod pg_client;
mod plan;
mod tee;
mod text;
mod tools;

pub use execute::{Dump, DumpProgress, dump};
pub use manifest::{Manifest, NewestBackups, StoredBackup, newest, prefix};
pub use pg_client::ClientConnection;
pub use tools::{MissingClient, Tool, choose, find};

use estimate::Estimate;
use plan::{BackupContext, BackupTarget, DatabaseInfo};

pub struct Backup;

/// A failed backup. `Display` is for people; the attempt leaves no files behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// As it follows the database's name: "doesn't answer".
    #[error("{0}")]
    Server(String),
    #[error(transparent)]
    NoClient(#[from] MissingClient),
    #[error("it was stopped")]
    Stopped,
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
            BackupError::Server(_) => "server",
            BackupError::NoClient(_) => "no_client",
            BackupError::Stopped => "stopped",
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
        let environment = call.environment_name();
        let targets = requested_targets(call)?;
        let context = BackupContext { app: call.app, environment, asker: &call.asker };
        let checks = context.inspect(&targets).await;
        if let Some(Err(error)) = checks.first()
            && checks.iter().all(std::result::Result::is_err)
        {
            let problem = format!("{} can't be dumped: it {error}.", targets[0].database);
            return Err(match error {
                BackupError::NoClient(missing) => Error::instead(problem, missing.instead()),
                _ => Error::user(problem),
            });
        }
        Ok(text::describe(environment, &targets, &checks))
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let environment = execution.environment().unwrap_or_default();
        let targets = BackupTarget::from_plan(execution.plan);
        if targets.is_empty() {
            return Outcome::invalidated("The plan names no database.");
        }
        let context = BackupContext { app: execution.app, environment, asker: &execution.asker };
        let checks = context.inspect(&targets).await;
        let mut estimate = Estimate::new(&context, &targets, &checks).await;
        let mut results = Vec::new();
        for (target, check) in targets.into_iter().zip(checks) {
            let result = match check {
                Ok(_) if execution.stop.is_cancelled() => Err(BackupError::Stopped),
                Ok(info) => tokio::select! {
                    result = back_up(execution, &context, &target, &info, &estimate) => result,
                    // A dump that is dropped half-way leaves nothing behind.
                    () = execution.stop.cancelled() => Err(BackupError::Stopped),
                },
                Err(error) => Err(error),
            };
            estimate.done += 1;
            results.push((target, result));
        }
        text::outcome(&results)
    }
}

/// The requested databases; a database that several services share counts once.
fn requested_targets(call: &Call<'_>) -> Result<Vec<BackupTarget>> {
    let mut targets: Vec<BackupTarget> = Vec::new();
    for target in call.targets(call.command.header.scope)? {
        let target = BackupTarget { server: target.server, database: target.database.unwrap_or_default() };
        if !target.database.is_empty() && !targets.contains(&target) {
            targets.push(target);
        }
    }
    if targets.is_empty() { Err(Error::user("There is no database to back up.")) } else { Ok(targets) }
}

async fn back_up(
    execution: &Execution<'_>,
    context: &BackupContext<'_>,
    target: &BackupTarget,
    info: &DatabaseInfo,
    estimate: &Estimate,
) -> std::result::Result<Manifest, BackupError> {
    let job = Dump {
        storage: &context.app.storage,
        tool: &info.tool,
        connection: context.connection(target, execution.command.header.login)?,
        environment: context.environment,
        server_version: info.version.clone(),
        table_bytes: u64::try_from(info.table_bytes).unwrap_or_default(),
        asked_by: &execution.run.request.requester.id,
        run: execution.run.id,
    };
    let report_progress = |transferred: DumpProgress| {
        let (percent, label) = estimate.progress(&target.database, &transferred);
        execution.progress(percent, label);
    };
    report_progress(DumpProgress { bytes: 0, elapsed: Duration::ZERO, checking: false });
    dump(&job, &report_progress).await.inspect_err(|error| {
        tracing::warn!(run = execution.run.id, database = target.database, ?error, "backup failed");
    })
}
