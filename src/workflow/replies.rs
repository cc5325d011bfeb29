//! Answers that say no, and the small ones that belong to no command.

use super::Rejection;
use crate::error::{Error, User};
use crate::model::{Block, Button, ButtonStyle, Heading, Reply, Severity, Text, TokenPurpose};
use crate::sql::fill;
use std::collections::BTreeMap;

/// An error, to its asker alone. An internal one is logged here, once, under the reference that the asker gets.
pub fn refusal(refused: &Rejection) -> Reply {
    let reply = Reply::new(refused.heading.clone()).privately();
    match &refused.error {
        Error::User(User { problem, instead }) => {
            let reply = reply.with(Block::Verdict { tone: Severity::Warning, text: problem.as_str().into() });
            match instead {
                Some(instead) => reply.with(Block::Text(fill(instead, &|_| None))),
                None => reply,
            }
        }
        Error::Internal(cause) => {
            let reference =
                crate::model::random_token().map_or("-".to_owned(), |token| token[..8].to_owned());
            tracing::error!(
                reference,
                cause = format!("{cause:#}"),
                asked = refused.heading.asked,
                "command failed"
            );
            let text = Text::new()
                .plain("An internal error occurred, and the command was not completed. Give Countersign's operators this reference: ")
                .code(reference);
            reply.with(Block::Verdict { tone: Severity::Critical, text })
        }
    }
}

/// The first questions of an incident.
pub const FIRST: [&str; 6] = ["health", "blocked", "long", "slow", "pending", "help"];

/// What `/db` alone offers: those of the first questions that the asker may ask.
pub fn menu(heading: Heading, commands: &[&str]) -> (Reply, Vec<(String, TokenPurpose)>) {
    let mut buttons = Vec::new();
    let mut offers = Vec::new();
    for command in commands {
        let Some(token) = crate::model::random_token() else { continue };
        let purpose = TokenPurpose::RunCommand {
            command: (*command).to_owned(),
            environment: None,
            arguments: BTreeMap::new(),
        };
        offers.push((token.clone(), purpose));
        buttons.push(Button::new(*command, token, ButtonStyle::Plain));
    }
    let text = Text::new()
        .plain("What do you want to see? Type ")
        .code("help")
        .plain(" for everything you may run here.");
    let mut reply = Reply::new(heading).privately().with(Block::Text(text));
    if !buttons.is_empty() {
        reply = reply.with(Block::Buttons(buttons));
    }
    (reply, offers)
}
