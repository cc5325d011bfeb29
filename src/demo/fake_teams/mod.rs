//! A fake Microsoft Teams, as strict as the real one. It talks to the bot only over HTTP: signed activities to the bot's own
//! endpoint, and the Connector that the bot calls. It knows nothing of the bot's code.

mod activities;
mod cards;
mod client;
mod connector;
mod faults;
mod forms;
mod inputs;
mod invokes;
mod keys;
mod page;
mod roster;
mod state;
mod view;

use parking_lot::{Mutex, MutexGuard};
use std::net::SocketAddr;
use std::sync::Arc;

use super::changes::ChangeCount;
pub use client::{ActivityAck, ActivityDelivery};
pub use forms::field_name;
pub use keys::{BotFrameworkToken, ISSUER, Signer};
pub use page::page_routes;
use state::TenantState;
pub use state::{
    ActivityRef, ConnectorFault, ConversationKind, TeamsMessage, TeamsPayload, TenantConversation,
    TenantSettings, TenantUser, UserRole, object_id,
};
pub use view::CardButton;

/// The tenant of an organisation; clones are handles to the same one. It stops when its runtime does.
#[derive(Clone)]
pub struct Tenant {
    inner: Arc<Inner>,
}

struct Inner {
    address: SocketAddr,
    http: reqwest::Client,
    state: Mutex<TenantState>,
    changes: ChangeCount,
}

impl Tenant {
    /// Takes a free port and serves from then on.
    ///
    /// # Errors
    /// When no port is free, or the keys that sign activities can't be read.
    pub async fn start(settings: TenantSettings) -> std::io::Result<Tenant> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        // Fails if a provider is installed already; then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // An endpoint that refuses a body unread closes the connection: none is used twice.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
        let http = http.build().map_err(std::io::Error::other)?;
        let state = Mutex::new(TenantState::new(settings, keys::PublishedKey::first()?));
        let tenant =
            Tenant { inner: Arc::new(Inner { address, http, state, changes: ChangeCount::default() }) };
        let router = connector::routes().with_state(tenant.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(tenant)
    }

    /// The settings that it was started with.
    pub fn settings(&self) -> TenantSettings {
        self.state().settings.clone()
    }

    /// The base of the Connector, with a slash at the end.
    pub fn service_url(&self) -> String {
        format!("http://{}/teams/", self.inner.address)
    }

    /// Forwards calls below the returned URL to another Connector, given by its base URL.
    pub fn forward_to(&self, connector: String) -> String {
        self.change(|state| state.connector = Some(connector));
        format!("http://{}/connector/", self.inner.address)
    }

    /// Sets the address of the bot from now on, such as `http://127.0.0.1:8080`.
    pub fn connect_bot(&self, base_url: &str) {
        self.change(|state| state.bot_url = Some(base_url.trim_end_matches('/').to_owned()));
    }

    /// Adds a user, or replaces the one of that name.
    pub fn add_person(&self, person: TenantUser) {
        self.change(|state| {
            state.people.retain(|known| known.name != person.name);
            state.people.push(person);
        });
    }

    /// Adds a conversation that the bot is in, or replaces the one with that id; `members` are names.
    pub fn add_conversation(&self, kind: ConversationKind, id: &str, members: &[&str]) {
        let members = members.iter().map(|name| (*name).to_owned()).collect();
        let conversation = TenantConversation { id: id.to_owned(), kind, members, is_bot_member: true };
        self.change(|state| {
            state.conversations.retain(|known| known.id != id);
            state.conversations.push(conversation);
        });
    }

    /// Removes the bot from a conversation.
    pub fn remove_bot(&self, id: &str) {
        self.change(|state| {
            state
                .conversations
                .iter_mut()
                .filter(|room| room.id == id)
                .for_each(|room| room.is_bot_member = false);
        });
    }

    /// The id of the personal chat between a user and the bot; made when it is first needed.
    pub fn personal(&self, name: &str) -> String {
        let id = format!("a:1{name}");
        if self.state().conversation(&id).is_none() {
            self.add_conversation(ConversationKind::Personal, &id, &[name]);
        }
        id
    }

    /// The messages that a user sees in a conversation or in one of its threads, oldest first.
    pub fn visible_messages(&self, name: &str, conversation: &str) -> Vec<TeamsMessage> {
        let (conversation, thread) = split(conversation);
        let state = self.state();
        if !state.is_in(name, conversation) {
            return Vec::new();
        }
        let there = state.messages.iter().filter(|message| message.conversation == conversation);
        let there = there.filter(|message| thread.is_none() || message.thread.as_deref() == thread);
        let there = there.filter(|message| message.only_to.as_deref().is_none_or(|only| only == name));
        there.map(|message| message.viewed_by(name)).collect()
    }

    /// A message as a user sees it now; `None` when it was deleted or is for another user.
    pub fn visible_message(&self, name: &str, at: &ActivityRef) -> Option<TeamsMessage> {
        self.visible_messages(name, &at.conversation).into_iter().find(|message| message.id == at.id)
    }

    /// Everything that the bot sent, in order.
    pub fn payloads(&self) -> Vec<TeamsPayload> {
        self.state().payloads.clone()
    }

    /// Every activity sent to the bot, with its acknowledgement.
    pub fn deliveries(&self) -> Vec<ActivityDelivery> {
        self.state().deliveries.clone()
    }

    /// The problems for which something that the bot sent was refused, and its requests to unknown routes; each is returned once.
    pub fn take_refusals(&self) -> Vec<String> {
        self.change(|state| {
            let taken = state.payloads.iter_mut().flat_map(|payload| std::mem::take(&mut payload.problems));
            let taken: Vec<String> = taken.collect();
            taken.into_iter().chain(std::mem::take(&mut state.unknown_requests)).collect()
        })
    }

    /// Waits until the condition yields a value; it is asked again after every change in the tenant.
    ///
    /// # Errors
    /// After 30 seconds, with the whole conversation.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        condition: impl Fn(&Tenant) -> Option<T>,
    ) -> Result<T, String> {
        self.inner.changes.wait_for(what, || condition(self), || self.transcript()).await
    }

    /// Every message, delivery and refused call, for messages of failed tests.
    pub fn transcript(&self) -> String {
        let state = self.state();
        let mut out = String::new();
        for message in &state.messages {
            let author = message.author.as_deref().unwrap_or("Countersign");
            let recipient_note =
                message.only_to.as_ref().map(|to| format!(" only to {to}")).unwrap_or_default();
            let plain = message.plain().replace('\n', "\n    ");
            let (at, edited) = (&message.conversation, message.edited);
            out += &format!("{at} {author}{recipient_note} (edited {edited}):\n    {plain}\n");
            for name in message.views.keys() {
                let plain = message.viewed_by(name).plain().replace('\n', "\n        ");
                out += &format!("    viewed by {name}:\n        {plain}\n");
            }
        }
        for delivery in &state.deliveries {
            out += &format!("sent {}: {:?}\n", delivery.activity["type"], delivery.ack);
        }
        for payload in state.payloads.iter().filter(|payload| payload.status >= 300) {
            let (at, why) = (&payload.conversation, &payload.problems);
            out += &format!("refused {} {at} {}: {why:?}\n", payload.method, payload.status);
        }
        out + &state.unknown_requests.concat()
    }

    fn state(&self) -> MutexGuard<'_, TenantState> {
        self.inner.state.lock()
    }

    /// Changes the state and wakes everyone who waits.
    fn change<T>(&self, work: impl FnOnce(&mut TenantState) -> T) -> T {
        let result = work(&mut self.state());
        self.inner.changes.notify();
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
