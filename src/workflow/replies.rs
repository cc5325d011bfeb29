//! Refusals, the small answers that belong to no command, and what becomes of opening a run.

use crate::error::{Error, Result, User};
use crate::model::{
    ActiveFreeze, Block, Button, ButtonStyle, Heading, Reply, Run, RunId, Severity, Text, TokenPurpose,
};
use crate::redact;
use crate::sql::{fill, moment};
use crate::store::StoreError;
use std::collections::BTreeMap;

/// For the sender of an event for which there is no room.
pub const OVERLOADED: &str = "Countersign is overloaded: nothing was executed. Try again in a moment.";

pub(super) struct Rejection {
    pub heading: Heading,
    pub error: Error,
}

/// The answer to an event; `None` if a card answers it.
pub(super) type HandlerResult = Result<Option<Reply>, Rejection>;

/// Renders an error for its requester alone. An internal one is logged here, once, under the reference that they get.
pub fn refusal(rejection: &Rejection) -> Reply {
    let reply = Reply::new(rejection.heading.clone()).ephemeral();
    match &rejection.error {
        Error::User(User { problem, instead }) => {
            // They quote what was typed and what servers and clients name.
            let text = redact::name(problem).into();
            let mut reply = reply.with(Block::Verdict { severity: Severity::Warning, text });
            let instead = instead.as_ref().map(|instead| fill(&redact::name(instead), &|_| None));
            reply.blocks.extend(instead.map(Block::Text));
            reply
        }
        Error::Internal(cause) if cause.is::<StoreError>() => {
            let command = &rejection.heading.command;
            tracing::warn!(cause = format!("{cause:#}"), command, "command failed");
            let text = format!("The audit log can't be read ({cause:#}).").into();
            let instead = "Try again in a moment. Tell Countersign's operators if it can't be read then.";
            reply.with(Block::Verdict { severity: Severity::Warning, text }).with(Block::Text(instead.into()))
        }
        Error::Internal(cause) => {
            let reference =
                crate::model::random_token().map_or("-".to_owned(), |token| token[..8].to_owned());
            let (cause, command) = (format!("{cause:#}"), &rejection.heading.command);
            tracing::error!(reference, cause, command, "command failed");
            let problem = "An internal error occurred, and the command was not completed. Give Countersign's operators this reference: ";
            let text = Text::from(problem).code(reference);
            reply.with(Block::Verdict { severity: Severity::Critical, text })
        }
    }
}

/// The run of an intent, or why there is none.
pub(super) enum Opened {
    New(Box<Run>),
    /// This delivery was recorded before.
    Duplicate,
    /// Another open run works on the same.
    Busy {
        resource: String,
        by: RunId,
    },
    /// The audit log can't be written.
    Unrecorded(StoreError),
}

impl Opened {
    /// The run; `None` if this delivery was recorded before.
    ///
    /// # Errors
    /// [`Error::User`] when another run works on the same, and when the audit log can't be written.
    pub fn into_run(self) -> Result<Option<Run>> {
        match self {
            Opened::New(run) => Ok(Some(*run)),
            Opened::Duplicate => Ok(None),
            Opened::Busy { resource, by } => Err(Error::instead(
                format!("Run #{by} already holds the lock on {resource}."),
                format!("Wait until it has ended: `show {by}`."),
            )),
            Opened::Unrecorded(error) => Err(store_error(&error)),
        }
    }
}

/// Changes are frozen: by whom, and how to lift the freeze.
pub(super) fn frozen_error(frozen: &ActiveFreeze) -> Error {
    let reason = frozen.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    Error::instead(
        format!("{} froze all changes at {}{reason}. Nothing was done.", frozen.by.id, moment(frozen.at)),
        "Read commands still work. `unfreeze` lifts the freeze, with a second person's approval.",
    )
}

/// The audit log can't be read or written, so no change may start.
pub(super) fn store_error(error: &StoreError) -> Error {
    Error::instead(
        format!("The audit log can't be written ({error}), so nothing was executed."),
        "Read commands still work. Tell Countersign's operators, and try again when the audit log can be written.",
    )
}

/// The first questions of an incident.
pub const FIRST_COMMANDS: [&str; 6] = ["health", "blocked", "long", "slow", "pending", "help"];

/// The answer to `/db` alone: a button for each of the first questions that the requester may ask.
pub fn menu(heading: Heading, commands: &[&str]) -> (Reply, Vec<(String, TokenPurpose)>) {
    let mut buttons = Vec::new();
    let mut offers = Vec::new();
    for command in commands {
        let Some(token) = crate::model::random_token() else { continue };
        let (command, arguments) = ((*command).to_owned(), BTreeMap::new());
        buttons.push(Button::new(command.as_str(), token.clone(), ButtonStyle::Plain));
        offers.push((token, TokenPurpose::RunCommand { command, environment: None, arguments }));
    }
    let text = Text::from("What do you want to see? Type ").code("help");
    let text = text.plain(" for everything you may run here.");
    let mut reply = Reply::new(heading).ephemeral().with(Block::Text(text));
    if !buttons.is_empty() {
        reply = reply.with(Block::Buttons(buttons));
    }
    (reply, offers)
}
