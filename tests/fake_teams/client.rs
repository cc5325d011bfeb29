//! What people do, and what Teams then sends to the bot: signed activities, each answered within a time.

use super::World;
use super::people::{At, Conversation, Kind, Message, Role};
use super::split;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where the bot takes activities.
const DOOR: &str = "/teams/messages";

/// How the bot answered an activity.
#[derive(Debug, Clone, Default)]
pub struct Ack {
    /// HTTP status; 0 when there was no answer in time, or nothing to send.
    pub status: u16,
    /// Null where it is no JSON.
    pub body: Value,
    /// The message that the person wrote.
    pub at: Option<At>,
    /// Why there was no answer, or what is wrong with it.
    pub problem: Option<String>,
}

impl Ack {
    /// Whether Teams is content.
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status) && self.problem.is_none()
    }

    pub(super) fn none(problem: String) -> Ack {
        Ack { problem: Some(problem), ..Ack::default() }
    }
}

/// An activity that was sent to the bot.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub activity: Value,
    /// The bearer token.
    pub token: String,
    pub ack: Ack,
}

impl World {
    /// Somebody writes to the bot: by mention where others are, plainly where they are alone with it. Returns when the bot
    /// has acknowledged; its answers may come later.
    pub async fn say(&self, name: &str, conversation: &str, text: &str) -> Ack {
        self.writes((name, conversation), text, None).await
    }

    /// A slash command: only its sender and the bot see it.
    pub async fn slash(&self, name: &str, conversation: &str, text: &str) -> Ack {
        self.writes((name, conversation), text, Some(name)).await
    }

    async fn writes(&self, (name, place): (&str, &str), text: &str, only_to: Option<&str>) -> Ack {
        let (base, thread) = split(place);
        let room = self.state().conversation(base).cloned();
        let Some(room) = room.filter(|_| self.state().is_in(name, base)) else {
            return Ack::none(format!("{name} is not in {base}"));
        };
        let mentions = room.kind != Kind::Personal && only_to.is_none();
        let text = if mentions { format!("<at>Countersign</at> {text}") } else { text.to_owned() };
        let message = self.change(|state| {
            let id = state.next_id();
            let thread =
                thread.map(str::to_owned).or_else(|| (room.kind == Kind::Channel).then(|| id.clone()));
            let message = Message {
                conversation: base.to_owned(),
                id,
                thread,
                author: Some(name.to_owned()),
                text: text.clone(),
                cards: Vec::new(),
                reply_to: None,
                only_to: only_to.map(str::to_owned),
                edited: 0,
                views: BTreeMap::new(),
                asked: false,
            };
            state.messages.push(message.clone());
            message
        });
        if !room.is_bot_member {
            return Ack::none("the bot is not in that conversation, so it is not told".to_owned());
        }
        let mut activity = self.activity(name, &message.place());
        activity["id"] = json!(message.id);
        activity["text"] = json!(text);
        activity["textFormat"] = json!("plain");
        if mentions {
            let html = format!("<div><div>{text}</div></div>");
            activity["attachments"] = json!([{ "contentType": "text/html", "content": html }]);
            let mentioned = activity["recipient"].clone();
            let mention =
                json!({ "type": "mention", "text": "<at>Countersign</at>", "mentioned": mentioned });
            activity["entities"].as_array_mut().expect("entities").push(mention);
        }
        if only_to.is_some() {
            activity["recipient"]["isTargeted"] = json!(true);
        }
        let mut ack = self.deliver(activity).await;
        ack.at = Some(message.at());
        ack
    }

    /// What every activity of a person in a conversation, or in one of its threads, has.
    pub fn activity(&self, name: &str, place: &str) -> Value {
        let (base, _) = split(place);
        let state = self.state();
        let person = state.person(name);
        let kind = state.conversation(base).map_or(Kind::Channel, |room: &Conversation| room.kind);
        let tenant = &state.settings.tenant;
        let mut from = json!({ "id": person.mri(), "name": person.name });
        if person.role != Role::Anonymous {
            from["aadObjectId"] = json!(person.object());
        }
        let mut channel_data = json!({ "tenant": { "id": tenant } });
        if kind == Kind::Channel {
            channel_data["channel"] = json!({ "id": base });
            channel_data["team"] = json!({ "id": "19:the-team@thread.tacv2" });
            channel_data["teamsChannelId"] = json!(base);
            channel_data["teamsTeamId"] = json!("19:the-team@thread.tacv2");
        }
        let mut conversation = json!({ "id": place, "conversationType": kind.name(), "tenantId": tenant });
        if kind != Kind::Personal {
            conversation["isGroup"] = json!(true);
        }
        let time = jiff::Timestamp::now().to_string();
        json!({
            "type": "message", "id": "", "timestamp": time, "localTimestamp": time, "localTimezone": "UTC",
            "serviceUrl": self.service_url(), "channelId": "msteams", "from": from,
            "conversation": conversation, "channelData": channel_data, "locale": "en-GB",
            "recipient": { "id": format!("28:{}", state.settings.app), "name": "Countersign" },
            "entities": [{ "type": "clientInfo", "locale": "en-GB", "country": "GB", "platform": "Web",
                           "timezone": "UTC" }],
        })
    }

    /// Sends an activity, signed as Teams signs.
    pub async fn deliver(&self, activity: Value) -> Ack {
        let token = self.sign(&self.token());
        self.deliver_with(token, activity).await
    }

    /// Sends an activity with that token.
    pub async fn deliver_with(&self, token: String, activity: Value) -> Ack {
        let headers = vec![
            ("content-type".to_owned(), "application/json; charset=utf-8".to_owned()),
            ("authorization".to_owned(), format!("Bearer {token}")),
        ];
        let ack = self.post_raw(headers, activity.to_string().into_bytes()).await;
        let delivery = Delivery { activity, token, ack: ack.clone() };
        self.change(|state| state.deliveries.push(delivery));
        ack
    }

    /// Sends an activity of the past again, with its old token.
    pub async fn redeliver(&self, number: usize) -> Ack {
        let old = self.deliveries().swap_remove(number);
        self.deliver_with(old.token, old.activity).await
    }

    /// Sends any bytes to the bot's door, for forged and broken requests.
    pub async fn post_raw(&self, headers: Vec<(String, String)>, body: Vec<u8>) -> Ack {
        let (bot, limit) = {
            let state = self.state();
            (state.bot.clone().expect("a bot"), state.settings.ack_limit)
        };
        let mut request = self.http.post(format!("{bot}{DOOR}")).body(body).timeout(limit);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        };
        match answer.await {
            Ok((status, text)) => {
                let body = serde_json::from_str(&text).unwrap_or(Value::Null);
                Ack { status, body, ..Ack::default() }
            }
            Err(error) => Ack::none(format!("no answer: {error:?}")),
        }
    }
}

impl Message {
    /// The conversation, with the thread where there is one.
    pub fn place(&self) -> String {
        match &self.thread {
            Some(thread) => format!("{};messageid={thread}", self.conversation),
            None => self.conversation.clone(),
        }
    }
}
