//! What the workspace remembers: people, channels, messages, and everything that the bot was heard to say.
//! One lock guards it; nothing here waits or speaks HTTP.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::blocks::{self, Refusal};
use super::view::{FileShown, Message, MessageRef};
use super::{Account, Channel, Delivery, Fault, Kind, Payload, Settings};

/// A `response_url` lives 30 minutes and takes 5 messages.
const RESPONSE_LIFE: Duration = Duration::from_secs(30 * 60);
pub(super) const RESPONSE_USES: usize = 5;
/// A `trigger_id` opens one view within 3 seconds.
const TRIGGER_LIFE: Duration = Duration::from_secs(3);

#[derive(Default)]
pub(super) struct State {
    pub settings: Settings,
    pub bot_url: Option<String>,
    pub people: Vec<Account>,
    pub channels: Vec<Room>,
    /// Handle (`S…`) → the people in it.
    pub groups: BTreeMap<String, Vec<String>>,
    pub messages: Vec<Message>,
    pub payloads: Vec<Payload>,
    pub calls: BTreeMap<String, usize>,
    pub deliveries: Vec<Delivery>,
    pub faults: Vec<(String, Fault)>,
    pub responses: HashMap<String, ResponseUrl>,
    pub uploads: HashMap<String, Upload>,
    pub views: Vec<Value>,
    triggers: HashMap<String, (Instant, bool)>,
    buckets: HashMap<String, (f64, Instant)>,
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
    pub born: Instant,
    pub expired: bool,
}

impl ResponseUrl {
    pub(super) fn is_expired(&self) -> bool {
        self.expired || self.born.elapsed() > RESPONSE_LIFE
    }
}

#[derive(Clone)]
pub(super) struct Upload {
    pub file: FileShown,
    pub bytes: Option<Vec<u8>>,
    pub shared: bool,
}

impl State {
    /// A number that was not given out before.
    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn next_ts(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.last_ts = micros.max(self.last_ts + 1);
        format!("{}.{:06}", self.last_ts / 1_000_000, self.last_ts % 1_000_000)
    }

    pub(super) fn new_trigger(&mut self) -> String {
        let number = self.next();
        let id = format!("{}.{}.{:032x}", 13_345_224_609u64 + number, 738_474_920u64, scramble(number));
        self.triggers.insert(id.clone(), (Instant::now(), false));
        id
    }

    pub(super) fn use_trigger(&mut self, id: &str) -> Result<(), Refusal> {
        let Some((born, used)) = self.triggers.get_mut(id) else {
            return Err(Refusal::new("invalid_trigger_id"));
        };
        if *used {
            return Err(Refusal::new("exchanged_trigger_id"));
        }
        if born.elapsed() > TRIGGER_LIFE {
            return Err(Refusal::new("expired_trigger_id"));
        }
        *used = true;
        Ok(())
    }

    pub(super) fn new_response(&mut self, user: &str, channel: &str, message: Option<MessageRef>) -> String {
        let id = format!("{:032x}", scramble(self.next()));
        let response = ResponseUrl {
            channel: channel.to_owned(),
            user: user.to_owned(),
            message,
            uses: 0,
            born: Instant::now(),
            expired: false,
        };
        self.responses.insert(id.clone(), response);
        id
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
        let channel = Channel {
            id: id.clone(),
            name: "directmessage".into(),
            bot_in: true,
            shared_externally: false,
            private: true,
        };
        self.channels.push(Room { channel, archived: false, im_user: Some(user.to_owned()) });
        id
    }

    /// Whether a person is in a channel: everyone is in every channel, but outsiders are only in the ones
    /// shared with them, and nobody else is in a conversation of two.
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

    /// Checks text and blocks as every way of posting does, and returns the blocks with their ids filled in.
    pub(super) fn checked_content(
        &mut self,
        text: &str,
        blocks: Option<Value>,
        text_max: usize,
    ) -> Result<Value, Refusal> {
        let mut blocks = blocks.unwrap_or_else(|| json!([]));
        blocks::check(&blocks)?;
        if text.is_empty() && blocks.as_array().is_none_or(Vec::is_empty) {
            return Err(Refusal::new("no_text"));
        }
        if text.chars().count() > text_max {
            return Err(Refusal::new("msg_too_long"));
        }
        for block in blocks.as_array_mut().into_iter().flatten() {
            self.fill_ids(block, true);
        }
        Ok(blocks)
    }

    fn fill_ids(&mut self, value: &mut Value, is_block: bool) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.fill_ids(item, false)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.fill_ids(field, false));
                let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
                let interactive = matches!(kind, "button" | "static_select" | "overflow");
                if is_block && !fields.contains_key("block_id") {
                    fields.insert("block_id".into(), json!(format!("b{}", self.next())));
                }
                if interactive && !fields.contains_key("action_id") {
                    fields.insert("action_id".into(), json!(format!("a{}", self.next())));
                }
            }
            _ => {}
        }
    }

    pub(super) fn post(&mut self, mut message: Message) -> Message {
        message.ts = self.next_ts();
        self.messages.push(message.clone());
        message
    }

    /// A note that Slack itself writes to one person.
    pub(super) fn note(&mut self, user: &str, channel: &str, text: String) {
        let message = Message { ephemeral_to: Some(user.to_owned()), ..draft(channel, "USLACKBOT", text) };
        self.post(message);
    }

    /// Takes one token of a bucket. The error is how many seconds to wait.
    pub(super) fn take(&mut self, key: String, burst: f64, per_second: f64) -> Result<(), u64> {
        let now = Instant::now();
        let (tokens, at) = self.buckets.entry(key).or_insert((burst, now));
        *tokens = (*tokens + at.elapsed().as_secs_f64() * per_second).min(burst);
        *at = now;
        if *tokens < 1.0 {
            let wait = ((1.0 - *tokens) / per_second).ceil();
            return Err(std::time::Duration::from_secs_f64(wait).as_secs().max(1));
        }
        *tokens -= 1.0;
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

/// A message without a time stamp yet.
pub(super) fn draft(channel: &str, author: &str, text: String) -> Message {
    Message {
        channel: channel.to_owned(),
        ts: String::new(),
        thread_ts: None,
        author: author.to_owned(),
        text,
        blocks: json!([]),
        ephemeral_to: None,
        edited: 0,
        files: Vec::new(),
    }
}

/// Spreads a counter over 128 bits, so that ids look like Slack's; they are no secrets.
pub(super) fn scramble(number: u64) -> u128 {
    u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).rotate_left(41)
}
