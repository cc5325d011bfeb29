//! Who is told besides the conversation: those who may approve, directly; the requester, when it is over; and whoever waits too long,
//! once more. What is told directly is a copy of the card, kept up and sent again like any other.

use super::Workflow;
use super::card::heading;
use crate::audit::EventDetails;
use crate::model::{CardKind, Conversation, EventKind, Run, RunState};
use crate::store::{AppendOutcome, Filter, StoreResult};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What a webhook is told of.
pub(super) const WAITING: &str = "waiting";
const STILL_WAITING: &str = "still_waiting";
pub(super) const ALONE: &str = "acted_alone";

impl Workflow {
    /// Tells the team's webhook, if it has one. In the background.
    pub(super) fn page(self: &Arc<Self>, run: &Run, event: &'static str) {
        if self.app.webhook.is_none() {
            return;
        }
        let (flow, what) = (Arc::clone(self), self.paged(run, event));
        self.after.spawn(async move {
            if let Some(pager) = &flow.app.webhook {
                pager.notify(&what).await;
            }
        });
    }

    /// What a webhook is told: who asked what of which environment, and who can decide. No query, no row.
    fn paged(&self, run: &Run, event: &str) -> Value {
        let heading = heading(self, run);
        let environment = heading.environment.as_ref();
        let people: Vec<String> = self.still_called(run).into_iter().map(|person| person.id).collect();
        let requester = &run.request.requester.id;
        let place = environment.map_or(String::new(), |environment| format!(" on {}", environment.name));
        let text = match event {
            ALONE => {
                format!("{requester} ran {}{place} without approval (#{}).", heading.asked, run.id)
            }
            _ => format!(
                "{requester} requested {}{place} (#{}): {} can approve it.",
                heading.asked,
                run.id,
                people.join(", ")
            ),
        };
        json!({
            "event": event,
            "run": run.id,
            "asked": heading.asked,
            "environment": environment.map(|environment| &environment.name),
            "production": environment.is_some_and(|environment| environment.production),
            "requester": requester,
            "reason": run.text("reason"),
            "people": people,
            "until": run.deadline.map(|deadline| deadline.to_string()),
            "text": text,
        })
    }

    /// Tells once more who could approve what waits. The event is written first, so that of several replicas one does.
    pub(super) async fn remind(self: &Arc<Self>) -> StoreResult<()> {
        let filter = Filter { states: vec![RunState::Pending], limit: usize::MAX, ..Filter::default() };
        for run in self.app.audit.store.list(filter).await?.runs {
            if !is_due(&run, self.app.config.approval.remind_after, Timestamp::now()) {
                continue;
            }
            let reminded = self.app.audit.append(&run, EventKind::Reminded, EventDetails::default()).await?;
            if let AppendOutcome::Done(run) = reminded {
                self.page(&run, STILL_WAITING);
                self.call_again(&run).await?;
            }
        }
        Ok(())
    }

    /// Below every card, since an edit of the card would ring no bell.
    async fn call_again(self: &Arc<Self>, run: &Run) -> StoreResult<()> {
        let cards = self.app.audit.store.cards_of(run.id).await?;
        let cards = cards.iter().filter(|card| card.kind == CardKind::Primary && !card.abandoned);
        for (card, message) in cards.filter_map(|card| Some((card, card.message.as_ref()?))) {
            let thread = card.place.thread.clone().or_else(|| Some(message.clone()));
            let place = Conversation { thread, ..card.place.clone() };
            self.app.audit.store.add_card(run.id, place, CardKind::Reminder).await?;
        }
        self.refresh_soon(run.id);
        Ok(())
    }
}

/// After the given time, and after three times as long; never once the request's own time is over.
fn is_due(run: &Run, after: Duration, now: Timestamp) -> bool {
    let reminded = run.events.iter().filter(|event| event.kind == EventKind::Reminded).count();
    let next = match reminded {
        0 => after,
        1 => after * 3,
        _ => return false,
    };
    let due = run.opened_at.checked_add(next);
    due.is_ok_and(|due| due <= now) && run.deadline.is_none_or(|deadline| now < deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the configuration has it, unless it says otherwise.
    const AFTER: Duration = Duration::from_secs(300);
    const MINUTE: i64 = 60;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Asked at 0:00, called for again so many times since.
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
