//! What people do in Teams and see there, in the words of a scene.

use crate::bot_process::{Bot, INCIDENT};
use countersign::demo::fake_teams::{ActivityRef, TeamsMessage};

impl Bot {
    /// Somebody types a command in the incident's channel, and the answer is the first message of the bot's that they didn't see before.
    pub async fn asks(&self, who: &str, line: &str) -> TeamsMessage {
        self.asks_in(who, INCIDENT, line).await
    }

    pub async fn asks_in(&self, who: &str, place: &str, line: &str) -> TeamsMessage {
        let before = self.answers(who, place).len();
        let ack = self.teams.say(who, place, line).await;
        assert!(ack.ok(), "{line}: {ack:?}");
        self.next((who, place), before, line).await
    }

    /// What the bot wrote there, as somebody sees it.
    pub fn answers(&self, who: &str, place: &str) -> Vec<TeamsMessage> {
        let mut seen = self.teams.visible_messages(who, place);
        seen.retain(|message| message.author.is_none());
        seen
    }

    /// The first answer after that many.
    pub async fn next(&self, (who, place): (&str, &str), before: usize, what: &str) -> TeamsMessage {
        self.teams
            .wait_for(what, |_| self.answers(who, place).into_iter().nth(before))
            .await
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// Types and is refused, before their own eyes alone.
    pub async fn refused(&self, who: &str, line: &str, words: &str) {
        let told = self.asks(who, line).await;
        assert!(told.plain().contains(words), "{line}: {words} is missing:\n{}", told.plain());
        assert_eq!(told.only_to.as_deref(), Some(who), "{line}: a refusal is the asker's alone");
    }

    /// The card of a kill that ana asked for, with everybody's own view of it.
    pub async fn kill_card(&self, pid: i32) -> ActivityRef {
        let line = format!("kill {pid} --env production --reason \"blocks the deploy\"");
        let card = self.asks("ana", &line).await;
        self.sees("ben", &card.at(), "[Approve]").await;
        self.sees("ana", &card.at(), "[Withdraw]").await;
        card.at()
    }

    /// Waits until a message says something to somebody.
    pub async fn sees(&self, who: &str, at: &ActivityRef, words: &str) -> TeamsMessage {
        let seen =
            |_: &_| self.teams.visible_message(who, at).filter(|message| message.plain().contains(words));
        self.teams
            .wait_for(&format!("{who} to see {words:?}"), seen)
            .await
            .unwrap_or_else(|why| panic!("{why}"))
    }
}

/// The token in the data of a message's button.
pub fn token_of(message: &TeamsMessage, title: &str) -> String {
    let button =
        message.button(title).unwrap_or_else(|| panic!("no button {title} on:\n{}", message.plain()));
    let data = &button.action["data"];
    data["cs"].as_str().or(data["view"].as_str()).expect("a token").to_owned()
}
