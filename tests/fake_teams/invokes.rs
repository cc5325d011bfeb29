//! Clicks on cards, and the views that Teams asks for by itself.

use super::client::Ack;
use super::connector::Call;
use super::people::{At, Message, Payload};
use super::{State, World, activities, cards};
use serde_json::{Value, json};
use std::sync::Arc;

/// In a conversation of more people than this nobody's view is refreshed by itself unless the card names them.
const FEW: usize = 60;

impl World {
    /// Somebody clicks a button, given by its title, on a message as they see it now.
    pub async fn click_button(&self, name: &str, at: &At, title: &str) -> Ack {
        match self.seen(name, at) {
            Some(shown) => self.click_stale_button(name, &shown, title).await,
            None => Ack::none(format!("{name} sees no message {at:?}")),
        }
    }

    /// A click on a message as it was shown: what arrives when somebody clicks just before it changes.
    pub async fn click_stale_button(&self, name: &str, shown: &Message, title: &str) -> Ack {
        let Some(button) = shown.button(title) else {
            return Ack::none(format!("no button {title:?} on:\n{}", shown.plain()));
        };
        match button.action["type"].as_str() {
            Some("Action.Execute") => self.executes((name, shown), &button.action, "manual").await,
            _ => self.submits((name, shown), &button.action).await,
        }
    }

    /// The same by a client that doesn't know Action.Execute.
    pub async fn clicks_with_an_old_client(&self, name: &str, shown: &Message, title: &str) -> Ack {
        let button = shown.button(title).map(|button| button.action["fallback"].clone());
        match button.filter(|fallback| fallback["type"] == "Action.Submit") {
            Some(fallback) => self.submits((name, shown), &fallback).await,
            None => Ack::none(format!("no fallback for {title:?} on:\n{}", shown.plain())),
        }
    }

    /// `Action.Execute`: an invoke, whose answer takes the card's place for that person. The action may be made up.
    pub async fn executes(&self, (name, shown): (&str, &Message), action: &Value, trigger: &str) -> Ack {
        let mut activity = self.activity_of(name, shown);
        activity["type"] = json!("invoke");
        activity["name"] = json!("adaptiveCard/action");
        let kept = ["type", "id", "title", "verb", "data"].map(|key| (key.to_owned(), action[key].clone()));
        let kept: serde_json::Map<_, _> = kept.into_iter().filter(|(_, value)| !value.is_null()).collect();
        activity["value"] = json!({ "action": kept, "trigger": trigger });
        // As it is when it is sent: what was clicked on may have been shown before.
        let edited = self.state().message(&shown.at()).map_or(shown.edited, |now| now.edited);
        let mut ack = self.deliver(activity).await;
        if let Err(problem) = self.show_answer((name, shown, edited), &ack) {
            ack.problem = Some(problem);
        }
        ack
    }

    /// `Action.Submit`: a message that holds the data.
    pub async fn submits(&self, (name, shown): (&str, &Message), action: &Value) -> Ack {
        let mut activity = self.activity_of(name, shown);
        activity["value"] = action["data"].clone();
        activity["textFormat"] = json!("plain");
        self.deliver(activity).await
    }

    /// What every activity has that comes of a message with buttons.
    pub fn activity_of(&self, name: &str, shown: &Message) -> Value {
        let mut activity = self.activity(name, &shown.place());
        let number = self.change(State::next_id);
        activity["id"] = json!(format!("f:{number}"));
        activity["replyToId"] = json!(shown.id);
        activity["channelData"]["source"] = json!({ "name": "message" });
        activity["channelData"]["legacy"] = json!({ "replyToId": shown.id });
        activity
    }

    /// Every answer to an invoke is one of Teams' few kinds, and never empty.
    fn show_answer(&self, (name, shown, edited): (&str, &Message, usize), ack: &Ack) -> Result<(), String> {
        let body = &ack.body;
        let (status, value) = (body["statusCode"].as_u64().unwrap_or_default(), &body["value"]);
        let mut problems = Vec::new();
        match body["type"].as_str() {
            _ if ack.status != 200 => problems.push(format!("an invoke answered by HTTP {}", ack.status)),
            Some("application/vnd.microsoft.card.adaptive") if status == 200 => {
                let state = self.state();
                let room = state.conversation(&shown.conversation).expect("a conversation");
                problems = cards::check(value, &activities::ids(&state, room));
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
        let card = (body["type"] == "application/vnd.microsoft.card.adaptive").then(|| value.clone());
        let result = if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) };
        self.change(|state| {
            if let (Some(card), Ok(())) = (&card, &result) {
                // An answer for what the card was before counts no more.
                let now = state.message(&shown.at()).filter(|now| now.edited == edited);
                now.into_iter().for_each(|now| drop(now.views.insert(name.to_owned(), card.clone())));
            }
            let body = match card {
                // As the message that it stands for.
                Some(card) => activity_with(&card),
                None => body.clone(),
            };
            let (method, conversation) = ("answer".to_owned(), shown.conversation.clone());
            let status = if result.is_ok() { 200 } else { 400 };
            state.payloads.push(Payload { method, conversation, body, status, problems });
        });
        result
    }

    /// Whoever looks at a card that names them has Teams ask for their view.
    pub(super) fn refresh_views(self: &Arc<Self>, call: &Call) {
        let mut wanted = Vec::new();
        {
            let mut state = self.state();
            if !state.settings.refreshes {
                return;
            }
            let Some(room) = state.conversation(call.base()).cloned() else { return };
            let there: Vec<(String, String)> = room
                .members
                .iter()
                .filter(|name| state.is_in(name, &room.id))
                .map(|name| (name.clone(), state.person(name).mri()))
                .collect();
            for message in state.messages.iter_mut().filter(|message| message.conversation == room.id) {
                let refresh = message.cards.first().map_or(Value::Null, |card| card["refresh"].clone());
                if std::mem::replace(&mut message.asked, true) || refresh.is_null() {
                    continue;
                }
                let named = |mri: &str| match refresh["userIds"].as_array() {
                    Some(ids) => ids.iter().any(|id| id == mri),
                    None => room.members.len() <= FEW,
                };
                let looks = there.iter().filter(|(name, mri)| {
                    named(mri) && message.only_to.as_ref().is_none_or(|only| only == name)
                });
                wanted.extend(
                    looks.map(|(name, _)| (name.clone(), message.clone(), refresh["action"].clone())),
                );
            }
        }
        for (name, message, action) in wanted {
            let world = Arc::clone(self);
            tokio::spawn(async move { world.executes((&name, &message), &action, "automatic").await });
        }
    }
}

/// An answer is a card alone, and rings nowhere: its summary is ours.
fn activity_with(card: &Value) -> Value {
    json!({
        "type": "message", "summary": "-",
        "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "content": card }],
    })
}
