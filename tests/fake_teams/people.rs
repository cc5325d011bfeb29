//! The plain values that the fake Teams is made of: people, conversations, messages, faults.

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a fake Teams is started with. The defaults are fixed sample values, and no secrets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bot's application id in Entra.
    pub app: String,
    /// The tenant in which the bot is installed.
    pub tenant: String,
    /// Within how long the bot has to answer: a message in 15 s, a click in 10 s.
    pub ack_limit: Duration,
    /// Whether calls are refused that come faster than Teams allows.
    pub rate_limits: bool,
    /// Largest activity, in bytes.
    pub largest: usize,
    /// Whether those who look at a card have it refreshed at once, as Teams does.
    pub refreshes: bool,
    /// For how long a token of the managed identity counts.
    pub token_life: Duration,
    /// Whether what is sent is a bot's own, and kept for the schema checks.
    pub kept: bool,
    /// Fewest members on a page; Teams gives 50 also to whoever asks for fewer.
    pub smallest_page: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            app: "11111111-1111-1111-1111-111111111111".into(),
            tenant: "22222222-2222-2222-2222-222222222222".into(),
            ack_limit: Duration::from_secs(10),
            rate_limits: true,
            largest: 100 * 1024,
            refreshes: true,
            token_life: Duration::from_secs(24 * 60 * 60),
            kept: true,
            smallest_page: 50,
        }
    }
}

/// What kind of member somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    User,
    Guest,
    /// Came by a link; has no account anywhere.
    Anonymous,
    /// Another bot.
    Bot,
}

/// Somebody with an account.
#[derive(Debug, Clone)]
pub struct Person {
    /// What tests call them, and what Teams shows.
    pub name: String,
    pub role: Role,
    pub tenant: String,
    /// Gone from all rosters.
    pub deactivated: bool,
    /// Whether the bot may write to them alone.
    pub reachable: bool,
}

impl Person {
    /// A user of the tenant of [`Settings::default`].
    pub fn new(name: &str) -> Person {
        let tenant = Settings::default().tenant;
        Person { name: name.to_owned(), role: Role::User, tenant, deactivated: false, reachable: true }
    }

    /// The id that Teams gives the person for this bot.
    pub fn mri(&self) -> String {
        match self.role {
            Role::Bot => format!("28:{}", self.object()),
            _ => format!("29:{}", self.name),
        }
    }

    /// The object id in Entra: from the name, so that a configuration can be written beforehand.
    pub fn object(&self) -> String {
        object_of(&self.name)
    }

    pub(super) fn upn(&self) -> String {
        match self.role {
            Role::Guest => format!("{}_elsewhere.example#EXT#@creatorbridge.example", self.name),
            _ => format!("{}@creatorbridge.example", self.name),
        }
    }
}

/// The object id of whoever has that name.
pub fn object_of(name: &str) -> String {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}-{:04x}-4000-8000-{:012x}", hash >> 32, hash >> 16 & 0xffff, hash & 0xffff_ffff_ffff)
}

/// What kind of conversation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Personal,
    GroupChat,
    Channel,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Personal => "personal",
            Kind::GroupChat => "groupChat",
            Kind::Channel => "channel",
        }
    }
}

/// A conversation and who is in it.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub id: String,
    pub kind: Kind,
    /// Names.
    pub members: Vec<String>,
    pub is_bot_member: bool,
}

/// A message as it is at the moment of asking, for one person where they have a view of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Without the thread.
    pub conversation: String,
    pub id: String,
    /// The message that began the thread, in a channel.
    pub thread: Option<String>,
    /// A name; `None` is the bot.
    pub author: Option<String>,
    pub text: String,
    pub cards: Vec<Value>,
    pub reply_to: Option<String>,
    /// The only person who sees it.
    pub only_to: Option<String>,
    pub edited: usize,
    /// The cards of those who have a view of their own, by name.
    pub views: BTreeMap<String, Value>,
    /// Whether those who look at it have asked for theirs.
    pub asked: bool,
}

/// Where a message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    pub conversation: String,
    pub id: String,
}

/// How calls of the bot are made to fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
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
pub struct Payload {
    /// `post`, `put`, `delete`, `create`, `answer`.
    pub method: String,
    pub conversation: String,
    pub body: Value,
    /// HTTP.
    pub status: u16,
    /// What Teams would not show, and why.
    pub problems: Vec<String>,
}
