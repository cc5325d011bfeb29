//! Requests to the bot, as Slack sends them: signed, with three seconds to acknowledge. Slash commands and clicks
//! are sent once; events are sent again after a failure.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::requests::{self, Outgoing};
use super::state::draft;
use super::view::{Message, MessageRef};
use super::{Workspace, chat};

/// How the bot acknowledged a request.
#[derive(Debug, Clone, Default)]
pub struct Ack {
    /// HTTP status; 0 when there was no answer in time, or nothing to send.
    pub status: u16,
    pub body: String,
    pub elapsed: Duration,
    /// The trigger id of a command or a click, the event id of a mention.
    pub trigger_id: String,
    /// Why there was no answer.
    pub problem: Option<String>,
    /// Whether the bot asked not to be sent this event again.
    pub no_retry: bool,
}

impl Ack {
    /// Whether Slack counts it as acknowledged.
    pub fn ok(&self) -> bool {
        self.status == 200
    }

    fn none(problem: String) -> Ack {
        Ack { problem: Some(problem), ..Ack::default() }
    }
}

/// A request that was sent to the bot.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub trigger_id: String,
    pub ack: Ack,
}

impl Workspace {
    /// What a person types into the input line: a slash command, a mention of the bot, or just talk.
    /// Returns when the bot has acknowledged; its answers may come later.
    pub async fn says(&self, user: &str, channel: &str, text: &str) -> Ack {
        if !self.state().is_in(user, channel) {
            return Ack::none(format!("{user} is not in {channel}"));
        }
        if text.starts_with('/') {
            return self.command(user, channel, text).await;
        }
        let mention = format!("<@{}>", self.settings().bot_user);
        if text.contains(&mention) {
            return self.mention(user, channel, None, text.to_owned()).await;
        }
        self.change(|state| state.post(draft(channel, user, text.to_owned())));
        Ack { status: 200, ..Ack::default() }
    }

    /// A person mentions the bot in a channel or a thread; the mention may be left out of the text.
    pub async fn mentions(&self, user: &str, channel: &str, thread: Option<&str>, text: &str) -> Ack {
        let mention = format!("<@{}>", self.settings().bot_user);
        let text = if text.contains(&mention) { text.to_owned() } else { format!("{mention} {text}") };
        self.mention(user, channel, thread, text).await
    }

    /// A person clicks a button, given by label or action id, on a message as it is now.
    pub async fn clicks(&self, user: &str, message: &MessageRef, button: &str) -> Ack {
        match self.message(message) {
            Some(shown) => self.clicks_on(user, &shown, button).await,
            None => Ack::none(format!("no message {message:?}")),
        }
    }

    /// A click on a message as it was shown: what arrives when somebody clicks just before the message changes.
    pub async fn clicks_on(&self, user: &str, shown: &Message, button: &str) -> Ack {
        if shown.ephemeral_to.as_deref().is_some_and(|only| only != user)
            || !self.state().is_in(user, &shown.channel)
        {
            return Ack::none(format!("{user} does not see that message"));
        }
        let Some(button) = shown.button(button) else {
            return Ack::none(format!("no button {button:?} on:\n{}", shown.plain()));
        };
        let base = self.base_url();
        let outgoing = self.change(|state| requests::click(state, (user, shown, &button), &base));
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
        self.deliver(requests::event(payload, String::new())).await
    }

    /// Sends a request of the past again, byte for byte, with its old time stamp and signature.
    pub async fn redeliver(&self, number: usize) -> Ack {
        let Some(old) = self.deliveries().get(number).cloned() else {
            return Ack::none(format!("no delivery {number}"));
        };
        let mut ack = self.post_raw(&old.path, old.headers.clone(), old.body.clone().into_bytes()).await;
        ack.trigger_id = old.trigger_id.clone();
        let again = Delivery { ack: ack.clone(), ..old };
        self.change(|state| state.deliveries.push(again));
        ack
    }

    /// Sends any bytes to the bot, for forged and broken requests. It is not kept among the deliveries.
    pub async fn post_raw(&self, path: &str, headers: Vec<(String, String)>, body: Vec<u8>) -> Ack {
        let (base, limit) = {
            let state = self.state();
            (self.replica.clone().or_else(|| state.bot_url.clone()), state.settings.ack_limit)
        };
        let Some(base) = base else { return Ack::none("no bot is connected".into()) };
        let mut request = self.inner.http.post(format!("{base}{path}")).body(body).timeout(limit);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let begun = Instant::now();
        let answer = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let no_retry = response.headers().get("x-slack-no-retry").is_some_and(|value| value == "1");
            Ok::<_, reqwest::Error>((status, no_retry, response.text().await?))
        };
        let elapsed = |ack: Ack| Ack { elapsed: begun.elapsed(), ..ack };
        match answer.await {
            Ok((status, no_retry, body)) => elapsed(Ack { status, body, no_retry, ..Ack::default() }),
            Err(error) if error.is_timeout() => elapsed(Ack::none("operation_timeout".into())),
            Err(_) => elapsed(Ack::none("dispatch_failed".into())),
        }
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
        let base = self.base_url();
        let outgoing = self.change(|state| requests::slash(state, user, channel, line, &base));
        let command = line.split_whitespace().next().unwrap_or_default().to_owned();
        let ack = self.deliver(outgoing).await;
        let failed = match &ack.problem {
            Some(problem) => Some(problem.clone()),
            None if !ack.ok() => Some("dispatch_failed".to_owned()),
            None => {
                let shown = self.show_acknowledgement(&ack.body, user, channel);
                shown.err().map(|_| "invalid_command_response".to_owned())
            }
        };
        if let Some(error) = failed {
            let text = format!("{command} failed with the error \"{error}\"");
            self.change(|state| state.note(user, channel, text));
        }
        ack
    }

    fn show_acknowledgement(&self, body: &str, user: &str, channel: &str) -> Result<(), super::Refusal> {
        if body.trim().is_empty() {
            return Ok(());
        }
        let logged = serde_json::from_str(body).unwrap_or_else(|_| json!({"text": body}));
        self.perform("ack", logged, |state| state.show_acknowledgement(body, user, channel))
    }

    async fn mention(&self, user: &str, channel: &str, thread: Option<&str>, text: String) -> Ack {
        if !self.state().is_in(user, channel) {
            return Ack::none(format!("{user} is not in {channel}"));
        }
        let posted = self.change(|state| {
            let thread_ts = chat::thread(state, channel, thread)?;
            let message = state.post(Message { thread_ts, ..draft(channel, user, text) });
            let bot_in = state.room(channel).is_some_and(|room| room.channel.bot_in);
            Ok::<_, super::Refusal>(bot_in.then(|| requests::mention(state, user, &message)))
        });
        let payload = match posted {
            Err(refusal) => return Ack::none(refusal.error),
            Ok(None) => return Ack::none("the bot is not in that channel, so it is not told".into()),
            Ok(Some(payload)) => payload,
        };
        let id = payload["event_id"].as_str().unwrap_or_default().to_owned();
        let ack = self.deliver(requests::event(payload.clone(), id.clone())).await;
        if ack.ok() || ack.no_retry {
            return ack;
        }
        let reason =
            if ack.problem.as_deref() == Some("operation_timeout") { "http_timeout" } else { "http_error" };
        self.deliver(Outgoing { retry: Some(reason.into()), ..requests::event(payload, id) }).await
    }

    async fn deliver(&self, outgoing: Outgoing) -> Ack {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let timestamp = i64::try_from(now).unwrap_or(i64::MAX);
        let signature = self.sign(&self.settings().signing_secret, timestamp, outgoing.body.as_bytes());
        let mut headers = vec![
            ("content-type".to_owned(), outgoing.content_type.to_owned()),
            ("x-slack-request-timestamp".to_owned(), timestamp.to_string()),
            ("x-slack-signature".to_owned(), signature),
        ];
        if let Some(reason) = &outgoing.retry {
            headers.push(("x-slack-retry-num".to_owned(), "1".to_owned()));
            headers.push(("x-slack-retry-reason".to_owned(), reason.clone()));
        }
        let mut ack = match self.deliver_by_socket(&outgoing).await {
            Some(ack) => ack,
            None => self.post_raw(outgoing.path, headers.clone(), outgoing.body.clone().into_bytes()).await,
        };
        ack.trigger_id = outgoing.trigger_id.clone();
        let delivery = Delivery {
            path: outgoing.path.to_owned(),
            headers,
            body: outgoing.body,
            trigger_id: outgoing.trigger_id,
            ack: ack.clone(),
        };
        self.change(|state| state.deliveries.push(delivery));
        ack
    }
}
