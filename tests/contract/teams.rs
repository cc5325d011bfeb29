//! The contract's chat in the fake Teams.

use crate::bot_process::{Bot, INCIDENT, PEOPLE};
use crate::chat_driver::{Chat, Message, Seen};
use crate::fake_teams::people::Role;
use crate::fake_teams::{Kind, Person};
use async_trait::async_trait;

pub struct Teams<'a>(pub &'a Bot);

impl Teams<'_> {
    /// What somebody sees in any of its conversations.
    pub fn sees_in(&self, who: &str, conversation: &str) -> Vec<Seen> {
        let mut seen = self.0.teams.visible_messages(who, conversation);
        seen.retain(|message| message.author.is_none());
        let as_seen = |message: crate::fake_teams::Message| Seen {
            words: message.plain(),
            alone: message.only_to.is_some(),
            message: Message::Teams(message),
        };
        seen.into_iter().map(as_seen).collect()
    }
}

#[async_trait]
impl Chat for Teams<'_> {
    async fn say(&self, who: &str, line: &str) {
        let ack = self.0.teams.say(who, INCIDENT, line).await;
        assert!(ack.ok(), "{line}: {ack:?}");
    }

    fn sees(&self, who: &str) -> Vec<Seen> {
        self.sees_in(who, INCIDENT)
    }

    async fn click_button(&self, who: &str, on: &Seen, button: &str) {
        let Message::Teams(shown) = &on.message else { panic!("no message of Teams': {on:?}") };
        let ack = self.0.teams.click_stale_button(who, shown, button).await;
        assert!(ack.ok(), "{button}: {ack:?}");
    }

    fn transcript(&self) -> String {
        self.0.teams.transcript() + &self.0.log()
    }

    fn admits_a_guest(&self, who: &str) {
        self.0.teams.add_person(Person { role: Role::Guest, ..Person::new(who) });
        let all: Vec<&str> = PEOPLE.into_iter().chain([who]).collect();
        self.0.teams.add_conversation(Kind::Channel, INCIDENT, &all);
    }
}
