//! People's messages to the bot, as Teams delivers them: signed activities, each to be acknowledged within a time.

use super::Tenant;
use super::split;
use super::state::{ActivityRef, ConversationKind, TeamsMessage, TenantUser, UserRole};
use serde_json::{Value, json};

/// The path at which the bot takes activities.
const ENDPOINT: &str = "/teams/messages";

/// The bot's answer to an activity.
#[derive(Debug, Clone, Default)]
pub struct ActivityAck {
    /// HTTP status; 0 when there was no answer in time, or nothing to send.
    pub status: u16,
    /// Null if it isn't JSON.
    pub body: Value,
    /// The message that the person wrote.
    pub at: Option<ActivityRef>,
    /// The reason for which there was no answer, or for which Teams refuses it.
    pub problem: Option<String>,
}

impl ActivityAck {
    /// The bot answered, and Teams accepts the answer.
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.status) && self.problem.is_none()
    }

    pub(super) fn failed(problem: String) -> ActivityAck {
        ActivityAck { problem: Some(problem), ..ActivityAck::default() }
    }
}

/// An activity that was sent to the bot.
#[derive(Debug, Clone)]
pub struct ActivityDelivery {
    pub activity: Value,
    /// The bearer token.
    pub token: String,
    pub ack: ActivityAck,
}

impl Tenant {
    /// A user writes to the bot: by mentioning it, or without a mention in a personal chat. Returns when the bot has
    /// acknowledged; its answers may come later.
    pub async fn say(&self, name: &str, conversation: &str, text: &str) -> ActivityAck {
        self.write(name, conversation, text, false).await
    }

    /// A user types a slash command, which only the sender and the bot see.
    pub async fn slash(&self, name: &str, conversation: &str, text: &str) -> ActivityAck {
        self.write(name, conversation, text, true).await
    }

    /// A user writes without mentioning the bot, in a conversation with other people: nothing is delivered to the bot.
    ///
    /// # Errors
    /// When the user isn't in the conversation.
    pub fn say_without_mention(&self, name: &str, conversation: &str, text: &str) -> Result<(), String> {
        self.add_typed(name, conversation, text, false).map(drop)
    }

    /// Adds a message of a user to a conversation.
    fn add_typed(&self, name: &str, place: &str, text: &str, is_slash: bool) -> Result<TeamsMessage, String> {
        let (base, thread) = split(place);
        let room = self.state().conversation(base).cloned();
        let Some(room) = room.filter(|_| self.state().is_in(name, base)) else {
            return Err(format!("{name} is not in {base}"));
        };
        Ok(self.change(|state| {
            let id = state.next_id();
            let thread = thread.map(str::to_owned);
            let message = TeamsMessage {
                conversation: base.to_owned(),
                // A message to a channel itself begins a thread.
                thread: thread.or_else(|| (room.kind == ConversationKind::Channel).then(|| id.clone())),
                id,
                author: Some(name.to_owned()),
                text: text.to_owned(),
                only_to: is_slash.then(|| name.to_owned()),
                ..TeamsMessage::default()
            };
            state.messages.push(message.clone());
            message
        }))
    }

    async fn write(&self, name: &str, place: &str, text: &str, is_slash: bool) -> ActivityAck {
        let room = self.state().conversation(split(place).0).cloned();
        let is_personal = room.as_ref().is_some_and(|room| room.kind == ConversationKind::Personal);
        let mentions = !is_personal && !is_slash;
        let text = if mentions { format!("<at>Countersign</at> {text}") } else { text.to_owned() };
        let message = match self.add_typed(name, place, &text, is_slash) {
            Ok(message) => message,
            Err(problem) => return ActivityAck::failed(problem),
        };
        if !room.is_some_and(|room| room.is_bot_member) {
            return ActivityAck::failed(
                "the bot is not in that conversation, so nothing is delivered to it".to_owned(),
            );
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
            activity["entities"]
                .as_array_mut()
                .into_iter()
                .for_each(|entities| entities.push(mention.clone()));
        }
        if is_slash {
            activity["recipient"]["isTargeted"] = json!(true);
        }
        let mut ack = self.deliver(activity).await;
        ack.at = Some(message.at());
        ack
    }

    /// An activity of a user in a conversation, or in one of its threads, with the fields that all activities have. A user who
    /// isn't in the tenant may be named, too.
    pub fn activity(&self, name: &str, place: &str) -> Value {
        let (base, _) = split(place);
        let state = self.state();
        let person = state.person(name).cloned().unwrap_or_else(|| TenantUser::new(name));
        let kind = state.conversation(base).map_or(ConversationKind::Channel, |room| room.kind);
        let tenant = &state.settings.tenant;
        let mut from = json!({ "id": person.mri(), "name": person.name });
        if person.role != UserRole::Anonymous {
            from["aadObjectId"] = json!(person.object_id());
        }
        let mut channel_data = json!({ "tenant": { "id": tenant } });
        if kind == ConversationKind::Channel {
            channel_data["channel"] = json!({ "id": base });
            channel_data["team"] = json!({ "id": "19:the-team@thread.tacv2" });
            channel_data["teamsChannelId"] = json!(base);
            channel_data["teamsTeamId"] = json!("19:the-team@thread.tacv2");
        }
        let mut conversation = json!({ "id": place, "conversationType": kind.name(), "tenantId": tenant });
        if kind != ConversationKind::Personal {
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
    pub async fn deliver(&self, activity: Value) -> ActivityAck {
        let token = self.sign(&self.token());
        self.deliver_with(token, activity).await
    }

    /// Sends an activity with that token.
    pub async fn deliver_with(&self, token: String, activity: Value) -> ActivityAck {
        let headers = vec![
            ("content-type".to_owned(), "application/json; charset=utf-8".to_owned()),
            ("authorization".to_owned(), format!("Bearer {token}")),
        ];
        let ack = self.post_raw(headers, activity.to_string().into_bytes()).await;
        let delivery = ActivityDelivery { activity, token, ack: ack.clone() };
        self.change(|state| state.deliveries.push(delivery));
        ack
    }

    /// Sends an activity of the past again, with its old token.
    pub async fn redeliver(&self, number: usize) -> ActivityAck {
        let old = self.deliveries().swap_remove(number);
        self.deliver_with(old.token, old.activity).await
    }

    /// Sends any bytes to the bot's endpoint, for forged and broken requests.
    pub async fn post_raw(&self, headers: Vec<(String, String)>, body: Vec<u8>) -> ActivityAck {
        let (bot, limit) = {
            let state = self.state();
            (state.bot_url.clone(), state.settings.ack_limit)
        };
        let Some(bot) = bot else { return ActivityAck::failed("no bot is connected".to_owned()) };
        let mut request = self.inner.http.post(format!("{bot}{ENDPOINT}")).body(body).timeout(limit);
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
                ActivityAck { status, body, ..ActivityAck::default() }
            }
            Err(error) => ActivityAck::failed(format!("no answer: {error:?}")),
        }
    }
}

impl TeamsMessage {
    /// The id of the conversation, with the thread if there is one.
    pub fn place(&self) -> String {
        match &self.thread {
            Some(thread) => format!("{};messageid={thread}", self.conversation),
            None => self.conversation.clone(),
        }
    }
}
