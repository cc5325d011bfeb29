//! Delivers replies to Teams: into the answer of the click that waits for one, privately where Teams can (a targeted message), else
//! as messages that can be edited. Says what Teams knows of accounts and conversations. The bot's tokens never leave
//! [`connector`](super::connector).

use super::accounts::{self, is_direct};
use super::connector::{CallError, Connector, Located, Member, send_error};
use super::render::{self, View};
use crate::config;
use crate::ephemeral::{RateLimiter, TtlCache};
use crate::model::{
    Audience, Block, ChatAccount, Conversation, IncomingEvent, Person, PlatformKind, PostedMessage, Reply,
};
use crate::platform::{AccountInfo, ConversationInfo, Platform, SendError, Standing, TooLarge};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Messages to one conversation: 60 in 30 s, 1,800 an hour (<https://learn.microsoft.com/microsoftteams/platform/bots/how-to/rate-limit>).
const INTERVAL: Duration = Duration::from_secs(1);
/// A direct conversation's id never changes; kept a while to spare a call.
const DIRECT_KEPT: Duration = Duration::from_secs(3_600);
/// The address of a conversation's service changes seldom, and comes with every activity.
const SERVICE_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// So many values each cache holds at most.
const CACHED: usize = 10_000;
/// Whom Teams shows a view of their own (<https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/universal-actions-for-adaptive-cards/user-specific-views>).
const MOST_VIEWS: usize = 60;

type Roster = Option<Arc<Vec<Member>>>;

/// Teams, as `flow` sees it.
pub struct TeamsPlatform {
    connector: Connector,
    pacer: RateLimiter,
    tenants: Vec<String>,
    service_url: String,
    terminal_channel: Option<String>,
    /// Conversation to its service, as its last activity named it.
    services: TtlCache<String>,
    directs: TtlCache<String>,
    accounts: TtlCache<AccountInfo>,
    rosters: TtlCache<Roster>,
    absent: TtlCache<()>,
    /// Role to conversation.
    groups: BTreeMap<String, String>,
    /// Clicks whose clients wait for a card.
    waiting: Mutex<HashMap<String, oneshot::Sender<Value>>>,
}

impl TeamsPlatform {
    /// # Errors
    /// As [`Connector::new`].
    pub fn new(config: &config::Teams) -> anyhow::Result<Self> {
        Ok(TeamsPlatform {
            connector: Connector::new(config)?,
            pacer: RateLimiter::new(INTERVAL),
            tenants: config.tenants.clone(),
            service_url: config.service_url.clone(),
            terminal_channel: config.terminal_channel.clone(),
            services: TtlCache::new(CACHED),
            directs: TtlCache::new(CACHED),
            accounts: TtlCache::new(CACHED),
            rosters: TtlCache::new(CACHED),
            absent: TtlCache::new(CACHED),
            groups: config.groups.clone(),
            waiting: Mutex::default(),
        })
    }

    /// Whether the bot's own identity is given tokens.
    ///
    /// # Errors
    /// Why not; never a token.
    pub async fn identity(&self) -> anyhow::Result<()> {
        self.connector.identity().await
    }

    /// A conversation's service, by an activity that came from there and is Teams'.
    pub fn heard(&self, place: &Conversation, service_url: &str) {
        self.services.put(&place.conversation, service_url.to_owned(), Instant::now() + SERVICE_KEPT);
    }

    /// The card that is to be the answer of a click, as soon as there is one; nobody answers it twice.
    pub fn card_for(&self, click: &str) -> oneshot::Receiver<Value> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, sender| !sender.is_closed());
        // The first delivery of a click is answered; of the same again nobody sends a card.
        waiting.entry(click.to_owned()).or_insert(sender);
        receiver
    }

    fn waits(&self, click: &str) -> Option<oneshot::Sender<Value>> {
        let mut waiting = self.waiting.lock();
        waiting.remove(click).filter(|sender| !sender.is_closed())
    }

    fn service(&self, conversation: &str) -> String {
        self.services.get(conversation).unwrap_or_else(|| self.service_url.clone())
    }

    /// Sends a card; its message, if Teams names one.
    async fn send(
        &self,
        place: &Conversation,
        reply: &Reply,
        to: Option<&ChatAccount>,
    ) -> Result<String, SendError> {
        let mut activity = self.activity(place, reply).await;
        if let Some(sender) = to {
            activity["recipient"] = json!({ "id": self.user_id(place, &sender.account).await? });
        }
        let (service, conversation) = (self.service(&place.conversation), address(place));
        self.pacer.turn(&place.conversation).await;
        let there = Located { service: &service, conversation: &conversation };
        self.connector.send(there, &activity).await.map_err(send_error)
    }

    async fn activity(&self, place: &Conversation, reply: &Reply) -> Value {
        let user_ids = match &reply.view {
            Some(_) => self.user_ids(place, reply).await,
            None => Vec::new(),
        };
        let view = View { viewer: None, user_ids: &user_ids, token: reply.view.as_deref() };
        let rendered = render::render(reply, &view);
        json!({
            "type": "message",
            "summary": rendered.summary,
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "content": rendered.card,
            }],
        })
    }

    /// The ids of those for whom the card has buttons of their own. Without them everyone sees the same, and asks for theirs.
    async fn user_ids(&self, place: &Conversation, reply: &Reply) -> Vec<String> {
        let Ok(Some(members)) = self.roster(&place.conversation).await else { return Vec::new() };
        let mut ids: Vec<String> = Vec::new();
        for account in concerned(reply).filter_map(|person| person.account.as_deref()) {
            let found = members.iter().find(|member| accounts::is(member, account));
            if let Some(member) = found.filter(|member| !ids.contains(&member.id)) {
                ids.push(member.id.clone());
            }
        }
        ids.truncate(MOST_VIEWS);
        ids
    }

    /// The id by which Teams knows an account in a conversation.
    async fn user_id(&self, place: &Conversation, account: &str) -> Result<String, SendError> {
        let known = self.roster(&place.conversation).await;
        let member = known.as_ref().ok().and_then(|roster| roster.as_ref());
        match member.and_then(|members| members.iter().find(|member| accounts::is(member, account))) {
            Some(member) => Ok(member.id.clone()),
            None => {
                let member = self.member(&place.conversation, account).await;
                member.map(|member| member.id).map_err(|error| match error {
                    CallError::Code(404, _) => SendError::NotThere,
                    other => send_error(other),
                })
            }
        }
    }

    async fn member(&self, conversation: &str, account: &str) -> Result<Member, CallError> {
        let service = self.service(conversation);
        self.connector.member(Located { service: &service, conversation }, account).await
    }

    /// The members of a conversation, by a word no older than five minutes; `None` if they are too many.
    async fn roster(&self, conversation: &str) -> Result<Roster, CallError> {
        if let Some(roster) = self.rosters.get(conversation) {
            return Ok(roster);
        }
        if self.absent.get(conversation).is_some() {
            return Err(CallError::Code(403, "BotNotInConversationRoster".to_owned()));
        }
        // The age counts from before the question.
        let asked = Instant::now();
        let service = self.service(conversation);
        match self.connector.members(Located { service: &service, conversation }).await {
            Ok(members) => {
                let roster = members.map(Arc::new);
                self.rosters.put(conversation, roster.clone(), asked + accounts::FRESH);
                Ok(roster)
            }
            Err(error) => {
                if matches!(error, CallError::Code(403 | 404, _)) {
                    self.absent.put(conversation, (), asked + accounts::ABSENT);
                }
                Err(error)
            }
        }
    }
}

/// Whoever has a button of their own on a card.
fn concerned(reply: &Reply) -> impl Iterator<Item = &Person> {
    let buttons = reply.blocks.iter().filter_map(|block| match block {
        Block::Buttons(buttons) => Some(buttons),
        _ => None,
    });
    buttons.flatten().flat_map(|button| &button.who)
}

#[async_trait]
impl Platform for TeamsPlatform {
    fn name(&self) -> PlatformKind {
        PlatformKind::Teams
    }

    fn fits(&self, reply: &Reply) -> Result<(), TooLarge> {
        render::fits(reply)
    }

    async fn answer(&self, to: &IncomingEvent, reply: &Reply) -> Result<(), SendError> {
        never_cut_a_plan(reply)?;
        if let Some(sender) = to.handle.as_ref().and_then(|handle| self.waits(&handle.url)) {
            let viewer = concerned(reply).find(|person| person.account.as_ref() == Some(&to.sender.account));
            let view = View { viewer, user_ids: &[], token: None };
            if sender.send(render::render(reply, &view).card).is_ok() {
                return Ok(());
            }
        }
        // A person's own view that nobody waits for any more is nobody else's: their client asks again.
        if to.handle.as_ref().is_some_and(|handle| handle.card) && reply.audience == Audience::Everyone {
            return Ok(());
        }
        // A direct conversation has no one to hide from.
        let private = reply.audience == Audience::Asker && !is_direct(&to.place.conversation);
        match self.send(&to.place, reply, private.then_some(&to.sender)).await {
            Err(SendError::NotThere) => self.tell(&to.sender, reply).await.map(drop),
            sent => sent.map(drop),
        }
    }

    async fn post(&self, place: &Conversation, reply: &Reply) -> Result<PostedMessage, SendError> {
        never_cut_a_plan(reply)?;
        let message = self.send(place, reply, None).await?;
        Ok(PostedMessage { place: place.clone(), message })
    }

    async fn edit(&self, posted: &PostedMessage, reply: &Reply) -> Result<(), SendError> {
        never_cut_a_plan(reply)?;
        let activity = self.activity(&posted.place, reply).await;
        let (service, conversation) = (self.service(&posted.place.conversation), address(&posted.place));
        let there = Located { service: &service, conversation: &conversation };
        self.connector.update(there, &posted.message, &activity).await.map_err(send_error)
    }

    async fn tell(&self, sender: &ChatAccount, reply: &Reply) -> Result<PostedMessage, SendError> {
        let place = self.direct(sender).await?;
        self.post(&place, reply).await
    }

    async fn direct(&self, sender: &ChatAccount) -> Result<Conversation, SendError> {
        let place = |conversation| Conversation {
            platform: PlatformKind::Teams,
            workspace: sender.workspace.clone(),
            conversation,
            thread: None,
        };
        if let Some(conversation) = self.directs.get(&sender.account) {
            return Ok(place(conversation));
        }
        let who = (sender.workspace.as_str(), sender.account.as_str());
        let conversation = self.connector.direct(&self.service_url, who).await.map_err(send_error)?;
        self.directs.put(&sender.account, conversation.clone(), Instant::now() + DIRECT_KEPT);
        Ok(place(conversation))
    }

    async fn account(&self, sender: &ChatAccount, place: &Conversation) -> Result<AccountInfo, SendError> {
        match self.accounts.get(&account_key(sender, place)) {
            Some(account) => Ok(account),
            None => self.account_now(sender, place).await,
        }
    }

    /// As a member of the place: Teams tells of nobody elsewhere.
    async fn account_now(
        &self,
        sender: &ChatAccount,
        place: &Conversation,
    ) -> Result<AccountInfo, SendError> {
        let found = match place.account() {
            Some(_) => self.direct(sender).await?,
            None => place.clone(),
        };
        let asked = Instant::now();
        let answer = self.member(&found.conversation, &sender.account).await;
        let account = accounts::account(answer, sender, &self.tenants).map_err(send_error)?;
        // Whoever isn't there may be added the next moment.
        let lasts = match account.standing {
            Standing::Deactivated => accounts::ABSENT,
            _ => accounts::FRESH,
        };
        self.accounts.put(&account_key(sender, place), account.clone(), asked + lasts);
        Ok(account)
    }

    async fn in_group(&self, role: &str, sender: &ChatAccount) -> Result<Option<bool>, SendError> {
        let Some(group) = self.groups.get(role) else { return Ok(None) };
        let roster = self.roster(group).await.map_err(send_error)?;
        let members = roster.ok_or(SendError::Refused("too_many_members".to_owned()))?;
        Ok(Some(members.iter().any(|member| accounts::is(member, &sender.account))))
    }

    fn home(&self) -> &str {
        self.tenants.first().map_or("", String::as_str)
    }

    fn place_for_others(&self) -> Option<Conversation> {
        let (workspace, conversation) = (self.home().to_owned(), self.terminal_channel.clone()?);
        Some(Conversation { platform: PlatformKind::Teams, workspace, conversation, thread: None })
    }

    async fn conversation(&self, place: &Conversation) -> Result<ConversationInfo, SendError> {
        let roster = self.roster(&place.conversation).await;
        let members = roster.as_ref().map(|roster| roster.as_ref().map(|members| members.as_slice()));
        accounts::conversation(&place.conversation, members.map_err(Clone::clone), &self.tenants)
            .map_err(send_error)
    }
}

/// A thread's address has the message that it hangs from. Only channels have threads.
fn address(place: &Conversation) -> String {
    let channel = ["@thread.tacv2", "@thread.skype"].iter().any(|kind| place.conversation.ends_with(kind));
    match &place.thread {
        Some(thread) if channel => format!("{};messageid={thread}", place.conversation),
        _ => place.conversation.clone(),
    }
}

fn account_key(sender: &ChatAccount, place: &Conversation) -> String {
    format!("{}/{}/{}", sender.workspace, sender.account, place.conversation)
}

/// `flow` asks `fits` before it shows a plan; this is the fence behind that.
fn never_cut_a_plan(reply: &Reply) -> Result<(), SendError> {
    if reply.whole && render::fits(reply).is_err() {
        return Err(SendError::Refused("plan_too_large".to_owned()));
    }
    Ok(())
}
