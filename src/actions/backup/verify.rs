//! Checking an archive: all of it is read by `pg_restore` while it goes into the storage, and what the storage gives back
//! must have the same SHA-256. (`pg_restore --list` reads the table of contents alone and accepts an archive cut short.)

use super::BackupError;
use super::pg_client::PgClient;
use super::tee;
use super::tools::Tool;
use crate::storage::Staged;
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use std::io::PipeWriter;
use std::process::Stdio;

/// A `pg_restore` that reads an archive as it comes, and writes what it makes of it nowhere.
pub struct ArchiveCheck(PgClient);

impl ArchiveCheck {
    /// Starts it; the archive goes into the pipe, which is closed when it is whole.
    ///
    /// # Errors
    /// [`BackupError::Start`].
    pub fn start(tool: &Tool) -> Result<(ArchiveCheck, PipeWriter), BackupError> {
        let (stdin, archive) = tee::pipe().map_err(BackupError::Pipe)?;
        let mut command = crate::actions::support::subprocess::command(&tool.pg_restore());
        command.args(["--format=custom", "--file=/dev/null"]).stdin(stdin).stdout(Stdio::null());
        Ok((ArchiveCheck(PgClient::start(command)?), archive))
    }

    /// Waits for the verdict.
    ///
    /// # Errors
    /// [`BackupError::Unreadable`].
    pub async fn end(self) -> Result<(), BackupError> {
        self.0.end().await.map_err(BackupError::Unreadable)
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
