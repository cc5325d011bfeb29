//! Requests to the bot, as Slack sends them: signed, with three seconds to acknowledge. Slash commands and clicks
//! are sent once; events are sent again after a failure. In Socket Mode the bot opens a WebSocket, envelopes come down,
//! acknowledgements go up: while one is open, everything is delivered through it instead of over HTTP.

use std::time::{Duration, Instant};

use axum::extract::ws::{Message as Frame, WebSocket};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::{mpsc, oneshot};

use super::api::Args;
use super::state::{Account, ChannelState, State};
use super::view::{ButtonView, Message, MessageRef};
use super::{APP_ID, ApiError, BOT_USER, SIGNING_SECRET, TEAM, Workspace, chat};

/// The verification token that Slack still sends; nobody may rely on it.
const TOKEN: &str = "demo-verification-token";
const DOMAIN: &str = "creatorbridge";

/// The bot's acknowledgement of a request.
#[derive(Debug, Clone, Default)]
pub struct Ack {
    /// HTTP status; 0 when there was no answer in time, or nothing to send.
    pub status: u16,
    pub body: String,
    pub elapsed: Duration,
    /// The trigger id of a command or a click, the event id of a mention.
    pub trigger_id: String,
    /// The reason for no answer.
    pub problem: Option<String>,
    /// The bot asked not to be sent this event again.
    pub no_retry: bool,
}

impl Ack {
    /// True where Slack counts it as acknowledged.
    pub fn ok(&self) -> bool {
        self.status == 200
    }

    pub(super) fn failed(problem: impl Into<String>) -> Ack {
        Ack { problem: Some(problem.into()), ..Ack::default() }
    }
}

/// A request that was sent to the bot.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub ack: Ack,
}

impl Workspace {
    /// A person types a slash command, a mention of the bot, or just talk into the input line.
    /// Returns when the bot has acknowledged; its answers may come later.
    pub async fn say(&self, user: &str, channel: &str, text: &str) -> Ack {
        if !self.state().is_in(user, channel) {
            return Ack::failed(format!("{user} is not in {channel}"));
        }
        if text.starts_with('/') {
            return self.command(user, channel, text).await;
        }
        if text.contains(&format!("<@{BOT_USER}>")) {
            return self.mention_bot(user, channel, None, text).await;
        }
        self.change(|state| state.post(Message::new(channel, user, text.to_owned())));
        Ack { status: 200, ..Ack::default() }
    }

    /// A person mentions the bot in a channel or a thread; the mention may be left out of the text.
    pub async fn mention_bot(&self, user: &str, channel: &str, thread: Option<&str>, text: &str) -> Ack {
        if !self.state().is_in(user, channel) {
            return Ack::failed(format!("{user} is not in {channel}"));
        }
        let mention = format!("<@{BOT_USER}>");
        let text = if text.contains(&mention) { text.to_owned() } else { format!("{mention} {text}") };
        let posted = self.change(|state| {
            let thread_ts = chat::thread(state, channel, thread)?;
            let message = state.post(Message { thread_ts, ..Message::new(channel, user, text) });
            let is_bot_member = state.room(channel).is_some_and(|room| room.channel.is_bot_member);
            Ok::<_, ApiError>(is_bot_member.then(|| app_mention(state, user, &message)))
        });
        let outgoing = match posted {
            Err(error) => return Ack::failed(error.error),
            Ok(None) => return Ack::failed("the bot is not in that channel, so it gets no event"),
            Ok(Some(outgoing)) => outgoing,
        };
        let payload = outgoing.payload.clone();
        let ack = self.deliver(outgoing).await;
        if ack.ok() || ack.no_retry {
            return ack;
        }
        let timed_out = ack.problem.as_deref() == Some("operation_timeout");
        let reason = if timed_out { "http_timeout" } else { "http_error" };
        self.deliver(OutgoingRequest { retry_reason: Some(reason), ..event_request(payload) }).await
    }

    /// A person clicks a button, given by label or action id, on a message as it is now.
    pub async fn click_button(&self, user: &str, message: &MessageRef, button: &str) -> Ack {
        match self.message(message) {
            Some(shown_message) => self.click_stale_button(user, &shown_message, button).await,
            None => Ack::failed(format!("no message {message:?}")),
        }
    }

    /// A click on a message as it was shown, as if somebody had clicked just before the message changed.
    pub async fn click_stale_button(&self, user: &str, message: &Message, button: &str) -> Ack {
        if message.ephemeral_to.as_deref().is_some_and(|recipient| recipient != user)
            || !self.state().is_in(user, &message.channel)
        {
            return Ack::failed(format!("{user} does not see that message"));
        }
        let Some(button) = message.button(button) else {
            return Ack::failed(format!("no button {button:?} on:\n{}", message.plain()));
        };
        let outgoing = self.change(|state| click_request(state, user, message, &button));
        let ack = self.deliver(outgoing).await;
        if !ack.ok() {
            let text = "This didn't work: the app did not answer the click.".to_owned();
            self.change(|state| state.note(user, &message.channel, text));
        }
        ack
    }

    /// Slack's check that the events URL belongs to the bot; the answer must be the challenge.
    pub async fn verifies_events_url(&self, challenge: &str) -> Ack {
        let payload = json!({"token": "demo", "challenge": challenge, "type": "url_verification"});
        self.deliver(event_request(payload)).await
    }

    /// Sends an earlier request again, byte for byte, with its old time stamp and signature.
    pub async fn redeliver(&self, number: usize) -> Ack {
        let Some(old) = self.deliveries().get(number).cloned() else {
            return Ack::failed(format!("no delivery {number}"));
        };
        let ack = self.post_raw(&old.path, old.headers.clone(), old.body.clone().into_bytes()).await;
        let ack = Ack { trigger_id: old.ack.trigger_id, ..ack };
        self.change(|state| state.deliveries.push(Delivery { ack: ack.clone(), ..old }));
        ack
    }

    /// Sends any bytes to the bot, for forged and broken requests. It is not kept among the deliveries.
    pub async fn post_raw(&self, path: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> Ack {
        let base = self.bot_url.clone().or_else(|| self.state().bot_url.clone());
        let Some(base) = base else { return Ack::failed("no bot is connected") };
        let limit = self.state().settings.ack_limit;
        let mut request = self.inner.http.post(format!("{base}{path}")).body(body).timeout(limit);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let started = Instant::now();
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let no_retry = response.headers().get("x-slack-no-retry").is_some_and(|value| value == "1");
            Ok(Ack { status, no_retry, body: response.text().await?, ..Ack::default() })
        };
        let ack = answer.await.unwrap_or_else(|error: reqwest::Error| {
            Ack::failed(if error.is_timeout() { "operation_timeout" } else { "dispatch_failed" })
        });
        Ack { elapsed: started.elapsed(), ..ack }
    }

    /// Slack's signature of a body: `v0=` and an HMAC-SHA256 over version, time stamp and body.
    pub fn sign(&self, secret: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes keys of any length, so this cannot fail; an empty signature would be refused by any bot.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
        mac.update(format!("v0:{timestamp}:").as_bytes());
        mac.update(body);
        format!("v0={}", hex::encode(mac.finalize().into_bytes()))
    }

    async fn command(&self, user: &str, channel: &str, line: &str) -> Ack {
        let outgoing = self.change(|state| slash_command_request(state, user, channel, line));
        let ack = self.deliver(outgoing).await;
        let error = match &ack.problem {
            Some(problem) => Some(problem.as_str()),
            None if !ack.ok() => Some("dispatch_failed"),
            None if ack.body.trim().is_empty() => None,
            None => {
                let body = serde_json::from_str(&ack.body).ok().filter(Value::is_object);
                let body = body.unwrap_or_else(|| json!({"text": ack.body}));
                let work = |state: &mut State| chat::acknowledge(state, &Args(body.clone()), user, channel);
                self.perform("ack", body.clone(), work).err().map(|_| "invalid_command_response")
            }
        };
        if let Some(error) = error {
            let command = line.split_whitespace().next().unwrap_or_default();
            let text = format!("{command} failed with the error \"{error}\"");
            self.change(|state| state.note(user, channel, text));
        }
        ack
    }

    pub(super) async fn deliver(&self, outgoing: OutgoingRequest) -> Ack {
        let timestamp = Timestamp::now().as_second();
        let signature = self.sign(SIGNING_SECRET, timestamp, outgoing.body.as_bytes());
        let mut headers = vec![
            ("content-type".to_owned(), outgoing.content_type.to_owned()),
            ("x-slack-request-timestamp".to_owned(), timestamp.to_string()),
            ("x-slack-signature".to_owned(), signature),
        ];
        if let Some(reason) = outgoing.retry_reason {
            headers.push(("x-slack-retry-num".to_owned(), "1".to_owned()));
            headers.push(("x-slack-retry-reason".to_owned(), reason.to_owned()));
        }
        let mut ack = match self.deliver_by_socket(&outgoing).await {
            Some(ack) => ack,
            None => self.post_raw(outgoing.path, headers.clone(), outgoing.body.clone().into_bytes()).await,
        };
        ack.trigger_id = outgoing.trigger_id;
        let (path, body) = (outgoing.path.to_owned(), outgoing.body);
        let delivery = Delivery { path, headers, body, ack: ack.clone() };
        self.change(|state| state.deliveries.push(delivery));
        ack
    }

    /// Number of sockets that the bot has open.
    pub fn open_sockets(&self) -> usize {
        self.state().sockets.len()
    }

    /// Tells every socket to go away and closes it, as Slack does every few hours.
    pub fn drop_sockets(&self) {
        let notice = json!({"type": "disconnect", "reason": "refresh_requested", "debug_info": {}});
        self.change(|state| {
            for (_, sender) in state.sockets.drain(..) {
                let _ = sender.send(Frame::Text(notice.to_string().into()));
                let _ = sender.send(Frame::Close(None));
            }
        });
    }

    pub(super) async fn serve_socket(self, mut socket: WebSocket) {
        let (sender, mut frames) = mpsc::unbounded_channel();
        let id = self.state().next_number();
        let hello = json!({
            "type": "hello", "num_connections": self.open_sockets() + 1, "connection_info": {"app_id": APP_ID},
            "debug_info": {"host": "demo", "build_number": 1, "approximate_connection_time": 18060},
        });
        if socket.send(Frame::Text(hello.to_string().into())).await.is_err() {
            return;
        }
        self.change(|state| state.sockets.push((id, sender)));
        loop {
            tokio::select! {
                frame = frames.recv() => match frame {
                    Some(frame) => if socket.send(frame).await.is_err() { break },
                    None => break,
                },
                frame = socket.recv() => match frame {
                    Some(Ok(Frame::Text(text))) => self.handle_acknowledgement(&text),
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                },
            }
        }
        self.change(|state| state.sockets.retain(|(open, _)| *open != id));
    }

    fn handle_acknowledgement(&self, text: &str) {
        let Ok(mut ack) = serde_json::from_str::<Value>(text) else { return };
        let id = ack["envelope_id"].as_str().unwrap_or_default();
        if let Some(sender) = self.state().envelopes.remove(id) {
            let _ = sender.send(ack["payload"].take());
        }
    }

    /// Delivers through a socket; `None` when none is open.
    async fn deliver_by_socket(&self, outgoing: &OutgoingRequest) -> Option<Ack> {
        let (sender, answer) = oneshot::channel();
        let is_event = outgoing.kind == "events_api";
        let limit = {
            let mut state = self.state();
            let (_, socket) = state.sockets.last()?.clone();
            let id = state.next_id();
            let mut envelope = json!({
                "envelope_id": id, "type": outgoing.kind, "payload": outgoing.payload,
                "accepts_response_payload": !is_event,
            });
            if is_event {
                envelope["retry_attempt"] = json!(u8::from(outgoing.retry_reason.is_some()));
                envelope["retry_reason"] = json!(outgoing.retry_reason.unwrap_or_default());
            }
            state.envelopes.insert(id, sender);
            socket.send(Frame::Text(envelope.to_string().into())).ok()?;
            state.settings.ack_limit
        };
        let started = Instant::now();
        let ack = match tokio::time::timeout(limit, answer).await {
            Ok(Ok(Value::Null)) => Ack { status: 200, ..Ack::default() },
            Ok(Ok(payload)) => Ack { status: 200, body: payload.to_string(), ..Ack::default() },
            _ => Ack::failed("operation_timeout"),
        };
        Some(Ack { elapsed: started.elapsed(), ..ack })
    }
}

/// A request before it is signed.
pub(super) struct OutgoingRequest {
    path: &'static str,
    content_type: &'static str,
    body: String,
    /// The same for Socket Mode: the envelope's type, and its payload.
    kind: &'static str,
    payload: Value,
    trigger_id: String,
    /// Why the event is sent again.
    retry_reason: Option<&'static str>,
}

fn event_request(payload: Value) -> OutgoingRequest {
    OutgoingRequest {
        path: "/slack/events",
        content_type: "application/json",
        body: payload.to_string(),
        kind: "events_api",
        trigger_id: payload["event_id"].as_str().unwrap_or_default().to_owned(),
        payload,
        retry_reason: None,
    }
}

fn form_request(
    path: &'static str,
    kind: &'static str,
    payload: Value,
    fields: &[(&str, &str)],
) -> OutgoingRequest {
    OutgoingRequest {
        path,
        content_type: "application/x-www-form-urlencoded",
        body: serde_urlencoded::to_string(fields).unwrap_or_default(),
        kind,
        trigger_id: payload["trigger_id"].as_str().unwrap_or_default().to_owned(),
        ..event_request(payload)
    }
}

fn channel_name(room: Option<&ChannelState>) -> &str {
    match room {
        Some(room) if room.im_user.is_none() && room.channel.private => "privategroup",
        Some(room) => &room.channel.name,
        None => "",
    }
}

/// A person's click, or a request about a modal.
pub(super) fn interaction_request(state: &State, user: &str, mut payload: Value) -> OutgoingRequest {
    let person = state.person(user);
    let name = person.map(Account::handle).unwrap_or_default();
    let team = person.map_or(TEAM, Account::team);
    payload["api_app_id"] = json!(APP_ID);
    payload["token"] = json!(TOKEN);
    payload["user"] = json!({"id": user, "username": name, "name": name, "team_id": team});
    payload["team"] = json!({"id": team, "domain": DOMAIN});
    payload["enterprise"] = Value::Null;
    payload["is_enterprise_install"] = json!(false);
    let json = payload.to_string();
    form_request("/slack/interactions", "interactive", payload, &[("payload", &json)])
}

fn slash_command_request(state: &mut State, user: &str, channel: &str, line: &str) -> OutgoingRequest {
    let (command, text) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let trigger_id = state.new_trigger(user);
    let response_url = state.new_response(user, channel, None);
    let person = state.person(user);
    let user_name = person.map(Account::handle).unwrap_or_default();
    let fields = [
        ("token", TOKEN),
        ("team_id", person.map_or(TEAM, Account::team)),
        ("team_domain", DOMAIN),
        ("channel_id", channel),
        ("channel_name", channel_name(state.room(channel))),
        ("user_id", user),
        ("user_name", &user_name),
        ("command", command),
        ("text", text.trim()),
        ("api_app_id", APP_ID),
        ("is_enterprise_install", "false"),
        ("response_url", &response_url),
        ("trigger_id", &trigger_id),
    ];
    let payload = fields.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    form_request("/slack/commands", "slash_commands", Value::Object(payload), &fields)
}

fn click_request(state: &mut State, user: &str, message: &Message, button: &ButtonView) -> OutgoingRequest {
    let response_url = state.new_response(user, &message.channel, Some(message.at()));
    let ephemeral = message.ephemeral_to.is_some();
    let mut place = json!({
        "channel": {"id": message.channel, "name": channel_name(state.room(&message.channel))},
        "container": {
            "type": "message", "message_ts": message.ts, "channel_id": message.channel, "is_ephemeral": ephemeral,
        },
        "response_url": response_url,
    });
    message.thread_ts.iter().for_each(|thread| place["container"]["thread_ts"] = json!(thread));
    if !ephemeral {
        place["message"] = chat::message_json(message);
    }
    click_at(state, user, button, place)
}

/// A click on a button; `place` has the fields that tell where it is.
pub(super) fn click_at(
    state: &mut State,
    user: &str,
    button: &ButtonView,
    mut place: Value,
) -> OutgoingRequest {
    let mut action = json!({
        "type": "button", "action_id": button.action_id, "block_id": button.block_id, "action_ts": state.next_ts(),
        "text": {"type": "plain_text", "text": button.label, "emoji": true},
    });
    for (key, value) in [("value", &button.value), ("style", &button.style)] {
        value.iter().for_each(|value| action[key] = json!(value));
    }
    place["type"] = json!("block_actions");
    place["trigger_id"] = json!(state.new_trigger(user));
    place["state"] = json!({"values": {}});
    place["actions"] = json!([action]);
    interaction_request(state, user, place)
}

fn app_mention(state: &mut State, user: &str, message: &Message) -> OutgoingRequest {
    let team = state.person(user).map_or(TEAM, Account::team);
    let (number, message_id) = (state.next_number(), state.next_id());
    let mut event_body = json!({
        "type": "app_mention", "user": user, "text": message.text, "ts": message.ts, "team": team,
        "channel": message.channel, "event_ts": message.ts, "client_msg_id": message_id,
        "blocks": [{"type": "rich_text", "block_id": format!("r{number}"), "elements": [
            {"type": "rich_text_section", "elements": [{"type": "text", "text": message.text}]},
        ]}],
    });
    message.thread_ts.iter().for_each(|thread| event_body["thread_ts"] = json!(thread));
    if team != TEAM {
        event_body["user_team"] = json!(team);
        event_body["source_team"] = json!(team);
    }
    let is_shared = state.room(&message.channel).is_some_and(|room| room.channel.shared_externally);
    event_callback(state, event_body, is_shared)
}

/// An event in the envelope of the Events API.
pub(super) fn event_callback(state: &mut State, event: Value, is_shared: bool) -> OutgoingRequest {
    let number = state.next_number();
    event_request(json!({
        "token": TOKEN, "team_id": TEAM, "context_team_id": TEAM, "context_enterprise_id": null,
        "api_app_id": APP_ID, "event": event, "type": "event_callback",
        "event_id": format!("Ev{number:010}"), "event_time": Timestamp::now().as_second(), "event_context": format!("4-demo-{number}"),
        "is_ext_shared_channel": is_shared,
        "authorizations": [{
            "enterprise_id": null, "team_id": TEAM, "user_id": BOT_USER, "is_bot": true,
            "is_enterprise_install": false,
        }],
    }))
}
