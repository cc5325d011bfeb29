//! The chat platforms of this process, and the rules for posting a card in a conversation.

use crate::config::ChatChannel;
use crate::error::{Error, Result};
use crate::model::{Conversation, PlatformKind, Reply};
use crate::platform::{Platform, SendError, TooLarge};
use std::collections::HashMap;
use std::sync::Arc;

/// The next step where the platform refuses what the bot isn't set up for.
pub(super) const OPERATORS_CAN_FIX: &str =
    "Countersign's operators can fix it: its log names what is missing.";

pub(super) struct Platforms(HashMap<PlatformKind, Arc<dyn Platform>>);

impl Platforms {
    pub fn new(platforms: Vec<Arc<dyn Platform>>) -> Platforms {
        Platforms(platforms.into_iter().map(|platform| (platform.name(), platform)).collect())
    }

    pub fn get(&self, name: PlatformKind) -> Option<&Arc<dyn Platform>> {
        self.0.get(&name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Platform>> {
        self.0.values()
    }

    /// The conversation that the configuration names for requests from terminals.
    pub fn terminal_conversation(&self) -> Option<Conversation> {
        let channels = self.iter().filter_map(|platform| platform.terminal_conversation());
        channels.min_by_key(|conversation| conversation.platform)
    }

    /// A channel of the configuration, in its platform's own workspace; `None` if the platform isn't there.
    pub fn channel(&self, channel: &ChatChannel) -> Option<Conversation> {
        let platform = self.get(channel.platform)?;
        Some(Conversation::new(channel.platform, platform.default_workspace(), channel.id.clone()))
    }

    /// Checks that every platform can show each of its replies in one message: a card may be posted in any of them.
    pub fn check_sizes(&self, replies: impl Fn(PlatformKind) -> Vec<Reply>) -> Result<(), TooLarge> {
        self.iter().try_for_each(|platform| {
            replies(platform.name()).iter().try_for_each(|reply| platform.check_size(reply))
        })
    }

    /// Passes if a card with buttons may be posted in a conversation: others can see it, and they all belong to this
    /// organisation.
    ///
    /// # Errors
    /// [`Error::User`] with what to do instead.
    pub async fn require_card_conversation(&self, conversation: &Conversation) -> Result<()> {
        let platform =
            self.get(conversation.platform).ok_or_else(|| Error::user("There is no chat to post in."))?;
        match platform.conversation(conversation).await {
            Ok(info) if info.is_direct => Err(Error::instead(
                "Only you would see the request here, but somebody else has to approve it.",
                "Request it in a channel where an approver is.",
            )),
            // Before `shared`: a conversation that the bot can't see counts as shared.
            Ok(info) if !info.is_bot_member => Err(Error::instead(
                "Countersign isn't in this conversation, so the card can't be posted here.",
                "Invite it, then request again.",
            )),
            Ok(info) if info.is_shared => Err(Error::user(
                "Requests can't be posted in a conversation shared with another organisation.",
            )),
            Ok(_) => Ok(()),
            Err(SendError::NotSetUp(_)) => Err(Error::instead(
                "Countersign isn't set up to look up conversations in this chat, so no approver can be asked. Nothing was done.",
                OPERATORS_CAN_FIX,
            )),
            Err(_) => Err(Error::instead(
                "The chat platform can't be reached, so no approver can be asked. Nothing was done.",
                "Try again in a moment.",
            )),
        }
    }
}
