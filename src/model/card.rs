//! Cards: the messages in chat that show a run.

use super::{Conversation, RunId};
use serde::{Deserialize, Serialize};

/// One posted (or still to be posted) copy of a run's card. The card is a function of the run: whenever `shown_version` is behind the
/// run's version, it is rendered and sent again, also after a restart.
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
    /// Given up: the place or the message is gone.
    pub abandoned: bool,
}

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardKind {
    /// The card, in a conversation.
    Primary,
    /// The card once more, told directly to somebody who may approve.
    Direct,
    /// What became of it, told when it is over: an edit of a card rings no bell.
    Outcome,
    /// A word below a card that still waits, said once.
    Reminder,
}

/// A message that stands in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedMessage {
    pub place: Conversation,
    /// Slack's `ts`, Teams' activity id.
    pub message: String,
}
