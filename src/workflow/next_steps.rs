//! Next steps: a command line in an answer's sentences becomes the whole line that is typed in this chat, and a button.

use super::platforms::Platforms;
use crate::app::App;
use crate::catalog::{Command, Scope};
use crate::command_line::{KnownNames, parse_incomplete};
use crate::error::contain_panic;
use crate::model::{
    Block, Button, ButtonStyle, ButtonToken, ChatEvent, Conversation, Person, Reply, Risk, Span,
    TokenPurpose, line_label, random_token,
};
use crate::schedule;
use crate::sql::Answer;
use std::sync::Arc;
use std::time::Duration;

/// Buttons below a verdict: more would not be read on a phone.
const MAX_BUTTONS: usize = 4;

/// The longest line on a button, in characters: it is one line on a phone.
const MAX_LABEL: usize = 40;

/// The store is waited for this long for the conversation's environment: in an incident the answer matters more.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The command lines of one reply.
struct CommandLines<'a> {
    app: &'a App,
    known: KnownNames,
    /// What is typed before a command in this chat: "/db ".
    prefix: String,
    /// The environment that the reply is about.
    environment: Option<String>,
    /// The environment that the conversation uses.
    default: Option<String>,
    /// False while the store can't be read: then no button could be stored.
    has_store: bool,
}

impl CommandLines<'_> {
    /// The command of a line that can be typed as it is, or with the values that it leaves open in angle brackets. Any other code is a
    /// name, a value or SQL, and a bare name of a command that needs more is no line.
    fn command_of(&self, code: &str) -> Option<&Command> {
        let command = self.app.catalog.find(code.split_whitespace().next()?)?;
        let is_complete = code != command.name || !command.header.args.iter().any(|spec| spec.required);
        is_complete.then_some(command)
    }

    /// The whole line to type.
    fn whole_line(&self, command: &Command, code: &str) -> String {
        let mut line = format!("{}{code}", self.prefix);
        let needs_environment = command.header.scope != Scope::None
            && self.default != self.environment
            && !code.contains("--env");
        if let Some(environment) = self.environment.as_ref().filter(|_| needs_environment) {
            line.push_str(" --env ");
            line.push_str(environment);
        }
        line
    }

    /// What a button for the line does; a form asks for the values that the line leaves open. `None` for a line with values to replace,
    /// or with options for one time.
    fn purpose_of(&self, code: &str) -> Option<TokenPurpose> {
        let parsed = parse_incomplete(&self.app.catalog, &code.into(), &self.known).ok()??;
        if parsed.line.has_options() {
            return None;
        }
        let needs_environment = parsed.command.header.scope != Scope::None;
        let inherited = self.environment.clone().filter(|_| needs_environment);
        let environment = parsed.line.environment.clone().or(inherited);
        if needs_environment && environment.is_none() && self.default.is_none() {
            return None;
        }
        Some(TokenPurpose::RunCommand {
            command: parsed.command.name.clone(),
            environment,
            arguments: parsed.values,
        })
    }
}

/// Offers the commands that replies advise.
#[derive(Clone)]
pub(super) struct NextSteps {
    pub app: Arc<App>,
    pub platforms: Arc<Platforms>,
}

impl NextSteps {
    /// Drops the buttons of an answer whose commands this person may not run.
    pub fn drop_forbidden(&self, person: &Person, answer: &mut Answer) {
        answer.button_purposes.retain(|(_, purpose)| match purpose {
            TokenPurpose::RunCommand { command, environment, .. } => {
                let command = self.app.catalog.find(command);
                command
                    .is_some_and(|command| self.app.access.may_run(person, command, environment.as_deref()))
            }
            _ => true,
        });
        let purposes = &answer.button_purposes;
        let is_kept = |button: &Button| purposes.iter().any(|(token, _)| *token == button.token);
        retain_buttons(&mut answer.blocks, &is_kept);
    }

    /// Completes the command lines of an answer to a read command, and adds a button for each that its reader may run.
    pub async fn add_to_answer(&self, incoming: &ChatEvent, command: &Command, reply: &mut Reply) {
        // Where no server was asked, a verdict may name the command that it tells of.
        let skipped = match command.header.scope {
            Scope::None => reply.blocks.iter().take_while(|block| is_verdict(block)).count(),
            _ => 0,
        };
        let is_offered = |_: &Command, _: &str| true;
        self.add(&incoming.conversation, reply, skipped, &is_offered).await;
    }

    /// As [`NextSteps::add_to_answer`], for what a refusal says to do instead. A command that changes something is no next step there if
    /// only its name is given: the refusal may be about it.
    pub async fn complete_refusal(&self, incoming: &ChatEvent, reply: Reply) -> Reply {
        let skipped = reply.blocks.iter().take_while(|block| is_verdict(block)).count();
        let is_offered =
            |command: &Command, code: &str| command.header.risk == Risk::Read || code != command.name;
        let completed = contain_panic(async {
            let mut reply = reply.clone();
            self.add(&incoming.conversation, &mut reply, skipped, &is_offered).await;
            Ok(reply)
        });
        completed.await.unwrap_or(reply)
    }

    /// As [`NextSteps::add_to_answer`], for the card of a run that has ended, or the answer in its place.
    pub async fn complete_card(&self, conversation: &Conversation, reply: Reply) -> Reply {
        let completed = contain_panic(async {
            let mut reply = reply.clone();
            self.add(conversation, &mut reply, 0, &|_, _| true).await;
            Ok(reply)
        });
        completed.await.unwrap_or(reply)
    }

    async fn add(
        &self,
        conversation: &Conversation,
        reply: &mut Reply,
        skipped: usize,
        is_offered: &(dyn Fn(&Command, &str) -> bool + Sync),
    ) {
        let lines = self.command_lines(conversation, reply).await;
        let person = reply.heading.requester.clone();
        let has_buttons = reply.blocks.iter().any(|block| matches!(block, Block::Buttons(_)));
        let labels: Vec<String> = reply.buttons().map(|button| button.label.clone()).collect();
        let (mut buttons, mut offers): (Vec<Button>, Vec<_>) = (Vec::new(), Vec::new());
        let blocks = reply.blocks.iter_mut().skip(skipped);
        for (in_verdict, span) in blocks.flat_map(spans) {
            let Span::Code(code) = span else { continue };
            let Some(command) = lines.command_of(code).filter(|command| is_offered(command, code)) else {
                continue;
            };
            let risk = self.app.access.policy(command, lines.environment.as_deref()).risk;
            let typed = code.clone();
            *code = lines.whole_line(command, code);
            let Some(purpose) = lines.purpose_of(&typed) else { continue };
            let TokenPurpose::RunCommand { environment, arguments, .. } = &purpose else { continue };
            let opens_form = command.header.args.iter().any(|spec| spec.is_missing(arguments));
            let label = line_label(&typed, opens_form || risk == Risk::Danger);
            let may_run =
                person.as_ref().is_some_and(|person| self.may_run(person, command, environment.as_deref()));
            let is_room = !has_buttons && buttons.len() < MAX_BUTTONS && label.chars().count() <= MAX_LABEL;
            // What a row offers for looking is offered beside the verdict, too: the row is further down.
            let has_button = buttons.iter().any(|button| button.label == label)
                || labels.contains(&label) && !(in_verdict && risk == Risk::Read);
            if !may_run || !is_room || has_button {
                continue;
            }
            let Some(token) = random_token() else { continue };
            let style = if risk == Risk::Danger { ButtonStyle::Danger } else { ButtonStyle::Plain };
            buttons.push(Button::new(label, token.clone(), style));
            offers.push((token, purpose));
        }
        // A terminal has the lines.
        let can_click = conversation.platform.is_chat() && lines.has_store;
        if can_click && !buttons.is_empty() && self.store_offers(conversation, offers).await {
            let at = reply.blocks.iter().take_while(|block| is_leading(block)).count();
            reply.blocks.insert(at, Block::Buttons(buttons));
        }
    }

    /// True if the person may run the command; for a window, whose card anybody may click on, if anybody may.
    fn may_run(&self, person: &Person, command: &Command, environment: Option<&str>) -> bool {
        let may_run = |person: &Person| self.app.access.may_run(person, command, environment);
        if !schedule::is_window(person) {
            return may_run(person);
        }
        let people = self.app.config.people.iter();
        people.map(|person| Person { id: person.name.clone(), account: None }).any(|person| may_run(&person))
    }

    /// Stores the commands behind an answer's buttons. On `false` the buttons have no meaning and must not be shown.
    pub async fn store_offers(
        &self,
        conversation: &Conversation,
        offers: Vec<(String, TokenPurpose)>,
    ) -> bool {
        if offers.is_empty() {
            return true;
        }
        let tokens = offers.into_iter().map(|(token, purpose)| ButtonToken {
            token,
            purpose,
            conversation: conversation.clone(),
        });
        self.app.audit.store.put_tokens(tokens.collect()).await.is_ok()
    }

    async fn command_lines(&self, conversation: &Conversation, reply: &Reply) -> CommandLines<'_> {
        let environment = reply.heading.environment.as_ref().map(|tag| tag.name.clone());
        let default = self.app.audit.store.conversation_environment(conversation.clone());
        let default = tokio::time::timeout(LOAD_TIMEOUT, default).await;
        let has_store = matches!(default, Ok(Ok(_)));
        let platform = self.platforms.get(conversation.platform);
        CommandLines {
            app: &self.app,
            known: KnownNames::of(&self.app.config, &self.app.catalog),
            prefix: platform.map(|platform| platform.command_prefix()).unwrap_or_default(),
            environment,
            default: default.ok().and_then(Result::ok).flatten(),
            has_store,
        }
    }
}

pub(super) fn retain_buttons(blocks: &mut Vec<Block>, is_kept: &dyn Fn(&Button) -> bool) {
    for block in blocks.iter_mut() {
        match block {
            Block::Buttons(buttons) => buttons.retain(is_kept),
            Block::Table(table) => table.rows.iter_mut().for_each(|row| row.buttons.retain(is_kept)),
            _ => {}
        }
    }
    blocks.retain(|block| !matches!(block, Block::Buttons(buttons) if buttons.is_empty()));
}

fn is_verdict(block: &Block) -> bool {
    matches!(block, Block::Verdict { .. })
}

/// The blocks that are read before the first table: the verdict and what belongs to it.
fn is_leading(block: &Block) -> bool {
    matches!(block, Block::Verdict { .. } | Block::Text(_) | Block::Note(_))
}

/// The spans of a block's sentences, and whether they are a verdict's.
fn spans(block: &mut Block) -> impl Iterator<Item = (bool, &mut Span)> {
    let in_verdict = is_verdict(block);
    let text = match block {
        Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => Some(text),
        _ => None,
    };
    text.into_iter().flat_map(|text| &mut text.0).map(move |span| (in_verdict, span))
}
