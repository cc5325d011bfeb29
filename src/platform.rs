//! The interface of a chat platform, as the workflow uses it.

use crate::model::{
    ChatAccount, ChatEvent, Conversation, Form, LinkUrl, Mention, PlatformKind, PostedMessage, Reply,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The platform's report on an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    pub kind: AccountKind,
    /// Every id by which the platform knows the account: an organisation of Slack's gives a person a `U…` and a `W…`.
    pub ids: Vec<String>,
}

/// Age that a report on an account or a chat group may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Five minutes at most.
    Recent,
    /// As it is now, for a decision and for the start of a run.
    Current,
}

/// The kind of an account: only members are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountKind {
    Member,
    Guest,
    /// Of another organisation (Slack Connect).
    External,
    Bot,
    Deactivated,
}

/// The platform's report on a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConversationInfo {
    /// The bot can post and edit there.
    pub is_bot_member: bool,
    /// Between one person and the bot: nobody else sees its messages.
    pub is_direct: bool,
    /// Shared with another organisation: answers are ephemeral.
    pub is_shared: bool,
}

/// The reason that a message was not sent. Each platform's table of codes says which one it is; a code that the table doesn't
/// have is [`SendError::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The event has no such way to be answered.
    #[error("there is no such way")]
    NoRoute,
    /// The bot can't write in that conversation, or to that account: the platform's code.
    #[error("the conversation can't be written to: {0}")]
    ConversationRefused(String),
    /// The thread's first message is gone, or takes no replies.
    #[error("the thread can't be written to: {0}")]
    ThreadRefused(String),
    /// The message to edit is gone, or can't be edited.
    #[error("the message is gone")]
    Gone,
    /// The content is refused as it is; its text alone may pass: the platform's code.
    #[error("the platform refused the content: {0}")]
    ContentRefused(String),
    /// Any other refusal: its code. It may pass, since operators can fix it or the platform recovers.
    #[error("the platform refused it: {0}")]
    Refused(String),
    /// The bot isn't set up for the call, which its operators can fix: the method and the platform's code.
    #[error("not set up: {0}")]
    NotSetUp(String),
    /// The platform asks not to be called for so long.
    #[error("the platform asks to wait for {} s", .0.as_secs())]
    RateLimited(Duration),
    /// Down or slow: worth a retry.
    #[error("the platform can't be reached: {0}")]
    Unavailable(String),
    /// Countersign itself never sends it, for that reason.
    #[error("it is never sent: {0}")]
    Unsendable(String),
}

impl SendError {
    /// True if the platform didn't judge the message: the same call may pass a moment later.
    pub fn is_outage(&self) -> bool {
        matches!(self, SendError::Unavailable(_) | SendError::RateLimited(_))
    }
}

/// A way of answering an event. Those that an event doesn't have are [`SendError::NoRoute`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The event's own handle, while it is valid.
    Handle,
    /// A message in the thread that the event came from.
    Thread,
    /// A message in the conversation, outside its threads.
    Conversation,
    /// A direct message to the sender.
    Direct,
}

/// A reply that doesn't fit into one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    /// "the plan has 14,210 characters; a message holds 12,000".
    pub reason: String,
}

/// A chat platform.
#[async_trait]
pub trait Platform: Send + Sync {
    fn name(&self) -> PlatformKind;

    /// What is typed before a command: "/db ". Nothing where the bot is addressed by a mention.
    fn command_prefix(&self) -> String {
        String::new()
    }

    /// Checks that a reply fits into one message.
    fn check_size(&self, reply: &Reply) -> Result<(), TooLarge>;

    /// Refuses a plan that would be cut. The workflow checks the size before it shows one; this is the second check.
    fn refuse_cut_plan(&self, reply: &Reply) -> Result<(), SendError> {
        if reply.indivisible && self.check_size(reply).is_err() {
            return Err(SendError::Unsendable("plan_too_large".to_owned()));
        }
        Ok(())
    }

    /// Answers an event by one way. An answer for its sender alone stays theirs on each of them.
    async fn answer(&self, event: &ChatEvent, reply: &Reply, route: Route) -> Result<(), SendError>;

    /// Tells if [`Platform::open_form`] can open any.
    fn has_forms(&self) -> bool {
        false
    }

    /// Shows a form to the event's sender; [`SendError::NoRoute`] where the event can't open one.
    async fn open_form(&self, _event: &ChatEvent, _form: &Form) -> Result<(), SendError> {
        Err(SendError::NoRoute)
    }

    /// Shows a reply on the account's own page with the bot, in place of what was there.
    async fn publish_home(&self, _account: &ChatAccount, _reply: &Reply) -> Result<(), SendError> {
        Err(SendError::NoRoute)
    }

    /// Posts a message that can be edited later.
    async fn post(&self, conversation: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError>;

    /// Replaces a posted message.
    async fn edit(&self, posted: &PostedMessage, reply: &Reply) -> Result<(), SendError>;

    /// The address of a posted message, at which people's clients show it; `None` if it has none.
    async fn message_url(&self, _posted: &PostedMessage) -> Result<Option<LinkUrl>, SendError> {
        Ok(None)
    }

    /// Sends a direct message to an account.
    async fn send_direct(&self, recipient: &ChatAccount, reply: &Reply) -> Result<PostedMessage, SendError> {
        self.refuse_cut_plan(reply)?;
        self.post(&self.direct_conversation(recipient).await?, reply).await
    }

    /// The direct conversation with an account.
    async fn direct_conversation(&self, recipient: &ChatAccount) -> Result<Conversation, SendError>;

    /// The report on an account, in a conversation where it wrote.
    async fn account(
        &self,
        sender: &ChatAccount,
        conversation: &Conversation,
        freshness: Freshness,
    ) -> Result<AccountInfo, SendError>;

    /// Tells if the account is in the role's chat group; `None` if the role has no group.
    async fn in_group(
        &self,
        _role: &str,
        _sender: &ChatAccount,
        _freshness: Freshness,
    ) -> Result<Option<bool>, SendError> {
        Ok(None)
    }

    /// The account that a mention names, as events name their senders; `None` while the platform can't tell.
    async fn mentioned_account(&self, mention: &Mention, _conversation: &Conversation) -> Option<String> {
        mention.id.clone()
    }

    /// The workspace of the people in the configuration, for those who haven't written yet.
    fn default_workspace(&self) -> &str;

    /// The conversation for requests from terminals; `None` if the configuration names none.
    fn terminal_conversation(&self) -> Option<Conversation> {
        None
    }

    /// The report on a conversation, at most five minutes old.
    async fn conversation(&self, conversation: &Conversation) -> Result<ConversationInfo, SendError>;
}
