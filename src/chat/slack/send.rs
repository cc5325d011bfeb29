//! Delivers replies to Slack: by `response_url` while that lives, else by messages of our own, at most one a second per
//! channel. Says what Slack knows of accounts and conversations. The tokens and the `response_url`s never leave here.

use super::api::{SlackApi, SlackApiError};
use super::render::{self, SlackMessage};
use super::{accounts, limits};
use crate::chat::refuse_cut_plan;
use crate::config;
use crate::ephemeral::{RateLimiter, TtlCache};
use crate::model::{
    AnswerHandle, Audience, ChatAccount, Conversation, IncomingEvent, PlatformKind, PostedMessage, Reply,
};
use crate::platform::{AccountInfo, ConversationInfo, Platform, SendError, TooLarge};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// `chat.postMessage` to one channel: about one a second (<https://api.slack.com/docs/rate-limits>).
const CHANNEL_INTERVAL: Duration = Duration::from_secs(1);
/// A direct conversation's id never changes; it is cached to spare a call.
const DIRECT_LIFETIME: Duration = Duration::from_secs(3_600);
/// Values that each cache holds at most.
const CACHED: usize = 10_000;

/// Slack, as the workflow sees it.
pub struct SlackPlatform {
    api: SlackApi,
    pacer: RateLimiter,
    workspaces: Vec<String>,
    terminal_channel: Option<String>,
    uses: Mutex<ResponseUrlUses>,
    directs: TtlCache<String>,
    accounts: TtlCache<AccountInfo>,
    conversations: TtlCache<ConversationInfo>,
    /// Role to user group.
    groups: BTreeMap<String, String>,
    members: TtlCache<Arc<BTreeSet<String>>>,
}

/// Number of uses of each `response_url` that is still valid.
#[derive(Default)]
struct ResponseUrlUses {
    taken: HashMap<String, u8>,
    /// In order of arrival, so that the expired come first.
    order: VecDeque<(jiff::Timestamp, String)>,
}

impl SlackPlatform {
    /// # Errors
    /// When the system has no certificates to trust.
    pub fn new(config: &config::SlackSettings) -> anyhow::Result<Self> {
        Ok(SlackPlatform {
            api: SlackApi::new(&config.api_url, &config.bot_token)?,
            pacer: RateLimiter::new(CHANNEL_INTERVAL),
            workspaces: config.workspaces.clone(),
            terminal_channel: config.terminal_channel.clone(),
            uses: Mutex::default(),
            directs: TtlCache::new(CACHED),
            accounts: TtlCache::new(CACHED),
            conversations: TtlCache::new(CACHED),
            groups: config.groups.clone(),
            members: TtlCache::new(CACHED),
        })
    }

    /// The workspace of the bot's token, as Slack reports it.
    ///
    /// # Errors
    /// Slack's error code, or the reason why it can't be reached; never the token.
    pub async fn workspace(&self) -> Result<String, SlackApiError> {
        let answer = self.api.get("auth.test", &[]).await?;
        Ok(answer["team_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Takes one use of the address, if one is left and the address is still valid.
    fn take_use(&self, handle: &AnswerHandle) -> Option<Url> {
        let now = jiff::Timestamp::now();
        let is_valid =
            |since: jiff::Timestamp| now.duration_since(since).as_secs() < limits::RESPONSE_URL_SECONDS;
        let uses = &mut *self.uses.lock();
        while let Some((_, expired)) = uses.order.pop_front_if(|(since, _)| !is_valid(*since)) {
            uses.taken.remove(&expired);
        }
        if !is_valid(handle.since) {
            return None;
        }
        let taken = uses.taken.entry(handle.url.clone()).or_insert_with(|| {
            uses.order.push_back((handle.since, handle.url.clone()));
            0
        });
        if *taken >= limits::RESPONSE_URL_USES {
            return None;
        }
        *taken += 1;
        Url::parse(&handle.url).ok()
    }

    async fn respond(&self, url: &Url, to: &IncomingEvent, reply: &Reply) -> Result<(), SlackApiError> {
        let rendered = render::render(reply);
        let mut body = message(&rendered);
        body["replace_original"] = json!(false);
        body["response_type"] = match reply.audience {
            Audience::Everyone => json!("in_channel"),
            Audience::Asker => json!("ephemeral"),
        };
        if let Some(thread) = &to.place.thread {
            body["thread_ts"] = json!(thread);
        }
        self.api.respond(url, &body).await?;
        // The address lets us speak where the bot isn't; a file needs it there.
        if rendered.attachment.is_some()
            && self.conversation(&to.place).await.is_ok_and(|place| place.bot_is_in)
        {
            self.attach(&to.place.conversation, to.place.thread.as_deref(), &rendered).await;
        }
        Ok(())
    }

    /// Posts, and returns the conversation and the message.
    async fn post_to(
        &self,
        channel: &str,
        thread: Option<&str>,
        reply: &Reply,
    ) -> Result<(String, String), SendError> {
        let rendered = render::render(reply);
        let mut body = never_unfurled(message(&rendered));
        body["channel"] = json!(channel);
        if let Some(thread) = thread {
            body["thread_ts"] = json!(thread);
        }
        self.pacer.turn(channel).await;
        let answer = self.api.post("chat.postMessage", &body).await.map_err(post_error)?;
        let Some(ts) = answer["ts"].as_str() else {
            return Err(SendError::Unavailable("unreadable_answer".to_owned()));
        };
        let channel = answer["channel"].as_str().unwrap_or(channel);
        self.attach(channel, thread.or(Some(ts)), &rendered).await;
        Ok((channel.to_owned(), ts.to_owned()))
    }

    /// Posts a message into the conversation that only the requester sees.
    async fn post_ephemeral(&self, to: &IncomingEvent, reply: &Reply) -> Result<(), SendError> {
        let mut body = inert(message(&render::render(reply)));
        body["channel"] = json!(to.place.conversation);
        body["user"] = json!(to.sender.account);
        if let Some(thread) = &to.place.thread {
            body["thread_ts"] = json!(thread);
        }
        self.api.post("chat.postEphemeral", &body).await.map(drop).map_err(post_error)
    }

    /// The file beside a message that was cut. The message itself says that it was cut, so a failure here loses nothing
    /// that was promised.
    async fn attach(&self, channel: &str, thread: Option<&str>, rendered: &SlackMessage) {
        if let Some(file) = &rendered.attachment
            && let Err(error) = self.api.upload(channel, thread, file).await
        {
            tracing::warn!(%error, "uploading full answer failed");
        }
    }

    /// The direct conversation with an account.
    async fn direct_channel(&self, account: &str) -> Result<String, SendError> {
        let open = async {
            let body = json!({ "users": account });
            let answer = self.api.post("conversations.open", &body).await.map_err(post_error)?;
            match answer["channel"]["id"].as_str() {
                Some(channel) => Ok((channel.to_owned(), DIRECT_LIFETIME)),
                None => Err(SendError::Unavailable("unreadable_answer".to_owned())),
            }
        };
        self.directs.get_or_fetch(account, open).await
    }
}

#[async_trait]
impl Platform for SlackPlatform {
    fn name(&self) -> PlatformKind {
        PlatformKind::Slack
    }

    fn fits(&self, reply: &Reply) -> Result<(), TooLarge> {
        render::fits(reply)
    }

    async fn answer(&self, to: &IncomingEvent, reply: &Reply) -> Result<(), SendError> {
        refuse_cut_plan(self, reply)?;
        if let Some(url) = to.handle.as_ref().and_then(|handle| self.take_use(handle)) {
            match self.respond(&url, to, reply).await {
                Err(SlackApiError::UsedUp) => {}
                done => return done.map_err(post_error),
            }
        }
        // A direct conversation has no one to hide from.
        let direct = to.place.conversation.starts_with('D');
        let sent = match reply.audience {
            Audience::Asker if !direct => self.post_ephemeral(to, reply).await,
            _ => self.post_to(&to.place.conversation, to.place.thread.as_deref(), reply).await.map(drop),
        };
        match sent {
            Err(SendError::NotThere) => self.send_direct(&to.sender, reply).await.map(drop),
            sent => sent,
        }
    }

    async fn post(&self, place: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError> {
        refuse_cut_plan(self, reply)?;
        let (conversation, message) =
            self.post_to(&place.conversation, place.thread.as_deref(), reply).await?;
        Ok(PostedMessage { place: Conversation { conversation, ..place.clone() }, message })
    }

    async fn edit(&self, posted: &PostedMessage, reply: &Reply) -> Result<(), SendError> {
        refuse_cut_plan(self, reply)?;
        let mut body = inert(message(&render::render(reply)));
        body["channel"] = json!(posted.place.conversation);
        body["ts"] = json!(posted.message);
        self.api.post("chat.update", &body).await.map(drop).map_err(post_error)
    }

    async fn send_direct(&self, sender: &ChatAccount, reply: &Reply) -> Result<PostedMessage, SendError> {
        refuse_cut_plan(self, reply)?;
        let place = self.direct(sender).await?;
        let (_, message) = self.post_to(&place.conversation, None, reply).await?;
        Ok(PostedMessage { place, message })
    }

    async fn direct(&self, sender: &ChatAccount) -> Result<Conversation, SendError> {
        let conversation = self.direct_channel(&sender.account).await?;
        let workspace = sender.workspace.clone();
        Ok(Conversation { platform: PlatformKind::Slack, workspace, conversation, thread: None })
    }

    async fn account(&self, sender: &ChatAccount, place: &Conversation) -> Result<AccountInfo, SendError> {
        match self.accounts.get(&account_key(sender)) {
            Some(account) => Ok(account),
            None => self.account_now(sender, place).await,
        }
    }

    /// Slack's answer doesn't depend on the conversation.
    async fn account_now(
        &self,
        sender: &ChatAccount,
        _place: &Conversation,
    ) -> Result<AccountInfo, SendError> {
        let fetch = async {
            let answer = self.api.get("users.info", &[("user", &sender.account)]).await;
            let account = accounts::account(answer, sender, &self.workspaces).map_err(post_error)?;
            Ok((account, accounts::LIFETIME))
        };
        self.accounts.refresh(&account_key(sender), fetch).await
    }

    async fn in_group(&self, role: &str, sender: &ChatAccount) -> Result<Option<bool>, SendError> {
        let Some(group) = self.groups.get(role) else { return Ok(None) };
        let fetch = async {
            let answer = self.api.get("usergroups.users.list", &[("usergroup", group)]).await;
            let members = accounts::members(answer).map_err(post_error)?;
            Ok((Arc::new(members), accounts::LIFETIME))
        };
        let members = self.members.get_or_fetch(group, fetch).await?;
        Ok(Some(members.contains(&sender.account)))
    }

    fn default_workspace(&self) -> &str {
        self.workspaces.first().map_or("", String::as_str)
    }

    fn terminal_channel(&self) -> Option<Conversation> {
        let workspace = self.workspaces.first()?.clone();
        let conversation = self.terminal_channel.clone()?;
        Some(Conversation { platform: PlatformKind::Slack, workspace, conversation, thread: None })
    }

    async fn conversation(&self, place: &Conversation) -> Result<ConversationInfo, SendError> {
        let key = format!("{}/{}", place.workspace, place.conversation);
        let fetch = async {
            let answer = self.api.get("conversations.info", &[("channel", &place.conversation)]).await;
            let conversation = accounts::conversation(answer).map_err(post_error)?;
            Ok((conversation, accounts::lifetime(conversation)))
        };
        self.conversations.get_or_fetch(&key, fetch).await
    }
}

fn account_key(sender: &ChatAccount) -> String {
    format!("{}/{}", sender.workspace, sender.account)
}

/// The parts of a message that every method takes. The text is only for notifications, and holds nothing to parse.
fn message(rendered: &SlackMessage) -> Value {
    json!({ "text": rendered.text, "blocks": rendered.blocks })
}

/// Turns off Slack's search for names and links: `chat.postMessage`, `chat.postEphemeral` and `chat.update` take this.
fn inert(mut body: Value) -> Value {
    body["parse"] = json!("none");
    body["link_names"] = json!(false);
    body
}

/// Turns off unfurling and formatting as well: only `chat.postMessage` takes this.
fn never_unfurled(mut body: Value) -> Value {
    for argument in ["mrkdwn", "unfurl_links", "unfurl_media"] {
        body[argument] = json!(false);
    }
    inert(body)
}

fn post_error(error: SlackApiError) -> SendError {
    match error {
        SlackApiError::Code(code) => match code.as_str() {
            "not_in_channel" | "channel_not_found" | "user_not_in_channel" => SendError::NotThere,
            "message_not_found" | "cant_update_message" | "edit_window_closed" => SendError::Gone,
            _ if is_about_the_bot(&code) => SendError::Unavailable(code),
            _ => SendError::Refused(code),
        },
        SlackApiError::UsedUp => SendError::Gone,
        SlackApiError::Unavailable(reason) => SendError::Unavailable(reason),
    }
}

/// Tells the codes by which the bot itself is refused, which its operators can fix: no message is dropped for those.
/// Source: <https://docs.slack.dev/reference/methods/chat.postMessage#errors>.
fn is_about_the_bot(code: &str) -> bool {
    let codes = [
        "account_inactive",
        "ekm_access_denied",
        "invalid_auth",
        "not_authed",
        "org_login_required",
        "team_access_not_granted",
        "team_added_to_org",
        "token_expired",
        "token_revoked",
    ];
    codes.contains(&code) || code.starts_with("http_")
}
