//! Reads: recorded, run, closed, answered. A record that can't be written is a warning here, and only here.

use super::Workflow;
use super::executor::may_hold_a_card;
use super::intent::Intent;
use crate::actions::{self, Implementation};
use crate::audit::EventDetails;
use crate::error::{Error, Result};
use crate::model::{Block, CardKind, Conversation, EventKind, Reply, Run, RunId, Severity, Text};
use crate::sql::{self, Answer, QueryRequest};
use crate::store::{OpenOutcome, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// A read waits this long for the record and then goes on with a warning: at three in the morning the answer matters more.
const RECORD_WITHIN: Duration = Duration::from_secs(2);

/// Every copy of a card is edited after the decision, and a platform takes only so many edits a minute.
const MOST_COPIES: usize = 10;

enum RecordOutcome {
    As(Box<Run>),
    NotAtAll(String),
    Duplicate,
}

impl Workflow {
    pub(super) async fn read(self: &Arc<Self>, intent: &Intent<'_>) -> Result<Option<Reply>> {
        let recorded = self.record(intent).await;
        if let RecordOutcome::Duplicate = recorded {
            return Ok(None);
        }
        let answered = self.look(intent).await;
        if let RecordOutcome::As(run) = &recorded {
            self.close_read(run, &answered);
        }
        let mut answer = answered?;
        let mut heading = intent.heading(self);
        if let RecordOutcome::As(run) = &recorded {
            heading.run = Some(run.id);
        }
        if !self.keep_offers(intent.incoming, std::mem::take(&mut answer.offers)).await {
            drop_buttons(&mut answer.blocks);
        }
        let mut reply = Reply::new(heading);
        reply.blocks = answer.blocks;
        if let RecordOutcome::NotAtAll(why) = recorded {
            let warning = format!(
                "Not in the audit log: {why}. Until the audit log works again, commands that change something are refused."
            );
            reply = reply.with(Block::Note(Text::new().strong("Warning: ").plain(warning)));
        }
        let reply = if intent.private { reply.privately() } else { reply };
        match answer.card.filter(|_| !intent.private) {
            Some(run) => {
                self.answer(intent.incoming, reply).await;
                self.post_again(run, &intent.incoming.place).await;
                Ok(None)
            }
            None => Ok(Some(reply)),
        }
    }

    /// One more copy of a waiting request's card, where it may stand.
    async fn post_again(self: &Arc<Self>, run: RunId, place: &Conversation) {
        let Some(platform) = self.platform(place.platform) else { return };
        let store = &self.app.audit.store;
        let (Ok(Some(run)), Ok(cards)) = (store.get(run).await, store.cards_of(run).await) else { return };
        let cards = cards.iter().filter(|card| card.kind == CardKind::Primary).count();
        if cards >= MOST_COPIES || may_hold_a_card(&**platform, place).await.is_err() {
            return;
        }
        if let Err(why) = self.post_card(&run, place).await {
            tracing::warn!(run = run.id, %why, "posting card again failed");
        }
    }

    async fn record(&self, intent: &Intent<'_>) -> RecordOutcome {
        let beginning = self.beginning(intent, None);
        match tokio::time::timeout(RECORD_WITHIN, self.app.audit.open(beginning)).await {
            Ok(Ok(OpenOutcome::New(run))) => RecordOutcome::As(run),
            Ok(Ok(OpenOutcome::Duplicate(run))) => {
                tracing::info!(run, "dropped duplicate delivery: already recorded");
                RecordOutcome::Duplicate
            }
            Ok(Ok(_)) => RecordOutcome::NotAtAll("the audit log refused it".to_owned()),
            Ok(Err(why)) => RecordOutcome::NotAtAll(why.to_string()),
            Err(_) => RecordOutcome::NotAtAll(StoreError::TooLate.to_string()),
        }
    }

    async fn look(&self, intent: &Intent<'_>) -> Result<Answer> {
        if let Some(Implementation::Query(look)) = actions::find(intent.command) {
            return look.answer(&self.call(intent)).await;
        }
        let environment = intent.environment.as_deref();
        let environment = environment.ok_or_else(|| Error::user("Which environment?"))?;
        let asker = intent.asker();
        let question =
            QueryRequest { command: intent.command, environment, values: &intent.values, asker: &asker };
        let sections = sql::run(&self.app.environments, &question).await?;
        Ok(sql::present(intent.command, &self.app.catalog, environment, &sections))
    }

    /// In the background: the answer doesn't wait for the record's end.
    fn close_read(self: &Arc<Self>, run: &Run, answered: &Result<Answer>) {
        let (happening, told) = match answered {
            Ok(answer) => (EventKind::Succeeded, EventDetails::default().text("verdict", verdict(answer))),
            Err(error) => (
                EventKind::Failed,
                EventDetails::default().text("verdict", crate::redact::text(&error.to_string())),
            ),
        };
        let (flow, run) = (Arc::clone(self), run.clone());
        self.after.spawn(async move { flow.close(&run, happening, told).await });
    }
}

fn verdict(answer: &Answer) -> String {
    let told = answer.blocks.iter().find_map(|block| match block {
        Block::Verdict { tone, text } => Some(format!("{}{}", mark(*tone), text.words())),
        _ => None,
    });
    told.unwrap_or_default()
}

fn mark(tone: Severity) -> &'static str {
    match tone {
        Severity::Critical => "critical: ",
        Severity::Warning => "warning: ",
        Severity::Neutral | Severity::Ok => "",
    }
}

fn drop_buttons(blocks: &mut Vec<Block>) {
    blocks.retain(|block| !matches!(block, Block::Buttons(_)));
    for block in blocks {
        if let Block::Table(table) = block {
            table.rows.iter_mut().for_each(|row| row.buttons.clear());
        }
    }
}
