//! Links below an answer or an outcome: the configuration's templates with the values of what it is about, and the address of a run's
//! card.

use super::platforms::Platforms;
use crate::app::App;
use crate::command_line::{ArgType, Values};
use crate::config::LinkSubject;
use crate::model::{Block, Card, CardKind, Conversation, EventKind, Link, PostedMessage, Run, TokenPurpose};
use std::time::Duration;

/// A platform is waited for this long for the address of a card: in an incident the answer matters more.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Links of rows: more would not be read on a phone.
const MAX_ROW_LINKS: usize = 5;

/// A command with its arguments, as a line or a run has it.
pub(super) struct Arguments<'a> {
    pub command: &'a str,
    pub environment: Option<&'a str>,
    pub values: &'a Values,
}

/// The links of what a command names.
pub(super) fn of_arguments(app: &App, arguments: &Arguments<'_>) -> Vec<Link> {
    let session = |name: &str| session_value(app, arguments, name);
    let service = |name: &str| service_value(app, arguments, name);
    let mut links = filled(app, LinkSubject::Service, arguments.environment, &service);
    links.extend(filled(app, LinkSubject::Session, arguments.environment, &session));
    links
}

/// The links of what the rows with a button name, each with that name behind its label: "Session log 4711".
pub(super) fn of_rows(app: &App, offers: &[(String, TokenPurpose)]) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    for (_, offer) in offers {
        let TokenPurpose::RunCommand { command, environment, arguments } = offer else { continue };
        let arguments = Arguments { command, environment: environment.as_deref(), values: arguments };
        let name = argument(app, &arguments, ArgType::Pid).or(argument(app, &arguments, ArgType::Service));
        let Some(name) = name else { continue };
        for link in of_arguments(app, &arguments) {
            let link = Link { label: format!("{} {name}", link.label), ..link };
            if !links.contains(&link) {
                links.push(link);
            }
        }
    }
    links.truncate(MAX_ROW_LINKS);
    links
}

/// The links of a run and of what its command names.
pub(super) fn of_run(app: &App, run: &Run) -> Vec<Link> {
    let request = &run.request;
    let environment = request.environment.as_deref();
    let value = |name: &str| match name {
        "run" => Some(run.id.to_string()),
        "command" => Some(request.command.clone()),
        "environment" => request.environment.clone(),
        _ => None,
    };
    let mut links = filled(app, LinkSubject::Run, environment, &value);
    let arguments = Arguments { command: &request.command, environment, values: &request.arguments };
    links.extend(of_arguments(app, &arguments));
    links
}

/// The block of links; `None` without any.
pub(super) fn block(links: Vec<Link>) -> Option<Block> {
    (!links.is_empty()).then_some(Block::Links(links))
}

/// The address of a run's card, rather of one in the chat that asks.
pub(super) async fn of_card(
    app: &App,
    platforms: &Platforms,
    run: &Run,
    conversation: &Conversation,
) -> Option<Link> {
    let cards = app.audit.store.run_cards(run.id).await.ok()?;
    let is_shown = |card: &&Card| {
        card.kind == CardKind::Primary && !card.abandoned && card.conversation.account().is_none()
    };
    let mut posted: Vec<PostedMessage> = cards
        .into_iter()
        .filter(|card| is_shown(&card) && run.event(EventKind::Requested).is_some())
        .filter_map(|card| Some(PostedMessage { message: card.message?, conversation: card.conversation }))
        .collect();
    posted.sort_by_key(|posted| posted.conversation.platform != conversation.platform);
    for posted in posted {
        let Some(platform) = platforms.get(posted.conversation.platform) else { continue };
        match tokio::time::timeout(LOOKUP_TIMEOUT, platform.message_url(&posted)).await {
            Ok(Ok(Some(url))) => return Some(Link { label: "Open the card".to_owned(), url }),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::info!(run = run.id, %error, "looking up the card's address failed"),
            Err(_) => tracing::info!(run = run.id, "looking up the card's address timed out"),
        }
    }
    None
}

fn filled(
    app: &App,
    subject: LinkSubject,
    environment: Option<&str>,
    value: &dyn Fn(&str) -> Option<String>,
) -> Vec<Link> {
    let templates = app.config.links.iter();
    let templates = templates.filter(|link| link.subject == subject && link.is_shown_in(environment));
    templates.filter_map(|link| link.fill(value)).collect()
}

/// The value of the command's argument of a type.
fn argument<'a>(app: &App, arguments: &'a Arguments<'_>, kind: ArgType) -> Option<&'a String> {
    let specs = &app.catalog.find(arguments.command)?.header.args;
    let spec = specs.iter().find(|spec| spec.kind == kind)?;
    arguments.values.get(&spec.name)
}

fn session_value(app: &App, arguments: &Arguments<'_>, name: &str) -> Option<String> {
    let pid = argument(app, arguments, ArgType::Pid)?;
    let environment = app.environments.environment(arguments.environment?).ok()?;
    match name {
        "pid" => Some(pid.clone()),
        "environment" => Some(environment.name.clone()),
        "server" => arguments.values.get("server").cloned().or_else(|| {
            let [server] = environment.servers.as_slice() else { return None };
            Some(server.name.clone())
        }),
        _ => None,
    }
}

fn service_value(app: &App, arguments: &Arguments<'_>, name: &str) -> Option<String> {
    let service = app.environments.service(argument(app, arguments, ArgType::Service)?).ok()?;
    let environment = app.environments.environment(arguments.environment?).ok()?;
    match name {
        "service" => Some(service.name.clone()),
        "database" => Some(service.database.clone()),
        "environment" => Some(environment.name.clone()),
        "server" => app.environments.server_of(environment, service).map(|server| server.name.clone()),
        _ => None,
    }
}
