//! The terminal: the same commands and the same answers without a chat. In: a line and the login name that the operating
//! system vouches for. Out: [`render`] for people, [`json`] for programs. Nothing is printed here.

use crate::model::{ChatAccount, ChatEvent, ChatEventKind, Conversation, PlatformKind, PostedMessage, Reply};
use crate::platform::{
    AccountInfo, AccountKind, ConversationInfo, Freshness, Platform, Route, SendError, TooLarge,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;

pub mod json;
pub mod render;
mod style;

const WORKSPACE: &str = "terminal";

const NO_MESSAGES: &str = "a terminal keeps no messages";

/// The lines that buttons stand for, by the button's token.
pub type ButtonLines = HashMap<String, String>;

/// Keeps the answer for whoever waits for it.
#[derive(Debug, Default)]
pub struct Terminal(Mutex<Option<Reply>>);

impl Terminal {
    /// The last answer.
    pub fn last_answer(&self) -> Option<Reply> {
        self.0.lock().clone()
    }
}

/// A typed line, as an event. `None` if the system can't give random bytes for its delivery id.
pub fn incoming_event(login_name: &str, line: String) -> Option<ChatEvent> {
    let account = login_name.to_owned();
    Some(ChatEvent {
        delivery: format!("{WORKSPACE}-{}", crate::model::random_token()?),
        conversation: Conversation::new(PlatformKind::Terminal, WORKSPACE, account.clone()),
        sender: ChatAccount::new(PlatformKind::Terminal, WORKSPACE, account, None),
        handle: None,
        event: ChatEventKind::Command(line.as_str().into()),
    })
}

#[async_trait]
impl Platform for Terminal {
    fn name(&self) -> PlatformKind {
        PlatformKind::Terminal
    }

    fn command_prefix(&self) -> String {
        "countersign run ".to_owned()
    }

    fn check_size(&self, _: &Reply) -> Result<(), TooLarge> {
        Ok(())
    }

    /// The terminal itself is the only way.
    async fn answer(&self, _: &ChatEvent, reply: &Reply, route: Route) -> Result<(), SendError> {
        if route != Route::Handle {
            return Err(SendError::NoRoute);
        }
        *self.0.lock() = Some(reply.clone());
        Ok(())
    }

    /// A terminal keeps no messages.
    async fn post(&self, _: &Conversation, _: &Reply) -> Result<PostedMessage, SendError> {
        Err(SendError::Unsendable(NO_MESSAGES.to_owned()))
    }

    async fn edit(&self, _: &PostedMessage, _: &Reply) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    async fn direct_conversation(&self, _: &ChatAccount) -> Result<Conversation, SendError> {
        Err(SendError::Unsendable(NO_MESSAGES.to_owned()))
    }

    async fn account(
        &self,
        sender: &ChatAccount,
        _: &Conversation,
        _: Freshness,
    ) -> Result<AccountInfo, SendError> {
        Ok(AccountInfo { kind: AccountKind::Member, ids: vec![sender.account.clone()] })
    }

    fn default_workspace(&self) -> &str {
        WORKSPACE
    }

    async fn conversation(&self, _: &Conversation) -> Result<ConversationInfo, SendError> {
        Ok(ConversationInfo { is_bot_member: true, is_direct: true, is_shared: false })
    }
}
