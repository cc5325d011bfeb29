//! The changes of a fake platform's state, which wake its page and whoever waits for something to happen.

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;

/// Generous, since a test that waits this long has failed.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// A count of changes.
#[derive(Default)]
pub(super) struct ChangeCount(watch::Sender<u64>);

impl ChangeCount {
    /// Counts a change, and wakes everyone who waits.
    pub fn notify(&self) {
        self.0.send_modify(|version| *version += 1);
    }

    /// Waits until the condition yields a value; it is asked again after every change.
    pub async fn until<T>(&self, condition: impl Fn() -> Option<T>) -> T {
        let mut changes = self.0.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(value) = condition() {
                return value;
            }
            // The sender lives as long as this handle.
            let _ = changes.changed().await;
        }
    }

    /// As [`ChangeCount::until`], for 30 seconds at most; then the error is the transcript.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        condition: impl Fn() -> Option<T>,
        transcript: impl FnOnce() -> String,
    ) -> Result<T, String> {
        let value = tokio::time::timeout(WAIT_LIMIT, self.until(condition));
        value.await.map_err(|_| format!("timed out waiting for {what}:\n{}", transcript()))
    }

    /// Tells a page at once, and after every change, that it has to ask for what its person sees.
    pub fn events(&self) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let mut receiver = self.0.subscribe();
        receiver.mark_changed();
        let events = stream::unfold(receiver, |mut receiver| async move {
            receiver.changed().await.ok()?;
            let version = *receiver.borrow_and_update();
            Some((Ok(Event::default().data(version.to_string())), receiver))
        });
        Sse::new(events).keep_alive(KeepAlive::default())
    }
}
