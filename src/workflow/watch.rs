//! Looks of the windows that report changes. A look is no run: only the incident that it begins or changes is recorded, and the state of
//! the window is kept outside of the chain.

use super::intent::{Intent, Recipients};
use super::outbox::Outbox;
use super::queries::{Queries, start_details};
use super::webhook_notices;
use crate::app::App;
use crate::audit::EventDetails;
use crate::error::{Result, contain_panic};
use crate::incident::{Incident, IncidentMessage, QuietFinding};
use crate::model::{AnswerFinding, CardKind, EventKind, Run, RunId, Severity, severity_of};
use crate::schedule::EnvironmentWindow;
use crate::sql::Answer;
use crate::store::{AppendOutcome, OpenOutcome, StoreError, StoreResult, WatchState};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A finding that is new is looked at again after this time: what is over by then was no finding.
const CONFIRM_AFTER: Duration = Duration::from_secs(5);

/// Events of an incident's run after which its card is edited once in an interval, unless there is something to tell.
const MAX_PROMPT_EDITS: usize = 30;
const EDIT_INTERVAL: SignedDuration = SignedDuration::from_mins(15);

/// Another replica may still be at the look before.
const PREVIOUS_LOOK_TIMEOUT: Duration = Duration::from_secs(30);
const PREVIOUS_LOOK_POLL: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    pub app: Arc<App>,
    pub queries: Arc<Queries>,
    pub outbox: Arc<Outbox>,
}

/// What a look found.
struct Look {
    answer: Result<Answer>,
    /// What is told: a finding that is new was confirmed by a second look.
    found: Vec<AnswerFinding>,
    /// All that the last look showed.
    seen: Vec<AnswerFinding>,
}

/// The newest incident of a window, as the store keeps it outside of the chain: with what isn't told yet.
#[derive(Debug, Default, Serialize, Deserialize)]
struct WindowContent {
    run: Option<RunId>,
    incident: Incident,
}

impl Watch {
    /// Looks once, unless this look has begun already, here or in another replica, and records what it changes.
    ///
    /// # Errors
    /// When the store can't be used: the next look tells what this one would have told.
    pub async fn look(
        &self,
        window: &EnvironmentWindow,
        intent: &Intent<'_>,
        recipients: Recipients,
        due: Timestamp,
    ) -> StoreResult<()> {
        let store = &*self.app.audit.store;
        let Some(state) = store.begin_look(&window.environment, &window.name, due).await? else {
            return Ok(());
        };
        let state = self.after_previous_look(window, state).await?;
        let (known, run) = self.known_incident(window, &state).await?;
        let mut look = self.find(intent, &known).await;
        let quiet = QuietFinding::all(store, &window.environment, due).await?;
        // What is quiet begins nothing.
        look.found.retain(|finding| known.has(finding) || !quiet.iter().any(|quiet| quiet.is_about(finding)));
        let (mut incident, run) =
            if known.includes(&look.found, due) { (known, run) } else { (Incident::default(), None) };
        incident = incident.after(&look.found, &look.seen, due);
        let message = incident.take_message(due, &quiet);
        let successor = run.as_ref().and_then(|_| incident.successor(&message, due));
        let is_changed = !message.is_empty() || run.as_ref().is_none_or(|run| is_edit_due(run, &incident));
        if is_changed && !self.is_newest(window, due).await? {
            // This process was paused: what it saw is old.
            return Ok(());
        }
        let run = match run {
            None if incident.findings.is_empty() => None,
            Some(old) if let Some(next) = successor => {
                let run = self.open(intent, recipients, look.answer, &next, &message).await?;
                if let Some(run) = &run {
                    self.continue_by(&old, run.id).await?;
                }
                incident = next;
                run
            }
            None => self.open(intent, recipients, look.answer, &incident, &message).await?,
            Some(run) if is_changed => self.append(intent, run, look.answer, &incident, &message).await?,
            unchanged => unchanged,
        };
        if let Some(run) = &run {
            self.add_messages(run).await?;
        }
        let content = WindowContent { run: run.map(|run| run.id), incident };
        let content = serde_json::to_string(&content).unwrap_or_default();
        store.end_look(&window.environment, &window.name, due, content).await.map(drop)
    }

    /// Waits for the look before, which another replica may be at, and returns the state after it.
    async fn after_previous_look(
        &self,
        window: &EnvironmentWindow,
        mut state: WatchState,
    ) -> StoreResult<WatchState> {
        let deadline = Instant::now() + PREVIOUS_LOOK_TIMEOUT;
        while state.is_previous_in_progress() && Instant::now() < deadline {
            tokio::time::sleep(PREVIOUS_LOOK_POLL).await;
            let states = self.app.audit.store.watch_states().await?;
            if let Some(newest) = window.state(&states) {
                state.content_look = newest.content_look;
                state.content.clone_from(&newest.content);
            }
        }
        Ok(state)
    }

    /// True if no later look of the window has begun.
    async fn is_newest(&self, window: &EnvironmentWindow, due: Timestamp) -> StoreResult<bool> {
        let states = self.app.audit.store.watch_states().await?;
        Ok(window.state(&states).is_some_and(|state| state.newest_look == due))
    }

    /// The newest incident of a window, with its run: of the chain, unless later looks that changed nothing are kept outside of it.
    async fn known_incident(
        &self,
        window: &EnvironmentWindow,
        state: &WatchState,
    ) -> StoreResult<(Incident, Option<Run>)> {
        let Some((run, recorded)) = Incident::newest(&*self.app.audit.store, window).await? else {
            return Ok((Incident::default(), None));
        };
        let kept: WindowContent = serde_json::from_str(&state.content).unwrap_or_default();
        let is_newer = kept.run == Some(run.id) && kept.incident.looked_at >= recorded.looked_at;
        Ok((if is_newer { kept.incident } else { recorded }, Some(run)))
    }

    async fn find(&self, intent: &Intent<'_>, known: &Incident) -> Look {
        let mut answer = contain_panic(self.queries.query(intent, None)).await;
        let command = &intent.command.name;
        let mut seen = findings_of(command, &answer);
        let mut found = seen.clone();
        if known.has_news(&found) {
            tokio::time::sleep(CONFIRM_AFTER).await;
            answer = contain_panic(self.queries.query(intent, None)).await;
            seen = findings_of(command, &answer);
            found = known.confirmed(&found, &seen);
        }
        Look { answer, found, seen }
    }

    /// Records an incident that begins. `None` if another replica has.
    async fn open(
        &self,
        intent: &Intent<'_>,
        recipients: Recipients,
        answer: Result<Answer>,
        incident: &Incident,
        message: &IncidentMessage,
    ) -> StoreResult<Option<Run>> {
        let new_run = intent.new_run(&self.app, None, recipients);
        let OpenOutcome::New(run) = self.app.audit.open(new_run).await? else { return Ok(None) };
        let (kind, details) = self.details(intent, answer, incident, message).await;
        let run = self.app.audit.close(&run, kind, details).await;
        self.tell(&run, message).await;
        Ok(Some(run))
    }

    /// Records a change of an incident. `None` if another replica has recorded one meanwhile.
    async fn append(
        &self,
        intent: &Intent<'_>,
        run: Run,
        answer: Result<Answer>,
        incident: &Incident,
        message: &IncidentMessage,
    ) -> StoreResult<Option<Run>> {
        let (_, details) = self.details(intent, answer, incident, message).await;
        let AppendOutcome::Done(run) = self.app.audit.append(&run, EventKind::Updated, details).await? else {
            return Err(StoreError::Broken("another replica looked at the same time".to_owned()));
        };
        self.tell(&run, message).await;
        Ok(Some(*run))
    }

    /// Records that another run has taken over an incident.
    async fn continue_by(&self, run: &Run, next: RunId) -> StoreResult<()> {
        let mut incident = Incident::of(run).unwrap_or_default();
        incident.continued_by = Some(next);
        let details = EventDetails::default().with_fact(Incident::FACT, &incident);
        if let AppendOutcome::Done(run) = self.app.audit.append(run, EventKind::Updated, details).await? {
            self.outbox.update_cards(run.id).await;
        }
        Ok(())
    }

    async fn details(
        &self,
        intent: &Intent<'_>,
        answer: Result<Answer>,
        incident: &Incident,
        message: &IncidentMessage,
    ) -> (EventKind, EventDetails) {
        let (kind, details) = start_details(&self.outbox.next_steps, intent, answer).await;
        (kind, details.with_fact(Incident::FACT, incident).with_fact(IncidentMessage::FACT, message))
    }

    /// Brings the card up to date, and notifies the webhook of what has become critical.
    async fn tell(&self, run: &Run, message: &IncidentMessage) {
        if message.is_critical() {
            webhook_notices::notify_of_incident(&self.app, &self.outbox.background, run, message);
        }
        self.outbox.update_cards(run.id).await;
    }

    /// Adds the messages that the thread of an incident's card lacks, as soon as the card is posted.
    async fn add_messages(&self, run: &Run) -> StoreResult<()> {
        let needed = IncidentMessage::later_of(run).len();
        if needed == 0 {
            return Ok(());
        }
        let store = &self.app.audit.store;
        let cards = store.run_cards(run.id).await?;
        let mut posted = cards.iter().filter(|card| card.kind == CardKind::Outcome && !card.abandoned);
        let Some(thread) = posted.find_map(|card| card.thread()) else { return Ok(()) };
        let there = cards.iter().filter(|card| card.kind == CardKind::Reminder).count();
        for _ in there..needed {
            store.add_card(run.id, thread.clone(), CardKind::Reminder).await?;
        }
        if there < needed {
            self.outbox.spawn_update(run.id);
        }
        Ok(())
    }
}

/// True if the card of a run shows something else than the incident. What flaps for hours is edited less often: each edit is recorded
/// with the whole answer.
fn is_edit_due(run: &Run, incident: &Incident) -> bool {
    let recorded = Incident::of(run).unwrap_or_default();
    let pause = if run.events.len() < MAX_PROMPT_EDITS { SignedDuration::ZERO } else { EDIT_INTERVAL };
    !incident.is_shown_as(&recorded) && incident.looked_at.duration_since(recorded.looked_at) >= pause
}

/// What the answer of a command warns of. A warning without a finding is one itself, called like the command, and so is an error.
fn findings_of(command: &str, answer: &Result<Answer>) -> Vec<AnswerFinding> {
    let whole = |check: &str, severity| {
        let is_gap = check == AnswerFinding::NO_ANSWER;
        AnswerFinding {
            target: String::new(),
            subject: String::new(),
            check: check.to_owned(),
            severity,
            is_gap,
        }
    };
    match answer {
        Ok(answer) if answer.findings.is_empty() => {
            let severity = severity_of(&answer.blocks);
            let warns = severity >= Severity::Warning;
            warns.then(|| whole(command, severity)).into_iter().collect()
        }
        Ok(answer) => answer.findings.clone(),
        Err(_) => vec![whole(AnswerFinding::NO_ANSWER, Severity::Critical)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunState;

    #[test]
    fn a_card_that_was_edited_often_is_edited_once_in_a_quarter_of_an_hour() {
        let finding = AnswerFinding {
            target: "main".to_owned(),
            subject: "locks".to_owned(),
            check: "blocked".to_owned(),
            severity: Severity::Warning,
            is_gap: false,
        };
        let minute = |minute: i64| Timestamp::from_second(60 * minute).unwrap();
        let known = Incident::default().after(std::slice::from_ref(&finding), &[], minute(0));
        let facts = serde_json::json!({ Incident::FACT: known });
        let run = Run::example(("health", Some("production")), minute(0), RunState::Succeeded);
        let critical = [AnswerFinding { severity: Severity::Critical, ..finding }];
        let worse = |at| known.clone().after(&critical, &[], minute(at));
        let edited =
            |times| (0..times).fold(run.clone(), |run, _| run.with_event(EventKind::Updated, facts.clone()));
        assert!(is_edit_due(&edited(MAX_PROMPT_EDITS - 1), &worse(1)));
        assert!(!is_edit_due(&edited(MAX_PROMPT_EDITS), &worse(14)));
        assert!(is_edit_due(&edited(MAX_PROMPT_EDITS), &worse(15)));
        assert!(!is_edit_due(&edited(1), &known));
    }
}
