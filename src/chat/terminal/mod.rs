//! The terminal: the same commands and the same answers where no chat is. In: a line and the login name that the operating
//! system vouches for. Out: [`render`] for eyes, [`json`] for programs. Nothing here decides who may do what, and nothing is
//! printed here.

use crate::model::{ChatAccount, Conversation, Event, IncomingEvent, PlatformKind, PostedMessage, Reply};
use crate::platform::{AccountInfo, ConversationInfo, Platform, SendError, Standing, TooLarge};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;

mod escape;
pub mod json;
pub mod render;
mod style;
mod table;

/// The one "workspace" of all terminals.
const WORKSPACE: &str = "terminal";

/// The lines that buttons stand for, by the button's token.
pub type ButtonLines = HashMap<String, String>;

/// Keeps the answer for whoever waits for it.
#[derive(Debug, Default)]
pub struct Terminal(Mutex<Option<Reply>>);

impl Terminal {
    /// The last answer.
    pub fn answered(&self) -> Option<Reply> {
        self.0.lock().clone()
    }
}

/// A typed line, as an event. `None` if the system has no randomness to tell it from others.
pub fn incoming(login_name: &str, line: String) -> Option<IncomingEvent> {
    let account = login_name.to_owned();
    Some(IncomingEvent {
        delivery: format!("{WORKSPACE}-{}", crate::model::random_token()?),
        place: Conversation {
            platform: PlatformKind::Terminal,
            workspace: WORKSPACE.to_owned(),
            conversation: account.clone(),
            thread: None,
        },
        sender: ChatAccount {
            platform: PlatformKind::Terminal,
            workspace: WORKSPACE.to_owned(),
            name: account.clone(),
            account,
        },
        handle: None,
        event: Event::Command { line },
    })
}

#[async_trait]
impl Platform for Terminal {
    fn name(&self) -> PlatformKind {
        PlatformKind::Terminal
    }

    fn fits(&self, _: &Reply) -> Result<(), TooLarge> {
        Ok(())
    }

    async fn answer(&self, _: &IncomingEvent, reply: &Reply) -> Result<(), SendError> {
        *self.0.lock() = Some(reply.clone());
        Ok(())
    }

    /// Nothing stands in a terminal, so nothing is posted there.
    async fn post(&self, _: &Conversation, _: &Reply) -> Result<PostedMessage, SendError> {
        Err(SendError::NotThere)
    }

    async fn edit(&self, _: &PostedMessage, _: &Reply) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    async fn send_direct(&self, _: &ChatAccount, _: &Reply) -> Result<PostedMessage, SendError> {
        Err(SendError::NotThere)
    }

    async fn direct(&self, _: &ChatAccount) -> Result<Conversation, SendError> {
        Err(SendError::NotThere)
    }

    async fn account(&self, sender: &ChatAccount, _: &Conversation) -> Result<AccountInfo, SendError> {
        Ok(AccountInfo { standing: Standing::Member, workspace: sender.workspace.clone() })
    }

    async fn account_now(
        &self,
        sender: &ChatAccount,
        place: &Conversation,
    ) -> Result<AccountInfo, SendError> {
        self.account(sender, place).await
    }

    fn default_workspace(&self) -> &str {
        WORKSPACE
    }

    async fn conversation(&self, _: &Conversation) -> Result<ConversationInfo, SendError> {
        Ok(ConversationInfo { bot_is_in: true, direct: true, shared: false })
    }
}
