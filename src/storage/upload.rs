//! An upload into the storage: written in parts, verified, published.

use super::{Key, Storage, StorageError, StorageResult, UNCHECKED_SUFFIX};
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;

/// Size of a part. Azure allows 50,000 blocks an object, so an object may have 390 GiB; S3 requires at least 5 MiB a part.
const PART_BYTES: usize = 8 << 20;

/// Parts uploaded in parallel while the next one fills. Memory is at most three parts, however large the object is.
const PARTS_IN_FLIGHT: usize = 2;

/// An object being written. Dropping it aborts it.
pub struct Upload {
    staged: Staged,
    parts: Box<dyn MultipartUpload>,
    buffered: Vec<Bytes>,
    buffered_bytes: usize,
    in_flight: JoinSet<object_store::Result<()>>,
}

impl Upload {
    pub(super) async fn begin(storage: &Storage, key: &Key) -> StorageResult<Upload> {
        // The key is encoded already, and the ending needs no encoding.
        let unchecked = Key::parse(format!("{key}{UNCHECKED_SUFFIX}")).map_err(object_store::Error::from)?;
        Ok(Upload {
            parts: storage.objects.put_multipart(&unchecked).await?,
            staged: Staged { storage: storage.clone(), key: key.clone(), unchecked, handled: true },
            buffered: Vec::new(),
            buffered_bytes: 0,
            in_flight: JoinSet::new(),
        })
    }

    /// Appends. Waits when the storage is slower than the writer.
    ///
    /// # Errors
    /// [`StorageError`], also of earlier bytes: then abort.
    pub async fn write(&mut self, bytes: Bytes) -> StorageResult<()> {
        self.buffered_bytes += bytes.len();
        self.buffered.push(bytes);
        if self.buffered_bytes >= PART_BYTES { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> StorageResult<()> {
        while self.in_flight.len() >= PARTS_IN_FLIGHT {
            self.join_part().await?;
        }
        self.buffered_bytes = 0;
        let part: PutPayload = std::mem::take(&mut self.buffered).into_iter().collect();
        self.in_flight.spawn(self.parts.put_part(part));
        Ok(())
    }

    async fn join_part(&mut self) -> StorageResult<()> {
        match self.in_flight.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(error)) => Err(StorageError::Broken(error.into())),
        }
    }

    /// Completes the object, not yet under its key.
    ///
    /// # Errors
    /// [`StorageError`]; the object is removed.
    pub async fn finish(mut self) -> StorageResult<Staged> {
        match self.complete().await {
            Ok(()) => {
                self.staged.handled = false;
                Ok(self.staged)
            }
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    async fn complete(&mut self) -> StorageResult<()> {
        if !self.buffered.is_empty() {
            self.send().await?;
        }
        while !self.in_flight.is_empty() {
            self.join_part().await?;
        }
        self.parts.complete().await?;
        Ok(())
    }

    /// Aborts and removes the object. A remainder that can't be removed is never listed, and the next backup clears it.
    pub async fn abort(mut self) {
        self.in_flight.shutdown().await;
        if let Err(error) = self.parts.abort().await {
            tracing::warn!(%error, "removing an unfinished upload failed");
        }
    }
}

/// A whole object that is not visible yet. Dropping it removes it.
pub struct Staged {
    storage: Storage,
    key: Key,
    unchecked: Key,
    /// Published, removed or not yet complete: dropping it does nothing.
    handled: bool,
}

impl Staged {
    /// Streams the bytes back from the storage.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn read(&self) -> StorageResult<BoxStream<'static, StorageResult<Bytes>>> {
        self.storage.read(&self.unchecked).await
    }

    /// Moves it to its key. The caller never uses a key twice.
    ///
    /// # Errors
    /// [`StorageError`]; then it is removed.
    pub async fn publish(mut self) -> StorageResult<()> {
        self.storage.objects.rename(&self.unchecked, &self.key).await?;
        self.handled = true;
        Ok(())
    }

    /// Removes it.
    pub async fn discard(mut self) {
        self.handled = true;
        remove(&self.storage, &self.unchecked).await;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.handled {
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
        tracing::warn!(%error, "removing an unpublished object failed");
    }
}
