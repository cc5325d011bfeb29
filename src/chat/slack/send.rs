//! Delivers replies to Slack: by `response_url` while that lives, else by messages of our own, at most one a second per
//! channel. Says what Slack knows of accounts and conversations. The tokens and the `response_url`s never leave here.

use super::api::{Api, CallError};
use super::render::{self, Rendered};
use super::{accounts, limits};
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
use tokio::time::Instant;
use url::Url;

/// `chat.postMessage` to one channel: about one a second (<https://api.slack.com/docs/rate-limits>).
const CHANNEL_INTERVAL: Duration = Duration::from_secs(1);
/// A direct conversation's id never changes; kept a while to spare a call.
const DIRECT_KEPT: Duration = Duration::from_secs(3_600);
/// So many values each cache holds at most.
const CACHED: usize = 10_000;

/// Slack, as `flow` sees it.
pub struct SlackPlatform {
    api: Api,
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

/// How often each living `response_url` was used.
#[derive(Default)]
struct ResponseUrlUses {
    taken: HashMap<String, u8>,
    /// As they came, so that the dead are found without looking at the living.
    order: VecDeque<(jiff::Timestamp, String)>,
}

impl SlackPlatform {
    /// Fails if the system has no certificates to trust.
    pub fn new(config: &config::Slack) -> anyhow::Result<Self> {
        Ok(SlackPlatform {
            api: Api::new(&config.api_url, &config.bot_token)?,
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

    /// The workspace that the bot's token is of, by Slack's word.
    ///
    /// # Errors
    /// Slack's error code, or why it isn't reached; never the token.
    pub async fn workspace(&self) -> Result<String, CallError> {
        let answer = self.api.get("auth.test", &[]).await?;
        Ok(answer["team_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Takes one of the address's uses, if it has any left and still lives.
    fn take_use(&self, handle: &AnswerHandle) -> Option<Url> {
        let now = jiff::Timestamp::now();
        let living =
            |since: jiff::Timestamp| now.duration_since(since).as_secs() < limits::RESPONSE_URL_SECONDS;
        if !living(handle.since) {
            return None;
        }
        let uses = &mut *self.uses.lock();
        while let Some((_, dead)) = uses.order.pop_front_if(|(since, _)| !living(*since)) {
            uses.taken.remove(&dead);
        }
        let used = uses.taken.entry(handle.url.clone()).or_insert_with(|| {
            uses.order.push_back((handle.since, handle.url.clone()));
            0
        });
        if *used >= limits::RESPONSE_URL_USES {
            return None;
        }
        *used += 1;
        Url::parse(&handle.url).ok()
    }

    async fn respond(&self, url: &Url, to: &IncomingEvent, reply: &Reply) -> Result<(), CallError> {
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

    /// Tells the asker alone, where the conversation stands.
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
    async fn attach(&self, channel: &str, thread: Option<&str>, rendered: &Rendered) {
        if let Some(file) = &rendered.attachment
            && let Err(error) = self.api.upload(channel, thread, file).await
        {
            tracing::warn!(%error, "attaching the whole of a cut answer");
        }
    }

    /// The direct conversation with an account.
    async fn direct_channel(&self, account: &str) -> Result<String, SendError> {
        if let Some(channel) = self.directs.get(account) {
            return Ok(channel);
        }
        let answer =
            self.api.post("conversations.open", &json!({ "users": account })).await.map_err(post_error)?;
        let Some(channel) = answer["channel"]["id"].as_str() else {
            return Err(SendError::Unavailable("unreadable_answer".to_owned()));
        };
        self.directs.put(account, channel.to_owned(), Instant::now() + DIRECT_KEPT);
        Ok(channel.to_owned())
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
        never_cut_a_plan(reply)?;
        if let Some(url) = to.handle.as_ref().and_then(|handle| self.take_use(handle)) {
            match self.respond(&url, to, reply).await {
                Err(CallError::UsedUp) => {}
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
            Err(SendError::NotThere) => self.tell(&to.sender, reply).await.map(drop),
            sent => sent,
        }
    }

    async fn post(&self, place: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError> {
        never_cut_a_plan(reply)?;
        let (conversation, message) =
            self.post_to(&place.conversation, place.thread.as_deref(), reply).await?;
        Ok(PostedMessage { place: Conversation { conversation, ..place.clone() }, message })
    }

    async fn edit(&self, posted: &PostedMessage, reply: &Reply) -> Result<(), SendError> {
        never_cut_a_plan(reply)?;
        let mut body = inert(message(&render::render(reply)));
        body["channel"] = json!(posted.place.conversation);
        body["ts"] = json!(posted.message);
        self.api.post("chat.update", &body).await.map(drop).map_err(post_error)
    }

    async fn tell(&self, sender: &ChatAccount, reply: &Reply) -> Result<PostedMessage, SendError> {
        never_cut_a_plan(reply)?;
        let place = self.direct(sender).await?;
        let (_, message) = self.post_to(&place.conversation, None, reply).await?;
        Ok(PostedMessage { place, message })
    }

    async fn direct(&self, sender: &ChatAccount) -> Result<Conversation, SendError> {
        let (conversation, workspace) =
            (self.direct_channel(&sender.account).await?, sender.workspace.clone());
        Ok(Conversation { platform: PlatformKind::Slack, workspace, conversation, thread: None })
    }

    async fn account(&self, sender: &ChatAccount, place: &Conversation) -> Result<AccountInfo, SendError> {
        match self.accounts.get(&account_key(sender)) {
            Some(account) => Ok(account),
            None => self.account_now(sender, place).await,
        }
    }

    /// Slack tells the same of an account wherever it speaks.
    async fn account_now(
        &self,
        sender: &ChatAccount,
        _place: &Conversation,
    ) -> Result<AccountInfo, SendError> {
        // The age counts from before the question.
        let asked = Instant::now();
        let answer = self.api.get("users.info", &[("user", &sender.account)]).await;
        let account = accounts::account(answer, sender, &self.workspaces).map_err(post_error)?;
        self.accounts.put(&account_key(sender), account.clone(), asked + accounts::FRESH);
        Ok(account)
    }

    async fn in_group(&self, role: &str, sender: &ChatAccount) -> Result<Option<bool>, SendError> {
        let Some(group) = self.groups.get(role) else { return Ok(None) };
        let members = match self.members.get(group) {
            Some(members) => members,
            None => {
                let asked = Instant::now();
                let answer = self.api.get("usergroups.users.list", &[("usergroup", group)]).await;
                let members = Arc::new(accounts::members(answer).map_err(post_error)?);
                self.members.put(group, Arc::clone(&members), asked + accounts::FRESH);
                members
            }
        };
        Ok(Some(members.contains(&sender.account)))
    }

    fn home(&self) -> &str {
        self.workspaces.first().map_or("", String::as_str)
    }

    fn place_for_others(&self) -> Option<Conversation> {
        let (workspace, conversation) = (self.workspaces.first()?.clone(), self.terminal_channel.clone()?);
        Some(Conversation { platform: PlatformKind::Slack, workspace, conversation, thread: None })
    }

    async fn conversation(&self, place: &Conversation) -> Result<ConversationInfo, SendError> {
        let key = format!("{}/{}", place.workspace, place.conversation);
        if let Some(conversation) = self.conversations.get(&key) {
            return Ok(conversation);
        }
        let asked = Instant::now();
        let answer = self.api.get("conversations.info", &[("channel", &place.conversation)]).await;
        let conversation = accounts::conversation(answer).map_err(post_error)?;
        self.conversations.put(&key, conversation, asked + accounts::kept(conversation));
        Ok(conversation)
    }
}

fn account_key(sender: &ChatAccount) -> String {
    format!("{}/{}", sender.workspace, sender.account)
}

/// `flow` asks `fits` before it shows a plan; this is the fence behind that.
fn never_cut_a_plan(reply: &Reply) -> Result<(), SendError> {
    if reply.whole && render::fits(reply).is_err() {
        return Err(SendError::Refused("plan_too_large".to_owned()));
    }
    Ok(())
}

/// The parts of a message that all ways of sending share. The text is only for notifications, and holds nothing to parse.
fn message(rendered: &Rendered) -> Value {
    json!({ "text": rendered.text, "blocks": rendered.blocks })
}

/// Names and links are not Slack's to find: `chat.postMessage`, `chat.postEphemeral` and `chat.update` take this.
fn inert(mut body: Value) -> Value {
    body["parse"] = json!("none");
    body["link_names"] = json!(false);
    body
}

/// And nothing is unfurled or formatted: `chat.postMessage` alone takes this.
fn never_unfurled(mut body: Value) -> Value {
    for argument in ["mrkdwn", "unfurl_links", "unfurl_media"] {
        body[argument] = json!(false);
    }
    inert(body)
}

fn post_error(error: CallError) -> SendError {
    match error {
        CallError::Code(code) => match code.as_str() {
            "not_in_channel" | "channel_not_found" | "user_not_in_channel" => SendError::NotThere,
            "message_not_found" | "cant_update_message" | "edit_window_closed" => SendError::Gone,
            _ if concerns_us(&code) => SendError::Unavailable(code),
            _ => SendError::Refused(code),
        },
        CallError::UsedUp => SendError::Gone,
        CallError::Unavailable(why) => SendError::Unavailable(why),
    }
}

/// What the bot itself is refused, which its operators can mend: no message is to be given up for that.
/// Source: <https://docs.slack.dev/reference/methods/chat.postMessage#errors>.
fn concerns_us(code: &str) -> bool {
    let ours = [
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
    ours.contains(&code) || code.starts_with("http_")
}
