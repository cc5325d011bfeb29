//! The content of the workspace: people, channels, messages, and everything that the bot sent.
//! One lock guards it; nothing here waits or speaks HTTP.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::api::ApiError;
use super::socket::Sockets;
use super::view::{FileShown, Message, MessageRef};
use super::{APP_ID, Account, Channel, Delivery, Fault, Kind, Payload, Restart, Settings};

/// A `response_url` lives 30 minutes.
const RESPONSE_LIFE: Duration = Duration::from_secs(30 * 60);
/// A `trigger_id` opens one view within 3 seconds.
const TRIGGER_LIFE: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct State {
    pub settings: Settings,
    /// Host and port that the workspace is served at.
    pub address: String,
    pub bot_url: Option<String>,
    pub restart: Option<Arc<Restart>>,
    pub people: Vec<Account>,
    pub channels: Vec<Room>,
    /// Id of a user group (`S…`) → its people.
    pub groups: BTreeMap<String, Vec<String>>,
    pub messages: Vec<Message>,
    pub payloads: Vec<Payload>,
    pub deliveries: Vec<Delivery>,
    pub faults: Vec<(String, Fault)>,
    pub responses: HashMap<String, ResponseUrl>,
    pub uploads: HashMap<String, Upload>,
    pub sockets: Sockets,
    /// Each opens one socket.
    pub tickets: HashSet<String>,
    triggers: HashMap<String, Trigger>,
    buckets: HashMap<String, Bucket>,
    last_ts: u64,
    counter: u64,
}

/// A channel, or a conversation of two.
#[derive(Clone)]
pub(super) struct Room {
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
    pub created: Instant,
    pub expired: bool,
}

impl ResponseUrl {
    pub(super) fn is_expired(&self) -> bool {
        self.expired || self.created.elapsed() > RESPONSE_LIFE
    }
}

struct Trigger {
    created: Instant,
    used: bool,
}

struct Bucket {
    tokens: f64,
    updated: Instant,
}

pub(super) struct Upload {
    pub file: FileShown,
    pub bytes: Option<Vec<u8>>,
    pub shared: bool,
}

impl State {
    pub(super) fn new(settings: Settings, address: String) -> State {
        State { settings, address, ..State::default() }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// An id of 32 hexadecimal digits: the counter spread over 128 bits, as Slack's look; it is no secret.
    pub(super) fn next_id(&mut self) -> String {
        let spread = u128::from(self.next()).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        format!("{:032x}", spread.rotate_left(41))
    }

    pub(super) fn next_ts(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.last_ts = micros.max(self.last_ts + 1);
        format!("{}.{:06}", self.last_ts / 1_000_000, self.last_ts % 1_000_000)
    }

    /// The address of a socket, with a ticket that opens it once.
    pub(super) fn socket_url(&mut self) -> String {
        let ticket = self.next_id();
        self.tickets.insert(ticket.clone());
        format!("ws://{}/link/?ticket={ticket}&app_id={APP_ID}", self.address)
    }

    pub(super) fn new_trigger(&mut self) -> String {
        let hash = self.next_id();
        let id = format!("{}.738474920.{hash}", 13_345_224_609 + self.counter);
        self.triggers.insert(id.clone(), Trigger { created: Instant::now(), used: false });
        id
    }

    pub(super) fn use_trigger(&mut self, id: &str) -> Result<(), ApiError> {
        let trigger = self.triggers.get_mut(id).ok_or("invalid_trigger_id")?;
        if trigger.used {
            return Err("exchanged_trigger_id".into());
        }
        if trigger.created.elapsed() > TRIGGER_LIFE {
            return Err("expired_trigger_id".into());
        }
        trigger.used = true;
        Ok(())
    }

    pub(super) fn new_response(&mut self, user: &str, channel: &str, message: Option<MessageRef>) -> String {
        let id = self.next_id();
        let response = ResponseUrl {
            channel: channel.to_owned(),
            user: user.to_owned(),
            message,
            uses: 0,
            created: Instant::now(),
            expired: false,
        };
        let url = format!("http://{}/response/{id}", self.address);
        self.responses.insert(id, response);
        url
    }

    pub(super) fn person(&self, id: &str) -> Option<&Account> {
        self.people.iter().find(|person| person.id == id)
    }

    pub(super) fn room(&self, id: &str) -> Option<&Room> {
        self.channels.iter().find(|room| room.channel.id == id)
    }

    /// The conversation between a person and the bot; made when it is first needed.
    pub(super) fn im(&mut self, user: &str) -> String {
        let known = self.channels.iter().find(|room| room.im_user.as_deref() == Some(user));
        if let Some(room) = known {
            return room.channel.id.clone();
        }
        let id = format!("D{}", user.trim_start_matches(['U', 'W']));
        let name = "directmessage".to_owned();
        let channel = Channel { id: id.clone(), name, bot_in: true, private: true, shared_externally: false };
        self.channels.push(Room { channel, archived: false, im_user: Some(user.to_owned()) });
        id
    }

    /// Everyone is in every channel, but outsiders are only in those shared with them; a conversation of two is its person's.
    pub(super) fn is_in(&self, user: &str, channel: &str) -> bool {
        let (Some(person), Some(room)) = (self.person(user), self.room(channel)) else { return false };
        match (&room.im_user, person.kind) {
            (_, Kind::Deactivated) => false,
            (Some(owner), _) => owner == user,
            (None, Kind::External) => room.channel.shared_externally,
            (None, _) => true,
        }
    }

    pub(super) fn visible(&self, user: &str, channel: &str) -> Vec<Message> {
        if !self.is_in(user, channel) {
            return Vec::new();
        }
        let mine = |message: &&Message| message.ephemeral_to.as_deref().is_none_or(|only| only == user);
        self.messages.iter().filter(|message| message.channel == channel).filter(mine).cloned().collect()
    }

    pub(super) fn find(&mut self, channel: &str, ts: &str) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.channel == channel && message.ts == ts)
    }

    pub(super) fn post(&mut self, mut message: Message) -> Message {
        message.ts = self.next_ts();
        self.messages.push(message.clone());
        message
    }

    /// A note that Slack itself writes to one person.
    pub(super) fn note(&mut self, user: &str, channel: &str, text: String) {
        let note = Message::new(channel, "USLACKBOT", text);
        self.post(Message { ephemeral_to: Some(user.to_owned()), ..note });
    }

    /// The rate of messages: a burst, and then one a second.
    pub(super) fn limit_messages(&mut self, key: &str) -> Result<(), ApiError> {
        self.limit(key, f64::from(self.settings.burst), 1.0)
    }

    /// Takes one token of a bucket.
    pub(super) fn limit(&mut self, key: &str, burst: f64, per_second: f64) -> Result<(), ApiError> {
        if !self.settings.rate_limits {
            return Ok(());
        }
        let now = Instant::now();
        let full = Bucket { tokens: burst, updated: now };
        let bucket = self.buckets.entry(key.to_owned()).or_insert(full);
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
    pub(super) fn fault_for(&mut self, method: &str) -> Option<Fault> {
        let index = self.faults.iter().position(|(prefix, _)| method.starts_with(prefix.as_str()))?;
        let fault = self.faults[index].1.clone();
        if let Fault::RateLimited { times, .. } = &mut self.faults[index].1 {
            *times -= 1;
            if *times == 0 {
                self.faults.remove(index);
            }
        }
        Some(fault)
    }
}
