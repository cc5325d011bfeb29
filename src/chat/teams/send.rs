//! Delivers replies to Teams: into the answer of the click that waits for one, privately where Teams can (a targeted message),
//! else as messages that can be edited. Reports Teams' accounts and conversations;
//! what is unknown or can't be seen counts as external.

use super::connector::{ConnectorClient, ConnectorError, ConversationReference, Member};
use super::deep_link::{self, is_channel};
use super::errors::{self, CallTarget};
use super::form;
use super::render::{self, View};
use crate::chat::{ABSENT_LIFETIME, CACHE_CAPACITY, DIRECT_LIFETIME, REPORT_LIFETIME, report};
use crate::config;
use crate::ephemeral::TtlCache;
use crate::model::{
    Audience, ChatAccount, ChatEvent, Conversation, Form, LinkUrl, Mention, Person, PlatformKind,
    PostedMessage, Reply,
};
use crate::platform::{
    AccountInfo, AccountKind, ConversationInfo, Freshness, Platform, Route, SendError, TooLarge,
};
use crate::shared_state::RateLimiter;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Messages to one conversation: 60 in 30 s, 1,800 an hour (<https://learn.microsoft.com/microsoftteams/platform/bots/how-to/rate-limit>).
const INTERVAL: Duration = Duration::from_secs(1);
/// The address of a conversation's service changes seldom, and comes with every activity.
const SERVICE_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// The members of a conversation; `None` if they are too many to be read.
type Roster = Option<Arc<Vec<Member>>>;

/// Teams, as the workflow sees it.
pub struct TeamsPlatform {
    pub(super) connector: ConnectorClient,
    pub(super) limiter: RateLimiter,
    pub(super) config: config::TeamsSettings,
    /// Service address of each conversation, as its last activity named it.
    services: TtlCache<String>,
    directs: TtlCache<String>,
    accounts: TtlCache<AccountInfo>,
    /// Members of each conversation, or the error by which the bot isn't in it.
    rosters: TtlCache<Result<Roster, ConnectorError>>,
    /// Clicks whose clients wait for a card, and where to send it.
    waiting: Mutex<HashMap<String, oneshot::Sender<Value>>>,
}

impl TeamsPlatform {
    /// Fails as [`ConnectorClient::new`].
    pub fn new(config: &config::TeamsSettings) -> anyhow::Result<Self> {
        Ok(TeamsPlatform {
            connector: ConnectorClient::new(config)?,
            limiter: RateLimiter::new("teams-messages", INTERVAL),
            config: config.clone(),
            services: TtlCache::new(CACHE_CAPACITY),
            directs: TtlCache::new(CACHE_CAPACITY),
            accounts: TtlCache::new(CACHE_CAPACITY),
            rosters: TtlCache::new(CACHE_CAPACITY),
            waiting: Mutex::default(),
        })
    }

    /// Checks that the bot's own identity is given tokens. The error has the reason, and never a token.
    pub async fn identity(&self) -> anyhow::Result<()> {
        self.connector.tokens.token().await.map(drop)
    }

    /// Remembers the service address that a verified activity named for its conversation.
    pub fn remember_service(&self, conversation: &Conversation, service_url: &str) {
        self.services.put(&conversation.id, service_url.to_owned(), Instant::now() + SERVICE_LIFETIME);
    }

    /// Registers a click whose client waits for a card, and receives that card. The same click is answered once.
    pub fn card_for(&self, click: &str) -> oneshot::Receiver<Value> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, sender| !sender.is_closed());
        // Only the first delivery of a click is answered.
        waiting.entry(click.to_owned()).or_insert(sender);
        receiver
    }

    fn reference(&self, conversation: &str) -> ConversationReference {
        let service_url = self.services.get(conversation).unwrap_or_else(|| self.config.service_url.clone());
        ConversationReference { service_url, conversation: conversation.to_owned() }
    }

    /// A thread's id names the message that it hangs from. Only channels have threads.
    fn thread_reference(&self, conversation: &Conversation) -> ConversationReference {
        let mut reference = self.reference(&conversation.id);
        if let Some(thread) = conversation.thread.as_ref().filter(|_| is_channel(&conversation.id)) {
            reference.conversation.push_str(&format!(";messageid={thread}"));
        }
        reference
    }

    /// Answers a click whose client waits for a card.
    fn answer_click(&self, event: &ChatEvent, reply: &Reply) -> Result<(), SendError> {
        let waiting = event.handle.as_ref().and_then(|handle| self.waiting.lock().remove(&handle.id));
        if let Some(sender) = waiting.filter(|sender| !sender.is_closed()) {
            let viewer =
                button_owners(reply).find(|person| person.account.as_ref() == Some(&event.sender.account));
            let view = View { viewer, user_ids: &[], token: None };
            if sender.send(render::render(reply, &view).card).is_ok() {
                return Ok(());
            }
        }
        // A person's own view is not for others. Where their client no longer waits for it, it will ask again.
        if event.handle.as_ref().is_some_and(|handle| handle.replaces_card)
            && reply.audience == Audience::Everyone
        {
            return Ok(());
        }
        Err(SendError::NoRoute)
    }

    /// Answers by a message; one for the sender alone is targeted, except in a direct conversation, which has no one to hide from.
    async fn answer_in(
        &self,
        event: &ChatEvent,
        conversation: &Conversation,
        reply: &Reply,
    ) -> Result<(), SendError> {
        let private = reply.audience == Audience::Asker && !is_direct(&conversation.id);
        self.send(conversation, reply, private.then_some(&event.sender.account)).await.map(drop)
    }

    /// Sends a card, and returns its message id, which is empty if Teams names none.
    async fn send(
        &self,
        conversation: &Conversation,
        reply: &Reply,
        to: Option<&str>,
    ) -> Result<String, SendError> {
        let activity = self.activity(conversation, reply).await;
        self.send_activity(conversation, activity, to).await
    }

    async fn send_activity(
        &self,
        conversation: &Conversation,
        mut activity: Value,
        to: Option<&str>,
    ) -> Result<String, SendError> {
        if let Some(account) = to {
            activity["recipient"] = json!({ "id": self.user_id(conversation, account).await? });
        }
        self.limiter.wait_turn(&conversation.id).await;
        self.connector.send(&self.thread_reference(conversation), &activity).await.map_err(send_error)
    }

    async fn activity(&self, conversation: &Conversation, reply: &Reply) -> Value {
        if reply.text_only {
            return json!({ "type": "message", "textFormat": "plain", "text": render::text_alone(reply) });
        }
        let user_ids =
            if reply.view.is_some() { self.user_ids(conversation, reply).await } else { Vec::new() };
        let view = View { viewer: None, user_ids: &user_ids, token: reply.view.as_deref() };
        let message = render::render(reply, &view);
        card_activity(&message.card, &message.summary)
    }

    /// The ids of the people who have buttons of their own on the card. Without ids everyone sees the same card, and may ask for
    /// their own.
    async fn user_ids(&self, conversation: &Conversation, reply: &Reply) -> Vec<String> {
        let Ok(Some(members)) = self.roster(&conversation.id, Freshness::Recent).await else {
            return Vec::new();
        };
        let mut ids: Vec<String> = Vec::new();
        for account in button_owners(reply).filter_map(|person| person.account.as_deref()) {
            let member = members.iter().find(|member| is(member, account));
            ids.extend(member.map(|member| member.id.clone()).filter(|id| !ids.contains(id)));
        }
        ids.truncate(render::MAX_USER_IDS);
        ids
    }

    /// The id by which Teams knows an account in a conversation.
    async fn user_id(&self, conversation: &Conversation, account: &str) -> Result<String, SendError> {
        if let Ok(Some(members)) = self.roster(&conversation.id, Freshness::Recent).await
            && let Some(member) = members.iter().find(|member| is(member, account))
        {
            return Ok(member.id.clone());
        }
        match self.member(&conversation.id, account).await {
            Ok(member) => Ok(member.id),
            Err(error) => Err(send_error(error)),
        }
    }

    async fn member(&self, conversation: &str, account: &str) -> Result<Member, ConnectorError> {
        self.connector.member(&self.reference(conversation), account).await
    }

    async fn roster(&self, conversation: &str, freshness: Freshness) -> Result<Roster, ConnectorError> {
        let fetch = async {
            match self.connector.members(&self.reference(conversation)).await {
                Ok(members) => Ok((Ok(members.map(Arc::new)), REPORT_LIFETIME)),
                Err(error @ ConnectorError::Code(403 | 404, _)) => Ok((Err(error), ABSENT_LIFETIME)),
                Err(error) => Err(error),
            }
        };
        report(&self.rosters, conversation, freshness, fetch).await?
    }
}

fn card_activity(card: &Value, summary: &str) -> Value {
    json!({
        "type": "message",
        "summary": summary,
        "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "content": card }],
    })
}

fn send_error(error: ConnectorError) -> SendError {
    errors::send_error(error, CallTarget::Conversation)
}

/// The people who have a button of their own on a card.
fn button_owners(reply: &Reply) -> impl Iterator<Item = &Person> {
    reply.buttons().flat_map(|button| &button.visible_to)
}

#[async_trait]
impl Platform for TeamsPlatform {
    fn name(&self) -> PlatformKind {
        PlatformKind::Teams
    }

    fn check_size(&self, reply: &Reply) -> Result<(), TooLarge> {
        render::check_size(reply)
    }

    fn has_forms(&self) -> bool {
        true
    }

    /// Posts a card that its person alone sees; no click is needed to open one.
    async fn open_form(&self, event: &ChatEvent, form: &Form) -> Result<(), SendError> {
        let conversation = &event.conversation;
        let activity = card_activity(&form::card(form)?, &form::summary(form));
        let to = (!is_direct(&conversation.id)).then_some(event.sender.account.as_str());
        self.send_activity(conversation, activity, to).await.map(drop)
    }

    async fn answer(&self, event: &ChatEvent, reply: &Reply, route: Route) -> Result<(), SendError> {
        self.refuse_cut_plan(reply)?;
        let conversation = &event.conversation;
        let is_in_thread = self.thread_reference(conversation).conversation != conversation.id;
        match route {
            Route::Handle => self.answer_click(event, reply),
            Route::Thread if !is_in_thread => Err(SendError::NoRoute),
            Route::Thread => self.answer_in(event, conversation, reply).await,
            Route::Conversation => {
                let conversation = Conversation { thread: None, ..conversation.clone() };
                self.answer_in(event, &conversation, reply).await
            }
            Route::Direct => self.send_direct(&event.sender, reply).await.map(drop),
        }
    }

    async fn post(&self, conversation: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError> {
        self.refuse_cut_plan(reply)?;
        let message = self.send(conversation, reply, None).await?;
        Ok(PostedMessage { conversation: conversation.clone(), message })
    }

    async fn edit(&self, posted: &PostedMessage, reply: &Reply) -> Result<(), SendError> {
        self.refuse_cut_plan(reply)?;
        let activity = self.activity(&posted.conversation, reply).await;
        let reference = self.thread_reference(&posted.conversation);
        let updated = self.connector.update(&reference, &posted.message, &activity).await;
        updated.map_err(|error| errors::send_error(error, CallTarget::Message))
    }

    async fn direct_conversation(&self, recipient: &ChatAccount) -> Result<Conversation, SendError> {
        let open = async {
            let opened = self
                .connector
                .direct(&self.config.service_url, &recipient.workspace, &recipient.account)
                .await;
            Ok((opened.map_err(send_error)?, DIRECT_LIFETIME))
        };
        let conversation = self.directs.get_or_fetch(&recipient.account, open).await?;
        Ok(Conversation::new(PlatformKind::Teams, &recipient.workspace, conversation))
    }

    /// Asks about a member of the conversation: Teams has no other way to ask about an account.
    async fn account(
        &self,
        sender: &ChatAccount,
        conversation: &Conversation,
        freshness: Freshness,
    ) -> Result<AccountInfo, SendError> {
        let key = format!("{}/{}/{}", sender.workspace, sender.account, conversation.id);
        let ids = vec![sender.account.clone()];
        let fetch = async {
            let answer = match conversation.account() {
                Some(_) => self.member(&self.direct_conversation(sender).await?.id, &sender.account).await,
                None => self.member(&conversation.id, &sender.account).await,
            };
            let member = match answer {
                Ok(member) => member,
                // Whoever is deactivated or was removed is a member of nothing; and may be added the next moment.
                Err(ConnectorError::Code(404, _)) => {
                    return Ok((AccountInfo { kind: AccountKind::Deactivated, ids }, ABSENT_LIFETIME));
                }
                Err(error) => return Err(send_error(error)),
            };
            let kind = match account_kind(&member, &self.config.tenants) {
                AccountKind::Member
                    if !is(&member, &sender.account)
                        || member.tenant_id.as_ref() != Some(&sender.workspace) =>
                {
                    AccountKind::External
                }
                kind => kind,
            };
            Ok((AccountInfo { kind, ids }, REPORT_LIFETIME))
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
        let roster = self.roster(group, freshness).await.map_err(send_error)?;
        let members = roster.ok_or(SendError::Refused("too_many_members".to_owned()))?;
        Ok(Some(members.iter().any(|member| is(member, &sender.account))))
    }

    /// Finds the account among the members: an activity names a mentioned person by an id that counts for this bot only.
    async fn mentioned_account(&self, mention: &Mention, conversation: &Conversation) -> Option<String> {
        let id = mention.id.as_ref()?;
        let member = match self.roster(&conversation.id, Freshness::Recent).await.ok()? {
            Some(members) => members.iter().find(|member| member.id == *id).cloned(),
            None => Some(self.member(&conversation.id, id).await.ok()?),
        };
        // Whoever isn't a member has no account that could be listed.
        let account = member.and_then(|member| member.aad_object_id.or(member.object_id));
        Some(account.map_or_else(|| id.clone(), |account| account.to_lowercase()))
    }

    fn default_workspace(&self) -> &str {
        self.config.tenants.first().map_or("", String::as_str)
    }

    fn terminal_conversation(&self) -> Option<Conversation> {
        let id = self.config.terminal_channel.clone()?;
        Some(Conversation::new(PlatformKind::Teams, self.default_workspace(), id))
    }

    async fn message_url(&self, posted: &PostedMessage) -> Result<Option<LinkUrl>, SendError> {
        Ok(deep_link::message_url(posted))
    }

    async fn conversation(&self, conversation: &Conversation) -> Result<ConversationInfo, SendError> {
        let roster = self.roster(&conversation.id, Freshness::Recent).await;
        conversation_info(&conversation.id, roster, &self.config.tenants)
    }
}

/// By the member's tenant and role.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/get-teams-context>.
fn account_kind(member: &Member, tenants: &[String]) -> AccountKind {
    let is_guest = member.user_principal_name.as_deref().is_some_and(|name| name.contains("#EXT#"));
    let is_listened_to = member.tenant_id.as_ref().is_some_and(|tenant| tenants.contains(tenant));
    match member.user_role.as_deref() {
        _ if !is_listened_to => AccountKind::External,
        None | Some("user") if !is_guest => AccountKind::Member,
        None | Some("user" | "guest") => AccountKind::Guest,
        Some(_) => AccountKind::External,
    }
}

/// Compares a member with an account, by its Entra object id.
fn is(member: &Member, account: &str) -> bool {
    let mut ids = member.aad_object_id.iter().chain(&member.object_id).peekable();
    ids.peek().is_some() && ids.all(|id| id.eq_ignore_ascii_case(account))
}

/// A conversation by its members: `None` where they are too many to be read.
fn conversation_info(
    id: &str,
    members: Result<Roster, ConnectorError>,
    tenants: &[String],
) -> Result<ConversationInfo, SendError> {
    match members {
        Ok(members) => {
            let is_external = |member: &Member| account_kind(member, tenants) == AccountKind::External;
            let is_shared = members.is_none_or(|members| members.iter().any(is_external));
            Ok(ConversationInfo { is_bot_member: true, is_direct: is_direct(id), is_shared })
        }
        // What the bot can't see may be anything: it isn't in, and its answers stay private.
        Err(ConnectorError::Code(403 | 404, _)) => {
            Ok(ConversationInfo { is_bot_member: false, is_direct: false, is_shared: true })
        }
        Err(error) => Err(send_error(error)),
    }
}

/// Channels and chats of several begin with `19:`; a person's own with the bot doesn't.
pub(super) fn is_direct(id: &str) -> bool {
    !id.starts_with("19:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(tenant: &str, role: Option<&str>, name: &str) -> Member {
        Member {
            id: "29:x".to_owned(),
            aad_object_id: Some("A".to_owned()),
            object_id: None,
            tenant_id: Some(tenant.to_owned()).filter(|tenant| !tenant.is_empty()),
            user_role: role.map(str::to_owned),
            user_principal_name: Some(name.to_owned()),
        }
    }

    #[test]
    fn only_a_user_of_our_tenant_is_a_member() {
        let ours = ["T".to_owned()];
        for (tenant, role, name, expected) in [
            ("T", Some("user"), "ana@x", AccountKind::Member),
            ("T", None, "ana@x", AccountKind::Member),
            ("T", Some("guest"), "gil@x", AccountKind::Guest),
            ("T", Some("user"), "gil_y#EXT#@x", AccountKind::Guest),
            ("T", Some("anonymous"), "", AccountKind::External),
            ("U", Some("user"), "eve@y", AccountKind::External),
            ("", Some("user"), "eve@y", AccountKind::External),
        ] {
            assert_eq!(
                account_kind(&member(tenant, role, name), &ours),
                expected,
                "{tenant} {role:?} {name}"
            );
        }
    }

    #[test]
    fn a_conversation_with_one_of_elsewhere_is_shared() {
        let ours = ["T".to_owned()];
        let inside = vec![member("T", None, "ana@x"), member("T", Some("guest"), "gil@x")];
        let outside = vec![member("T", None, "ana@x"), member("U", None, "eve@y")];
        let is_shared = |members: Option<Vec<Member>>| {
            conversation_info("19:c@thread.tacv2", Ok(members.map(Arc::new)), &ours).unwrap().is_shared
        };
        assert!(!is_shared(Some(inside)));
        assert!(is_shared(Some(outside)) && is_shared(None));
    }
}
