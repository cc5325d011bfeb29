//! The contract's chat in the fake Slack.

use crate::bot_process::Bot;
use crate::chat_driver::{Chat, Message, Seen};
use async_trait::async_trait;
use countersign::demo::fake_slack::{self, Account, Kind, Workspace};
use countersign::demo::harness::INCIDENT;

pub struct Slack<'a>(pub &'a Bot);

/// The account of a person of the sample.
pub fn account(name: &str) -> String {
    match name {
        "nora" => "U0NOBODY".to_owned(),
        name => format!("U0{}", name.to_uppercase()),
    }
}

impl Slack<'_> {
    fn workspace(&self) -> &Workspace {
        &self.0.stage.workspace
    }

    /// What somebody sees in any of its conversations.
    pub fn sees_in(&self, who: &str, channel: &str) -> Vec<Seen> {
        let bot = fake_slack::BOT_USER;
        let mut seen = self.workspace().visible_messages(&account(who), channel);
        seen.retain(|message| message.author == bot);
        let as_seen = |message: countersign::demo::fake_slack::Message| Seen {
            words: message.plain(),
            alone: message.ephemeral_to.is_some(),
            message: Message::Slack(message),
        };
        seen.into_iter().map(as_seen).collect()
    }
}

#[async_trait]
impl Chat for Slack<'_> {
    async fn say(&self, who: &str, line: &str) {
        let ack = self.workspace().say(&account(who), INCIDENT, &format!("/db {line}")).await;
        assert!(ack.ok(), "{line}: {ack:?}");
    }

    fn sees(&self, who: &str) -> Vec<Seen> {
        self.sees_in(who, INCIDENT)
    }

    async fn click_button(&self, who: &str, on: &Seen, button: &str) {
        let Message::Slack(shown) = &on.message else { panic!("no message of Slack's: {on:?}") };
        let ack = self.workspace().click_stale_button(&account(who), shown, button).await;
        assert!(ack.ok(), "{button}: {ack:?}");
    }

    fn transcript(&self) -> String {
        self.workspace().transcript() + &self.0.log()
    }

    fn admits_a_guest(&self, who: &str) {
        self.workspace().add_person(Account::new(&account(who), who, Kind::Guest));
    }
}
