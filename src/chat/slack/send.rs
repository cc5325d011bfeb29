//! Delivers replies to Slack: by `response_url` while that lives, else by messages of our own, at most one a second per
//! channel. Says what Slack knows of accounts and conversations; what is unknown or can't be seen counts as external. The tokens
//! and the `response_url`s never leave here.

use super::api::{SlackApi, SlackApiError};
use super::directory::{self, SlackChannel, SlackUser};
use super::errors::send_error;
use super::form;
use super::render::{self, SlackMessage};
use crate::chat::{ABSENT_LIFETIME, CACHE_CAPACITY, DIRECT_LIFETIME, REPORT_LIFETIME, report};
use crate::config;
use crate::ephemeral::TtlCache;
use crate::model::{
    Audience, ChatAccount, ChatEvent, Conversation, Form, LinkUrl, PlatformKind, PostedMessage, Reply,
    ReplyHandle,
};
use crate::platform::{
    AccountInfo, AccountKind, ConversationInfo, Freshness, Platform, Route, SendError, TooLarge,
};
use crate::rate_limits::RateLimits;
use crate::shared_state::RateLimiter;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// `chat.postMessage` to one channel: about one a second (<https://api.slack.com/docs/rate-limits>).
const CHANNEL_INTERVAL: Duration = Duration::from_secs(1);
/// Lifetime of a `response_url` (<https://api.slack.com/interactivity/handling#message_responses>): 30 minutes, less one
/// for clocks and queues.
const RESPONSE_URL_SECONDS: i64 = 29 * 60;
/// Uses of a `response_url`, same source.
const RESPONSE_URL_USES: u8 = 5;
/// Up to this many addresses are kept without a look at their age.
const MIN_RESPONSE_URLS: usize = 256;

/// Slack, as the workflow sees it.
pub struct SlackPlatform {
    pub(super) api: SlackApi,
    pub(super) limiter: RateLimiter,
    pub(super) config: config::SlackSettings,
    response_urls: Mutex<ResponseUrls>,
    directs: TtlCache<String>,
    accounts: TtlCache<AccountInfo>,
    conversations: TtlCache<ConversationInfo>,
    members: TtlCache<Arc<BTreeSet<String>>>,
}

struct ResponseUrlUses {
    since: jiff::Timestamp,
    count: u8,
}

/// The uses of each `response_url`. Expired ones are removed when the number has doubled, so that a use takes the same time with
/// any number of others.
#[derive(Default)]
struct ResponseUrls {
    uses: HashMap<String, ResponseUrlUses>,
    /// The number at which expired ones are removed.
    limit: usize,
}

impl ResponseUrls {
    /// Counts one use of the address, if one is left and the address is still valid.
    fn take_use(&mut self, handle: &ReplyHandle, now: jiff::Timestamp) -> bool {
        let is_valid = |since: jiff::Timestamp| now.duration_since(since).as_secs() < RESPONSE_URL_SECONDS;
        if !is_valid(handle.received_at) {
            return false;
        }
        if self.uses.len() >= self.limit {
            self.uses.retain(|_, uses| is_valid(uses.since));
            self.limit = (2 * self.uses.len()).max(MIN_RESPONSE_URLS);
        }
        let new = ResponseUrlUses { since: handle.received_at, count: 0 };
        let uses = self.uses.entry(handle.id.clone()).or_insert(new);
        let is_left = uses.count < RESPONSE_URL_USES;
        if is_left {
            uses.count += 1;
        }
        is_left
    }
}

impl SlackPlatform {
    /// Fails when the system has no certificates to trust.
    pub fn new(config: &config::SlackSettings) -> anyhow::Result<Self> {
        let limits = RateLimits::new(format!("slack/{}", config.workspaces.join(",")));
        Ok(SlackPlatform {
            api: SlackApi::new(&config.api_url, &config.bot_token, limits)?,
            limiter: RateLimiter::new("slack-messages", CHANNEL_INTERVAL),
            config: config.clone(),
            response_urls: Mutex::default(),
            directs: TtlCache::new(CACHE_CAPACITY),
            accounts: TtlCache::new(CACHE_CAPACITY),
            conversations: TtlCache::new(CACHE_CAPACITY),
            members: TtlCache::new(CACHE_CAPACITY),
        })
    }

    /// The workspace of the bot's token, as Slack reports it.
    /// The error is Slack's code or the reason why it can't be reached; never the token.
    pub async fn workspace(&self) -> Result<String, SlackApiError> {
        let answer = self.api.get("auth.test", &[]).await?;
        Ok(answer["team_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Takes one use of the address, if one is left and the address is still valid.
    fn take_use(&self, handle: &ReplyHandle) -> Option<Url> {
        let is_left = self.response_urls.lock().take_use(handle, jiff::Timestamp::now());
        if is_left { Url::parse(&handle.id).ok() } else { None }
    }

    async fn respond(&self, url: &Url, event: &ChatEvent, reply: &Reply) -> Result<(), SlackApiError> {
        let message = render::render(reply);
        let mut body = message_body(&message, event.conversation.thread.as_deref());
        body["replace_original"] = json!(false);
        body["response_type"] = match reply.audience {
            Audience::Everyone => json!("in_channel"),
            Audience::Asker => json!("ephemeral"),
        };
        self.api.respond(url, &body).await?;
        // The address lets us speak where the bot isn't; a file needs it there.
        if message.attachment.is_some()
            && self.conversation(&event.conversation).await.is_ok_and(|info| info.is_bot_member)
        {
            self.attach(&event.conversation.id, event.conversation.thread.as_deref(), &message).await;
        }
        Ok(())
    }

    /// Posts a message; Slack may name another conversation than it was asked for.
    async fn post_to(&self, conversation: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError> {
        let message = render::render(reply);
        let thread = conversation.thread.as_deref();
        let mut body = message_to(&conversation.id, &message, thread);
        for argument in ["mrkdwn", "unfurl_links", "unfurl_media"] {
            body[argument] = json!(false);
        }
        self.limiter.wait_turn(&conversation.id).await;
        let answer = self.api.post("chat.postMessage", &body).await.map_err(send_error)?;
        let id = answer["channel"].as_str().unwrap_or(&conversation.id).to_owned();
        let ts: String = read(&answer, "ts")?;
        self.attach(&id, thread.or(Some(&ts)), &message).await;
        Ok(PostedMessage { conversation: Conversation { id, ..conversation.clone() }, message: ts })
    }

    /// Answers by a message; one for the sender alone is ephemeral, except in a direct conversation, which has no one to hide from.
    async fn answer_in(
        &self,
        event: &ChatEvent,
        conversation: &Conversation,
        reply: &Reply,
    ) -> Result<(), SendError> {
        match reply.audience {
            Audience::Asker if !conversation.id.starts_with('D') => {
                self.post_ephemeral(event, conversation, reply).await
            }
            _ => self.post_to(conversation, reply).await.map(drop),
        }
    }

    /// Posts a message into the conversation that only the requester sees.
    async fn post_ephemeral(
        &self,
        event: &ChatEvent,
        conversation: &Conversation,
        reply: &Reply,
    ) -> Result<(), SendError> {
        let message = render::render(reply);
        let mut body = message_to(&conversation.id, &message, conversation.thread.as_deref());
        body["user"] = json!(event.sender.account);
        self.api.post("chat.postEphemeral", &body).await.map(drop).map_err(send_error)
    }

    /// Uploads the file beside a message that was cut. The message itself says that it was cut, so a failure is only logged.
    async fn attach(&self, channel: &str, thread: Option<&str>, message: &SlackMessage) {
        if let Some(file) = &message.attachment
            && let Err(error) = self.api.upload(channel, thread, file).await
        {
            tracing::warn!(%error, "uploading full answer failed");
        }
    }
}

#[async_trait]
impl Platform for SlackPlatform {
    fn name(&self) -> PlatformKind {
        PlatformKind::Slack
    }

    fn command_prefix(&self) -> String {
        format!("{} ", self.config.command)
    }

    fn check_size(&self, reply: &Reply) -> Result<(), TooLarge> {
        render::check_size(reply)
    }

    fn has_forms(&self) -> bool {
        true
    }

    /// A `trigger_id` opens one modal, within three seconds.
    async fn open_form(&self, event: &ChatEvent, form: &Form) -> Result<(), SendError> {
        let trigger = event.handle.as_ref().and_then(|handle| handle.trigger.as_ref());
        let trigger = trigger.ok_or(SendError::NoRoute)?;
        let body = json!({ "trigger_id": trigger, "view": form::view(form) });
        self.api.post("views.open", &body).await.map(drop).map_err(send_error)
    }

    async fn answer(&self, event: &ChatEvent, reply: &Reply, route: Route) -> Result<(), SendError> {
        self.refuse_cut_plan(reply)?;
        let thread = event.conversation.thread.as_deref();
        match route {
            Route::Handle => {
                let url = event.handle.as_ref().and_then(|handle| self.take_use(handle));
                let url = url.ok_or(SendError::NoRoute)?;
                let sent = self.respond(&url, event, reply).await;
                if let Err(error @ SlackApiError::ForeignUrl) = &sent {
                    // Whoever signed it must not make us call others; the asker has the answer nevertheless.
                    tracing::warn!(%error, "a response_url is not used");
                }
                sent.map_err(send_error)
            }
            Route::Thread if thread.is_none() => Err(SendError::NoRoute),
            Route::Thread => self.answer_in(event, &event.conversation, reply).await,
            Route::Conversation => {
                let conversation = Conversation { thread: None, ..event.conversation.clone() };
                self.answer_in(event, &conversation, reply).await
            }
            Route::Direct => self.send_direct(&event.sender, reply).await.map(drop),
        }
    }

    async fn publish_home(&self, account: &ChatAccount, reply: &Reply) -> Result<(), SendError> {
        let view = json!({ "type": "home", "blocks": render::render(reply).blocks });
        let body = json!({ "user_id": account.account, "view": view });
        self.api.post("views.publish", &body).await.map(drop).map_err(send_error)
    }

    async fn post(&self, conversation: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError> {
        self.refuse_cut_plan(reply)?;
        self.post_to(conversation, reply).await
    }

    async fn edit(&self, posted: &PostedMessage, reply: &Reply) -> Result<(), SendError> {
        self.refuse_cut_plan(reply)?;
        let message = render::render(reply);
        let mut body = message_to(&posted.conversation.id, &message, None);
        body["ts"] = json!(posted.message);
        // Blocks that are left out would stay.
        body["blocks"] = json!(message.blocks);
        self.api.post("chat.update", &body).await.map(drop).map_err(send_error)
    }

    async fn direct_conversation(&self, recipient: &ChatAccount) -> Result<Conversation, SendError> {
        let open = async {
            let body = json!({ "users": recipient.account });
            let answer = self.api.post("conversations.open", &body).await.map_err(send_error)?;
            Ok((read(&answer["channel"], "id")?, DIRECT_LIFETIME))
        };
        let conversation = self.directs.get_or_fetch(&recipient.account, open).await?;
        Ok(Conversation::new(PlatformKind::Slack, &recipient.workspace, conversation))
    }

    /// Slack's answer doesn't depend on the conversation.
    async fn account(
        &self,
        sender: &ChatAccount,
        _conversation: &Conversation,
        freshness: Freshness,
    ) -> Result<AccountInfo, SendError> {
        let key = format!("{}/{}", sender.workspace, sender.account);
        let fetch = async {
            let answer = self.api.get("users.info", &[("user", &sender.account)]).await;
            let user: SlackUser = match answer {
                Ok(answer) => directory::read("users.info", &answer, "user")?,
                Err(SlackApiError::Code(code)) if directory::is_unknown_account(&code) => {
                    let ids = vec![sender.account.clone()];
                    return Ok((AccountInfo { kind: AccountKind::External, ids }, REPORT_LIFETIME));
                }
                Err(error) => return Err(directory::error("users.info", error)),
            };
            Ok((user.account_info(sender, &self.config.workspaces), REPORT_LIFETIME))
        };
        report(&self.accounts, &key, freshness, fetch).await
    }

    async fn in_group(
        &self,
        role: &str,
        sender: &ChatAccount,
        freshness: Freshness,
    ) -> Result<Option<bool>, SendError> {
        let Some(group) = self.config.groups.get(role) else { return Ok(None) };
        let fetch = async {
            let method = "usergroups.users.list";
            let answer = self.api.get(method, &[("usergroup", group)]).await;
            let answer = answer.map_err(|error| directory::error(method, error))?;
            Ok((Arc::new(directory::read(method, &answer, "users")?), REPORT_LIFETIME))
        };
        let members = report(&self.members, group, freshness, fetch).await?;
        if members.contains(&sender.account) {
            return Ok(Some(true));
        }
        // The group may hold the account's other id.
        let account = self.account(sender, &Conversation::with(sender), Freshness::Recent).await?;
        Ok(Some(account.ids.iter().any(|id| members.contains(id))))
    }

    fn default_workspace(&self) -> &str {
        self.config.workspaces.first().map_or("", String::as_str)
    }

    fn terminal_conversation(&self) -> Option<Conversation> {
        let id = self.config.terminal_channel.clone()?;
        Some(Conversation::new(PlatformKind::Slack, self.config.workspaces.first()?, id))
    }

    /// Source: <https://docs.slack.dev/reference/methods/chat.getPermalink>.
    async fn message_url(&self, posted: &PostedMessage) -> Result<Option<LinkUrl>, SendError> {
        let arguments =
            [("channel", posted.conversation.id.as_str()), ("message_ts", posted.message.as_str())];
        let answer = self.api.get("chat.getPermalink", &arguments).await.map_err(send_error)?;
        Ok(answer["permalink"].as_str().and_then(LinkUrl::parse))
    }

    async fn conversation(&self, conversation: &Conversation) -> Result<ConversationInfo, SendError> {
        let key = format!("{}/{}", conversation.workspace, conversation.id);
        let fetch = async {
            let answer = self.api.get("conversations.info", &[("channel", &conversation.id)]).await;
            let channel: SlackChannel = match answer {
                Ok(answer) => directory::read("conversations.info", &answer, "channel")?,
                // The bot isn't a member of what it can't see, and its answers there stay private.
                Err(SlackApiError::Code(code)) if code == "channel_not_found" || code == "not_in_channel" => {
                    SlackChannel { is_ext_shared: true, ..SlackChannel::default() }
                }
                Err(error) => return Err(directory::error("conversations.info", error)),
            };
            let is_bot_member = channel.is_member || channel.is_im || channel.is_mpim;
            let is_shared = channel.is_ext_shared || channel.is_pending_ext_shared;
            let lifetime = if is_bot_member { REPORT_LIFETIME } else { ABSENT_LIFETIME };
            Ok((ConversationInfo { is_bot_member, is_direct: channel.is_im, is_shared }, lifetime))
        };
        self.conversations.get_or_fetch(&key, fetch).await
    }
}

/// The arguments that every method takes. The text is only for notifications where there are blocks, and holds nothing to parse.
fn message_body(message: &SlackMessage, thread: Option<&str>) -> Value {
    let mut body = json!({ "text": message.text });
    if !message.blocks.is_empty() {
        body["blocks"] = json!(message.blocks);
    }
    if let Some(thread) = thread {
        body["thread_ts"] = json!(thread);
    }
    body
}

/// Turns off Slack's search for names and links, too: a `response_url` doesn't take this.
fn message_to(channel: &str, message: &SlackMessage, thread: Option<&str>) -> Value {
    let mut body = message_body(message, thread);
    body["channel"] = json!(channel);
    body["parse"] = json!("none");
    body["link_names"] = json!(false);
    body
}

fn read<T: DeserializeOwned>(answer: &Value, part: &str) -> Result<T, SendError> {
    T::deserialize(&answer[part]).map_err(|_| SendError::Unavailable("unreadable_answer".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    #[test]
    fn an_address_is_used_five_times_within_half_an_hour_and_then_forgotten() {
        let now = jiff::Timestamp::now();
        let handle = |id: String| ReplyHandle { id, received_at: now, replaces_card: false, trigger: None };
        let mut urls = ResponseUrls::default();
        let first = handle("first".to_owned());
        let uses: Vec<bool> = (0..6).map(|_| urls.take_use(&first, now)).collect();
        assert_eq!(uses, [true, true, true, true, true, false]);
        for number in 0..2_000 {
            assert!(urls.take_use(&handle(number.to_string()), now));
        }
        assert!(!urls.take_use(&first, now), "all addresses are still valid");
        let later = now + 30.minutes();
        assert!(!urls.take_use(&first, later), "its address has expired");
        for number in 0..2_000 {
            let next = ReplyHandle { received_at: later, ..handle(format!("next {number}")) };
            assert!(urls.take_use(&next, later));
        }
        assert!(!urls.uses.contains_key("first"));
    }
}
