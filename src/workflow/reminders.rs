//! Reminders of pending requests. Each is a card, kept up to date and retried like any other.

use super::outbox::Outbox;
use super::webhook_notices::{self, STILL_WAITING};
use crate::app::App;
use crate::audit::EventDetails;
use crate::model::{CardKind, EventKind, Run, RunState};
use crate::store::{AppendOutcome, Filter, StoreResult};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Reminders {
    pub app: Arc<App>,
    pub outbox: Arc<Outbox>,
}

impl Reminders {
    /// Reminds the approvers of each request that is due. The event is written first, so that one of several replicas reminds.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn remind(&self) -> StoreResult<()> {
        let filter = Filter { states: vec![RunState::Pending], limit: usize::MAX, ..Filter::default() };
        for run in self.app.audit.store.list(filter).await?.runs {
            if !is_due(&run, self.app.config.approval.remind_after, Timestamp::now()) {
                continue;
            }
            let reminded = self.app.audit.append(&run, EventKind::Reminded, EventDetails::default()).await?;
            if let AppendOutcome::Done(run) = reminded {
                webhook_notices::notify(&self.app, &self.outbox.background, &run, STILL_WAITING);
                self.add_reminders(&run).await?;
            }
        }
        Ok(())
    }

    /// Adds a reminder in the thread of each primary card: an edit of the card would notify nobody.
    async fn add_reminders(&self, run: &Run) -> StoreResult<()> {
        let cards = self.app.audit.store.run_cards(run.id).await?;
        let cards = cards.iter().filter(|card| card.kind == CardKind::Primary && !card.abandoned);
        for thread in cards.filter_map(|card| card.thread()) {
            self.app.audit.store.add_card(run.id, thread, CardKind::Reminder).await?;
        }
        self.outbox.spawn_update(run.id);
        Ok(())
    }
}

/// A reminder is due after the given time, and after three times as long; never after the request's deadline.
fn is_due(run: &Run, after: Duration, now: Timestamp) -> bool {
    let reminded = run.events.iter().filter(|event| event.kind == EventKind::Reminded).count();
    let Some(factor) = [1, 3].get(reminded) else { return false };
    let due = run.opened_at.checked_add(after * *factor);
    due.is_ok_and(|due| due <= now) && run.deadline.is_none_or(|deadline| now < deadline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// The configuration's default.
    const AFTER: Duration = Duration::from_secs(300);
    const MINUTE: i64 = 60;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Requested at 0:00, with so many reminders since.
    fn run(reminded: usize, deadline: Option<i64>) -> Run {
        let asked = Run::example(("kill", Some("production")), second(0), RunState::Pending);
        let asked = asked.with_event(EventKind::Requested, Value::Null);
        let told = (0..reminded).fold(asked, |run, _| run.with_event(EventKind::Reminded, Value::Null));
        Run { deadline: deadline.map(second), ..told }
    }

    #[test]
    fn it_is_due_after_five_minutes_and_after_fifteen_and_then_no_more() {
        let half_an_hour = Some(30 * MINUTE);
        for (reminded, at, due) in [
            (0, 5 * MINUTE - 1, false),
            (0, 5 * MINUTE, true),
            (1, 5 * MINUTE, false),
            (1, 15 * MINUTE - 1, false),
            (1, 15 * MINUTE, true),
            // The bot was away: once at a time.
            (0, 20 * MINUTE, true),
            (2, 15 * MINUTE, false),
            (2, 29 * MINUTE, false),
        ] {
            assert_eq!(is_due(&run(reminded, half_an_hour), AFTER, second(at)), due, "{reminded} at {at} s");
        }
    }

    #[test]
    fn nobody_is_called_once_the_time_is_over() {
        for (deadline, at, due) in [
            (Some(5 * MINUTE), 5 * MINUTE, false),
            (Some(5 * MINUTE + 1), 5 * MINUTE, true),
            (Some(4 * MINUTE), 6 * MINUTE, false),
            (None, 6 * MINUTE, true),
        ] {
            assert_eq!(is_due(&run(0, deadline), AFTER, second(at)), due, "until {deadline:?}, at {at} s");
        }
    }
}
