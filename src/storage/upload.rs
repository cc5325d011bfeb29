//! One object on its way into the storage: written in parts, checked, published.

use super::{Key, Storage, StorageError, StorageResult, UNCHECKED};
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

/// Azure takes 50,000 blocks an object, so an object may have 390 GiB; S3 wants at least 5 MiB a part.
const PART_BYTES: usize = 8 << 20;

/// Parts being stored while the next is gathered. With it memory is at most three parts, however large the object.
const PARTS_IN_FLIGHT: usize = 2;

/// An object being written. Dropping it aborts it.
pub struct Upload {
    /// What it becomes.
    staged: Staged,
    parts: Box<dyn MultipartUpload>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    in_flight: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub(super) async fn begin(storage: &Storage, key: &Key) -> StorageResult<Upload> {
        // The key is encoded already, and the ending needs no encoding.
        let unchecked = Key::parse(format!("{key}{UNCHECKED}")).map_err(object_store::Error::from)?;
        Ok(Upload {
            parts: storage.objects.put_multipart(&unchecked).await?,
            staged: Staged { storage: storage.clone(), key: key.clone(), unchecked, settled: true },
            gathered: Vec::new(),
            gathered_bytes: 0,
            in_flight: JoinSet::new(),
        })
    }

    /// Appends. Waits when the storage is slower than the writer.
    ///
    /// # Errors
    /// [`StorageError`], also of earlier bytes: then abort.
    pub async fn write(&mut self, bytes: Bytes) -> StorageResult<()> {
        self.gathered_bytes += bytes.len();
        self.gathered.push(bytes);
        if self.gathered_bytes >= PART_BYTES { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> StorageResult<()> {
        while self.in_flight.len() >= PARTS_IN_FLIGHT {
            self.landed().await?;
        }
        self.gathered_bytes = 0;
        let part: PutPayload = std::mem::take(&mut self.gathered).into_iter().collect();
        self.in_flight.spawn(self.parts.put_part(part));
        Ok(())
    }

    async fn landed(&mut self) -> StorageResult<()> {
        match self.in_flight.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(error)) => Err(StorageError::Broken(error.into())),
        }
    }

    /// All is written: the object is whole, and not yet a backup.
    ///
    /// # Errors
    /// [`StorageError`]; nothing of it stays.
    pub async fn finish(mut self) -> StorageResult<Staged> {
        match self.complete().await {
            Ok(()) => {
                self.staged.settled = false;
                Ok(self.staged)
            }
            Err(why) => {
                self.abort().await;
                Err(why)
            }
        }
    }

    async fn complete(&mut self) -> StorageResult<()> {
        if !self.gathered.is_empty() {
            self.send().await?;
        }
        while !self.in_flight.is_empty() {
            self.landed().await?;
        }
        self.parts.complete().await?;
        Ok(())
    }

    /// Gives up: nothing stays. What can't be removed now is never listed, and cleared by the next to come.
    pub async fn abort(mut self) {
        self.in_flight.shutdown().await;
        if let Err(error) = self.parts.abort().await {
            tracing::warn!(%error, "an unfinished upload could not be removed");
        }
    }
}

/// A whole object that nobody sees yet. Dropping it removes it.
pub struct Staged {
    storage: Storage,
    key: Key,
    unchecked: Key,
    /// Published, removed or not yet there: nothing is left to do.
    settled: bool,
}

impl Staged {
    /// Its bytes as the storage gives them back.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn read(&self) -> StorageResult<BoxStream<'static, StorageResult<Bytes>>> {
        self.storage.read(&self.unchecked).await
    }

    /// Puts it under its key. The caller makes keys that are never used twice.
    ///
    /// # Errors
    /// [`StorageError`]; then it is removed.
    pub async fn publish(mut self) -> StorageResult<()> {
        self.storage.objects.rename(&self.unchecked, &self.key).await?;
        self.settled = true;
        Ok(())
    }

    /// Removes it.
    pub async fn discard(mut self) {
        self.settled = true;
        remove(&self.storage, &self.unchecked).await;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let (storage, key) = (self.storage.clone(), self.unchecked.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { remove(&storage, &key).await });
        }
    }
}

async fn remove(storage: &Storage, key: &Key) {
    if let Err(error) = storage.delete(key).await {
        tracing::warn!(%error, "an object that was not published could not be removed");
    }
}
