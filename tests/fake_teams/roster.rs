//! Who is in a conversation, and conversations with one person alone.

use super::connector::Call;
use super::faults::connector_error;
use super::people::{Payload, Person, Role};
use super::{State, World};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Most members on a page.
const LARGEST_PAGE: usize = 500;

/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/get-teams-context>.
fn account(person: &Person) -> Value {
    let role = match person.role {
        Role::Guest => "guest",
        Role::Anonymous => "anonymous",
        Role::User | Role::Bot => "user",
    };
    let mut account = json!({
        "id": person.mri(), "name": person.name, "tenantId": person.tenant, "userRole": role,
    });
    if ![Role::Anonymous, Role::Bot].contains(&person.role) {
        account["aadObjectId"] = json!(person.object());
        account["userPrincipalName"] = json!(person.upn());
        account["email"] = json!(person.upn());
    }
    account
}

/// Those in a conversation, in the order in which they came.
fn roster<'a>(state: &'a State, conversation: &str) -> Result<Vec<&'a Person>, Box<Response>> {
    let Some(room) = state.conversation(conversation) else {
        let why = ("ConversationNotFound", "Conversation not found.");
        return Err(Box::new(connector_error(StatusCode::NOT_FOUND, why)));
    };
    if !room.is_bot_member {
        let why = ("BotNotInConversationRoster", "The bot is not part of the conversation roster.");
        return Err(Box::new(connector_error(StatusCode::FORBIDDEN, why)));
    }
    let there = room.members.iter().filter(|name| state.is_in(name, conversation));
    Ok(there.map(|name| state.person(name)).collect())
}

impl World {
    pub(super) fn member(&self, conversation: &str, id: &str) -> Response {
        let state = self.state();
        let roster = match roster(&state, conversation) {
            Ok(roster) => roster,
            Err(refused) => return *refused,
        };
        let is = |person: &&&Person| {
            person.mri() == id || (person.role != Role::Anonymous && person.object() == id)
        };
        match roster.iter().find(is) {
            Some(person) => axum::Json(account(person)).into_response(),
            None => {
                let why = ("MemberNotFoundInConversation", "The conversation member was not found.");
                connector_error(StatusCode::NOT_FOUND, why)
            }
        }
    }

    pub(super) fn paged_members(&self, conversation: &str, asked: &HashMap<String, String>) -> Response {
        let state = self.state();
        let roster = match roster(&state, conversation) {
            Ok(roster) => roster,
            Err(refused) => return *refused,
        };
        let smallest = state.settings.smallest_page;
        let size = asked.get("pageSize").and_then(|size| size.parse().ok()).unwrap_or(smallest);
        let size = size.clamp(smallest, LARGEST_PAGE.max(smallest));
        let begin =
            match asked.get("continuationToken").map(|token| token.strip_prefix("page=").unwrap_or("")) {
                None => 0,
                Some(token) => match token.parse::<usize>() {
                    Ok(begin) if begin < roster.len() => begin,
                    _ => return connector_error(StatusCode::BAD_REQUEST, ("BadArgument", "no such page")),
                },
            };
        let page: Vec<Value> = roster.iter().skip(begin).take(size).map(|person| account(person)).collect();
        let mut answer = json!({ "members": page });
        if begin + size < roster.len() {
            answer["continuationToken"] = json!(format!("page={}", begin + size));
        }
        axum::Json(answer).into_response()
    }

    /// `POST v3/conversations`: between one person and the bot.
    pub(super) fn create_personal(&self, call: &Call) -> Response {
        let body = &call.body;
        let made = || {
            let state = self.state();
            let bot = body["bot"]["id"].as_str().unwrap_or_default();
            if bot.trim_start_matches("28:") != state.settings.app {
                return Err((StatusCode::BAD_REQUEST, "BadArgument", format!("the bot is not {bot:?}")));
            }
            let members = body["members"].as_array().map_or(&[][..], Vec::as_slice);
            let [member] = members else {
                return Err((StatusCode::BAD_REQUEST, "BadArgument", format!("{} members", members.len())));
            };
            let tenant = body["channelData"]["tenant"]["id"].as_str().or(body["tenantId"].as_str());
            let Some(tenant) = tenant else {
                return Err((StatusCode::BAD_REQUEST, "BadArgument", "no tenant".to_owned()));
            };
            let person = state.person_with(member["id"].as_str().unwrap_or_default());
            let person = person.filter(|person| !person.deactivated && person.tenant == tenant);
            let Some(person) = person else {
                return Err((StatusCode::NOT_FOUND, "NotFound", "no such user in the tenant".to_owned()));
            };
            if !person.reachable {
                let why = "The bot isn't installed for this user.".to_owned();
                return Err((StatusCode::FORBIDDEN, "BotNotInConversationRoster", why));
            }
            Ok(person.name.clone())
        };
        let (status, problems, response) = match made() {
            Ok(name) => {
                let answer = axum::Json(json!({ "id": self.personal(&name) }));
                (StatusCode::CREATED, Vec::new(), (StatusCode::CREATED, answer).into_response())
            }
            Err((status, code, why)) => {
                let response = connector_error(status, (code, &why));
                let mistake = if status == StatusCode::BAD_REQUEST { vec![why] } else { Vec::new() };
                (status, mistake, response)
            }
        };
        let (method, conversation, body) = ("create".to_owned(), String::new(), body.clone());
        let status = status.as_u16();
        self.change(|state| state.payloads.push(Payload { method, conversation, body, status, problems }));
        response
    }
}
