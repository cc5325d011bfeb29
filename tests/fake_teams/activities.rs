//! What the bot posts, edits and deletes: checked as Teams checks it, and then there for people to see.

use super::connector::Call;
use super::faults::connector_error;
use super::people::{At, Conversation, Kind, Message, Payload};
use super::{State, World, cards, split};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CARD: &str = "application/vnd.microsoft.card.adaptive";

/// Status, the Bot Framework's code, its words.
type Refusal = (StatusCode, &'static str, String);

impl World {
    pub(super) fn post(&self, call: &Call) -> Response {
        self.perform("post", call, |state| {
            let only_to = recipient(state, call)?;
            check(state, call)?;
            let (base, thread) = split(&call.conversation);
            let is_channel = state.conversation(base).is_some_and(|room| room.kind == Kind::Channel);
            let id = state.next_id();
            // A message to a channel itself begins a thread.
            let thread = thread.map(str::to_owned).or_else(|| is_channel.then(|| id.clone()));
            let reply_to = call.activity.clone().or_else(|| text(&call.body, "replyToId"));
            let message = Message {
                conversation: base.to_owned(),
                id: id.clone(),
                thread,
                author: None,
                text: text(&call.body, "text").unwrap_or_default(),
                cards: run_cards(&call.body),
                reply_to,
                only_to,
                edited: 0,
                views: BTreeMap::new(),
                asked: false,
            };
            state.messages.push(message);
            Ok(id)
        })
    }

    pub(super) fn put(&self, call: &Call) -> Response {
        self.perform("put", call, |state| {
            let only_to = recipient(state, call)?;
            check(state, call)?;
            let (id, message) = own(state, call)?;
            if message.only_to != only_to {
                return Err(bad("the message is not for that recipient".to_owned()));
            }
            message.text = text(&call.body, "text").unwrap_or_default();
            message.cards = run_cards(&call.body);
            message.edited += 1;
            message.views.clear();
            message.asked = false;
            Ok(id)
        })
    }

    pub(super) fn delete(&self, call: &Call) -> Response {
        self.perform("delete", call, |state| {
            let (id, _) = own(state, call)?;
            state.messages.retain(|message| message.id != id);
            Ok(id)
        })
    }

    /// Does the work of a call where the conversation lets the bot, and writes it into the log.
    fn perform(
        &self,
        method: &str,
        call: &Call,
        work: impl FnOnce(&mut State) -> Result<String, Refusal>,
    ) -> Response {
        if let Err(refused) = self.paced(call.base()) {
            return *refused;
        }
        self.change(|state| {
            let result = open(state, call).and_then(|()| work(state));
            let (status, problems, response) = match result {
                Ok(id) => {
                    let status = if method == "post" { StatusCode::CREATED } else { StatusCode::OK };
                    (status, Vec::new(), (status, axum::Json(json!({ "id": id }))).into_response())
                }
                Err((status, code, why)) => {
                    // What is refused for what it is would be the bot's mistake; other refusals are the world's.
                    let own = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE].contains(&status);
                    let problems = if own { vec![why.clone()] } else { Vec::new() };
                    (status, problems, connector_error(status, (code, &why)))
                }
            };
            let (conversation, body) = (call.base().to_owned(), call.body.clone());
            let status = status.as_u16();
            state.payloads.push(Payload { method: method.to_owned(), conversation, body, status, problems });
            response
        })
    }
}

fn bad(why: String) -> Refusal {
    (StatusCode::BAD_REQUEST, "BadSyntax", why)
}

pub(super) fn text(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().map(str::to_owned)
}

/// Whether the bot may write there.
fn open(state: &State, call: &Call) -> Result<(), Refusal> {
    let room = state.conversation(call.base());
    let room =
        room.ok_or((StatusCode::NOT_FOUND, "ConversationNotFound", "Conversation not found.".to_owned()))?;
    if !room.is_bot_member {
        let why = "The bot is not part of the conversation roster.".to_owned();
        return Err((StatusCode::FORBIDDEN, "BotNotInConversationRoster", why));
    }
    let alone = room.members.first().filter(|_| room.kind == Kind::Personal);
    if alone.is_some_and(|name| !state.person(name).reachable) {
        let why = "User blocked the conversation with the bot.".to_owned();
        return Err((StatusCode::FORBIDDEN, "MessageWritesBlocked", why));
    }
    if call.bytes > state.settings.largest {
        let why = format!("Message size too large: {} bytes.", call.bytes);
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "MessageSizeTooBig", why));
    }
    Ok(())
}

/// The name of the only person who shall see it.
fn recipient(state: &State, call: &Call) -> Result<Option<String>, Refusal> {
    if !call.targeted {
        return Ok(None);
    }
    let room = state.conversation(call.base()).filter(|room| room.kind != Kind::Personal);
    if room.is_none() {
        return Err(bad("targeted messages are for group chats and channels".to_owned()));
    }
    let id = call.body["recipient"]["id"].as_str().unwrap_or_default();
    let person = state.person_with(id).filter(|person| state.is_in(&person.name, call.base()));
    match person {
        Some(person) => Ok(Some(person.name.clone())),
        None => Err(bad(format!("the recipient {id:?} of a targeted message is no member"))),
    }
}

/// The bot's own message that a call is about.
fn own<'a>(state: &'a mut State, call: &Call) -> Result<(String, &'a mut Message), Refusal> {
    let at = At { conversation: call.base().to_owned(), id: call.activity.clone().unwrap_or_default() };
    let gone = (StatusCode::NOT_FOUND, "ActivityNotFoundInConversation", "No such activity.".to_owned());
    let message = state.message(&at).ok_or(gone)?;
    if message.author.is_some() {
        let why = "The bot can't change what others wrote.".to_owned();
        return Err((StatusCode::FORBIDDEN, "Forbidden", why));
    }
    if message.only_to.is_some() != call.targeted {
        return Err(bad("isTargetedActivity is not as the message was posted".to_owned()));
    }
    Ok((at.id, message))
}

pub(super) fn run_cards(body: &Value) -> Vec<Value> {
    let all = body["attachments"].as_array().into_iter().flatten();
    all.map(|attachment| attachment["content"].clone()).collect()
}

/// Whether Teams would show it.
fn check(state: &State, call: &Call) -> Result<(), Refusal> {
    let body = &call.body;
    let mut problems = Vec::new();
    if body["type"] != "message" {
        problems.push(format!("an activity of type {}", body["type"]));
    }
    let words = body["text"].as_str().unwrap_or_default();
    let attachments = body["attachments"].as_array().map_or(&[][..], Vec::as_slice);
    if words.is_empty() && attachments.is_empty() {
        problems.push("Activity resulted into empty message".to_owned());
    }
    let formats = ["plain", "markdown", "xml"];
    if body["textFormat"].as_str().is_some_and(|format| !formats.contains(&format)) {
        problems.push(format!("textFormat {}", body["textFormat"]));
    }
    let room = state.conversation(call.base()).expect("an open conversation");
    for attachment in attachments {
        if attachment["contentType"] != CARD {
            problems.push(format!("an attachment of type {}", attachment["contentType"]));
        }
        problems.extend(cards::check(&attachment["content"], &ids(state, room)));
    }
    let entities = body["entities"].as_array().into_iter().flatten();
    problems.extend(entities.filter_map(|entity| cards::mention(entity, words)));
    if problems.is_empty() { Ok(()) } else { Err(bad(problems.join("; "))) }
}

/// Teams' ids of those who are in a conversation.
pub(super) fn ids(state: &State, room: &Conversation) -> Vec<String> {
    let there = room.members.iter().filter(|name| state.is_in(name, &room.id));
    there.map(|name| state.person(name).mri()).collect()
}
