//! Cards: the messages in chat that show a run.

use super::{Conversation, RunId};
use serde::{Deserialize, Serialize};

/// A card of a run, posted or still to be posted. Whenever `shown_version` is behind the run's version, it is rendered and sent
/// again, also after a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    pub id: i64,
    pub run: RunId,
    /// [`Conversation::with`] an account, until the conversation with it is known.
    pub place: Conversation,
    /// The platform's id of the message; `None` until it was delivered.
    pub message: Option<String>,
    pub kind: CardKind,
    /// The run's version that it shows.
    pub shown_version: i64,
    /// Given up: the conversation or the message is gone.
    pub abandoned: bool,
}

/// Purpose of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardKind {
    /// The card, in a conversation.
    Primary,
    /// The card, sent directly to an approver.
    Direct,
    /// The outcome, posted at the end: an edit of a card notifies nobody.
    Outcome,
    /// A message in the thread of a card that is still pending.
    Reminder,
}

/// A message in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedMessage {
    pub place: Conversation,
    /// Slack's `ts`, Teams' activity id.
    pub message: String,
}
