//! The terminal: the same commands and the same answers where no chat is. In: a line and the login name that the operating
//! system vouches for. Out: [`render`] for eyes, [`json`] for programs. Nothing here decides who may do what, and nothing is
//! printed here.

use crate::message::{
    Account, Conversation, Event, Incoming, Place, Platform, PlatformName, Posted, Reply, SendError, Sender,
    Standing, TooLarge,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

mod escape;
pub mod json;
pub mod render;
mod style;
mod table;

/// The one "workspace" of all terminals.
const WORKSPACE: &str = "terminal";

/// What buttons stand for: token → the line that does the same.
pub type Lines = HashMap<String, String>;

/// Keeps the answer for whoever waits for it.
#[derive(Debug, Default)]
pub struct Terminal(Mutex<Option<Reply>>);

impl Terminal {
    /// The last answer.
    pub fn answered(&self) -> Option<Reply> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A typed line, as an event. `None` if the system has no randomness to tell it from others.
pub fn incoming(login_name: &str, line: String) -> Option<Incoming> {
    let account = login_name.to_owned();
    Some(Incoming {
        delivery: format!("{WORKSPACE}-{}", crate::plan::random_token()?),
        place: Place {
            platform: PlatformName::Terminal,
            workspace: WORKSPACE.to_owned(),
            conversation: account.clone(),
            thread: None,
        },
        sender: Sender {
            platform: PlatformName::Terminal,
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
    fn name(&self) -> PlatformName {
        PlatformName::Terminal
    }

    fn fits(&self, _: &Reply) -> Result<(), TooLarge> {
        Ok(())
    }

    async fn answer(&self, _: &Incoming, reply: &Reply) -> Result<(), SendError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply.clone());
        Ok(())
    }

    /// Nothing stands in a terminal, so nothing is posted there.
    async fn post(&self, _: &Place, _: &Reply) -> Result<Posted, SendError> {
        Err(SendError::NotThere)
    }

    async fn edit(&self, _: &Posted, _: &Reply) -> Result<(), SendError> {
        Err(SendError::Gone)
    }

    async fn tell(&self, _: &Sender, _: &Reply) -> Result<Posted, SendError> {
        Err(SendError::NotThere)
    }

    async fn direct(&self, _: &Sender) -> Result<Place, SendError> {
        Err(SendError::NotThere)
    }

    async fn account(&self, sender: &Sender, _: &Place) -> Result<Account, SendError> {
        Ok(Account { standing: Standing::Member, workspace: sender.workspace.clone() })
    }

    async fn account_now(&self, sender: &Sender, place: &Place) -> Result<Account, SendError> {
        self.account(sender, place).await
    }

    fn home(&self) -> &str {
        WORKSPACE
    }

    async fn conversation(&self, _: &Place) -> Result<Conversation, SendError> {
        Ok(Conversation { bot_is_in: true, direct: true, shared: false })
    }
}
