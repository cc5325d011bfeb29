//! Events as a chat platform delivers them: verified and parsed, nothing decided.

use super::{ChatAccount, Conversation};

/// An event of a chat platform for the workflow.
#[derive(Debug, Clone)]
pub struct IncomingEvent {
    /// The platform's id of this delivery: the same for a redelivery of the same thing.
    pub delivery: String,
    pub sender: ChatAccount,
    pub place: Conversation,
    /// The platform's way to answer this very event (Slack's `response_url`); opaque to everyone else.
    pub handle: Option<AnswerHandle>,
    pub event: Event,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A line was typed: everything behind `/db` or behind the mention.
    Command { line: String },
    /// A button was clicked, on a message with this id.
    Button { token: String, message: String },
    /// A card is looked at, and its client asks what its user is to see of it.
    View { token: String, message: String },
}

/// A short-lived way to answer one event. Secret: whoever holds it can speak as the bot.
#[derive(Clone)]
pub struct AnswerHandle {
    pub url: String,
    /// When the event arrived: Slack's `response_url` lives 30 minutes.
    pub since: jiff::Timestamp,
    /// The answer replaces the card, for its sender only: it has to be the card.
    pub card: bool,
}

impl std::fmt::Debug for AnswerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AnswerHandle(since {})", self.since)
    }
}
