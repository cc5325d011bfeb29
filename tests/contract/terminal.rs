//! The contract's chat where ana sits at a terminal; the others are in Slack, where her requests' cards stand.

use crate::bot_process::Bot;
use crate::chat_driver::{Chat, Message, Seen};
use crate::slack::Slack;
use async_trait::async_trait;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use tokio::process::Command;

/// Who sits at the terminal.
pub const SITS: &str = "ana";

pub struct Terminal<'a> {
    bot: &'a Bot,
    slack: Slack<'a>,
    printed: Mutex<Vec<Seen>>,
}

impl<'a> Terminal<'a> {
    pub fn new(bot: &'a Bot) -> Terminal<'a> {
        Terminal { bot, slack: Slack(bot), printed: Mutex::default() }
    }
}

/// What `countersign run` prints, on one line, since it is wrapped.
pub async fn prints(bot: &Bot, line: &str) -> String {
    // As a shell takes a line apart.
    let words = line.split('"').enumerate().flat_map(|(number, part)| match number % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    let words: Vec<String> = std::iter::once("run".to_owned()).chain(words).collect();
    program_prints(bot, &words.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// What the program prints, on one line.
pub async fn program_prints(bot: &Bot, words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(words)
        .current_dir(bot.directory.path())
        .env_clear()
        .envs(&bot.stage.secrets)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the program");
    let printed = String::from_utf8(output.stdout).expect("text");
    let printed: Vec<&str> = printed.split_whitespace().collect();
    assert!(!printed.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    printed.join(" ")
}

#[async_trait]
impl Chat for Terminal<'_> {
    async fn say(&self, who: &str, line: &str) {
        if who != SITS {
            return self.slack.say(who, line).await;
        }
        let words = prints(self.bot, line).await;
        let seen = Seen { words, alone: true, message: Message::Printed };
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    fn sees(&self, who: &str) -> Vec<Seen> {
        let mut seen = self.slack.sees(who);
        if who == SITS {
            seen.extend(self.printed.lock().unwrap_or_else(PoisonError::into_inner).clone());
        }
        seen
    }

    async fn click_button(&self, who: &str, on: &Seen, button: &str) {
        self.slack.click_button(who, on, button).await;
    }

    fn transcript(&self) -> String {
        let printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        format!("printed: {printed:#?}\n{}", self.slack.transcript())
    }

    fn admits_a_guest(&self, who: &str) {
        self.slack.admits_a_guest(who);
    }
}
