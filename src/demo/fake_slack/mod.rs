//! A fake Slack workspace, as strict as the real one. It talks to the bot only over HTTP: signed requests to the bot's own
//! endpoints, and the Web API that the bot calls. It is a page in a browser for the demo, and knows nothing of the bot's code.

mod api;
mod blocks;
mod chat;
mod deliver;
mod home;
mod modals;
mod page;
mod scopes;
mod state;
mod view;

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::changes::ChangeCount;
pub use api::ApiError;
pub use blocks::check as check_blocks;
pub use deliver::{Ack, Delivery};
pub use modals::Modal;
pub use state::{Account, ArgumentHint, Channel, CommandHint, Fault, GuideStep, Kind};
use state::{ChannelState, State};
pub use state::{Organisation, Payload, Settings, Situation};
pub use view::{ButtonView, Message, MessageRef, SharedFile};

/// The id of the workspace.
pub const TEAM: &str = "T0DEMO001";
/// The id of the organisation that the workspace belongs to, where its accounts say that they are in one.
pub const ORGANISATION: &str = "E0DEMO001";
/// The secret that signs requests to the bot: a fixed sample value, as the tokens are.
pub const SIGNING_SECRET: &str = "demo-signing-secret-0123456789abcdef";
/// The token of the Web API.
pub const BOT_TOKEN: &str = "xoxb-demo-bot-token";
/// The token of Socket Mode.
pub const APP_TOKEN: &str = "xapp-demo-app-token";
/// The bot's user id.
pub const BOT_USER: &str = "U0BOT0001";
const APP_ID: &str = "A0DEMO001";
const TEAM_NAME: &str = "CreatorBridge";

type Restart = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// The workspace; clones are handles to the same one. It stops when its runtime does.
#[derive(Clone)]
pub struct Workspace {
    inner: Arc<Inner>,
    /// The bot that this handle's requests go to, if not to the connected one.
    bot_url: Option<String>,
}

struct Inner {
    http: reqwest::Client,
    state: Mutex<State>,
    changes: ChangeCount,
}

impl Workspace {
    /// Binds the address and serves from then on.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(settings: Settings) -> std::io::Result<Workspace> {
        let listener = tokio::net::TcpListener::bind(settings.listen).await?;
        let address = listener.local_addr()?.to_string();
        // Fails if a provider is installed already; then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().map_err(std::io::Error::other)?;
        let teams_view = settings.teams_view.clone().unwrap_or_default();
        let state = Mutex::new(State::new(settings, address));
        let inner = Inner { http, state, changes: ChangeCount::default() };
        let workspace = Workspace { inner: Arc::new(inner), bot_url: None };
        workspace.add_person(Account::new(BOT_USER, "Countersign", Kind::Bot));
        let router = api::routes().merge(page::routes()).with_state(workspace.clone()).merge(teams_view);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(workspace)
    }

    /// The page for people.
    pub fn page_url(&self) -> String {
        format!("http://{}/", self.state().address)
    }

    /// The base of the Web API, without a slash at the end.
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.state().address)
    }

    /// Sets the address of the bot from now on, such as `http://127.0.0.1:8080`.
    pub fn connect_bot(&self, base_url: &str) {
        self.state().bot_url = Some(base_url.trim_end_matches('/').to_owned());
    }

    /// A handle to the same workspace whose requests go to that bot, as Slack's requests reach any of the
    /// processes behind one address.
    pub fn with_bot(&self, base_url: &str) -> Workspace {
        let bot_url = Some(base_url.trim_end_matches('/').to_owned());
        Workspace { bot_url, ..self.clone() }
    }

    /// Adds a person, or replaces the one with the same id.
    pub fn add_person(&self, account: Account) {
        self.change(|state| {
            state.people.retain(|person| person.id != account.id);
            state.people.push(account);
        });
    }

    /// Changes the kind of a person's account.
    pub fn set_kind(&self, id: &str, kind: Kind) {
        self.change(|state| state.people.iter_mut().filter(|p| p.id == id).for_each(|p| p.kind = kind));
    }

    /// Adds a channel, or replaces the one with the same id.
    pub fn add_channel(&self, channel: Channel) {
        self.change(|state| {
            state.channels.retain(|room| room.channel.id != channel.id);
            state.channels.push(ChannelState { channel, archived: false, im_user: None });
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

    /// Takes a scope from the bot's token: calls that need it are refused from now on.
    pub fn revoke_scope(&self, scope: &str) {
        self.change(|state| state.settings.scopes.retain(|granted| granted != scope));
    }

    /// The channel id of the conversation between a person and the bot.
    pub fn dm_channel(&self, user: &str) -> String {
        self.state().dm_channel(user)
    }

    /// The messages that a person sees in a channel, oldest first.
    pub fn visible_messages(&self, user: &str, channel: &str) -> Vec<Message> {
        self.state().visible_messages(user, channel)
    }

    /// Receives every message as it is posted or changed from now on.
    pub fn follow_messages(&self) -> mpsc::UnboundedReceiver<Message> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state().followers.push(sender);
        receiver
    }

    /// A message as it is now; `None` when it was deleted.
    pub fn message(&self, message_ref: &MessageRef) -> Option<Message> {
        self.state().find(&message_ref.channel, &message_ref.ts).cloned()
    }

    /// Removes all messages, as if nobody had ever spoken.
    pub fn clear_messages(&self) {
        self.change(|state| state.messages.clear());
    }

    /// Everything that the bot sent, in order: calls, responses and acknowledgements, accepted or not.
    pub fn payloads(&self) -> Vec<Payload> {
        self.state().payloads.clone()
    }

    /// Number of calls of a Web API method; `response` counts posts to response URLs.
    pub fn calls(&self, method: &str) -> usize {
        self.state().payloads.iter().filter(|payload| payload.method == method).count()
    }

    /// Every request sent to the bot, with how it was acknowledged.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state().deliveries.clone()
    }

    /// The content of a file that was shared.
    pub fn file(&self, id: &str) -> Option<Vec<u8>> {
        self.state().uploads.get(id).filter(|upload| upload.shared).and_then(|upload| upload.bytes.clone())
    }

    /// Makes calls fail that begin with the prefix: `chat.`, `response` for response URLs, `users.info U0ANA` for those about a user.
    /// A later fault for the same prefix replaces the earlier; [`Fault::Clear`] removes it.
    pub fn fault(&self, call_prefix: &str, fault: Fault) {
        self.change(|state| {
            state.faults.retain(|(prefix, _)| prefix != call_prefix);
            if !matches!(fault, Fault::Clear | Fault::RateLimited { times: 0, .. }) {
                state.faults.push((call_prefix.to_owned(), fault));
            }
        });
    }

    /// Lets all response URLs given out so far expire, as they do after 30 minutes.
    pub fn expire_response_urls(&self) {
        self.change(|state| {
            state.responses.values_mut().for_each(|response| response.expires = Instant::now())
        });
    }

    /// Sets the work of the page's button "Start the sample incident again"; without it there is no button.
    pub fn on_restart(
        &self,
        hook: impl Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync + 'static,
    ) {
        self.state().restart = Some(Arc::new(hook));
    }

    /// Sets the commands that the page completes.
    pub fn set_commands(&self, commands: Vec<CommandHint>) {
        self.state().commands = commands;
    }

    /// Sets the sentence above the conversation.
    pub fn set_situation(&self, situation: Option<Situation>) {
        if self.state().situation != situation {
            self.change(|state| state.situation = situation);
        }
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
        self.inner.changes.wait_for(what, || condition(self), || self.transcript()).await
    }

    /// Every message, delivery and refused call, for messages of failed tests.
    pub fn transcript(&self) -> String {
        let state = self.state();
        let mut out = String::new();
        for message in &state.messages {
            let author = state.person(&message.author).map_or(&message.author, |person| &person.name);
            let recipient_note =
                message.ephemeral_to.as_ref().map(|to| format!(" only to {to}")).unwrap_or_default();
            let plain = message.plain().replace('\n', "\n    ");
            out += &format!(
                "{} {author}{recipient_note} (edited {}):\n    {plain}\n",
                message.channel, message.edited
            );
        }
        for delivery in &state.deliveries {
            out += &format!("sent {}: {:?}\n", delivery.path, delivery.ack);
        }
        for payload in &state.payloads {
            if let Some(ApiError { error, messages, .. }) = &payload.error {
                out += &format!("refused {}: {error:?} {messages:?}\n", payload.method);
            }
        }
        out
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }

    /// Changes the state and wakes everyone who waits.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let result = work(&mut self.state());
        self.inner.changes.notify();
        result
    }
}
