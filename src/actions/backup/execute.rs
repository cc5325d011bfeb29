//! Dumps one database into the storage: `pg_dump`'s output passes through a checksum to the storage and to a verifying `pg_restore`
//! at once, and is never in memory as a whole. It is published after both programs succeeded and the storage returned the same
//! bytes. It is a backup once it has its manifest. (`pg_restore --list` would read only the table of contents and accept a truncated
//! archive.)
//!
//! Owners, grants and comments are in the dump: `pg_restore` can leave them out (`--no-owner`, `--no-acl`, `--no-comments`), but
//! can't add them.

use super::BackupError;
use super::manifest::{self, Manifest};
use super::pg_client::{ClientConnection, ClientInstallation, PgClient};
use crate::actions::support::subprocess::command;
use crate::storage::{ObjectUpload, StagedObject, Storage};
use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Time between two progress reports: a message can't be edited more often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that are hashed and written at once: large enough that system calls cost little, small enough for the CPU's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// Capacity of a pipe: Linux allows every user a MiB (`/proc/sys/fs/pipe-max-size`); the default is 64 KiB.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 1 << 20;

/// Chunks queued for the storage.
const QUEUED_CHUNKS: usize = 2;

/// One database to back up.
#[derive(Debug, Clone)]
pub struct DumpJob<'a> {
    pub storage: &'a Storage,
    pub installation: &'a ClientInstallation,
    pub connection: ClientConnection,
    pub environment: &'a str,
    /// "15.18".
    pub server_version: String,
    pub table_bytes: u64,
    /// The person's name in the configuration.
    pub requested_by: &'a str,
    pub run: i64,
}

/// Progress of a dump.
#[derive(Debug, Clone, Copy)]
pub struct DumpProgress {
    /// Bytes of the dump so far.
    pub bytes: u64,
    pub elapsed: Duration,
    /// Everything is written and is being read back.
    pub is_verifying: bool,
}

/// Makes a backup and reports progress about once a second. The caller holds the lock on the database's backups. On every error,
/// and when its future is dropped before the end, nothing is left that looks like a backup.
pub async fn dump(
    job: &DumpJob<'_>,
    report_progress: &(dyn Fn(DumpProgress) + Send + Sync),
) -> Result<Manifest, BackupError> {
    let started_at = Timestamp::now();
    let began = Instant::now();
    let prefix = manifest::prefix(job.environment, &job.connection.database);
    let key = manifest::key(&prefix, started_at, job.run);
    job.storage.clear_unfinished(&prefix).await?;
    let compression = job.installation.compression().await;
    let mut upload = job.storage.begin(&key).await?;
    let report =
        |bytes, is_verifying| report_progress(DumpProgress { bytes, elapsed: began.elapsed(), is_verifying });
    let copy_result = stream_dump(job, compression, &mut upload, &|bytes| report(bytes, false)).await;
    let CopyResult { bytes, sha256, .. } = match copy_result {
        Err(error) => {
            upload.abort().await;
            return Err(error);
        }
        Ok(result) => result,
    };
    let staged = upload.finish().await?;
    report(bytes, true);
    if let Err(error) = read_back(&staged, &sha256).await {
        staged.discard().await;
        return Err(error);
    }
    let manifest = Manifest {
        key: key.to_string(),
        environment: job.environment.to_owned(),
        server: job.connection.server.name.clone(),
        database: job.connection.database.clone(),
        server_version: job.server_version.clone(),
        client_version: job.installation.version.clone(),
        compression: compression.to_owned(),
        bytes,
        sha256,
        table_bytes: job.table_bytes,
        started_at,
        duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        verified_at: Timestamp::now(),
        requested_by: job.requested_by.to_owned(),
        run: job.run,
    };
    staged.publish().await?;
    if let Err(error) = manifest.write(job.storage).await {
        if let Err(error) = job.storage.delete(&key).await {
            tracing::warn!(%key, %error, "removing a dump without a manifest failed");
        }
        return Err(error);
    }
    Ok(manifest)
}

async fn stream_dump(
    job: &DumpJob<'_>,
    compression: &str,
    upload: &mut ObjectUpload,
    report_bytes: &(dyn Fn(u64) + Send + Sync),
) -> Result<CopyResult, BackupError> {
    let (dump_reader, dump_writer) = pipe().map_err(BackupError::Pipe)?;
    let mut pg_dump = command(&job.installation.pg_dump());
    pg_dump.args(["--format=custom", "--no-password", "--lock-wait-timeout=10s", compression]);
    pg_dump.arg(job.connection.dbname_argument()).stdout(dump_writer);
    job.connection.set_environment(&mut pg_dump, job.installation.major);
    let pg_dump = PgClient::start(pg_dump)?;
    let (check_reader, check_writer) = pipe().map_err(BackupError::Pipe)?;
    let mut pg_restore = command(&job.installation.pg_restore());
    pg_restore.args(["--format=custom", "--file=/dev/null"]).stdin(check_reader).stdout(Stdio::null());
    let pg_restore = PgClient::start(pg_restore)?;
    let (sender, mut chunks) = mpsc::channel(QUEUED_CHUNKS);
    let copy_task = tokio::task::spawn_blocking(move || copy_dump(dump_reader, check_writer, &sender));
    let mut bytes = 0;
    let mut reported_at = Instant::now();
    while let Some(chunk) = chunks.recv().await {
        bytes += chunk.len() as u64;
        upload.write(chunk).await?;
        if reported_at.elapsed() >= PROGRESS_INTERVAL {
            reported_at = Instant::now();
            report_bytes(bytes);
        }
    }
    let copy_result =
        copy_task.await.map_err(|error| BackupError::Internal(error.into()))?.map_err(BackupError::Pipe)?;
    match tokio::join!(pg_dump.wait(), pg_restore.wait()) {
        (Ok(()), Ok(())) => Ok(copy_result),
        // If pg_restore stopped reading first, pg_dump's failure is only a consequence. Otherwise pg_dump's error comes first:
        // its archive was never finished.
        (_, Err(error)) if !copy_result.check_completed => Err(BackupError::Unreadable(error)),
        (Err(error), _) => Err(BackupError::Dump(error)),
        (Ok(()), Err(error)) => Err(BackupError::Unreadable(error)),
    }
}

struct CopyResult {
    bytes: u64,
    /// In hex.
    sha256: String,
    /// pg_restore read all of it.
    check_completed: bool,
}

fn pipe() -> std::io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    // A smaller pipe works, too, with more wakeups.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_BYTES);
    Ok((reader, writer))
}

/// Copies a dump's bytes through a checksum to the verifying pg_restore and to the storage, until pg_dump closes its end, pg_restore
/// stops reading, or the receiver is dropped. Blocks, in a thread of its own: pg_dump writes 4 KiB at a time, and waking an
/// asynchronous reader for each costs more than hashing them.
fn copy_dump(
    mut dump: PipeReader,
    mut check: PipeWriter,
    chunks: &mpsc::Sender<Bytes>,
) -> std::io::Result<CopyResult> {
    // Between two reads the pipe fills a little, but at a dump's tens of MB/s it doesn't get full.
    let interval = read_interval(&dump);
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    let mut check_completed = true;
    while check_completed {
        let chunk = read_chunk(&mut dump, interval)?;
        if chunk.is_empty() {
            break;
        }
        bytes += chunk.len() as u64;
        hasher.update(&chunk);
        check_completed = check.write_all(&chunk).is_ok();
        if chunks.blocking_send(chunk.into()).is_err() {
            break;
        }
    }
    Ok(CopyResult { bytes, sha256: hex::encode(hasher.finalize()), check_completed })
}

fn read_interval(_pipe: &PipeReader) -> Duration {
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_getpipe_size(_pipe).is_ok_and(|size| size >= PIPE_BYTES) {
        return Duration::from_millis(5);
    }
    Duration::from_millis(1)
}

fn read_chunk(dump: &mut PipeReader, interval: Duration) -> std::io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut filled = 0;
    while filled < CHUNK_BYTES {
        let read = match dump.read(&mut chunk[filled..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            break;
        }
        filled += read;
        if filled < CHUNK_BYTES {
            std::thread::sleep(interval);
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}

async fn read_back(staged: &StagedObject, sha256: &str) -> Result<(), BackupError> {
    let mut stream = staged.read().await?;
    let mut hasher = Sha256::new();
    while let Some(chunk) = stream.try_next().await? {
        hasher.update(&chunk);
    }
    if hex::encode(hasher.finalize()) == sha256 { Ok(()) } else { Err(BackupError::ChecksumMismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Key;
    use object_store::memory::InMemory;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_dump_that_the_storage_changed_is_rejected() {
        let storage = Storage::with_object_store(Arc::new(InMemory::new()));
        let mut upload = storage.begin(&Key::from("a.dump")).await.unwrap();
        upload.write("stored".into()).await.unwrap();
        let staged = upload.finish().await.unwrap();
        let sha256 = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
        assert!(matches!(read_back(&staged, &sha256("sent")).await, Err(BackupError::ChecksumMismatch)));
        read_back(&staged, &sha256("stored")).await.unwrap();
    }
}
