//! Events as a chat platform delivers them: verified and parsed, nothing decided.

use super::{ChatAccount, Conversation};

/// What a platform's door hands to `flow`: verified and parsed, nothing decided.
#[derive(Debug, Clone)]
pub struct IncomingEvent {
    /// The platform's id of this delivery: the same for a redelivery of the same thing.
    pub delivery: String,
    pub sender: ChatAccount,
    pub place: Conversation,
    /// How the platform lets us answer this very event (Slack's `response_url`); opaque to everyone but the platform.
    pub handle: Option<AnswerHandle>,
    pub event: Event,
}

/// What happened.
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
    /// What is answered takes the place of the card, for its sender alone: the answer has to be the card.
    pub card: bool,
}

impl std::fmt::Debug for AnswerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AnswerHandle(since {})", self.since)
    }
}
