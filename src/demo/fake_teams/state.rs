//! The content of the tenant: settings, people, conversations, messages, and everything that the bot sent.
//! One lock guards it; nothing here waits or speaks HTTP.

use super::client::ActivityDelivery;
use super::keys::PublishedKey;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// The settings that a tenant is started with. The defaults are fixed sample values, and no secrets.
#[derive(Debug, Clone)]
pub struct TenantSettings {
    /// The bot's application id in Entra.
    pub app: String,
    /// The tenant in which the bot is installed.
    pub tenant: String,
    /// After how long an activity counts as not acknowledged: a message after 15 s, a click after 10 s.
    pub ack_limit: Duration,
    /// Calls are refused that come faster than Teams allows.
    pub rate_limits: bool,
    /// Largest activity, in bytes.
    pub largest: usize,
    /// Cards that name people are refreshed for them at once, as Teams does for those who look at them.
    pub refreshes: bool,
    /// The time for which a token of the managed identity is valid.
    pub token_life: Duration,
    /// Fewest members on a page of a roster: Teams gives 50 also when asked for fewer.
    pub smallest_page: usize,
}

impl Default for TenantSettings {
    fn default() -> TenantSettings {
        TenantSettings {
            app: "11111111-1111-1111-1111-111111111111".into(),
            tenant: "22222222-2222-2222-2222-222222222222".into(),
            ack_limit: Duration::from_secs(10),
            rate_limits: true,
            largest: 100 * 1024,
            refreshes: true,
            token_life: Duration::from_secs(24 * 60 * 60),
            smallest_page: 50,
        }
    }
}

/// The kind of a user's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserRole {
    User,
    Guest,
    /// Joined by a link, without an account.
    Anonymous,
    /// Another bot.
    Bot,
}

/// A user of the tenant, or a bot.
#[derive(Debug, Clone)]
pub struct TenantUser {
    /// The name that Teams shows; unique here.
    pub name: String,
    pub role: UserRole,
    pub tenant: String,
    /// Shown on the page beside the name, such as "on call".
    pub role_label: String,
    /// Gone from all rosters.
    pub deactivated: bool,
    /// The bot may write to the user's personal chat.
    pub reachable: bool,
}

impl TenantUser {
    /// A user of the tenant of [`TenantSettings::default`].
    pub fn new(name: &str) -> TenantUser {
        TenantUser {
            name: name.to_owned(),
            role: UserRole::User,
            tenant: TenantSettings::default().tenant,
            role_label: String::new(),
            deactivated: false,
            reachable: true,
        }
    }

    /// The id that Teams gives the person for this bot.
    pub fn mri(&self) -> String {
        match self.role {
            UserRole::Bot => format!("28:{}", self.object_id()),
            _ => format!("29:{}", self.name),
        }
    }

    /// The user's object id in Entra.
    pub fn object_id(&self) -> String {
        object_id(&self.name)
    }

    pub(super) fn upn(&self) -> String {
        match self.role {
            UserRole::Guest => format!("{}_elsewhere.example#EXT#@creatorbridge.example", self.name),
            _ => format!("{}@creatorbridge.example", self.name),
        }
    }
}

/// The object id in Entra of the user with that name: derived, so that a configuration can be written beforehand.
pub fn object_id(name: &str) -> String {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}-{:04x}-4000-8000-{:012x}", hash >> 32, hash >> 16 & 0xffff, hash & 0xffff_ffff_ffff)
}

/// The kind of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ConversationKind {
    Personal,
    GroupChat,
    Channel,
}

impl ConversationKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            ConversationKind::Personal => "personal",
            ConversationKind::GroupChat => "groupChat",
            ConversationKind::Channel => "channel",
        }
    }
}

/// A conversation and its members.
#[derive(Debug, Clone)]
pub struct TenantConversation {
    pub id: String,
    pub kind: ConversationKind,
    /// Names of users.
    pub members: Vec<String>,
    pub is_bot_member: bool,
}

/// A message as it is at the moment of asking; for one user, with the view of the card that the bot gave that user.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TeamsMessage {
    /// The conversation's id, without the thread.
    pub conversation: String,
    pub id: String,
    /// The id of the message that began the thread, in a channel.
    pub thread: Option<String>,
    /// The name of the user who wrote it; `None` is the bot.
    pub author: Option<String>,
    pub text: String,
    pub cards: Vec<Value>,
    pub reply_to: Option<String>,
    /// The only user who sees it.
    pub only_to: Option<String>,
    /// Number of changes.
    pub edited: usize,
    /// The name of a user → the card that only this user sees.
    #[serde(skip)]
    pub views: BTreeMap<String, Value>,
    /// The bot has been asked for the views of those whom the card names.
    #[serde(skip)]
    pub views_requested: bool,
}

/// The place of a message: a conversation without its thread, and the message's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivityRef {
    pub conversation: String,
    pub id: String,
}

/// A way in which calls of the bot fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectorFault {
    /// Answers with this HTTP status and does nothing.
    Status(u16),
    /// Answers 429 with `Retry-After` (seconds), so many times.
    RateLimited { retry_after: u64, times: usize },
    /// Never answers and does nothing.
    Hang,
    /// Waits until the fault is cleared or replaced, and then does the work.
    Held,
    /// Does the work, but the answer is lost: HTTP 502.
    AnswerLost,
    /// Answers with this HTTP status and code, and does nothing.
    Refused(u16, &'static str),
    /// No fault.
    Clear,
}

/// One thing that the bot sent: a call of the Connector, or the answer to an invoke.
#[derive(Debug, Clone)]
pub struct TeamsPayload {
    /// `post`, `put`, `delete`, `create`, `answer`.
    pub method: String,
    pub conversation: String,
    pub body: Value,
    /// The HTTP status of the answer.
    pub status: u16,
    /// Reasons for which Teams would not show it.
    pub problems: Vec<String>,
}

#[derive(Default)]
pub(super) struct TenantState {
    pub settings: TenantSettings,
    pub bot_url: Option<String>,
    /// Base URL of a Connector that calls below `/connector/` are forwarded to.
    pub connector: Option<String>,
    pub people: Vec<TenantUser>,
    pub conversations: Vec<TenantConversation>,
    pub messages: Vec<TeamsMessage>,
    pub published: Vec<PublishedKey>,
    /// The bearer tokens that were issued, and when.
    pub tokens: HashMap<String, Instant>,
    pub payloads: Vec<TeamsPayload>,
    /// Requests that the Connector has no route or no identity for.
    pub unknown_requests: Vec<String>,
    pub deliveries: Vec<ActivityDelivery>,
    pub calls: HashMap<String, usize>,
    pub faults: Vec<(String, ConnectorFault)>,
    /// Conversation → the times of the bot's messages to it.
    pub sent: HashMap<String, Vec<Instant>>,
    last_id: i64,
}

impl TenantState {
    pub fn new(settings: TenantSettings, key: PublishedKey) -> TenantState {
        TenantState { settings, published: vec![key], ..TenantState::default() }
    }

    /// The id of a new activity: its time in milliseconds since 1970 (UTC), as in Teams; unique.
    pub fn next_id(&mut self) -> String {
        self.last_id = jiff::Timestamp::now().as_millisecond().max(self.last_id + 1);
        self.last_id.to_string()
    }

    pub fn person(&self, name: &str) -> Option<&TenantUser> {
        self.people.iter().find(|person| person.name == name)
    }

    /// The user with either of the ids that Teams has for one.
    pub fn person_with(&self, id: &str) -> Option<&TenantUser> {
        self.people.iter().find(|person| person.mri() == id || person.object_id() == id)
    }

    pub fn conversation(&self, id: &str) -> Option<&TenantConversation> {
        self.conversations.iter().find(|conversation| conversation.id == id)
    }

    /// The members of a conversation whose accounts are active, in the order in which they joined.
    pub fn members(&self, conversation: &TenantConversation) -> Vec<&TenantUser> {
        let members = conversation.members.iter().filter_map(|name| self.person(name));
        members.filter(|person| !person.deactivated).collect()
    }

    /// The user is a member of the conversation and has an active account.
    pub fn is_in(&self, name: &str, conversation: &str) -> bool {
        let conversation = self.conversation(conversation);
        conversation.is_some_and(|found| self.members(found).iter().any(|person| person.name == name))
    }

    pub fn message(&mut self, at: &ActivityRef) -> Option<&mut TeamsMessage> {
        self.messages.iter_mut().find(|message| message.at() == *at)
    }

    /// The fault set for a call, if any; one that is set a number of times is used up here.
    pub fn fault_for(&mut self, method: &str) -> Option<ConnectorFault> {
        let index = self.faults.iter().position(|(name, _)| name == method)?;
        let fault = self.faults[index].1.clone();
        if let ConnectorFault::RateLimited { times, .. } = &mut self.faults[index].1 {
            *times -= 1;
            if *times == 0 {
                self.faults.remove(index);
            }
        }
        Some(fault)
    }
}
