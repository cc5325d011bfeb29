//! Clicks on cards, and the views of a card that Teams requests by itself.

use super::client::ActivityAck;
use super::connector::ConnectorCall;
use super::state::{ActivityRef, TeamsMessage, TeamsPayload, TenantState};
use super::{Tenant, activities, cards};
use serde_json::{Value, json};

/// Most members of a conversation in which the views of a card that names no one are refreshed.
const FEW: usize = 60;

const CARD_ANSWER: &str = "application/vnd.microsoft.card.adaptive";

impl Tenant {
    /// A user clicks a button, given by its title, on a message as the user sees it now.
    pub async fn click_button(&self, name: &str, at: &ActivityRef, title: &str) -> ActivityAck {
        match self.visible_message(name, at) {
            Some(shown) => self.click_stale_button(name, &shown, title).await,
            None => ActivityAck::failed(format!("{name} sees no message {at:?}")),
        }
    }

    /// A click on a message as it was shown: what arrives when a user clicks just before the message changes.
    pub async fn click_stale_button(&self, name: &str, shown: &TeamsMessage, title: &str) -> ActivityAck {
        let Some(button) = shown.button(title) else {
            return ActivityAck::failed(format!("no button {title:?} on:\n{}", shown.plain()));
        };
        self.click(name, shown, &button.action).await
    }

    /// A click by an old client, which doesn't know `Action.Execute`.
    pub async fn click_with_old_client(&self, name: &str, shown: &TeamsMessage, title: &str) -> ActivityAck {
        let button = shown.button(title).map(|button| button.action["fallback"].clone());
        match button.filter(|fallback| fallback["type"] == "Action.Submit") {
            Some(fallback) => self.submit(name, shown, &fallback).await,
            None => ActivityAck::failed(format!("no fallback for {title:?} on:\n{}", shown.plain())),
        }
    }

    /// A click on a button with that action.
    pub async fn click(&self, name: &str, shown: &TeamsMessage, action: &Value) -> ActivityAck {
        match action["type"].as_str() {
            Some("Action.Execute") => self.execute(name, shown, action, "manual").await,
            _ => self.submit(name, shown, action).await,
        }
    }

    /// `Action.Execute`: an invoke, whose answer replaces the card for that user. The action may be forged.
    pub async fn execute(
        &self,
        name: &str,
        shown: &TeamsMessage,
        action: &Value,
        trigger: &str,
    ) -> ActivityAck {
        let mut activity = self.activity_on(name, shown);
        activity["type"] = json!("invoke");
        activity["name"] = json!("adaptiveCard/action");
        let kept = ["type", "id", "title", "verb", "data"].map(|key| (key.to_owned(), action[key].clone()));
        let kept: serde_json::Map<_, _> = kept.into_iter().filter(|(_, value)| !value.is_null()).collect();
        activity["value"] = json!({ "action": kept, "trigger": trigger });
        // As it is when it is sent: the card that was clicked may be older.
        let edited = self.state().message(&shown.at()).map_or(shown.edited, |now| now.edited);
        let mut ack = self.deliver(activity).await;
        let shown = TeamsMessage { edited, ..shown.clone() };
        ack.problem = self.show_answer(name, &shown, &ack).err();
        ack
    }

    /// `Action.Submit`: a message that holds the data.
    pub async fn submit(&self, name: &str, shown: &TeamsMessage, action: &Value) -> ActivityAck {
        let mut activity = self.activity_on(name, shown);
        activity["value"] = action["data"].clone();
        activity["textFormat"] = json!("plain");
        self.deliver(activity).await
    }

    /// An activity of a user on a message with buttons, with the fields that all of them have.
    pub fn activity_on(&self, name: &str, shown: &TeamsMessage) -> Value {
        let mut activity = self.activity(name, &shown.place());
        let number = self.change(TenantState::next_id);
        activity["id"] = json!(format!("f:{number}"));
        activity["replyToId"] = json!(shown.id);
        activity["channelData"]["source"] = json!({ "name": "message" });
        activity["channelData"]["legacy"] = json!({ "replyToId": shown.id });
        activity
    }

    /// Checks the answer to an invoke, and shows its card to the user in place of the message's, unless that has changed since.
    fn show_answer(&self, name: &str, shown: &TeamsMessage, ack: &ActivityAck) -> Result<(), String> {
        let problems = self.answer_problems(shown, ack);
        let card = (ack.body["type"] == CARD_ANSWER).then(|| ack.body["value"].clone());
        let result = if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) };
        self.change(|state| {
            if let (Some(card), Ok(())) = (&card, &result) {
                let now = state.message(&shown.at()).filter(|now| now.edited == shown.edited);
                now.into_iter().for_each(|now| drop(now.views.insert(name.to_owned(), card.clone())));
            }
            let body = match card {
                Some(card) => message_with(&card),
                None => ack.body.clone(),
            };
            let (method, conversation) = ("answer".to_owned(), shown.conversation.clone());
            let status = if result.is_ok() { 200 } else { 400 };
            state.payloads.push(TeamsPayload { method, conversation, body, status, problems });
        });
        result
    }

    /// The problems of an answer to an invoke: it is one of Teams' few kinds, and never empty.
    fn answer_problems(&self, shown: &TeamsMessage, ack: &ActivityAck) -> Vec<String> {
        let body = &ack.body;
        let (status, value) = (body["statusCode"].as_u64().unwrap_or_default(), &body["value"]);
        let mut problems = Vec::new();
        match body["type"].as_str() {
            _ if ack.problem.is_some() => problems.extend(ack.problem.clone()),
            _ if ack.status != 200 => problems.push(format!("an invoke answered by HTTP {}", ack.status)),
            Some(CARD_ANSWER) if status == 200 => {
                let state = self.state();
                problems = cards::check(value, &activities::member_ids(&state, &shown.conversation));
            }
            Some("application/vnd.microsoft.activity.message") if status == 200 => {
                if value.as_str().is_none_or(str::is_empty) {
                    problems.push("an empty message".to_owned());
                }
            }
            Some("application/vnd.microsoft.error") if status == 400 || status == 500 => {
                if ["code", "message"].iter().any(|part| !value[part].is_string()) {
                    problems.push("an error without code or message".to_owned());
                }
            }
            _ => problems.push(format!("an invoke answered by {body}")),
        }
        problems
    }

    /// Requests the views of those whom a new or changed card names, as the clients of those who look at it do.
    pub(super) fn refresh_views(&self, call: &ConnectorCall) {
        let wanted = self.change(|state| {
            if state.settings.refreshes { views_to_request(state, call.base()) } else { Vec::new() }
        });
        for RequestedView { name, message, action } in wanted {
            let tenant = self.clone();
            tokio::spawn(async move { tenant.execute(&name, &message, &action, "automatic").await });
        }
    }
}

/// A view of a card that is requested for a user.
struct RequestedView {
    name: String,
    message: TeamsMessage,
    action: Value,
}

/// The views that haven't been requested yet of the messages in a conversation.
fn views_to_request(state: &mut TenantState, conversation: &str) -> Vec<RequestedView> {
    let Some(room) = state.conversation(conversation).cloned() else { return Vec::new() };
    let members: Vec<(String, String)> =
        state.members(&room).into_iter().map(|person| (person.name.clone(), person.mri())).collect();
    let mut wanted = Vec::new();
    for message in state.messages.iter_mut().filter(|message| message.conversation == room.id) {
        let refresh = message.cards.first().map_or(Value::Null, |card| card["refresh"].clone());
        if std::mem::replace(&mut message.views_requested, true) || refresh.is_null() {
            continue;
        }
        let is_named = |mri: &str| match refresh["userIds"].as_array() {
            Some(ids) => ids.iter().any(|id| id == mri),
            None => room.members.len() <= FEW,
        };
        let viewers = members
            .iter()
            .filter(|(name, mri)| is_named(mri) && message.only_to.as_ref().is_none_or(|only| only == name));
        wanted.extend(viewers.map(|(name, _)| RequestedView {
            name: name.clone(),
            message: message.clone(),
            action: refresh["action"].clone(),
        }));
    }
    wanted
}

/// The message that an answer stands for. An answer is a card alone and notifies no one, so the summary is added here.
fn message_with(card: &Value) -> Value {
    json!({
        "type": "message", "summary": "-",
        "attachments": [{ "contentType": CARD_ANSWER, "content": card }],
    })
}
