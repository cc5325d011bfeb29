//! A chat in memory, for what would take too long at one message a second.

use async_trait::async_trait;
use countersign::demo::harness::INCIDENT;
use countersign::model::{Block, ChatAccount, ChatEvent, Conversation, PlatformKind, PostedMessage, Reply};
use countersign::platform::{
    AccountInfo, AccountKind, ConversationInfo, Freshness, Platform, Route, SendError, TooLarge,
};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// A button that was shown once, on which message.
#[derive(Debug, Clone)]
pub struct Shown {
    pub label: String,
    pub token: String,
    pub conversation: Conversation,
    pub message: String,
}

/// A chat that accepts everything and remembers every button and every answer.
#[derive(Default)]
pub struct Room {
    pub shown: Mutex<Vec<Shown>>,
    /// What was answered, oldest first.
    pub answers: Mutex<Vec<Reply>>,
    messages: Mutex<usize>,
    /// The edits that began, and those that were done: the message, and its words.
    pub edits_begun: Mutex<Vec<(String, String)>>,
    pub edits: Mutex<Vec<(String, String)>>,
    /// The message whose edits hang.
    hanging: watch::Sender<Option<String>>,
    /// The account whose answers hang.
    hanging_answers: watch::Sender<Option<String>>,
    /// The account whose click is held up, once its own kind was told: the next answer about another account waits.
    held_up: watch::Sender<Option<String>>,
    /// Whether that answer was waited for.
    waited_for: AtomicBool,
}

impl Room {
    /// How many messages were posted, anywhere.
    pub fn posted(&self) -> usize {
        *self.messages.lock().unwrap()
    }

    /// From now on the next answer about an account's kind waits, unless it is about that one; with none it goes on.
    pub fn hold_up(&self, clicker: Option<&str>) {
        self.waited_for.store(false, Ordering::SeqCst);
        self.held_up.send_replace(clicker.map(str::to_owned));
    }

    /// From now on edits of that message hang; with none they go on.
    pub fn hang(&self, message: Option<&str>) {
        self.hanging.send_replace(message.map(str::to_owned));
    }

    /// From now on answers to that account hang; with none they go on.
    pub fn hang_answers(&self, account: Option<&str>) {
        self.hanging_answers.send_replace(account.map(str::to_owned));
    }

    /// Whether somebody waits for that answer.
    pub fn is_waited_for(&self) -> bool {
        self.waited_for.load(Ordering::SeqCst)
    }

    fn keep(&self, posted: &PostedMessage, reply: &Reply) {
        let buttons = reply.blocks.iter().filter_map(|block| match block {
            Block::Buttons(buttons) => Some(buttons),
            _ => None,
        });
        let (conversation, message) = (&posted.conversation, &posted.message);
        let shown = buttons.flatten().map(|button| Shown {
            label: button.label.clone(),
            token: button.token.clone(),
            conversation: conversation.clone(),
            message: message.clone(),
        });
        self.shown.lock().unwrap().extend(shown);
    }
}

#[async_trait]
impl Platform for Room {
    fn name(&self) -> PlatformKind {
        PlatformKind::Slack
    }
    fn check_size(&self, _: &Reply) -> Result<(), TooLarge> {
        Ok(())
    }
    async fn answer(&self, event: &ChatEvent, reply: &Reply, _: Route) -> Result<(), SendError> {
        let mut hanging = self.hanging_answers.subscribe();
        drop(hanging.wait_for(|hanging| hanging.as_ref() != Some(&event.sender.account)).await);
        self.answers.lock().unwrap().push(reply.clone());
        Ok(())
    }
    async fn post(&self, conversation: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError> {
        let message = {
            let mut messages = self.messages.lock().unwrap();
            *messages += 1;
            messages.to_string()
        };
        let posted = PostedMessage { conversation: conversation.clone(), message };
        self.keep(&posted, reply);
        Ok(posted)
    }
    async fn edit(&self, posted: &PostedMessage, reply: &Reply) -> Result<(), SendError> {
        let edit = (posted.message.clone(), words(reply));
        self.edits_begun.lock().unwrap().push(edit.clone());
        let mut hanging = self.hanging.subscribe();
        drop(hanging.wait_for(|hanging| hanging.as_ref() != Some(&posted.message)).await);
        self.edits.lock().unwrap().push(edit);
        self.keep(posted, reply);
        Ok(())
    }
    async fn direct_conversation(&self, sender: &ChatAccount) -> Result<Conversation, SendError> {
        Ok(Conversation { id: format!("D{}", sender.account), ..incident() })
    }
    async fn account(
        &self,
        sender: &ChatAccount,
        _: &Conversation,
        freshness: Freshness,
    ) -> Result<AccountInfo, SendError> {
        let mut held_up = self.held_up.subscribe();
        let holds =
            |clicker: &Option<String>| clicker.as_ref().is_some_and(|clicker| *clicker != sender.account);
        if freshness == Freshness::Current
            && holds(&held_up.borrow_and_update())
            && !self.waited_for.swap(true, Ordering::SeqCst)
        {
            drop(held_up.wait_for(Option::is_none).await);
        }
        Ok(AccountInfo { kind: AccountKind::Member, ids: vec![sender.account.clone()] })
    }
    fn default_workspace(&self) -> &str {
        "T0SAMPLE"
    }
    async fn conversation(&self, _: &Conversation) -> Result<ConversationInfo, SendError> {
        Ok(ConversationInfo { is_bot_member: true, is_direct: false, is_shared: false })
    }
}

pub fn incident() -> Conversation {
    Conversation {
        platform: PlatformKind::Slack,
        workspace: "T0SAMPLE".to_owned(),
        id: INCIDENT.to_owned(),
        thread: None,
    }
}

/// What a reply says, without its heading.
pub fn words(reply: &Reply) -> String {
    let words = reply.blocks.iter().filter_map(|block| match block {
        Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => Some(text.words()),
        Block::Progress { label, .. } => Some(label.clone()),
        _ => None,
    });
    words.collect::<Vec<_>>().join("\n")
}
