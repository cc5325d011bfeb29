//! `backup`: a service's database, or all of them one after another, dumped into the storage. This file holds which databases, in
//! which order, and the facts about each; `execute.rs` makes one dump. The plan's resource locks keep out a second backup of the same
//! database, and an advisory lock on the target one beside a process that was paused and taken for dead. Facts are queried through the
//! reader's login, without waiting for a lock: the acting role's few connections stay free for pg_dump and that lock.

use super::{Action, Call, EffectGuard, Execution, Outcome, RunLost, TargetLockError};
use crate::app::App;
use crate::catalog::Need;
use crate::config::BackupSettings;
use crate::error::{Error, Result};
use crate::files;
use crate::model::{LoginKind, Plan};
use crate::postgres::{Address, ColumnError, PooledClient, Unreachable, is_english};
use crate::privileges::shortfalls;
use crate::sql::bytes;
use crate::storage::StorageError;
use async_trait::async_trait;
use std::fmt;
use std::time::Duration;

mod execute;
mod manifest;
mod pg_client;
mod text;

pub use execute::{DumpJob, DumpProgress, dump};
pub use manifest::{Manifest, NewestBackups, StoredBackup, newest, prefix};
pub use pg_client::{
    ClientConnection, ClientFailure, ClientInstallation, MissingClient, choose_installation,
    find_installations,
};

/// Size of a quickly compressed dump of typical business data, as a share of its tables.
const USUAL_RATIO: f64 = 0.3;

/// A backup is not finished before it was read back.
const MAX_PERCENT: u64 = 99;

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
    #[error(transparent)]
    RunLost(#[from] RunLost),
    #[error("another Countersign instance holds the lock on its backups")]
    Locked,
    #[error("the client program can't be started ({0})")]
    Start(#[source] std::io::Error),
    #[error("the client program's output can't be read ({0})")]
    Pipe(#[source] std::io::Error),
    #[error("pg_dump did not finish: {0}")]
    Dump(ClientFailure),
    #[error("pg_restore can't read the archive: {0}")]
    Unreadable(ClientFailure),
    #[error("the storage returned other bytes than were written")]
    ChecksumMismatch,
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
            BackupError::RunLost(_) => "run_lost",
            BackupError::Locked => "locked",
            BackupError::Start(_) | BackupError::Pipe(_) => "client",
            BackupError::Dump(_) => "pg_dump",
            BackupError::Unreadable(_) => "pg_restore",
            BackupError::ChecksumMismatch => "differs",
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
        check_storage(&call.app.config.backups).map_err(|obstacle| storage_refusal(&obstacle))?;
        let context = BackupContext { app: call.app, environment, asker: &call.asker };
        let checks = context.inspect(&targets).await;
        if let Some(Err(error)) = checks.first()
            && checks.iter().all(std::result::Result::is_err)
        {
            let problem = format!("{} can't be dumped: it {error}.", targets[0].database);
            return Err(match error {
                BackupError::NoClient(missing) => Error::instead(problem, missing.install_hint()),
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

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::RunKey]
    }
}

/// The fix of a backup storage that can't be written.
pub(crate) const STORAGE_FIX: &str =
    "Let the account that Countersign runs as write to `directory` of `[backups]`.";

/// Checks that backups can be written, by the permissions of their directory: true if it is there.
///
/// # Errors
/// The obstacle.
pub(crate) fn check_storage(settings: &BackupSettings) -> anyhow::Result<bool> {
    files::check_directory_or_parent(&settings.directory)
}

fn storage_refusal(obstacle: &anyhow::Error) -> Error {
    Error::instead(format!("The backup storage can't be written: {obstacle:#}."), STORAGE_FIX)
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
) -> Result<Manifest, BackupError> {
    let job = DumpJob {
        storage: &context.app.storage,
        installation: &info.installation,
        connection: context.connection(target, execution.command.header.login)?,
        environment: context.environment,
        server_version: info.version.clone(),
        table_bytes: u64::try_from(info.table_bytes).unwrap_or_default(),
        requested_by: &execution.run.request.requester.id,
        run: execution.run.id,
    };
    let report_progress = |transferred: DumpProgress| {
        let (percent, label) = estimate.progress(&target.database, &transferred);
        execution.progress(percent, label);
    };
    report_progress(DumpProgress { bytes: 0, elapsed: Duration::ZERO, is_verifying: false });
    let _lock = lock_backups(execution, target).await?;
    let result = match dump(&job, &report_progress).await {
        Err(BackupError::Dump(failure)) => {
            Err(context.explain(target, execution.command.header.login, failure).await)
        }
        result => result,
    };
    result.inspect_err(|error| {
        tracing::warn!(run = execution.run.id, database = target.database, ?error, "backup failed");
    })
}

/// Locks a database's backups in an environment, as long as the client lives: every unfinished object of theirs is left of a process
/// that is gone.
async fn lock_backups(execution: &Execution<'_>, target: &BackupTarget) -> Result<PooledClient, BackupError> {
    let environment = execution.environment().unwrap_or_default();
    let address = Address::new(environment, &target.server, execution.command.header.login)
        .in_database(target.database.clone());
    let client = execution.connect_single_use(&address).await;
    let client = client.map_err(|error| BackupError::Server(error.to_string()))?;
    // Another Countersign's backups of the database have a directory of their own.
    let directory = execution.app.config.backups.directory.display();
    let resource = format!("backups in {directory}: {}", prefix(environment, &target.database));
    match execution.lock_target(&client, &resource).await {
        Ok(()) => Ok(client),
        Err(TargetLockError::Busy) => Err(BackupError::Locked),
        Err(TargetLockError::RunLost(lost)) => Err(lost.into()),
        Err(TargetLockError::Query(error)) => Err(BackupError::Server(error.to_string())),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct BackupTarget {
    server: String,
    database: String,
}

impl BackupTarget {
    /// The key of a target in the plan's identity. Keys sort alphabetically, in the targets' order.
    fn identity_key(index: usize, count: usize) -> String {
        if count == 1 { "database".to_owned() } else { format!("database {:03}", index + 1) }
    }

    fn from_plan(plan: &Plan) -> Vec<BackupTarget> {
        let databases = plan.identity.iter().filter(|(name, _)| name.starts_with("database"));
        let target = |(_, target): (&String, &String)| {
            // A server's name has no slash; a database's may have one.
            let (server, database) = target.split_once('/')?;
            Some(BackupTarget { server: server.to_owned(), database: database.to_owned() })
        };
        databases.filter_map(target).collect()
    }
}

impl fmt::Display for BackupTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.database)
    }
}

struct DatabaseInfo {
    database_bytes: i64,
    /// Size without indexes, as of the last analyze: roughly what a dump reads.
    table_bytes: i64,
    /// The server's: "15.18".
    version: String,
    installation: ClientInstallation,
}

impl DatabaseInfo {
    fn client_text(&self) -> String {
        format!("pg_dump {} (the server is {})", self.installation.version, self.version)
    }
}

struct BackupContext<'a> {
    app: &'a App,
    environment: &'a str,
    /// The `application_name` of its connections.
    asker: &'a str,
}

impl BackupContext<'_> {
    async fn inspect(&self, targets: &[BackupTarget]) -> Vec<Result<DatabaseInfo, BackupError>> {
        let installations = find_installations(&self.app.config.backups).await;
        let checks = targets.iter().map(|target| self.inspect_database(&installations, target));
        futures::future::join_all(checks).await
    }

    async fn inspect_database(
        &self,
        installations: &[ClientInstallation],
        target: &BackupTarget,
    ) -> Result<DatabaseInfo, BackupError> {
        let address = Address::new(self.environment, &target.server, LoginKind::Reader)
            .in_database(target.database.clone());
        let client = self.app.environments.acquire(&address, self.asker).await;
        let client = client.map_err(|error| BackupError::Server(error.to_string()))?;
        let installation = choose_installation(installations, client.major())?.clone();
        let rows = client.query(include_str!("database_size.sql"), &[]).await;
        let rows = rows.map_err(|error| BackupError::Server(format!("can't be measured: {error}")))?;
        let row = rows.first().ok_or_else(|| BackupError::Server("returned no size".to_owned()))?;
        let info = || {
            Ok(DatabaseInfo {
                database_bytes: row.get("database_bytes")?,
                table_bytes: row.get("table_bytes")?,
                version: row.get("version")?,
                installation,
            })
        };
        info().map_err(|error: ColumnError| BackupError::Server(error.to_string()))
    }

    /// Explains pg_dump's failure by what PostgreSQL tells its login: a refusal of the login, tables that it may not read, or messages
    /// in another language than English.
    async fn explain(&self, target: &BackupTarget, login: LoginKind, failure: ClientFailure) -> BackupError {
        let address =
            Address::new(self.environment, &target.server, login).in_database(target.database.clone());
        let unknown = |failure| BackupError::Dump(ClientFailure { in_english: false, ..failure });
        let client = match self.app.environments.acquire_for_run(&address, self.asker).await {
            Ok(client) => client,
            Err(error @ Unreachable::Login(_)) => return BackupError::Server(error.to_string()),
            Err(_) => return unknown(failure),
        };
        let rows = client.query(include_str!("language.sql"), &[]).await.unwrap_or_default();
        let Some(row) = rows.first() else { return unknown(failure) };
        let in_english = row.value::<String>("lc_messages").is_some_and(|language| is_english(&language));
        let missing = shortfalls(&client, &[Need::AllTables]).await.unwrap_or_default();
        let hint = missing.first().map(|missing| format!("{} {}", target.database, missing.reason()));
        BackupError::Dump(ClientFailure { in_english, hint, ..failure })
    }

    /// The client program's connection, through the login that the command's header names.
    fn connection(&self, target: &BackupTarget, login: LoginKind) -> Result<ClientConnection, BackupError> {
        let unknown = || BackupError::Server("is not in the configuration".to_owned());
        let environments = &self.app.environments;
        let environment = environments.environment(self.environment).map_err(|_| unknown())?;
        let server =
            environment.servers.iter().find(|server| server.name == target.server).ok_or_else(unknown)?;
        let (_, login) = environments.login(environment, login).map_err(|_| unknown())?;
        Ok(ClientConnection {
            server: server.clone(),
            database: target.database.clone(),
            user: login.user,
            password: login.password,
            tls: environment.tls.clone(),
            timeout: environment.connect_timeout,
            application: self.asker.to_owned(),
        })
    }
}

/// Estimated progress of a run: a dump's size is known only when it is done. The database's last backup shows how well its tables
/// compress; without one, a usual ratio is taken.
struct Estimate {
    /// Bytes of each dump.
    expected: Vec<u64>,
    /// Number of finished databases; the next one is being dumped.
    done: usize,
}

impl Estimate {
    async fn new(
        context: &BackupContext<'_>,
        targets: &[BackupTarget],
        checks: &[Result<DatabaseInfo, BackupError>],
    ) -> Estimate {
        let mut expected = Vec::new();
        for (target, check) in targets.iter().zip(checks) {
            let table_bytes = check.as_ref().map_or(0, |info| info.table_bytes) as f64;
            let past = newest(&context.app.storage, &prefix(context.environment, &target.database), 1).await;
            let past = past.unwrap_or_default().backups;
            let past = past.first().map(|backup| &backup.manifest).filter(|past| past.table_bytes > 0);
            let ratio = past.map_or(USUAL_RATIO, |past| past.bytes as f64 / past.table_bytes as f64);
            // A dump has at least its table of contents.
            expected.push((table_bytes * ratio) as u64 + 1);
        }
        Estimate { expected, done: 0 }
    }

    /// The share of the whole run, at most 99 %, and its label: "asset_service_db: 120 MiB, 14.2 MiB/s, 3 of 10 databases".
    fn progress(&self, database: &str, transferred: &DumpProgress) -> (Option<u8>, String) {
        let before: u64 = self.expected.iter().take(self.done).sum();
        let this = self.expected.get(self.done).copied().unwrap_or_default();
        let total = self.expected.iter().sum::<u64>().max(1);
        let share = ((before + transferred.bytes.min(this)) * 100 / total).min(MAX_PERCENT);
        let mut label = format!("{database}: {}", bytes(transferred.bytes as f64));
        let seconds = transferred.elapsed.as_secs_f64();
        if transferred.is_verifying {
            label.push_str(" written, being read back");
        } else if seconds > 0.0 {
            label.push_str(&format!(", {}/s", bytes(transferred.bytes as f64 / seconds)));
        }
        if self.expected.len() > 1 {
            label.push_str(&format!(", {} of {} databases", self.done + 1, self.expected.len()));
        }
        label.push_str(" (estimated)");
        (u8::try_from(share).ok(), label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_share_of_all_databases_and_never_the_whole() {
        let mut estimate = Estimate { expected: vec![100 << 20, 300 << 20], done: 0 };
        let elapsed = Duration::from_secs(10);
        let transferred = |mib: u64| DumpProgress { bytes: mib << 20, elapsed, is_verifying: false };
        let (percent, label) = estimate.progress("asset_service_db", &transferred(50));
        assert_eq!(percent, Some(12));
        assert_eq!(label, "asset_service_db: 50.0 MiB, 5.0 MiB/s, 1 of 2 databases (estimated)");
        assert_eq!(estimate.progress("a", &transferred(500)).0, Some(25), "no more than its own share");
        estimate.done = 1;
        assert_eq!(estimate.progress("b", &transferred(150)).0, Some(62));
        assert_eq!(estimate.progress("b", &transferred(900)).0, Some(99));
    }
}
