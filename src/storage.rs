//! Backups as objects, over the `object_store` crate: callers don't know whether it is a directory or a blob container.
//!
//! An object passes three stages: uploading (the store's own staging, never listed), whole but not yet verified (its name ends in
//! `.part`), and published under its key. A process that died leaves objects in the first two only;
//! [`Storage::clear_unfinished`] removes them. This module doesn't know what the objects contain.

use crate::config::BackupSettings;
use crate::files;
use anyhow::Context;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, WriteMultipart};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use object_store::path::Path as Key;

/// Size of a part. Azure allows 50,000 blocks an object, so an object may have 390 GiB; S3 requires at least 5 MiB a part.
const PART_BYTES: usize = 8 << 20;

/// Parts in memory, each being uploaded or filled, however large the object is.
const MAX_PARTS: usize = 3;

/// Suffix of an object that is whole but not yet verified.
const UNVERIFIED_SUFFIX: &str = ".part";

/// Age at which an unfinished object counts as a dead process' at start: another process may share the storage, and neither
/// writing a part nor reading a dump back takes a day.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

const RANGE_BYTES: usize = 1 << 20;

/// Ranges read ahead. They bound the memory, however large the object is.
const RANGES_IN_FLIGHT: usize = 2;

/// Errors of the storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the backup storage is full")]
    Full,
    #[error("the object is not in the backup storage")]
    Missing,
    #[error("the backup storage already has an object of that name")]
    Exists,
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

/// The storage of backups.
#[derive(Debug, Clone)]
pub struct Storage {
    objects: Arc<dyn ObjectStore>,
    /// The directory, where it is one: unfinished uploads can't be seen through the object store.
    directory: Option<PathBuf>,
}

impl Storage {
    /// Opens the configured directory and creates it if necessary. Published objects survive a power failure, and no other account
    /// may read them.
    pub fn open(backups: &BackupSettings) -> anyhow::Result<Storage> {
        let directory = &backups.directory;
        let opened = files::create_directory(directory).map_err(anyhow::Error::from).and_then(|()| {
            Ok(LocalFileSystem::new_with_prefix(directory)?.with_fsync(true).with_automatic_cleanup(true))
        });
        let objects = opened.with_context(|| format!("opening the backups in {}", directory.display()))?;
        Ok(Storage { objects: Arc::new(objects), directory: Some(directory.clone()) })
    }

    /// Uses the given object store.
    pub fn with_object_store(objects: Arc<dyn ObjectStore>) -> Storage {
        Storage { objects, directory: None }
    }

    /// Begins an object, unless the key is taken. It is not visible under its key until [`StagedObject::publish`]; dropped half-way, it is
    /// removed.
    pub async fn begin(&self, key: &Key) -> StorageResult<ObjectUpload> {
        match self.objects.head(key).await {
            Err(object_store::Error::NotFound { .. }) => {}
            Ok(_) => return Err(StorageError::Exists),
            Err(error) => return Err(error.into()),
        }
        // The key is encoded already, and the ending needs no encoding.
        let staged_key =
            Key::parse(format!("{key}{UNVERIFIED_SUFFIX}")).map_err(object_store::Error::from)?;
        self.create_directory_of(&staged_key)?;
        let parts = self.objects.put_multipart(&staged_key).await?;
        Ok(ObjectUpload {
            parts: WriteMultipart::new_with_chunk_size(parts, PART_BYTES),
            staged: StagedObject { storage: self.clone(), key: key.clone(), staged_key, keep_on_drop: true },
        })
    }

    /// Writes a small object atomically.
    pub async fn put(&self, key: &Key, content: Bytes) -> StorageResult<()> {
        self.create_directory_of(key)?;
        self.objects.put(key, content.into()).await?;
        self.restrict(key)
    }

    /// Makes the directory of an object: the object store would leave its mode to the process.
    fn create_directory_of(&self, key: &Key) -> StorageResult<()> {
        let path = self.path_of(key);
        let directory = path.as_deref().and_then(Path::parent);
        directory.map_or(Ok(()), files::create_directory).map_err(|error| local_error(error).into())
    }

    /// Keeps other accounts out of an object.
    fn restrict(&self, key: &Key) -> StorageResult<()> {
        let path = self.path_of(key);
        path.as_deref().map_or(Ok(()), files::restrict).map_err(|error| local_error(error).into())
    }

    /// Path of an object, or of the directory that a prefix names.
    fn path_of(&self, key: &Key) -> Option<PathBuf> {
        let directory = self.directory.clone()?;
        Some(key.parts().fold(directory, |path, part| path.join(part.as_ref())))
    }

    /// Streams an object's bytes, in ranges of its own: the crate reads a local file in pieces of 8 KiB, each in another thread.
    pub async fn read(&self, key: &Key) -> StorageResult<BoxStream<'static, StorageResult<Bytes>>> {
        let end = self.objects.head(key).await?.size;
        let (objects, key) = (Arc::clone(&self.objects), key.clone());
        let range = move |from: u64| {
            let (objects, key) = (Arc::clone(&objects), key.clone());
            async move { Ok(objects.get_range(&key, from..end.min(from + RANGE_BYTES as u64)).await?) }
        };
        let ranges = futures::stream::iter((0..end).step_by(RANGE_BYTES)).map(range);
        Ok(ranges.buffered(RANGES_IN_FLIGHT).boxed())
    }

    /// A small object, whole.
    pub async fn get(&self, key: &Key) -> StorageResult<Bytes> {
        Ok(self.objects.get(key).await?.bytes().await?)
    }

    /// The published objects below a prefix, by key.
    pub async fn list(&self, prefix: &Key) -> StorageResult<Vec<ObjectMeta>> {
        // The object store lists a missing directory as empty: an unmounted disk would look like no backups.
        if let Some(directory) = &self.directory
            && let Err(error) = tokio::fs::read_dir(directory).await
        {
            return Err(local_error(error).into());
        }
        let mut objects: Vec<ObjectMeta> = self.objects.list(Some(prefix)).try_collect().await?;
        objects.retain(|object| !is_unverified(object));
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(objects)
    }

    /// Deletes an object, published or not.
    pub async fn delete(&self, key: &Key) -> StorageResult<()> {
        Ok(self.objects.delete(key).await?)
    }

    /// Removes the unfinished objects of dead processes. Called at start. Returns their number.
    pub async fn clear_abandoned(&self) -> StorageResult<usize> {
        self.clear(&Key::default(), ABANDONED_AFTER).await
    }

    /// Removes all unfinished objects below a prefix. The caller holds the lock on it, as a backup does on its database's.
    pub async fn clear_unfinished(&self, prefix: &Key) -> StorageResult<usize> {
        self.clear(prefix, Duration::ZERO).await
    }

    async fn clear(&self, prefix: &Key, min_age: Duration) -> StorageResult<usize> {
        let cutoff = SystemTime::now() - min_age;
        let mut objects: Vec<ObjectMeta> = self.objects.list(Some(prefix)).try_collect().await?;
        objects.retain(|object| is_unverified(object) && SystemTime::from(object.last_modified) <= cutoff);
        for object in &objects {
            self.objects.delete(&object.location).await?;
        }
        let cleared = objects.len();
        let Some(directory) = self.path_of(prefix) else { return Ok(cleared) };
        let removed = tokio::task::spawn_blocking(move || remove_uploads(&directory, cutoff)).await;
        Ok(cleared + removed.unwrap_or_default())
    }
}

/// An error of the directory, as the object store reports its own.
fn local_error(error: std::io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "local", source: Box::new(error) }
}

fn is_unverified(object: &ObjectMeta) -> bool {
    object.location.as_ref().ends_with(UNVERIFIED_SUFFIX)
}

/// Removes the files of unfinished uploads: `object_store` names them after their object with `#` and a number, and hides them.
/// A file that can't be removed is left for the next time.
fn remove_uploads(directory: &Path, cutoff: SystemTime) -> usize {
    let mut removed = 0;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let number = name.rsplit_once('#').map_or("", |(_, number)| number);
        let is_upload = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => removed += remove_uploads(&path, cutoff),
            Ok(meta) if is_upload && meta.modified().is_ok_and(|modified| modified <= cutoff) => {
                removed += usize::from(std::fs::remove_file(&path).is_ok());
            }
            _ => {}
        }
    }
    removed
}

/// An object being written. Dropping it aborts it.
pub struct ObjectUpload {
    staged: StagedObject,
    parts: WriteMultipart,
}

impl ObjectUpload {
    /// Appends. Waits when the storage is slower than the writer. An error can be of earlier bytes, too: then abort.
    pub async fn write(&mut self, bytes: Bytes) -> StorageResult<()> {
        self.parts.wait_for_capacity(MAX_PARTS).await?;
        self.parts.put(bytes);
        Ok(())
    }

    /// Completes the object, not yet under its key. After an error it is removed.
    pub async fn finish(mut self) -> StorageResult<StagedObject> {
        self.parts.finish().await?;
        self.staged.keep_on_drop = false;
        self.staged.storage.restrict(&self.staged.staged_key)?;
        Ok(self.staged)
    }

    /// Removes the object. If that fails, the leftover is never listed, and the next backup removes it.
    pub async fn abort(self) {
        if let Err(error) = self.parts.abort().await {
            tracing::warn!(%error, "removing an unfinished upload failed");
        }
    }
}

/// A whole object that is not visible yet. Dropping it removes it.
pub struct StagedObject {
    storage: Storage,
    key: Key,
    staged_key: Key,
    /// Published, removed or not yet complete: dropping it removes nothing.
    keep_on_drop: bool,
}

impl StagedObject {
    /// Streams the bytes back from the storage.
    pub async fn read(&self) -> StorageResult<BoxStream<'static, StorageResult<Bytes>>> {
        self.storage.read(&self.staged_key).await
    }

    /// Moves it to its key, or removes it after an error. The caller never uses a key twice.
    pub async fn publish(mut self) -> StorageResult<()> {
        self.storage.objects.rename(&self.staged_key, &self.key).await?;
        self.keep_on_drop = true;
        Ok(())
    }

    /// Removes it.
    pub async fn discard(mut self) {
        self.keep_on_drop = true;
        remove(&self.storage, &self.staged_key).await;
    }
}

impl Drop for StagedObject {
    fn drop(&mut self) {
        if self.keep_on_drop {
            return;
        }
        let (storage, key) = (self.storage.clone(), self.staged_key.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { remove(&storage, &key).await });
        }
    }
}

async fn remove(storage: &Storage, key: &Key) {
    if let Err(error) = storage.delete(key).await {
        tracing::warn!(%error, "removing an unverified object failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use std::os::unix::fs::PermissionsExt;

    const BYTES: &[u8] = b"all of it";

    fn open_storage() -> (tempfile::TempDir, Storage) {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("created/on demand");
        let backups = BackupSettings { directory: target, tools: Vec::new(), search_path: Vec::new() };
        let storage = Storage::open(&backups).unwrap();
        (directory, storage)
    }

    async fn keys(storage: &Storage) -> Vec<String> {
        let objects = storage.list(&Key::default()).await.unwrap();
        objects.into_iter().map(|object| object.location.to_string()).collect()
    }

    async fn check_publish_and_discard(storage: &Storage) {
        let key = Key::from_iter(["staging", "odd/name", "1.dump"]);
        let mut upload = storage.begin(&key).await.unwrap();
        upload.write(Bytes::from_static(BYTES)).await.unwrap();
        assert!(keys(storage).await.is_empty());
        let staged = upload.finish().await.unwrap();
        assert!(keys(storage).await.is_empty(), "whole, but not published");
        let read: Vec<Bytes> = staged.read().await.unwrap().try_collect().await.unwrap();
        assert_eq!(read.concat(), BYTES);
        staged.publish().await.unwrap();
        assert_eq!(keys(storage).await, [key.to_string()]);
        assert_eq!(storage.objects.head(&key).await.unwrap().size, BYTES.len() as u64);

        assert!(matches!(storage.begin(&key).await.err(), Some(StorageError::Exists)));

        let other = Key::from("staging/2.dump");
        storage.begin(&other).await.unwrap().abort().await;
        storage.begin(&other).await.unwrap().finish().await.unwrap().discard().await;
        assert_eq!(keys(storage).await, [key.to_string()]);
        assert_eq!(storage.clear_unfinished(&Key::default()).await.unwrap(), 0, "nothing was left");
        storage.delete(&key).await.unwrap();
        assert!(matches!(storage.get(&key).await, Err(StorageError::Missing)));
    }

    #[tokio::test]
    async fn a_directory_shows_published_objects_alone() {
        let (_directory, storage) = open_storage();
        check_publish_and_discard(&storage).await;
    }

    #[tokio::test]
    async fn any_store_shows_published_objects_alone() {
        check_publish_and_discard(&Storage::with_object_store(Arc::new(InMemory::new()))).await;
    }

    #[tokio::test]
    async fn only_the_owner_may_read_a_directory_and_its_objects() {
        let (directory, storage) = open_storage();
        let key = Key::from_iter(["staging", "asset_service_db", "1.dump"]);
        storage.begin(&key).await.unwrap().finish().await.unwrap().publish().await.unwrap();
        storage.put(&Key::from("staging/1.json"), Bytes::from_static(BYTES)).await.unwrap();
        let mode = |name: &str| {
            let path = directory.path().join("created").join(name);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        let directories = ["", "on demand", "on demand/staging", "on demand/staging/asset_service_db"];
        assert_eq!(directories.map(mode), [0o700; 4]);
        let files = ["on demand/staging/asset_service_db/1.dump", "on demand/staging/1.json"];
        assert_eq!(files.map(mode), [0o600; 2]);
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_not_empty() {
        let (directory, storage) = open_storage();
        assert!(keys(&storage).await.is_empty());
        std::fs::remove_dir_all(directory.path().join("created")).unwrap();
        let listed = storage.list(&Key::default()).await;
        assert!(matches!(listed, Err(StorageError::Broken(_))), "{listed:?}");
    }

    #[tokio::test]
    async fn an_object_of_many_parts_is_whole() {
        let (_directory, storage) = open_storage();
        let key = Key::from("large");
        let mut upload = storage.begin(&key).await.unwrap();
        let mut expected = Vec::new();
        for n in 0..23_u8 {
            let chunk = vec![n; (1 << 20) + usize::from(n)];
            expected.extend_from_slice(&chunk);
            upload.write(chunk.into()).await.unwrap();
        }
        upload.finish().await.unwrap().publish().await.unwrap();
        assert!(storage.get(&key).await.unwrap() == expected, "other bytes");
        let read: Vec<Bytes> = storage.read(&key).await.unwrap().try_collect().await.unwrap();
        assert!(read.len() > 2 && read.concat() == expected, "other bytes, or all at once");
    }

    #[tokio::test]
    async fn only_what_was_left_long_ago_is_abandoned() {
        let (_directory, storage) = open_storage();
        let directory = storage.directory.clone().unwrap();
        let long_ago = SystemTime::now() - ABANDONED_AFTER - Duration::from_secs(60);
        let create = |name| std::fs::File::create(directory.join(name)).unwrap();
        for name in ["old.dump.part", "old.dump.part#1", "old.manifest.json#2", "old.dump", "old#not"] {
            create(name).set_modified(long_ago).unwrap();
        }
        for name in ["young.dump.part", "young.dump.part#1"] {
            create(name);
        }
        let remaining_names = || {
            let entries = std::fs::read_dir(&directory).unwrap().flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(storage.clear_abandoned().await.unwrap(), 3);
        assert_eq!(remaining_names(), ["old#not", "old.dump", "young.dump.part", "young.dump.part#1"]);
        assert_eq!(storage.clear_unfinished(&Key::default()).await.unwrap(), 2);
        assert_eq!(remaining_names(), ["old#not", "old.dump"]);
    }

    #[test]
    fn a_full_disk_is_distinguished_from_a_broken_one() {
        let error = |kind: std::io::ErrorKind| object_store::Error::Generic {
            store: "test",
            source: Box::new(std::io::Error::from(kind)),
        };
        assert!(matches!(error(std::io::ErrorKind::StorageFull).into(), StorageError::Full));
        assert!(matches!(error(std::io::ErrorKind::PermissionDenied).into(), StorageError::Broken(_)));
    }
}
