//! Requests to the bot, as Slack sends them: signed, with three seconds to acknowledge. Slash commands and clicks
//! are sent once; events are sent again after a failure.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::requests::{self, Outgoing};
use super::view::{Message, MessageRef};
use super::{ApiError, BOT_USER, SIGNING_SECRET, Workspace, chat};

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

    pub(super) fn none(problem: impl Into<String>) -> Ack {
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
    pub async fn says(&self, user: &str, channel: &str, text: &str) -> Ack {
        if !self.state().is_in(user, channel) {
            return Ack::none(format!("{user} is not in {channel}"));
        }
        if text.starts_with('/') {
            return self.command(user, channel, text).await;
        }
        if text.contains(&format!("<@{BOT_USER}>")) {
            return self.mentions(user, channel, None, text).await;
        }
        self.change(|state| state.post(Message::new(channel, user, text.to_owned())));
        Ack { status: 200, ..Ack::default() }
    }

    /// A person mentions the bot in a channel or a thread; the mention may be left out of the text.
    pub async fn mentions(&self, user: &str, channel: &str, thread: Option<&str>, text: &str) -> Ack {
        if !self.state().is_in(user, channel) {
            return Ack::none(format!("{user} is not in {channel}"));
        }
        let mention = format!("<@{BOT_USER}>");
        let text = if text.contains(&mention) { text.to_owned() } else { format!("{mention} {text}") };
        let posted = self.change(|state| {
            let thread_ts = chat::thread(state, channel, thread)?;
            let message = state.post(Message { thread_ts, ..Message::new(channel, user, text) });
            let bot_in = state.room(channel).is_some_and(|room| room.channel.bot_in);
            Ok::<_, ApiError>(bot_in.then(|| requests::mention(state, user, &message)))
        });
        let event = match posted {
            Err(refused) => return Ack::none(refused.error),
            Ok(None) => return Ack::none("the bot is not in that channel, so it is not told"),
            Ok(Some(event)) => event,
        };
        let payload = event.payload.clone();
        let ack = self.deliver(event).await;
        if ack.ok() || ack.no_retry {
            return ack;
        }
        let timed_out = ack.problem.as_deref() == Some("operation_timeout");
        let reason = if timed_out { "http_timeout" } else { "http_error" };
        self.deliver(Outgoing { retry_reason: Some(reason), ..requests::event(payload) }).await
    }

    /// A person clicks a button, given by label or action id, on a message as it is now.
    pub async fn clicks(&self, user: &str, message: &MessageRef, button: &str) -> Ack {
        match self.message(message) {
            Some(shown) => self.clicks_on(user, &shown, button).await,
            None => Ack::none(format!("no message {message:?}")),
        }
    }

    /// A click on a message as it was shown: it arrives when somebody clicks just before the message changes.
    pub async fn clicks_on(&self, user: &str, shown: &Message, button: &str) -> Ack {
        if shown.ephemeral_to.as_deref().is_some_and(|only| only != user)
            || !self.state().is_in(user, &shown.channel)
        {
            return Ack::none(format!("{user} does not see that message"));
        }
        let Some(button) = shown.button(button) else {
            return Ack::none(format!("no button {button:?} on:\n{}", shown.plain()));
        };
        let outgoing = self.change(|state| requests::click(state, user, shown, &button));
        let ack = self.deliver(outgoing).await;
        if !ack.ok() {
            let text = "This didn't work: the app did not answer the click.".to_owned();
            self.change(|state| state.note(user, &shown.channel, text));
        }
        ack
    }

    /// Slack's question whether a URL for events is really the bot's; the answer must be the challenge.
    pub async fn verifies_events_url(&self, challenge: &str) -> Ack {
        let payload = json!({"token": "demo", "challenge": challenge, "type": "url_verification"});
        self.deliver(requests::event(payload)).await
    }

    /// Sends a request of the past again, byte for byte, with its old time stamp and signature.
    pub async fn redeliver(&self, number: usize) -> Ack {
        let Some(old) = self.deliveries().get(number).cloned() else {
            return Ack::none(format!("no delivery {number}"));
        };
        let mut ack = self.post_raw(&old.path, old.headers.clone(), old.body.clone().into_bytes()).await;
        ack.trigger_id = old.ack.trigger_id.clone();
        let again = Delivery { ack: ack.clone(), ..old };
        self.change(|state| state.deliveries.push(again));
        ack
    }

    /// Sends any bytes to the bot, for forged and broken requests. It is not kept among the deliveries.
    pub async fn post_raw(&self, path: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> Ack {
        let base = self.replica.clone().or_else(|| self.state().bot_url.clone());
        let Some(base) = base else { return Ack::none("no bot is connected") };
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
            Ack::none(if error.is_timeout() { "operation_timeout" } else { "dispatch_failed" })
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
        let outgoing = self.change(|state| requests::slash(state, user, channel, line));
        let ack = self.deliver(outgoing).await;
        let error = match &ack.problem {
            Some(problem) => Some(problem.as_str()),
            None if !ack.ok() => Some("dispatch_failed"),
            None if ack.body.trim().is_empty() => None,
            None => {
                let logged = serde_json::from_str(&ack.body).unwrap_or_else(|_| json!({"text": ack.body}));
                let posted = self.perform("ack", logged, |state| {
                    chat::post_acknowledgement(state, &ack.body, user, channel)
                });
                posted.err().map(|_| "invalid_command_response")
            }
        };
        if let Some(error) = error {
            let command = line.split_whitespace().next().unwrap_or_default();
            let text = format!("{command} failed with the error \"{error}\"");
            self.change(|state| state.note(user, channel, text));
        }
        ack
    }

    async fn deliver(&self, outgoing: Outgoing) -> Ack {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let timestamp = i64::try_from(now).unwrap_or(i64::MAX);
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
}
