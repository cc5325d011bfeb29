//! The way of a dump's bytes: from pg_dump's pipe through a checksum to the checking pg_restore and to whoever stores them.
//!
//! It has a thread of its own, which waits for bytes as cheaply as can be: pg_dump writes 4 KiB at a time, and waking an
//! asynchronous reader for each costs more than hashing them.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::time::Duration;
use tokio::sync::mpsc;

/// Hashed and passed on in one go: large enough that system calls don't count, small enough for the CPU's cache.
const CHUNK: usize = 256 * 1024;

/// What a pipe holds at most: Linux lets anybody have a MiB (`/proc/sys/fs/pipe-max-size`), and gives 64 KiB unasked.
#[cfg(target_os = "linux")]
const PIPE: usize = 1 << 20;

/// Chunks that wait for the storage.
pub const WAITING: usize = 2;

/// What went by.
pub struct TeeResult {
    pub bytes: u64,
    /// Of all bytes, in hex.
    pub sha256: String,
    /// pg_restore took all of it.
    pub taken: bool,
}

/// A pipe to or from a child. Ours is the end that the caller keeps; it blocks.
///
/// # Errors
/// When the system has no pipe left.
pub fn pipe() -> std::io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = std::io::pipe()?;
    // A smaller pipe works too, with more wakeups.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&reader, PIPE);
    Ok((reader, writer))
}

/// Passes everything on until pg_dump closes its end, pg_restore takes no more, or nobody stores any more. Blocks: it ends
/// when the children end, or the receiver is dropped.
///
/// # Errors
/// When the pipe can't be read.
pub fn pass(
    mut dump: PipeReader,
    mut check: PipeWriter,
    store: &mpsc::Sender<Bytes>,
) -> std::io::Result<TeeResult> {
    let pause = pause(&dump);
    let (mut hasher, mut bytes, mut taken) = (Sha256::new(), 0, true);
    while taken {
        let chunk = fill(&mut dump, pause)?;
        if chunk.is_empty() {
            break;
        }
        bytes += chunk.len() as u64;
        hasher.update(&chunk);
        taken = check.write_all(&chunk).is_ok();
        if store.blocking_send(chunk.into()).is_err() {
            break;
        }
    }
    Ok(TeeResult { bytes, sha256: hex::encode(hasher.finalize()), taken })
}

/// How long to let a pipe fill before it is read again: so short that it can't get full at the rate of a dump, some tens of
/// MB/s.
fn pause(_pipe: &PipeReader) -> Duration {
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_getpipe_size(_pipe).is_ok_and(|size| size >= PIPE) {
        return Duration::from_millis(5);
    }
    Duration::from_millis(1)
}

/// The next chunk: whole, unless it is the last.
fn fill(dump: &mut PipeReader, pause: Duration) -> std::io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let mut filled = 0;
    while filled < CHUNK {
        let read = match dump.read(&mut chunk[filled..]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            break;
        }
        filled += read;
        if filled < CHUNK {
            std::thread::sleep(pause);
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}
