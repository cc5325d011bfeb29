//! Cards: the messages in chat that show a run. Their buttons, and the purposes of the buttons' opaque tokens.

use super::{Conversation, FormDraft, Person, RunId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A card of a run, posted or still to be posted. Whenever `shown_version` is behind the run's version, it is rendered and sent
/// again, also after a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    pub id: i64,
    pub run: RunId,
    /// [`Conversation::with`] an account, until the conversation with it is known.
    pub conversation: Conversation,
    /// The platform's id of the message; `None` until it was delivered.
    pub message: Option<String>,
    pub kind: CardKind,
    /// The run's version that it shows.
    pub shown_version: i64,
    /// Given up: the conversation or the message is gone.
    pub abandoned: bool,
}

impl Card {
    /// The thread of its message, or the one that the message is in; `None` until it was delivered.
    pub fn thread(&self) -> Option<Conversation> {
        let message = self.message.as_ref()?;
        let thread = self.conversation.thread.clone().or_else(|| Some(message.clone()));
        Some(Conversation { thread, ..self.conversation.clone() })
    }
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
    /// A message in the thread of a card: that it is still pending, or what has changed in an incident.
    Reminder,
}

/// A message in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedMessage {
    #[serde(rename = "place")]
    pub conversation: Conversation,
    /// Slack's `ts`, Teams' activity id.
    pub message: String,
}

/// A button: a label and an opaque token, whose purpose only the store knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    pub label: String,
    pub token: String,
    pub style: ButtonStyle,
    /// People who see it, where the platform can show each their own view; empty: everyone. It is no permission: every click is
    /// checked.
    pub visible_to: Vec<Person>,
}

impl Button {
    /// For everyone.
    pub fn new(label: impl Into<String>, token: String, style: ButtonStyle) -> Button {
        Button { label: label.into(), token, style, visible_to: Vec::new() }
    }
}

/// A command line as a button's label: "Settings fsync"; with an ellipsis where a form or a request for approval comes first.
pub fn line_label(line: &str, asks_first: bool) -> String {
    let more = if asks_first { "…" } else { "" };
    let mut letters = line.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}{more}", letters.as_str())
}

/// Emphasis of a button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ButtonStyle {
    Plain,
    Primary,
    Danger,
}

/// A button's token: 128 random bits in hex, and the conversation it was posted in.
#[derive(Debug, Clone, PartialEq)]
pub struct ButtonToken {
    pub token: String,
    pub purpose: TokenPurpose,
    pub conversation: Conversation,
}

/// Purpose of a button's token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TokenPurpose {
    /// A decision on a run, on one of its cards.
    Decision {
        run: RunId,
        #[serde(rename = "verdict")]
        decision: Decision,
        card: i64,
    },
    /// A view of one of a run's cards.
    View { run: RunId, card: i64 },
    /// A command to run as the clicker: bound to what the row showed.
    RunCommand { command: String, environment: Option<String>, arguments: BTreeMap<String, String> },
    /// A form to open for the clicker.
    OpenForm { draft: FormDraft },
    /// A form that is open since then (UTC), for the person of that id.
    Form { draft: FormDraft, person: String, opened_at: Timestamp },
}

/// A decision by a card's button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    Approve,
    Deny,
    Withdraw,
}

/// 128 random bits in hex, for a button. `None` if the system has no randomness: then there is no button.
pub fn random_token() -> Option<String> {
    let mut bits = [0_u8; 16];
    getrandom::fill(&mut bits).ok()?;
    Some(hex::encode(bits))
}
