//! Read commands: recorded, run, closed, answered. An audit log that can't be written is a warning here, and only here.

use super::in_flight::CardUpdate;
use super::intent::{Intent, Recipients};
use super::links::{self, Arguments};
use super::next_steps::{NextSteps, retain_buttons};
use super::outbox::Outbox;
use super::replies::Opened;
use super::scheduled_start::SEVERITY;
use crate::actions::{self, Call, Implementation};
use crate::app::App;
use crate::audit::EventDetails;
use crate::error::{Error, Result, contain_panic};
use crate::model::{
    Block, CardKind, Conversation, EventKind, Link, Reply, Run, RunId, Severity, Text, severity_of,
};
use crate::sql::{self, Answer, QueryRequest};
use crate::store::{OpenOutcome, StoreError};
use crate::telemetry::run_span;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Instrument, Span};

/// A read waits this long for the audit log and then continues with a warning: in an incident the answer matters more.
const RECORD_TIMEOUT: Duration = Duration::from_secs(2);

/// Every primary card is edited after the decision, and a platform accepts only so many edits a minute.
const MAX_PRIMARY_CARDS: usize = 10;

enum RecordOutcome {
    As(Box<Run>),
    Unrecorded(String),
    Duplicate,
}

pub(super) struct Queries {
    pub app: Arc<App>,
    pub outbox: Arc<Outbox>,
}

impl Queries {
    /// Answers a read command. `None` if it is answered already, or this delivery was recorded before.
    pub async fn read(&self, intent: &Intent<'_>) -> Result<Option<Reply>> {
        let recorded = self.record(intent).await;
        if let RecordOutcome::Duplicate = recorded {
            return Ok(None);
        }
        let own_run = if let RecordOutcome::As(run) = &recorded { Some(run.id) } else { None };
        let span = own_run.map_or_else(Span::none, |run| run_span(run, &intent.command.name));
        let answer = contain_panic(self.query(intent, own_run)).instrument(span).await;
        let mut heading = intent.heading(&self.app);
        if let RecordOutcome::As(run) = &recorded {
            self.close_in_background(run, &answer);
            heading.run = Some(run.id);
        }
        let mut answer = answer?;
        let row_links = links::of_rows(&self.app, &answer.button_purposes);
        let next_steps = &self.outbox.next_steps;
        next_steps.drop_forbidden(&intent.person, &mut answer);
        if !next_steps
            .store_offers(&intent.incoming.conversation, std::mem::take(&mut answer.button_purposes))
            .await
        {
            retain_buttons(&mut answer.blocks, &|_| false);
        }
        let mut reply = Reply::new(heading);
        reply.blocks = answer.blocks;
        reply.coverage = answer.coverage;
        if let RecordOutcome::Unrecorded(reason) = recorded {
            let warning = format!(
                "Not in the audit log: {reason}. Until the audit log works again, commands that change something are refused."
            );
            reply = reply.with(Block::Note(Text::new().strong("Warning: ").plain(warning)));
        }
        next_steps.add_to_answer(intent.incoming, intent.command, &mut reply).await;
        let mut links = self.links(intent, answer.run.as_deref()).await;
        for link in row_links {
            if links.iter().all(|known| known.url != link.url) {
                links.push(link);
            }
        }
        reply.blocks.extend(links::block(links));
        let is_private = intent.private || answer.private;
        let reply = if is_private { reply.ephemeral() } else { reply };
        match answer.card.filter(|_| !is_private) {
            Some(run) => {
                self.outbox.answer(intent.incoming, reply).await;
                self.post_again(run, &intent.incoming.conversation).await;
                Ok(None)
            }
            None => Ok(Some(reply)),
        }
    }

    /// Runs a read command of the schedule, recorded first or not at all. An answer that isn't all well is kept in the record, for the
    /// card of the outcome.
    pub async fn read_start(&self, intent: &Intent<'_>, recipients: Recipients) -> Opened {
        let run = match self.app.audit.open(intent.new_run(&self.app, None, recipients)).await {
            Ok(OpenOutcome::New(run)) => run,
            Ok(_) => return Opened::Duplicate,
            Err(error) => return Opened::Unrecorded(error),
        };
        let answer = contain_panic(self.query(intent, Some(run.id))).await;
        let (kind, details) = start_details(&self.outbox.next_steps, intent, answer).await;
        let run = self.app.audit.close(&run, kind, details).await;
        self.outbox.update_cards(run.id).await;
        Opened::New(Box::new(run))
    }

    /// The links of what the line names, and of the run that the answer is about.
    async fn links(&self, intent: &Intent<'_>, run: Option<&Run>) -> Vec<Link> {
        let environment = intent.environment.as_deref();
        let arguments = Arguments { command: &intent.command.name, environment, values: &intent.values };
        let mut found = links::of_arguments(&self.app, &arguments);
        if let Some(run) = run {
            let conversation = &intent.incoming.conversation;
            found.extend(links::of_card(&self.app, &self.outbox.platforms, run, conversation).await);
            found.extend(links::of_run(&self.app, run));
        }
        found
    }

    /// Posts the card of a pending request once more, where it may be posted.
    async fn post_again(&self, run: RunId, conversation: &Conversation) {
        let Ok(cards) = self.app.audit.store.run_cards(run).await else { return };
        let cards = cards.iter().filter(|card| card.kind == CardKind::Primary).count();
        if cards >= MAX_PRIMARY_CARDS
            || self.outbox.platforms.require_card_conversation(conversation).await.is_err()
        {
            return;
        }
        match self.app.audit.store.add_card(run, conversation.clone(), CardKind::Primary).await {
            Ok(card) => self.outbox.deliver(card, CardUpdate::IfOutdated).await,
            Err(error) => tracing::warn!(run, %error, "posting card again failed"),
        }
    }

    async fn record(&self, intent: &Intent<'_>) -> RecordOutcome {
        let new_run = intent.new_run(&self.app, None, Recipients::default());
        match tokio::time::timeout(RECORD_TIMEOUT, self.app.audit.open(new_run)).await {
            Ok(Ok(OpenOutcome::New(run))) => RecordOutcome::As(run),
            Ok(Ok(OpenOutcome::Duplicate(run))) => {
                tracing::info!(run, "dropped recorded delivery");
                RecordOutcome::Duplicate
            }
            Ok(Ok(_)) => RecordOutcome::Unrecorded("the audit log refused it".to_owned()),
            Ok(Err(error)) => RecordOutcome::Unrecorded(error.to_string()),
            Err(_) => RecordOutcome::Unrecorded(StoreError::TooLate.to_string()),
        }
    }

    /// Asks the servers.
    ///
    /// # Errors
    /// The command can't be carried out, or no server is there to ask.
    pub async fn query(&self, intent: &Intent<'_>, own_run: Option<RunId>) -> Result<Answer> {
        if let Some(Implementation::Query(query)) = actions::find(intent.command) {
            let call = Call { run: own_run, ..intent.call(&self.app) };
            return query(&call).await.map(redacted);
        }
        let environment = intent.environment.as_deref();
        let environment = environment.ok_or_else(|| Error::user("Which environment?"))?;
        let application_name = &intent.asker();
        let Intent { command, values, .. } = intent;
        let request = QueryRequest { command, environment, values, application_name };
        let sections = actions::run_sql_query(&self.app, &request).await?;
        let answer = sql::present(intent.command, &self.app.catalog, environment, &sections);
        // A custom command's values are redacted where they are read, except for those of its plain columns.
        Ok(if intent.command.custom { answer } else { redacted(answer) })
    }

    /// Closes the run in the background: the answer doesn't wait for it.
    fn close_in_background(&self, run: &Run, answer: &Result<Answer>) {
        let kind = outcome_kind(answer);
        let details = EventDetails::default().with_text("verdict", verdict_or_error(answer));
        let (audit, run) = (self.app.audit.clone(), run.clone());
        self.outbox.background.spawn(async move { audit.close(&run, kind, details).await });
    }
}

/// The end of a scheduled read: with its answer, unless that is all well. The buttons of its rows work in the window's channel.
pub(super) async fn start_details(
    next_steps: &NextSteps,
    intent: &Intent<'_>,
    mut answer: Result<Answer>,
) -> (EventKind, EventDetails) {
    let (kind, text) = (outcome_kind(&answer), verdict_or_error(&answer));
    let details = EventDetails::default().with_text("verdict", text.clone());
    let severity = answer.as_ref().map_or(Severity::Neutral, |answer| severity_of(&answer.blocks));
    if kind == EventKind::Succeeded && severity < Severity::Warning {
        return (kind, details);
    }
    let (mut blocks, purposes) = match &mut answer {
        Ok(answer) => (std::mem::take(&mut answer.blocks), std::mem::take(&mut answer.button_purposes)),
        Err(_) => Default::default(),
    };
    let conversation = &intent.incoming.conversation;
    if !conversation.platform.is_chat() || !next_steps.store_offers(conversation, purposes).await {
        retain_buttons(&mut blocks, &|_| false);
    }
    let is_verdict = |block: &Block| matches!(block, Block::Verdict { .. });
    let first = blocks.iter().position(is_verdict).map(|index| blocks.remove(index));
    let verdict = match first {
        Some(Block::Verdict { text, .. }) => text,
        _ => text.into(),
    };
    let outcome = serde_json::to_string(&(&verdict, &blocks)).unwrap_or_default();
    (kind, details.with_text("outcome", outcome).with_fact(SEVERITY, &severity))
}

fn outcome_kind(answer: &Result<Answer>) -> EventKind {
    answer.as_ref().map_or(EventKind::Failed, |answer| answer.coverage.outcome())
}

fn verdict_or_error(answer: &Result<Answer>) -> String {
    match answer {
        Ok(answer) => verdict(answer),
        Err(error) => crate::redact::text(&error.to_string()),
    }
}

/// An answer without secrets in the names that clients and owners chose.
fn redacted(mut answer: Answer) -> Answer {
    actions::redact_blocks(&mut answer.blocks);
    answer
}

fn verdict(answer: &Answer) -> String {
    let verdict = answer.blocks.iter().find_map(|block| match block {
        Block::Verdict { severity: Severity::Critical, text } => Some(format!("critical: {}", text.words())),
        Block::Verdict { severity: Severity::Warning, text } => Some(format!("warning: {}", text.words())),
        Block::Verdict { text, .. } => Some(text.words()),
        _ => None,
    });
    verdict.unwrap_or_default()
}
