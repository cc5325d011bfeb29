//! A store whose calls are timed and counted, and the ends of runs with them.

use super::{
    Append, AppendOutcome, Binding, ChainReport, EventRow, Figure, Filter, FreezeChange, NewRun, OpenOutcome,
    RunPage, Store, StoreError, StoreResult, StoreStatus, WatchState,
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

/// The methods are only timed, but for the first, which does more.
macro_rules! timed {
    (
        fn append_if_unchanged($($append:tt)*) -> $outcome:ty;
        $(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*
    ) => {
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

super::store_methods!(timed);
