//! A bot, and the chat in which a scene is played.

use crate::bot_process::{Bot, Twist, found};
use crate::chat_driver::{Chat, Seen};
use crate::slack::Slack;
use crate::teams::Teams;
use crate::terminal::{SITS, Terminal};
use countersign::config::login_name;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Slack,
    Teams,
    Terminal,
}

impl Platform {
    /// A bot that is spoken to there, with a configuration that differs from the usual.
    pub async fn bot(self, more: &str, instead: &[(&str, &str)]) -> Bot {
        let mut changes = instead.to_vec();
        let (account, at_the_terminal) = (
            format!("name = \"{SITS}\"\n"),
            format!("name = \"{SITS}\"\nterminal = [\"{}\"]\n", login_name()),
        );
        let channel = "[slack]\nterminal_channel = \"C0INCIDENT\"\n";
        if self == Platform::Terminal {
            changes.extend([(account.as_str(), at_the_terminal.as_str()), ("[slack]\n", channel)]);
        }
        let teams = self == Platform::Teams;
        Bot::start(Twist { slack: !teams, teams, more, instead: &changes }).await
    }

    pub fn chat(self, bot: &Bot) -> Box<dyn Chat + '_> {
        match self {
            Platform::Slack => Box::new(Slack(bot)),
            Platform::Teams => Box::new(Teams(bot)),
            Platform::Terminal => Box::new(Terminal::new(bot)),
        }
    }
}

/// Waits until somebody sees a message that says all that, and takes the newest.
pub async fn sees(chat: &dyn Chat, who: &str, words: &[&str]) -> Seen {
    let look = async || {
        let seen = chat.sees(who).into_iter();
        seen.rev().find(|seen| words.iter().all(|words| seen.words.contains(words)))
    };
    match tokio::time::timeout(PATIENCE, found("a message", look)).await {
        Ok(seen) => seen,
        Err(_) => panic!("{who} never saw {words:?}:\n{}", chat.transcript()),
    }
}

/// Whoever waits this long has failed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Types, and waits for an answer that was not there before.
pub async fn asks(chat: &dyn Chat, who: &str, line: &str) -> Seen {
    let before = chat.sees(who).len();
    chat.say(who, line).await;
    let look = async || {
        let seen = chat.sees(who);
        (seen.len() > before).then(|| seen.last().cloned()).flatten()
    };
    match tokio::time::timeout(PATIENCE, found("an answer", look)).await {
        Ok(seen) => seen,
        Err(_) => panic!("{line} was never answered:\n{}", chat.transcript()),
    }
}

/// The card of a kill that ana asked for, as ben sees it.
pub async fn kill_card(chat: &dyn Chat, pid: i32) -> Seen {
    asks(chat, "ana", &format!("kill {pid} --env production --reason \"blocks the deploy\"")).await;
    sees(chat, "ben", &["blocks the deploy", &pid.to_string(), "[Approve]"]).await
}

/// Clicks, and is told why not.
pub async fn is_refused(chat: &dyn Chat, (who, on): (&str, &Seen), (button, words): (&str, &str)) {
    chat.click_button(who, on, button).await;
    sees(chat, who, &[words]).await;
}
