//! Verification of an archive: `pg_restore` reads all of it while it goes into the storage, and the bytes that the storage returns
//! must have the same SHA-256. (`pg_restore --list` reads the table of contents alone and accepts a truncated archive.)

use super::BackupError;
use super::pg_client::PgClient;
use super::tee;
use super::tools::Tool;
use crate::storage::Staged;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use std::io::PipeWriter;
use std::process::Stdio;

/// A `pg_restore` that reads an archive from a pipe and discards its own output.
pub struct ArchiveCheck(PgClient);

impl ArchiveCheck {
    /// Starts it. The archive goes into the returned pipe, which is closed at the archive's end.
    ///
    /// # Errors
    /// [`BackupError::Start`].
    pub fn start(tool: &Tool) -> Result<(ArchiveCheck, PipeWriter), BackupError> {
        let (stdin, archive) = tee::pipe().map_err(BackupError::Pipe)?;
        let mut command = crate::actions::support::subprocess::command(&tool.pg_restore());
        command.args(["--format=custom", "--file=/dev/null"]).stdin(stdin).stdout(Stdio::null());
        Ok((ArchiveCheck(PgClient::start(command)?), archive))
    }

    /// Waits for its result.
    ///
    /// # Errors
    /// [`BackupError::Unreadable`].
    pub async fn wait(self) -> Result<(), BackupError> {
        self.0.wait().await.map_err(BackupError::Unreadable)
    }
}

/// Reads back what was stored and compares it with what was sent.
///
/// # Errors
/// [`BackupError::Differs`], or the storage's.
pub async fn read_back(staged: &Staged, sha256: &str) -> Result<(), BackupError> {
    let mut stream = staged.read().await?;
    let mut hasher = Sha256::new();
    while let Some(chunk) = stream.try_next().await? {
        hasher.update(&chunk);
    }
    if hex::encode(hasher.finalize()) == sha256 { Ok(()) } else { Err(BackupError::Differs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Key, Storage};
    use object_store::memory::InMemory;
    use std::sync::Arc;

    #[tokio::test]
    async fn other_bytes_are_noticed() {
        let storage = Storage::over(Arc::new(InMemory::new()));
        let mut upload = storage.begin(&Key::from("a.dump")).await.unwrap();
        upload.write("stored".into()).await.unwrap();
        let staged = upload.finish().await.unwrap();
        let sha256 = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
        assert!(matches!(read_back(&staged, &sha256("sent")).await, Err(BackupError::Differs)));
        read_back(&staged, &sha256("stored")).await.unwrap();
    }
}
