//! Backups as objects, over the `object_store` crate: a directory now, a blob container later, and no caller knows which.
//!
//! An object passes three stages: bytes under way (the store's own staging, never listed), whole but not yet checked (its
//! name ends in `.part`), and published under its key. What a process left behind when it died stays in the first two and
//! is removed by [`Storage::clear_unfinished`]. What the objects mean does not live here.

use crate::config::Backups;
use anyhow::Context;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

mod upload;

pub use object_store::path::Path as Key;
pub use upload::{Staged, Upload};

/// The end of the name of an object that is whole but not yet checked.
const UNCHECKED: &str = ".part";

/// At start, what nobody has touched for a day is taken for a dead process' work: another process may share the storage,
/// and nothing writes a part of a dump, or reads one back, for so long.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the storage did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the backup storage is full")]
    Full,
    #[error("it is not in the backup storage")]
    Missing,
    /// The cause names paths: for the log, not for a chat.
    #[error("the backup storage failed")]
    Broken(#[source] object_store::Error),
}

impl From<object_store::Error> for StorageError {
    fn from(error: object_store::Error) -> Self {
        if let object_store::Error::NotFound { .. } = error {
            return StorageError::Missing;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            let kind = inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            if matches!(kind, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)) {
                return StorageError::Full;
            }
            cause = inner.source();
        }
        StorageError::Broken(error)
    }
}

/// `Result` of the storage.
pub type StorageResult<T> = Result<T, StorageError>;

/// A published object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub key: Key,
    pub bytes: u64,
    /// When it was published (UTC).
    pub at: jiff::Timestamp,
}

/// Where the backups are.
#[derive(Debug, Clone)]
pub struct Storage {
    objects: Arc<dyn ObjectStore>,
    /// The directory, where it is one: unfinished uploads can't be seen through the object store.
    directory: Option<PathBuf>,
}

impl Storage {
    /// Opens the configured directory, making it if need be. What is published there survives a power cut.
    ///
    /// # Errors
    /// A directory that can't be made.
    pub fn open(backups: &Backups) -> anyhow::Result<Storage> {
        let directory = &backups.directory;
        let opened = std::fs::create_dir_all(directory).map_err(anyhow::Error::from).and_then(|()| {
            Ok(LocalFileSystem::new_with_prefix(directory)?.with_fsync(true).with_automatic_cleanup(true))
        });
        let objects = opened.with_context(|| format!("opening the backups in {}", directory.display()))?;
        Ok(Storage { objects: Arc::new(objects), directory: Some(directory.clone()) })
    }

    /// Any other object store.
    pub fn over(objects: Arc<dyn ObjectStore>) -> Storage {
        Storage { objects, directory: None }
    }

    /// Begins an object. Until [`Staged::publish`] nothing is seen under its key; dropped half-way, nothing stays.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn begin(&self, key: &Key) -> StorageResult<Upload> {
        Upload::begin(self, key).await
    }

    /// Writes a small object at once: it is there whole or not at all.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn put(&self, key: &Key, content: Bytes) -> StorageResult<()> {
        self.objects.put(key, content.into()).await?;
        Ok(())
    }

    /// An object's bytes, as they come.
    ///
    /// # Errors
    /// [`StorageError::Missing`] and the others.
    pub async fn read(&self, key: &Key) -> StorageResult<BoxStream<'static, StorageResult<Bytes>>> {
        Ok(self.objects.get(key).await?.into_stream().map_err(StorageError::from).boxed())
    }

    /// A small object, whole.
    ///
    /// # Errors
    /// [`StorageError::Missing`] and the others.
    pub async fn get(&self, key: &Key) -> StorageResult<Bytes> {
        Ok(self.objects.get(key).await?.bytes().await?)
    }

    /// # Errors
    /// [`StorageError::Missing`] and the others.
    pub async fn head(&self, key: &Key) -> StorageResult<Stored> {
        stored(self.objects.head(key).await?)
    }

    /// The published objects below a prefix, by key.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn list(&self, prefix: &Key) -> StorageResult<Vec<Stored>> {
        let all: Vec<_> = self.objects.list(Some(prefix)).try_collect().await?;
        let published = all.into_iter().filter(|object| !object.location.as_ref().ends_with(UNCHECKED));
        let mut published = published.map(stored).collect::<StorageResult<Vec<_>>>()?;
        published.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(published)
    }

    /// # Errors
    /// [`StorageError::Missing`] and the others.
    pub async fn delete(&self, key: &Key) -> StorageResult<()> {
        Ok(self.objects.delete(key).await?)
    }

    /// Removes what dead processes left unfinished, anywhere. Called at start. Returns how many there were.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn clear_abandoned(&self) -> StorageResult<usize> {
        self.clear(&Key::default(), ABANDONED).await
    }

    /// Removes whatever is unfinished below a prefix. Only for who holds the prefix alone, as a backup holds its database's.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn clear_unfinished(&self, prefix: &Key) -> StorageResult<usize> {
        self.clear(prefix, Duration::ZERO).await
    }

    async fn clear(&self, prefix: &Key, untouched: Duration) -> StorageResult<usize> {
        let before = SystemTime::now() - untouched;
        let mut cleared = 0;
        let all: Vec<_> = self.objects.list(Some(prefix)).try_collect().await?;
        for object in all.into_iter().filter(|object| object.location.as_ref().ends_with(UNCHECKED)) {
            if SystemTime::from(object.last_modified) <= before {
                self.objects.delete(&object.location).await?;
                cleared += 1;
            }
        }
        let Some(directory) = self.directory.clone() else { return Ok(cleared) };
        let below = prefix.parts().fold(directory, |path, part| path.join(part.as_ref()));
        let removed = tokio::task::spawn_blocking(move || remove_uploads(&below, before)).await;
        Ok(cleared + removed.unwrap_or_default())
    }
}

fn stored(meta: object_store::ObjectMeta) -> StorageResult<Stored> {
    let at = jiff::Timestamp::try_from(SystemTime::from(meta.last_modified)).unwrap_or_default();
    Ok(Stored { key: meta.location, bytes: meta.size, at })
}

/// Removes the files of uploads under way: `object_store` names them after their object with `#` and a number, and hides
/// them. One that can't be removed stays for the next time.
fn remove_uploads(directory: &Path, before: SystemTime) -> usize {
    let mut removed = 0;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => removed += remove_uploads(&path, before),
            Ok(meta) if is_upload(&path) && meta.modified().is_ok_and(|at| at <= before) => {
                removed += usize::from(std::fs::remove_file(&path).is_ok());
            }
            _ => {}
        }
    }
    removed
}

fn is_upload(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((_, number)) = name.rsplit_once('#') else { return false };
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}
