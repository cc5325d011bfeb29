//! A store whose calls are timed and counted, and the ends of runs with them.

use super::{
    Append, AppendOutcome, Binding, ChainReport, EventRow, Filter, FreezeChange, NewRun, OpenOutcome,
    RunPage, Store, StoreError, StoreResult, StoreStatus,
};
use crate::metrics::Metrics;
use crate::model::{ActiveFreeze, ButtonToken, Card, CardKind, Conversation, EventKind, Run, RunId};
use async_trait::async_trait;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A store, and the metrics that its calls are counted in.
pub struct MeasuredStore {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl MeasuredStore {
    pub fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> MeasuredStore {
        MeasuredStore { store, metrics }
    }

    async fn measure<T>(
        &self,
        call: &'static str,
        answer: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<T> {
        let mut timer =
            CallTimer { metrics: &self.metrics, call, started: Instant::now(), failure: Some("abandoned") };
        let result = answer.await;
        timer.failure = result.as_ref().err().map(reason);
        result
    }
}

/// Counts a call when it ends, also one whose caller no longer waits.
struct CallTimer<'a> {
    metrics: &'a Metrics,
    call: &'static str,
    started: Instant,
    failure: Option<&'static str>,
}

impl Drop for CallTimer<'_> {
    fn drop(&mut self) {
        self.metrics.store_called(self.call, self.started.elapsed(), self.failure);
    }
}

/// The reason of a failure as a label.
fn reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::TooLate => "timeout",
        StoreError::Broken(_) => "unusable",
        StoreError::NulCharacter => "nul_character",
        StoreError::InstanceLost => "instance_lost",
    }
}

/// The methods that are only timed; those that do more are written out.
macro_rules! timed {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for MeasuredStore {
            fn postgres_server(&self) -> Option<&str> {
                self.store.postgres_server()
            }

            async fn append_if_unchanged(&self, append: Append) -> StoreResult<AppendOutcome> {
                let kind = append.event.kind;
                let answer = self.store.append_if_unchanged(append);
                let outcome = self.measure("append_if_unchanged", answer).await;
                if let Ok(AppendOutcome::Done(run)) = &outcome
                    && !run.state.is_open()
                    && kind != EventKind::Reviewed
                {
                    self.metrics.run_ended(&run.request.command, kind.as_str());
                }
                outcome
            }

            $(async fn $name(&self, $($argument: $type),*) -> StoreResult<$answer> {
                self.measure(stringify!($name), self.store.$name($($argument),*)).await
            })*
        }
    };
}

timed! {
    fn check_instance() -> ();
    fn now() -> Timestamp;
    fn open(new: NewRun) -> OpenOutcome;
    fn get(run: RunId) -> Option<Run>;
    fn list(filter: Filter) -> RunPage;
    fn events(after: i64, limit: usize) -> Vec<EventRow>;
    fn erase(run: RunId, name: &str) -> usize;
    fn verify() -> ChainReport;
    fn status() -> StoreStatus;
    fn orphans() -> Vec<Run>;
    fn overdue() -> Vec<Run>;
    fn put_tokens(tokens: Vec<ButtonToken>) -> ();
    fn token(token: &str) -> Option<ButtonToken>;
    fn take_token(token: &str) -> bool;
    fn add_card(run: RunId, conversation: Conversation, kind: CardKind) -> i64;
    fn card(id: i64) -> Option<Card>;
    fn claim_card(id: i64, period: Duration) -> bool;
    fn update_card(card: Card) -> bool;
    fn outdated_cards() -> Vec<Card>;
    fn run_cards(run: RunId) -> Vec<Card>;
    fn remove_old_cards(age: Duration) -> usize;
    fn change_freeze(change: FreezeChange) -> bool;
    fn frozen() -> Option<ActiveFreeze>;
    fn set_rate_limit(name: String, until: Timestamp) -> ();
    fn rate_limits() -> Vec<(String, Timestamp)>;
    fn bind_conversation(binding: Binding) -> bool;
    fn conversation_environment(conversation: Conversation) -> Option<String>;
}
