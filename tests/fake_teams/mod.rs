//! A fake Microsoft Teams, as strict as the real one. It talks to the bot only over HTTP: signed activities to the bot's
//! own endpoint, and the Connector that the bot calls. It knows nothing of the rest of the program, and must not.
//! Its own tests stand beside it, and run in every binary that uses it.

mod activities;
mod cards;
mod checks;
pub mod client;
mod connector;
mod faults;
pub mod forms;
mod inputs;
mod invokes;
pub mod keys;
pub mod people;
mod roster;
mod seen;

pub use people::{At, Kind, Message, Person, Settings};

use client::Delivery;
use keys::Published;
use people::{Conversation, Fault, Payload};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How long [`World::wait_for`] waits: generous, since a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The fake Teams of one test. It fails the test when it goes and something that the bot sent was refused for what it was.
pub struct Teams(Arc<World>);

/// What it is made of.
pub struct World {
    addr: SocketAddr,
    http: reqwest::Client,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    settings: Settings,
    bot: Option<String>,
    /// Base URL of a Connector that calls below `/connector/` are forwarded to.
    connector: Option<String>,
    people: Vec<Person>,
    conversations: Vec<Conversation>,
    messages: Vec<Message>,
    published: Vec<Published>,
    /// The bearer tokens that were given out, and when.
    tokens: HashMap<String, Instant>,
    payloads: Vec<Payload>,
    /// Requests that no such platform has an answer for.
    wrong: Vec<String>,
    deliveries: Vec<Delivery>,
    calls: HashMap<String, usize>,
    faults: Vec<(String, Fault)>,
    /// When the bot wrote to a conversation.
    sent: HashMap<String, Vec<Instant>>,
    last_id: u64,
}

impl State {
    fn next_id(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
        self.last_id = u64::try_from(now).expect("a time").max(self.last_id + 1);
        self.last_id.to_string()
    }

    fn person(&self, name: &str) -> &Person {
        self.people.iter().find(|person| person.name == name).unwrap_or_else(|| panic!("nobody is {name}"))
    }

    /// By either of the ids that Teams knows them by.
    fn person_with(&self, id: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.mri() == id || person.object() == id)
    }

    fn conversation(&self, id: &str) -> Option<&Conversation> {
        self.conversations.iter().find(|conversation| conversation.id == id)
    }

    /// Who is in a conversation and still has an account.
    fn is_in(&self, name: &str, conversation: &str) -> bool {
        let listed =
            self.conversation(conversation).is_some_and(|room| room.members.iter().any(|n| n == name));
        listed && !self.person(name).deactivated
    }

    fn message(&mut self, at: &At) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.at() == *at)
    }

    /// One that is set a number of times is used up here.
    fn fault_for(&mut self, method: &str) -> Option<Fault> {
        let index = self.faults.iter().position(|(name, _)| name == method)?;
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

impl Deref for Teams {
    type Target = World;

    fn deref(&self) -> &World {
        &self.0
    }
}

impl Teams {
    /// Takes a free port and serves from then on.
    pub async fn start(settings: Settings) -> Teams {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A door that refuses a body unread closes the connection: none is used twice.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let http = http.build().expect("a client");
        let state = State { settings, published: vec![Published::new(0)], ..State::default() };
        let world = Arc::new(World { addr, http, state: Mutex::new(state), changed: watch::Sender::new(0) });
        let router = connector::routes().with_state(Arc::clone(&world));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Teams(world)
    }
}

impl World {
    pub fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// Where the Connector is, with a slash at the end.
    pub fn service_url(&self) -> String {
        format!("http://{}/teams/", self.addr)
    }

    /// Forwards calls below the returned URL to another Connector, given by its base URL.
    pub fn forward_to(&self, connector: String) -> String {
        self.change(|state| state.connector = Some(connector));
        format!("http://{}/connector/", self.addr)
    }

    /// Where the bot listens from now on, such as `http://127.0.0.1:8080`.
    pub fn connect_bot(&self, base_url: &str) {
        self.change(|state| state.bot = Some(base_url.trim_end_matches('/').to_owned()));
    }

    /// Adds a person, or replaces the one of that name.
    pub fn add_person(&self, person: Person) {
        self.change(|state| {
            state.people.retain(|known| known.name != person.name);
            state.people.push(person);
        });
    }

    /// Adds a conversation that the bot is in, or replaces the one with that id.
    pub fn add_conversation(&self, kind: Kind, id: &str, members: &[&str]) {
        let members = members.iter().map(|name| (*name).to_owned()).collect();
        let conversation = Conversation { id: id.to_owned(), kind, members, is_bot_member: true };
        self.change(|state| {
            state.conversations.retain(|known| known.id != id);
            state.conversations.push(conversation);
        });
    }

    /// Takes the bot out of a conversation.
    pub fn remove_bot(&self, id: &str) {
        self.change(|state| {
            state
                .conversations
                .iter_mut()
                .filter(|room| room.id == id)
                .for_each(|room| room.is_bot_member = false);
        });
    }

    /// The conversation of a person with the bot alone; made when it is first needed.
    pub fn personal(&self, name: &str) -> String {
        let id = format!("a:1{name}");
        if self.state().conversation(&id).is_none() {
            self.add_conversation(Kind::Personal, &id, &[name]);
        }
        id
    }

    /// What a person sees in a conversation or in one of its threads, oldest first.
    pub fn visible_messages(&self, name: &str, conversation: &str) -> Vec<Message> {
        let (conversation, thread) = split(conversation);
        let state = self.state();
        if !state.is_in(name, conversation) {
            return Vec::new();
        }
        let there = state.messages.iter().filter(|message| message.conversation == conversation);
        let there = there.filter(|message| thread.is_none() || message.thread.as_deref() == thread);
        let there = there.filter(|message| message.only_to.as_deref().is_none_or(|only| only == name));
        there.map(|message| message.as_seen_by(name)).collect()
    }

    /// A message as somebody sees it now; `None` when it was deleted or isn't for them.
    pub fn seen(&self, name: &str, at: &At) -> Option<Message> {
        self.visible_messages(name, &at.conversation).into_iter().find(|message| message.id == at.id)
    }

    /// Everything that the bot sent, in order.
    pub fn payloads(&self) -> Vec<Payload> {
        self.state().payloads.clone()
    }

    /// Every activity sent to the bot, with how it was acknowledged.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.clone()
    }

    /// What was refused for what it was, which then no longer fails the test.
    pub fn take_refusals(&self) -> Vec<String> {
        self.change(|state| {
            let taken = state.payloads.iter_mut().flat_map(|payload| std::mem::take(&mut payload.problems));
            let taken: Vec<String> = taken.collect();
            taken.into_iter().chain(std::mem::take(&mut state.wrong)).collect()
        })
    }

    /// Waits until the condition yields a value; it is asked again after every change.
    pub async fn wait_for<T>(&self, what: &str, condition: impl Fn(&World) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                changes.borrow_and_update();
                if let Some(value) = condition(self) {
                    return Some(value);
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        });
        let Ok(Some(value)) = found.await else {
            panic!("waited in vain for {what}; what was said:\n{}", self.transcript());
        };
        value
    }

    /// Everything that was said and sent, for messages of failed tests.
    pub fn transcript(&self) -> String {
        let state = self.state();
        let mut out = String::new();
        for message in &state.messages {
            let author = message.author.as_deref().unwrap_or("Countersign");
            let only = message.only_to.as_ref().map(|to| format!(" only to {to}")).unwrap_or_default();
            let plain = message.plain().replace('\n', "\n    ");
            let (at, edited) = (&message.conversation, message.edited);
            out += &format!("{at} {author}{only} (edited {edited}):\n    {plain}\n");
            for name in message.views.keys() {
                let plain = message.as_seen_by(name).plain().replace('\n', "\n        ");
                out += &format!("    as {name} sees it:\n        {plain}\n");
            }
        }
        for delivery in &state.deliveries {
            out += &format!("sent {}: {:?}\n", delivery.activity["type"], delivery.ack);
        }
        for payload in state.payloads.iter().filter(|payload| payload.status >= 300) {
            let (at, why) = (&payload.conversation, &payload.problems);
            out += &format!("refused {} {at} {}: {why:?}\n", payload.method, payload.status);
        }
        out + &state.wrong.concat()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and tells everyone who waits.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.state());
        self.changed.send_modify(|version| *version += 1);
        result
    }
}

/// A conversation's id without its thread, and the thread.
fn split(id: &str) -> (&str, Option<&str>) {
    match id.split_once(";messageid=") {
        Some((conversation, thread)) => (conversation, Some(thread)),
        None => (id, None),
    }
}

impl Drop for Teams {
    /// Every activity and card that the bot sent is kept for the schema checks, which others wrote.
    fn drop(&mut self) {
        static SCENES: AtomicUsize = AtomicUsize::new(0);
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../payloads");
        let name = format!("teams-{}-{}.jsonl", std::process::id(), SCENES.fetch_add(1, Ordering::Relaxed));
        let line = |body: &Value| json!({ "method": "teams.activity", "body": body }).to_string() + "\n";
        let payloads = self.payloads();
        let messages = |payload: &&Payload| payload.status < 300 && payload.body["type"] == "message";
        let written = payloads.iter().filter(messages);
        let lines: Vec<String> = written.map(|payload| line(&payload.body)).collect();
        if self.settings().kept && std::fs::create_dir_all(&target).is_ok() {
            let _ = std::fs::write(target.join(name), lines.concat());
        }
        let refused = self.take_refusals();
        assert!(refused.is_empty() || std::thread::panicking(), "Teams refused: {refused:#?}");
    }
}
