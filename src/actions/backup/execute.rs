//! One database into the storage: `pg_dump`'s output passes through a checksum to the store and to a checking `pg_restore`
//! at once, and is held nowhere whole. Only after both programs ended well and the store gave back the same bytes is it
//! published, and only with its manifest is it a backup.
//!
//! Owners, grants and comments are in the dump. `pg_restore` can leave out what is there (`--no-owner`, `--no-acl`,
//! `--no-comments`), and nobody can add what is not.

use super::BackupError;
use super::manifest::{self, Manifest};
use super::pg_client::{ClientConnection, PgClient};
use super::tee::{self, TeeResult};
use super::tools::Tool;
use super::verify::{self, ArchiveCheck};
use crate::storage::{Key, Storage, Upload};
use jiff::Timestamp;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often progress is told: the messages that show it can't be edited faster.
const TELL_EVERY: Duration = Duration::from_secs(1);

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

/// How far a dump is.
#[derive(Debug, Clone, Copy)]
pub struct Transferred {
    /// Of the dump, so far.
    pub bytes: u64,
    pub elapsed: Duration,
    /// All is written, and is being read back.
    pub checking: bool,
}

/// Makes a backup, and tells about once a second how far it is. Only for who holds the database's backups alone. On every
/// error, and when dropped half-way, it leaves nothing that looks like a backup.
///
/// # Errors
/// [`BackupError`].
pub async fn dump(
    job: &Dump<'_>,
    tell: &(dyn Fn(Transferred) + Send + Sync),
) -> Result<Manifest, BackupError> {
    let (started_at, clock) = (Timestamp::now(), Instant::now());
    let prefix = manifest::prefix(job.environment, &job.connection.database);
    let key = manifest::key(&prefix, started_at, job.run);
    job.storage.clear_unfinished(&prefix).await?;
    let compression = job.tool.compression().await;
    let mut upload = job.storage.begin(&key).await?;
    let TeeResult { bytes, sha256, .. } = match relay(job, compression, (&mut upload, &clock, tell)).await {
        Ok(relayed) => relayed,
        Err(why) => {
            upload.abort().await;
            return Err(why);
        }
    };
    let staged = upload.finish().await?;
    tell(Transferred { bytes, elapsed: clock.elapsed(), checking: true });
    if let Err(why) = verify::read_back(&staged, &sha256).await {
        staged.discard().await;
        return Err(why);
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
    if let Err(why) = manifest.write(job.storage).await {
        unpublish(job.storage, &key).await;
        return Err(why);
    }
    Ok(manifest)
}

async fn unpublish(storage: &Storage, key: &Key) {
    if let Err(error) = storage.delete(key).await {
        tracing::warn!(%error, "a dump without a manifest could not be removed");
    }
}

type Way<'w> = (&'w mut Upload, &'w Instant, &'w (dyn Fn(Transferred) + Send + Sync));

/// From pg_dump to the store and to the check; what passed, once both programs ended well.
async fn relay(
    job: &Dump<'_>,
    compression: &str,
    (upload, clock, tell): Way<'_>,
) -> Result<TeeResult, BackupError> {
    let (stdout, writer) = tee::pipe().map_err(BackupError::Pipe)?;
    let mut command = pg_dump(job, compression);
    command.stdout(writer);
    let dumping = PgClient::start(command)?;
    let (check, stdin) = ArchiveCheck::start(job.tool)?;
    let (sender, mut chunks) = mpsc::channel(tee::WAITING);
    let passing = tokio::task::spawn_blocking(move || tee::pass(stdout, stdin, &sender));
    let (mut bytes, mut told) = (0, Duration::ZERO);
    while let Some(chunk) = chunks.recv().await {
        bytes += chunk.len() as u64;
        upload.write(chunk).await?;
        let elapsed = clock.elapsed();
        if elapsed >= told + TELL_EVERY {
            told = elapsed;
            tell(Transferred { bytes, elapsed, checking: false });
        }
    }
    let passed =
        passing.await.map_err(|error| BackupError::Internal(error.into()))?.map_err(BackupError::Pipe)?;
    let (dumped, checked) = tokio::join!(dumping.end(), check.end());
    match (dumped, checked) {
        (Ok(()), Ok(())) => Ok(passed),
        // A pg_dump that lost its reader is not to blame, nor a pg_restore for an archive that was never finished.
        (_, Err(why)) if !passed.taken => Err(why),
        (Err(why), _) => Err(BackupError::Dump(why)),
        (Ok(()), Err(why)) => Err(why),
    }
}

fn pg_dump(job: &Dump<'_>, compression: &str) -> tokio::process::Command {
    let mut command = crate::actions::support::subprocess::command(&job.tool.pg_dump());
    command.args(["--format=custom", "--no-password", "--lock-wait-timeout=10s", compression]);
    command.arg(job.connection.argument());
    job.connection.apply(&mut command, job.tool.major);
    command
}
