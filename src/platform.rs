//! What `flow` asks of a chat platform.

use crate::model::{ChatAccount, Conversation, IncomingEvent, PlatformKind, PostedMessage, Reply};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What the platform says of an account, right now (or within the last five minutes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    pub standing: Standing,
    /// The workspace that the account belongs to.
    pub workspace: String,
}

/// Whether an account may be listened to at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    Member,
    Guest,
    /// Of another organisation (Slack Connect).
    External,
    Bot,
    Deactivated,
}

/// What the platform says of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationInfo {
    /// Whether the bot can post and edit there.
    pub bot_is_in: bool,
    /// Between one person and the bot: nobody else sees what stands there.
    pub direct: bool,
    /// Shared with another organisation: answers stay private.
    pub shared: bool,
}

/// Why a message did not go out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The bot isn't in that conversation.
    #[error("the bot is not in the conversation")]
    NotThere,
    /// The message to edit is gone, or can't be edited.
    #[error("the message is gone")]
    Gone,
    /// The platform will never accept it: its error code.
    #[error("the platform refused it: {0}")]
    Refused(String),
    /// Down, slow, or too many requests: worth another try.
    #[error("the platform can't be reached: {0}")]
    Unavailable(String),
}

/// Why a reply can't be shown whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    /// "the plan has 14,210 characters; a message holds 12,000".
    pub why: String,
}

/// A chat platform, as `flow` sees it.
#[async_trait]
pub trait Platform: Send + Sync {
    fn name(&self) -> PlatformKind;

    /// Whether this reply can be shown whole, in one message.
    fn fits(&self, reply: &Reply) -> Result<(), TooLarge>;

    /// Answers an event in the quickest way: by its handle while that lives, else by a message of its own; where the bot
    /// isn't in the conversation, to the asker directly.
    async fn answer(&self, to: &IncomingEvent, reply: &Reply) -> Result<(), SendError>;

    /// Posts a message that can be edited later.
    async fn post(&self, place: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError>;

    /// Replaces a message that stands.
    async fn edit(&self, posted: &PostedMessage, reply: &Reply) -> Result<(), SendError>;

    /// Tells one account directly.
    async fn tell(&self, sender: &ChatAccount, reply: &Reply) -> Result<PostedMessage, SendError>;

    /// The conversation with one account alone.
    async fn direct(&self, sender: &ChatAccount) -> Result<Conversation, SendError>;

    /// The account's standing in a place where it spoke, no older than five minutes.
    async fn account(&self, sender: &ChatAccount, place: &Conversation) -> Result<AccountInfo, SendError>;

    /// The account's standing as it is now: for the moment in which something starts.
    async fn account_now(&self, sender: &ChatAccount, place: &Conversation)
    -> Result<AccountInfo, SendError>;

    /// Whether the account is in the group that narrows a role, by a word no older than five minutes; `None` if no group does.
    async fn in_group(&self, _role: &str, _sender: &ChatAccount) -> Result<Option<bool>, SendError> {
        Ok(None)
    }

    /// The workspace of the people that the configuration lists, for those who haven't spoken yet.
    fn home(&self) -> &str;

    /// Where a request stands that was made where no others are, in a terminal; `None` if the configuration names no place.
    fn place_for_others(&self) -> Option<Conversation> {
        None
    }

    /// The conversation's facts, no older than five minutes.
    async fn conversation(&self, place: &Conversation) -> Result<ConversationInfo, SendError>;
}
