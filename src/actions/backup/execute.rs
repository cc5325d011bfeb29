//! One database into the storage: `pg_dump`'s output passes through a checksum to the storage and to a checking `pg_restore`
//! at once, and is never in memory as a whole. It is published after both programs succeeded and the storage returned the same
//! bytes. It is a backup once it has its manifest.
//!
//! Owners, grants and comments are in the dump: `pg_restore` can leave them out (`--no-owner`, `--no-acl`, `--no-comments`), but
//! can't add them.

use super::BackupError;
use super::manifest::{self, Manifest};
use super::pg_client::{ClientConnection, PgClient};
use super::tee::{self, TeeResult};
use super::tools::Tool;
use super::verify::{self, ArchiveCheck};
use crate::storage::{Key, ObjectUpload, Storage};
use jiff::Timestamp;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Time between two progress reports: a message can't be edited more often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// One database to back up.
#[derive(Debug, Clone)]
pub struct Dump<'a> {
    pub storage: &'a Storage,
    pub tool: &'a Tool,
    pub connection: ClientConnection,
    pub environment: &'a str,
    /// "15.18".
    pub server_version: String,
    pub table_bytes: u64,
    /// The person's name in the configuration.
    pub asked_by: &'a str,
    pub run: i64,
}

/// Progress of a dump.
#[derive(Debug, Clone, Copy)]
pub struct Transferred {
    /// Bytes of the dump so far.
    pub bytes: u64,
    pub elapsed: Duration,
    /// Everything is written and is being read back.
    pub checking: bool,
}

/// Makes a backup and reports progress about once a second. The caller holds the lock on the database's backups. On every error,
/// and when it is dropped half-way, it leaves nothing that looks like a backup.
///
/// # Errors
/// [`BackupError`].
pub async fn dump(
    job: &Dump<'_>,
    report_progress: &(dyn Fn(Transferred) + Send + Sync),
) -> Result<Manifest, BackupError> {
    let started_at = Timestamp::now();
    let clock = Instant::now();
    let prefix = manifest::prefix(job.environment, &job.connection.database);
    let key = manifest::key(&prefix, started_at, job.run);
    job.storage.clear_unfinished(&prefix).await?;
    let compression = job.tool.compression().await;
    let mut upload = job.storage.begin(&key).await?;
    let reporter = ProgressReporter { clock: &clock, report_progress };
    let TeeResult { bytes, sha256, .. } = match stream_dump(job, compression, &mut upload, reporter).await {
        Ok(streamed) => streamed,
        Err(error) => {
            upload.abort().await;
            return Err(error);
        }
    };
    let staged = upload.finish().await?;
    report_progress(Transferred { bytes, elapsed: clock.elapsed(), checking: true });
    if let Err(error) = verify::read_back(&staged, &sha256).await {
        staged.discard().await;
        return Err(error);
    }
    let manifest = Manifest {
        key: key.to_string(),
        environment: job.environment.to_owned(),
        server: job.connection.server.name.clone(),
        database: job.connection.database.clone(),
        server_version: job.server_version.clone(),
        client_version: job.tool.version.clone(),
        compression: compression.to_owned(),
        bytes,
        sha256,
        table_bytes: job.table_bytes,
        started_at,
        duration_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        verified_at: Timestamp::now(),
        asked_by: job.asked_by.to_owned(),
        run: job.run,
    };
    staged.publish().await?;
    if let Err(error) = manifest.write(job.storage).await {
        unpublish(job.storage, &key).await;
        return Err(error);
    }
    Ok(manifest)
}

async fn unpublish(storage: &Storage, key: &Key) {
    if let Err(error) = storage.delete(key).await {
        tracing::warn!(%key, %error, "removing a dump without a manifest failed");
    }
}

struct ProgressReporter<'a> {
    clock: &'a Instant,
    report_progress: &'a (dyn Fn(Transferred) + Send + Sync),
}

/// Streams from pg_dump to the storage and to the check, until both programs have succeeded.
async fn stream_dump(
    job: &Dump<'_>,
    compression: &str,
    upload: &mut ObjectUpload,
    reporter: ProgressReporter<'_>,
) -> Result<TeeResult, BackupError> {
    let (stdout, writer) = tee::pipe().map_err(BackupError::Pipe)?;
    let mut command = pg_dump(job, compression);
    command.stdout(writer);
    let client = PgClient::start(command)?;
    let (check, stdin) = ArchiveCheck::start(job.tool)?;
    let (sender, mut chunks) = mpsc::channel(tee::QUEUED_CHUNKS);
    let tee = tokio::task::spawn_blocking(move || tee::copy(stdout, stdin, &sender));
    let mut bytes = 0;
    let mut reported = Duration::ZERO;
    while let Some(chunk) = chunks.recv().await {
        bytes += chunk.len() as u64;
        upload.write(chunk).await?;
        let elapsed = reporter.clock.elapsed();
        if elapsed >= reported + PROGRESS_INTERVAL {
            reported = elapsed;
            (reporter.report_progress)(Transferred { bytes, elapsed, checking: false });
        }
    }
    let copied = tee.await.map_err(|error| BackupError::Internal(error.into()))?;
    let copied = copied.map_err(BackupError::Pipe)?;
    let (dumped, checked) = tokio::join!(client.wait(), check.wait());
    match (dumped, checked) {
        (Ok(()), Ok(())) => Ok(copied),
        // pg_restore stopped reading first: pg_dump failed only because of that. Otherwise pg_dump's error comes first: its
        // archive was never finished.
        (_, Err(error)) if !copied.check_completed => Err(error),
        (Err(error), _) => Err(BackupError::Dump(error)),
        (Ok(()), Err(error)) => Err(error),
    }
}

fn pg_dump(job: &Dump<'_>, compression: &str) -> tokio::process::Command {
    let mut command = crate::actions::support::subprocess::command(&job.tool.pg_dump());
    command.args(["--format=custom", "--no-password", "--lock-wait-timeout=10s", compression]);
    command.arg(job.connection.argument());
    job.connection.apply(&mut command, job.tool.major);
    command
}
