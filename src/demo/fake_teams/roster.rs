//! The members of conversations, and personal chats.

use super::Tenant;
use super::connector::ConnectorCall;
use super::faults::connector_error;
use super::state::{TeamsPayload, TenantState, TenantUser, UserRole};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Most members on a page.
const LARGEST_PAGE: usize = 500;

/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/get-teams-context>.
fn account(person: &TenantUser) -> Value {
    let role = match person.role {
        UserRole::Guest => "guest",
        UserRole::Anonymous => "anonymous",
        UserRole::User | UserRole::Bot => "user",
    };
    let mut account = json!({
        "id": person.mri(), "name": person.name, "tenantId": person.tenant, "userRole": role,
    });
    if ![UserRole::Anonymous, UserRole::Bot].contains(&person.role) {
        account["aadObjectId"] = json!(person.object_id());
        account["userPrincipalName"] = json!(person.upn());
        account["email"] = json!(person.upn());
    }
    account
}

/// The members of a conversation, in the order in which they joined.
fn roster<'a>(state: &'a TenantState, conversation: &str) -> Result<Vec<&'a TenantUser>, Box<Response>> {
    let Some(room) = state.conversation(conversation) else {
        let why = "Conversation not found.";
        return Err(Box::new(connector_error(StatusCode::NOT_FOUND, "ConversationNotFound", why)));
    };
    if !room.is_bot_member {
        let why = "The bot is not part of the conversation roster.";
        return Err(Box::new(connector_error(StatusCode::FORBIDDEN, "BotNotInConversationRoster", why)));
    }
    Ok(state.members(room))
}

impl Tenant {
    pub(super) fn member(&self, conversation: &str, id: &str) -> Response {
        let state = self.state();
        let roster = match roster(&state, conversation) {
            Ok(roster) => roster,
            Err(refused) => return *refused,
        };
        let is = |person: &&&TenantUser| {
            person.mri() == id || (person.role != UserRole::Anonymous && person.object_id() == id)
        };
        match roster.iter().find(is) {
            Some(person) => axum::Json(account(person)).into_response(),
            None => {
                let why = "The conversation member was not found.";
                connector_error(StatusCode::NOT_FOUND, "MemberNotFoundInConversation", why)
            }
        }
    }

    pub(super) fn paged_members(&self, conversation: &str, query: &HashMap<String, String>) -> Response {
        let state = self.state();
        let roster = match roster(&state, conversation) {
            Ok(roster) => roster,
            Err(refused) => return *refused,
        };
        let smallest = state.settings.smallest_page;
        let size = query.get("pageSize").and_then(|size| size.parse().ok()).unwrap_or(smallest);
        let size = size.clamp(smallest, LARGEST_PAGE.max(smallest));
        let begin =
            match query.get("continuationToken").map(|token| token.strip_prefix("page=").unwrap_or("")) {
                None => 0,
                Some(token) => match token.parse::<usize>() {
                    Ok(begin) if begin < roster.len() => begin,
                    _ => return connector_error(StatusCode::BAD_REQUEST, "BadArgument", "no such page"),
                },
            };
        let page: Vec<Value> = roster.iter().skip(begin).take(size).map(|person| account(person)).collect();
        let mut answer = json!({ "members": page });
        if begin + size < roster.len() {
            answer["continuationToken"] = json!(format!("page={}", begin + size));
        }
        axum::Json(answer).into_response()
    }

    /// `POST v3/conversations`: a personal chat between one user and the bot.
    pub(super) fn create_personal(&self, call: &ConnectorCall) -> Response {
        let body = &call.body;
        let created = || {
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
        let (status, problems, response) = match created() {
            Ok(name) => {
                let answer = axum::Json(json!({ "id": self.personal(&name) }));
                (StatusCode::CREATED, Vec::new(), (StatusCode::CREATED, answer).into_response())
            }
            Err((status, code, why)) => {
                let response = connector_error(status, code, &why);
                let mistake = if status == StatusCode::BAD_REQUEST { vec![why] } else { Vec::new() };
                (status, mistake, response)
            }
        };
        let (method, conversation, body) = ("create".to_owned(), String::new(), body.clone());
        let status = status.as_u16();
        self.change(|state| {
            state.payloads.push(TeamsPayload { method, conversation, body, status, problems })
        });
        response
    }
}
