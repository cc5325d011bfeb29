//! A pretend Slack workspace, as strict as the real one. It talks to the bot only over HTTP: signed requests to
//! the bot's own endpoints, and the Web API that the bot calls. The demo shows it as a page in a browser; the
//! tests drive it from Rust. It knows nothing of the rest of the program, and must not.

mod accounts;
mod api;
mod blocks;
mod chat;
mod deliver;
mod files;
mod page;
mod requests;
mod respond;
mod settings;
mod socket;
mod state;
mod view;

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

pub use blocks::{MESSAGE_CHARS, Refusal, check as check_blocks};
pub use deliver::{Ack, Delivery};
pub use settings::{Account, Channel, Fault, GuideStep, Kind, Payload, Settings, Suggestion};
use state::{Room, State};
pub use view::{ButtonView, FileShown, Message, MessageRef};

/// How long [`Workspace::wait_for`] waits: generous, since a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

type Restart = Box<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// The workspace; clones are handles to the same one. It stops when its runtime does.
#[derive(Clone)]
pub struct Workspace {
    inner: Arc<Inner>,
    /// Where this handle's requests go, if not to the connected bot.
    replica: Option<String>,
}

struct Inner {
    addr: SocketAddr,
    http: reqwest::Client,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    restart: Mutex<Option<Arc<Restart>>>,
    sockets: Mutex<socket::Sockets>,
}

impl Workspace {
    /// Binds the address and serves from then on.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(settings: Settings) -> std::io::Result<Workspace> {
        let listener = tokio::net::TcpListener::bind(settings.listen).await?;
        let addr = listener.local_addr()?;
        // Once in a process; whoever was first has chosen.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().map_err(std::io::Error::other)?;
        let mut state = State::default();
        state.settings = settings;
        let inner = Inner {
            addr,
            http,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            restart: Mutex::new(None),
            sockets: Mutex::new(socket::Sockets::default()),
        };
        let workspace = Workspace { inner: Arc::new(inner), replica: None };
        let bot = workspace.settings().bot_user;
        workspace.add_person(Account::new(&bot, "Countersign", Kind::Bot));
        let router =
            api::routes().merge(page::routes()).merge(socket::routes()).with_state(workspace.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(workspace)
    }

    /// The page for people.
    pub fn page_url(&self) -> String {
        format!("http://{}/", self.inner.addr)
    }

    /// The base of the Web API, without a slash at the end.
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.inner.addr)
    }

    fn base_url(&self) -> String {
        format!("http://{}", self.inner.addr)
    }

    /// What the workspace was started with.
    pub fn settings(&self) -> Settings {
        self.state().settings.clone()
    }

    /// Where the bot listens from now on, such as `http://127.0.0.1:8080`.
    pub fn connect_bot(&self, base_url: &str) {
        self.state().bot_url = Some(base_url.trim_end_matches('/').to_owned());
    }

    /// A handle to the same workspace whose requests go to that bot: Slack's reach any of the replicas behind one address.
    pub fn through(&self, base_url: &str) -> Workspace {
        let replica = Some(base_url.trim_end_matches('/').to_owned());
        Workspace { replica, ..self.clone() }
    }

    /// Adds a person, or replaces the one with the same id.
    pub fn add_person(&self, account: Account) {
        self.change(|state| {
            state.people.retain(|person| person.id != account.id);
            state.people.push(account);
        });
    }

    /// Changes what kind of account a person has.
    pub fn set_kind(&self, id: &str, kind: Kind) {
        self.change(|state| state.people.iter_mut().filter(|p| p.id == id).for_each(|p| p.kind = kind));
    }

    /// Adds a channel, or replaces the one with the same id.
    pub fn add_channel(&self, channel: Channel) {
        self.change(|state| {
            state.channels.retain(|room| room.channel.id != channel.id);
            state.channels.push(Room { channel, archived: false, im_user: None });
        });
    }

    /// Archives a channel: nothing can be posted there any more.
    pub fn archive(&self, channel: &str) {
        self.change(|state| {
            state.channels.iter_mut().filter(|r| r.channel.id == channel).for_each(|r| r.archived = true);
        });
    }

    /// Adds or replaces a user group.
    pub fn set_group(&self, id: &str, people: &[&str]) {
        let people = people.iter().map(|person| (*person).to_owned()).collect();
        self.change(|state| state.groups.insert(id.to_owned(), people));
    }

    /// The channel id of the conversation between a person and the bot.
    pub fn dm(&self, user: &str) -> String {
        self.state().im(user)
    }

    /// What a person sees in a channel, oldest first.
    pub fn visible(&self, user: &str, channel: &str) -> Vec<Message> {
        self.state().visible(user, channel)
    }

    /// A message as it is now; `None` when it was deleted.
    pub fn message(&self, at: &MessageRef) -> Option<Message> {
        self.state().find(&at.channel, &at.ts).cloned()
    }

    /// Removes all messages, as if nobody had ever spoken.
    pub fn clear_messages(&self) {
        self.change(|state| state.messages.clear());
    }

    /// Everything that the bot sent, in order: calls, responses and acknowledgements, accepted or not.
    pub fn payloads(&self) -> Vec<Payload> {
        self.state().payloads.clone()
    }

    /// How often each Web API method was called; `response` counts posts to response URLs.
    pub fn calls(&self, method: &str) -> usize {
        self.state().calls.get(method).copied().unwrap_or(0)
    }

    /// Every request sent to the bot, with how it was acknowledged.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.clone()
    }

    /// The trigger id of the newest request, where there was one.
    pub fn last_trigger(&self) -> Option<String> {
        self.state().deliveries.last().map(|delivery| delivery.trigger_id.clone())
    }

    /// The views that were opened, oldest first.
    pub fn views(&self) -> Vec<serde_json::Value> {
        self.state().views.clone()
    }

    /// The content of a file that was shared.
    pub fn file(&self, id: &str) -> Option<Vec<u8>> {
        self.state().uploads.get(id).filter(|upload| upload.shared).and_then(|upload| upload.bytes.clone())
    }

    /// Makes calls fail whose method begins with the prefix (`chat.`, or `response` for response URLs).
    /// A later fault for the same prefix replaces the earlier; [`Fault::Clear`] removes it.
    pub fn fault(&self, method_prefix: &str, fault: Fault) {
        self.change(|state| {
            state.faults.retain(|(prefix, _)| prefix != method_prefix);
            let nothing = matches!(fault, Fault::Clear | Fault::RateLimited { times: 0, .. });
            if !nothing {
                state.faults.push((method_prefix.to_owned(), fault));
            }
        });
    }

    /// Lets all response URLs given out so far expire, as they do after 30 minutes.
    pub fn expire_response_urls(&self) {
        self.change(|state| state.responses.values_mut().for_each(|response| response.expired = true));
    }

    /// What the page's button "Start the sample incident again" calls; without it there is no button.
    pub fn on_restart(
        &self,
        hook: impl Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync + 'static,
    ) {
        *self.inner.restart.lock() = Some(Arc::new(Box::new(hook)));
    }

    /// Waits until the condition yields a value; it is asked again after every change in the workspace.
    ///
    /// # Errors
    /// After 30 seconds, with the whole conversation.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        condition: impl Fn(&Workspace) -> Option<T>,
    ) -> Result<T, String> {
        let mut changes = self.inner.changed.subscribe();
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
        match found.await {
            Ok(Some(value)) => Ok(value),
            _ => Err(format!("waited in vain for {what}; the workspace:\n{}", self.transcript())),
        }
    }

    /// Everything that was said and sent, for messages of failed tests.
    pub fn transcript(&self) -> String {
        let state = self.state();
        let names: HashMap<_, _> = state.people.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
        let mut out = String::new();
        for message in &state.messages {
            let author = names.get(message.author.as_str()).copied().unwrap_or(&message.author);
            let only = message.ephemeral_to.as_ref().map(|to| format!(" only to {to}")).unwrap_or_default();
            let plain = message.plain().replace('\n', "\n    ");
            out += &format!("{} {author}{only} (edited {}):\n    {plain}\n", message.channel, message.edited);
        }
        for delivery in &state.deliveries {
            out += &format!("sent {}: {:?}\n", delivery.path, delivery.ack);
        }
        for refused in state.payloads.iter().filter(|payload| !payload.ok) {
            out += &format!("refused {}: {:?} {:?}\n", refused.method, refused.error, refused.messages);
        }
        out
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }

    /// Changes the state and tells everyone who waits.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.state());
        self.inner.changed.send_modify(|version| *version += 1);
        result
    }
}
