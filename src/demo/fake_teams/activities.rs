//! The bot's messages, posted, edited and deleted: checked as Teams checks them, and then visible to people.

use super::connector::ConnectorCall;
use super::faults::connector_error;
use super::state::{ActivityRef, ConversationKind, TeamsMessage, TeamsPayload, TenantState, TenantUser};
use super::{Tenant, cards, split};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

const CARD: &str = "application/vnd.microsoft.card.adaptive";

/// Status, the Bot Framework's code, its message.
type Refusal = (StatusCode, &'static str, String);

impl Tenant {
    pub(super) fn post(&self, call: &ConnectorCall) -> Response {
        self.perform("post", call, |state| {
            let only_to = recipient(state, call)?;
            check(state, call)?;
            let (base, thread) = split(&call.conversation);
            let is_channel =
                state.conversation(base).is_some_and(|room| room.kind == ConversationKind::Channel);
            let id = state.next_id();
            // A message to a channel itself begins a thread.
            let thread = thread.map(str::to_owned).or_else(|| is_channel.then(|| id.clone()));
            let reply_to = call.activity.clone().or_else(|| text(&call.body, "replyToId"));
            let message = TeamsMessage {
                conversation: base.to_owned(),
                id: id.clone(),
                thread,
                text: text(&call.body, "text").unwrap_or_default(),
                cards: cards_of(&call.body),
                reply_to,
                only_to,
                ..TeamsMessage::default()
            };
            state.messages.push(message);
            Ok(id)
        })
    }

    pub(super) fn put(&self, call: &ConnectorCall) -> Response {
        self.perform("put", call, |state| {
            let only_to = recipient(state, call)?;
            check(state, call)?;
            let (id, message) = own(state, call)?;
            if message.only_to != only_to {
                return Err(bad("the message is not for that recipient".to_owned()));
            }
            message.text = text(&call.body, "text").unwrap_or_default();
            message.cards = cards_of(&call.body);
            message.edited += 1;
            message.views.clear();
            message.views_requested = false;
            Ok(id)
        })
    }

    pub(super) fn delete(&self, call: &ConnectorCall) -> Response {
        self.perform("delete", call, |state| {
            let (id, _) = own(state, call)?;
            state.messages.retain(|message| message.id != id);
            Ok(id)
        })
    }

    /// Does the work of a call if the bot may write to the conversation, and logs the call.
    fn perform(
        &self,
        method: &str,
        call: &ConnectorCall,
        work: impl FnOnce(&mut TenantState) -> Result<String, Refusal>,
    ) -> Response {
        if let Err(refused) = self.limit_rate(call.base()) {
            return *refused;
        }
        self.change(|state| {
            let result = check_access(state, call).and_then(|()| work(state));
            let (status, problems, response) = match result {
                Ok(id) => {
                    let status = if method == "post" { StatusCode::CREATED } else { StatusCode::OK };
                    (status, Vec::new(), (status, axum::Json(json!({ "id": id }))).into_response())
                }
                Err((status, code, why)) => {
                    // A bad request is the bot's mistake; other refusals are the tenant's state.
                    let is_mistake =
                        [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE].contains(&status);
                    let problems = if is_mistake { vec![why.clone()] } else { Vec::new() };
                    (status, problems, connector_error(status, code, &why))
                }
            };
            let (conversation, body) = (call.base().to_owned(), call.body.clone());
            let status = status.as_u16();
            state.payloads.push(TeamsPayload {
                method: method.to_owned(),
                conversation,
                body,
                status,
                problems,
            });
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

/// Refuses a call if the bot may not write to the conversation, or the message is too large.
fn check_access(state: &TenantState, call: &ConnectorCall) -> Result<(), Refusal> {
    let room = state.conversation(call.base());
    let room =
        room.ok_or((StatusCode::NOT_FOUND, "ConversationNotFound", "Conversation not found.".to_owned()))?;
    if !room.is_bot_member {
        let why = "The bot is not part of the conversation roster.".to_owned();
        return Err((StatusCode::FORBIDDEN, "BotNotInConversationRoster", why));
    }
    let owner = room.members.first().filter(|_| room.kind == ConversationKind::Personal);
    let owner = owner.and_then(|name| state.person(name));
    if owner.is_some_and(|person| !person.reachable) {
        let why = "User blocked the conversation with the bot.".to_owned();
        return Err((StatusCode::FORBIDDEN, "MessageWritesBlocked", why));
    }
    if call.bytes > state.settings.largest {
        let why = format!("Message size too large: {} bytes.", call.bytes);
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "MessageSizeTooBig", why));
    }
    Ok(())
}

/// The name of the only user who is to see the message.
fn recipient(state: &TenantState, call: &ConnectorCall) -> Result<Option<String>, Refusal> {
    if !call.targeted {
        return Ok(None);
    }
    let room = state.conversation(call.base()).filter(|room| room.kind != ConversationKind::Personal);
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
fn own<'a>(
    state: &'a mut TenantState,
    call: &ConnectorCall,
) -> Result<(String, &'a mut TeamsMessage), Refusal> {
    let at =
        ActivityRef { conversation: call.base().to_owned(), id: call.activity.clone().unwrap_or_default() };
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

pub(super) fn cards_of(body: &Value) -> Vec<Value> {
    let all = body["attachments"].as_array().into_iter().flatten();
    all.map(|attachment| attachment["content"].clone()).collect()
}

/// Refuses a message that Teams would not show.
fn check(state: &TenantState, call: &ConnectorCall) -> Result<(), Refusal> {
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
    for attachment in attachments {
        if attachment["contentType"] != CARD {
            problems.push(format!("an attachment of type {}", attachment["contentType"]));
        }
        problems.extend(cards::check(&attachment["content"], &member_ids(state, call.base())));
    }
    let entities = body["entities"].as_array().into_iter().flatten();
    problems.extend(entities.filter_map(|entity| cards::mention(entity, words)));
    if problems.is_empty() { Ok(()) } else { Err(bad(problems.join("; "))) }
}

/// Teams' ids of the members of a conversation.
pub(super) fn member_ids(state: &TenantState, conversation: &str) -> Vec<String> {
    let members = state.conversation(conversation).map(|found| state.members(found)).unwrap_or_default();
    members.into_iter().map(TenantUser::mri).collect()
}
