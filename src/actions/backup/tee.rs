//! A dump's bytes from pg_dump's pipe through a checksum to the checking pg_restore and to the storage.
//!
//! It runs in a thread of its own: pg_dump writes 4 KiB at a time, and waking an asynchronous reader for each costs more than
//! hashing them.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes that are hashed and written at once: large enough that system calls don't count, small enough for the CPU's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// Capacity of a pipe: Linux allows every user a MiB (`/proc/sys/fs/pipe-max-size`); the default is 64 KiB.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 1 << 20;

/// Chunks queued for the storage.
pub const QUEUED_CHUNKS: usize = 2;

/// Summary of the copied bytes.
pub struct TeeResult {
    pub bytes: u64,
    /// SHA-256 of all bytes, in hex.
    pub sha256: String,
    /// pg_restore read all of it.
    pub check_completed: bool,
}

/// A blocking pipe to or from a child.
pub fn pipe() -> std::io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    // A smaller pipe works, too, with more wakeups.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE_BYTES);
    Ok((reader, writer))
}

/// Copies until pg_dump closes its end, pg_restore stops reading, or the receiver is dropped. Blocks.
pub fn copy(
    mut dump: PipeReader,
    mut check: PipeWriter,
    store: &mpsc::Sender<Bytes>,
) -> std::io::Result<TeeResult> {
    let pause = pause(&dump);
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    let mut check_completed = true;
    while check_completed {
        let chunk = fill(&mut dump, pause)?;
        if chunk.is_empty() {
            break;
        }
        bytes += chunk.len() as u64;
        hasher.update(&chunk);
        check_completed = check.write_all(&chunk).is_ok();
        if store.blocking_send(chunk.into()).is_err() {
            break;
        }
    }
    Ok(TeeResult { bytes, sha256: hex::encode(hasher.finalize()), check_completed })
}

/// Time to let a pipe fill before it is read again: too short for it to get full at a dump's rate of some tens of MB/s.
fn pause(_pipe: &PipeReader) -> Duration {
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_getpipe_size(_pipe).is_ok_and(|size| size >= PIPE_BYTES) {
        return Duration::from_millis(5);
    }
    Duration::from_millis(1)
}

fn fill(dump: &mut PipeReader, pause: Duration) -> std::io::Result<Vec<u8>> {
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
            std::thread::sleep(pause);
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}
