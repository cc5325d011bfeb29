//! The content of the workspace: settings, people, channels, messages, and everything that the bot sent.
//! One lock guards it; nothing here waits or speaks HTTP.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::extract::ws::Message as Frame;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::view::{Message, MessageRef, SharedFile};
use super::{APP_ID, ApiError, Delivery, Modal, Restart};

/// A `response_url` lives 30 minutes.
const RESPONSE_LIFE: Duration = Duration::from_secs(30 * 60);
/// A `trigger_id` opens one view within 3 seconds.
const TRIGGER_LIFE: Duration = Duration::from_secs(3);

/// The settings that a workspace is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// After how long a request counts as not acknowledged: 3 s in Slack.
    pub ack_limit: Duration,
    /// Calls are refused that come faster than Slack allows.
    pub rate_limits: bool,
    /// Messages that a channel (or a response URL) takes at once before [`Settings::messages_per_second`] counts.
    pub burst: u32,
    /// Messages that a channel (or a response URL) takes after that: 1 in Slack.
    pub messages_per_second: f64,
    /// Calls of another method that are taken at once before its tier's rate counts; `None` is a minute's worth.
    pub tier_burst: Option<u32>,
    /// The scopes of the bot's token; without those of a method, calls of it are refused.
    pub scopes: Vec<String>,
    /// The page's panel "Try this first".
    pub guide: Vec<GuideStep>,
    /// The routes of the page's view of Teams, if it has one.
    pub teams_view: Option<axum::Router>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ack_limit: Duration::from_secs(3),
            rate_limits: true,
            burst: 3,
            messages_per_second: 1.0,
            tier_burst: None,
            scopes: super::scopes::of_manifest(),
            guide: Vec::new(),
            teams_view: None,
        }
    }
}

/// One step of the page's panel "Try this first".
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuideStep {
    /// User id.
    pub who: String,
    /// Channel id.
    pub channel: String,
    pub type_this: String,
    /// Label of the button to click instead, on the newest message that has it.
    #[serde(default)]
    pub click: Option<String>,
    pub why: String,
}

/// A command that the page completes.
#[derive(Debug, Clone, Serialize)]
pub struct CommandHint {
    pub name: String,
    pub summary: String,
    pub arguments: Vec<ArgumentHint>,
}

/// An argument of a command that the page completes.
#[derive(Debug, Clone, Serialize)]
pub struct ArgumentHint {
    pub name: String,
    pub help: String,
    /// Its values, where they are known.
    pub choices: Vec<String>,
    /// Typed without a `--name`.
    pub positional: bool,
    /// Takes no value.
    pub switch: bool,
}

/// One sentence on the state of the sample, shown above the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Situation {
    pub text: String,
    /// Something is going wrong.
    pub trouble: bool,
}

/// A person or a bot in the workspace.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    pub id: String,
    pub name: String,
    pub kind: Kind,
    /// Shown on the page beside the name, such as "on call".
    pub role_label: String,
    /// Of an account in an organisation of several workspaces.
    #[serde(skip)]
    pub organisation: Option<Organisation>,
}

/// The place of an account in an organisation of several workspaces.
#[derive(Debug, Clone)]
pub struct Organisation {
    /// The account's other id, by which Slack knows it as well.
    pub other_id: String,
    /// The workspace that events name as the account's.
    pub home: String,
    /// All its workspaces.
    pub workspaces: Vec<String>,
}

impl Account {
    /// An account without a role label.
    pub fn new(id: &str, name: &str, kind: Kind) -> Account {
        Account { id: id.into(), name: name.into(), kind, role_label: String::new(), organisation: None }
    }
}

/// The kind of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Member,
    /// A restricted account of the own workspace.
    Guest,
    /// Somebody of another company, through Slack Connect.
    External,
    Bot,
    Deactivated,
}

/// A channel.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Channel {
    pub id: String,
    /// Without the `#`.
    pub name: String,
    /// The bot is a member.
    pub is_bot_member: bool,
    /// Another company is in it.
    pub shared_externally: bool,
    pub private: bool,
}

/// A way in which calls of the bot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this HTTP status and does nothing.
    Status(u16),
    /// Answers 429 with `Retry-After` (seconds), so many times.
    RateLimited { retry_after: u64, times: usize },
    /// Waits before it does the work.
    Slow(Duration),
    /// Never answers and does nothing.
    Hang,
    /// Waits until the fault is cleared or replaced, and then does the work.
    Held,
    /// Does the work, but the answer is lost: HTTP 502.
    AnswerLost,
    /// Answers `{"ok": false}` with this error and does nothing.
    Error(&'static str),
    /// Answers `invalid_blocks` to a message that has blocks.
    BlocksRefused,
    /// No fault.
    Clear,
}

/// One thing that the bot sent.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The Web API method; `response` for a response URL, `ack` for the body of an acknowledgement.
    pub method: String,
    /// The arguments; form fields that hold JSON are parsed.
    pub body: Value,
    /// Slack's answer, where it is one.
    pub error: Option<ApiError>,
}

#[derive(Default)]
pub(super) struct State {
    pub settings: Settings,
    /// Host and port that the workspace is served at.
    pub address: String,
    pub bot_url: Option<String>,
    pub restart: Option<Restart>,
    pub commands: Vec<CommandHint>,
    pub situation: Option<Situation>,
    pub people: Vec<Account>,
    pub channels: Vec<ChannelState>,
    /// Id of a user group (`S…`) → its people.
    pub groups: BTreeMap<String, Vec<String>>,
    pub messages: Vec<Message>,
    /// User id → the blocks of their home.
    pub homes: HashMap<String, Vec<Value>>,
    pub payloads: Vec<Payload>,
    pub deliveries: Vec<Delivery>,
    pub faults: Vec<(String, Fault)>,
    pub responses: HashMap<String, ResponseUrl>,
    pub uploads: HashMap<String, Upload>,
    /// Open sockets, each with its number.
    pub sockets: Vec<(u64, mpsc::UnboundedSender<Frame>)>,
    /// Envelope id → the sender of its acknowledgement.
    pub envelopes: HashMap<String, oneshot::Sender<Value>>,
    /// Each opens one socket.
    pub tickets: HashSet<String>,
    /// Oldest first.
    pub modals: Vec<Modal>,
    /// Each gets every message as it is posted or changed.
    pub followers: Vec<mpsc::UnboundedSender<Message>>,
    triggers: HashMap<String, Trigger>,
    buckets: HashMap<String, Bucket>,
    last_ts: i64,
    counter: u64,
}

/// A channel, or a conversation of two.
#[derive(Clone)]
pub(super) struct ChannelState {
    pub channel: Channel,
    pub archived: bool,
    /// The person, where this is a conversation between one person and the bot.
    pub im_user: Option<String>,
}

pub(super) struct ResponseUrl {
    pub channel: String,
    pub user: String,
    /// The message whose button was clicked.
    pub message: Option<MessageRef>,
    pub uses: usize,
    pub expires: Instant,
}

/// A `trigger_id`.
struct Trigger {
    user: String,
    made_at: Instant,
    is_used: bool,
}

struct Bucket {
    tokens: f64,
    updated: Instant,
}

pub(super) struct Upload {
    pub file: SharedFile,
    pub bytes: Option<Vec<u8>>,
    pub shared: bool,
}

impl State {
    pub(super) fn new(settings: Settings, address: String) -> State {
        State { settings, address, ..State::default() }
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// An id of 32 hexadecimal digits: the counter spread over 128 bits, as Slack's look; it is no secret.
    pub(super) fn next_id(&mut self) -> String {
        let spread = u128::from(self.next_number()).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        format!("{:032x}", spread.rotate_left(41))
    }

    pub(super) fn next_ts(&mut self) -> String {
        self.last_ts = jiff::Timestamp::now().as_microsecond().max(self.last_ts + 1);
        format!("{}.{:06}", self.last_ts / 1_000_000, self.last_ts % 1_000_000)
    }

    /// The address of a socket, with a ticket that opens it once.
    pub(super) fn socket_url(&mut self) -> String {
        let ticket = self.next_id();
        self.tickets.insert(ticket.clone());
        format!("ws://{}/link/?ticket={ticket}&app_id={APP_ID}", self.address)
    }

    pub(super) fn new_trigger(&mut self, user: &str) -> String {
        let hash = self.next_id();
        let id = format!("{}.738474920.{hash}", 13_345_224_609 + self.counter);
        let trigger = Trigger { user: user.to_owned(), made_at: Instant::now(), is_used: false };
        self.triggers.insert(id.clone(), trigger);
        id
    }

    /// The person behind a trigger, which is used up.
    pub(super) fn use_trigger(&mut self, id: &str) -> Result<String, ApiError> {
        let trigger = self.triggers.get_mut(id).ok_or("invalid_trigger_id")?;
        if trigger.is_used {
            return Err("exchanged_trigger_id".into());
        }
        if trigger.made_at.elapsed() > TRIGGER_LIFE {
            return Err("expired_trigger_id".into());
        }
        trigger.is_used = true;
        Ok(trigger.user.clone())
    }

    pub(super) fn new_response(&mut self, user: &str, channel: &str, message: Option<MessageRef>) -> String {
        let id = self.next_id();
        let (channel, user, expires) = (channel.to_owned(), user.to_owned(), Instant::now() + RESPONSE_LIFE);
        self.responses.insert(id.clone(), ResponseUrl { channel, user, message, uses: 0, expires });
        format!("http://{}/response/{id}", self.address)
    }

    /// The account with that id, or with that other id.
    pub(super) fn person(&self, id: &str) -> Option<&Account> {
        let other_id = |person: &Account| Some(person.organisation.as_ref()?.other_id == id);
        self.people.iter().find(|person| person.id == id || other_id(person) == Some(true))
    }

    fn is_same_person(&self, a: &str, b: &str) -> bool {
        a == b || self.person(a).zip(self.person(b)).is_some_and(|(a, b)| a.id == b.id)
    }

    pub(super) fn room(&self, id: &str) -> Option<&ChannelState> {
        self.channels.iter().find(|room| room.channel.id == id)
    }

    /// The conversation between a person and the bot; made when it is first needed.
    pub(super) fn dm_channel(&mut self, user: &str) -> String {
        let is_theirs = |room: &&ChannelState| {
            room.im_user.as_ref().is_some_and(|owner| self.is_same_person(owner, user))
        };
        if let Some(room) = self.channels.iter().find(is_theirs) {
            return room.channel.id.clone();
        }
        let id = format!("D{}", user.trim_start_matches(['U', 'W']));
        let name = "directmessage".to_owned();
        let channel =
            Channel { id: id.clone(), name, is_bot_member: true, private: true, shared_externally: false };
        self.channels.push(ChannelState { channel, archived: false, im_user: Some(user.to_owned()) });
        id
    }

    /// Everyone is in every channel, but outsiders are only in those shared with them; a conversation of two is its person's.
    pub(super) fn is_in(&self, user: &str, channel: &str) -> bool {
        let (Some(person), Some(room)) = (self.person(user), self.room(channel)) else { return false };
        match (&room.im_user, person.kind) {
            (_, Kind::Deactivated) => false,
            (Some(owner), _) => self.is_same_person(owner, user),
            (None, Kind::External) => room.channel.shared_externally,
            (None, _) => true,
        }
    }

    pub(super) fn visible_messages(&self, user: &str, channel: &str) -> Vec<Message> {
        if !self.is_in(user, channel) {
            return Vec::new();
        }
        let mine = |message: &&Message| {
            message.ephemeral_to.as_ref().is_none_or(|only| self.is_same_person(only, user))
        };
        self.messages.iter().filter(|message| message.channel == channel).filter(mine).cloned().collect()
    }

    pub(super) fn find(&mut self, channel: &str, ts: &str) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.channel == channel && message.ts == ts)
    }

    pub(super) fn post(&mut self, mut message: Message) -> Message {
        message.ts = self.next_ts();
        self.messages.push(message.clone());
        self.tell_followers(&message);
        message
    }

    /// Changes a message's content.
    pub(super) fn replace(&mut self, at: &MessageRef, content: (String, Vec<Value>)) -> Option<Message> {
        let message = self.find(&at.channel, &at.ts)?;
        message.replace(content);
        let message = message.clone();
        self.tell_followers(&message);
        Some(message)
    }

    fn tell_followers(&mut self, message: &Message) {
        self.followers.retain(|follower| follower.send(message.clone()).is_ok());
    }

    /// A note that Slack itself writes to one person.
    pub(super) fn note(&mut self, user: &str, channel: &str, text: String) {
        let note = Message::new(channel, "USLACKBOT", text);
        self.post(Message { ephemeral_to: Some(user.to_owned()), ..note });
    }

    /// Takes one of the messages that a channel or a response URL takes.
    pub(super) fn limit_messages(&mut self, key: &str) -> Result<(), ApiError> {
        self.limit(key, f64::from(self.settings.burst), self.settings.messages_per_second)
    }

    /// Takes one token of a bucket.
    pub(super) fn limit(&mut self, key: &str, burst: f64, per_second: f64) -> Result<(), ApiError> {
        if !self.settings.rate_limits {
            return Ok(());
        }
        let now = Instant::now();
        let bucket = self.buckets.entry(key.to_owned()).or_insert(Bucket { tokens: burst, updated: now });
        bucket.tokens = (bucket.tokens + bucket.updated.elapsed().as_secs_f64() * per_second).min(burst);
        bucket.updated = now;
        if bucket.tokens < 1.0 {
            let wait = ((1.0 - bucket.tokens) / per_second).ceil();
            return Err(ApiError::rate_limited(Duration::from_secs_f64(wait).as_secs().max(1)));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// The fault set for a call, if any; one that is set a number of times is used up here.
    pub(super) fn fault_for(&mut self, call: &str) -> Option<Fault> {
        let index = self.faults.iter().position(|(prefix, _)| call.starts_with(prefix.as_str()))?;
        let fault = self.faults[index].1;
        if let Fault::RateLimited { times, .. } = &mut self.faults[index].1 {
            *times -= 1;
            if *times == 0 {
                self.faults.remove(index);
            }
        }
        Some(fault)
    }
}
