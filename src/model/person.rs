//! People, their chat accounts, the conversations in which they speak, and the events that a platform delivers: verified and
//! parsed, nothing decided.

use super::FormInput;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// The platform of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum PlatformKind {
    Slack,
    Teams,
    Terminal,
}

impl PlatformKind {
    /// The platform in a word: "slack".
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// True if others see the messages there. A terminal is one person's, and forgets.
    pub fn is_chat(self) -> bool {
        self != PlatformKind::Terminal
    }
}

/// The account that the platform vouches for: not yet a person that we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatAccount {
    pub platform: PlatformKind,
    /// Slack's team id, Teams' tenant id, "terminal".
    pub workspace: String,
    /// Slack's user id, Teams' aadObjectId, the system's login name.
    pub account: String,
    /// As the platform shows it: display only, never an identity.
    pub name: String,
}

impl ChatAccount {
    /// An account shown by its name, or by its id where the platform reports no name.
    pub fn new(platform: PlatformKind, workspace: &str, account: String, name: Option<String>) -> Self {
        let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| account.clone());
        ChatAccount { platform, workspace: workspace.to_owned(), account, name }
    }
}

/// A person of the configuration: one human, whatever the number of their accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The name in the configuration, unique, the identity that rules compare.
    pub id: String,
    /// The account that they use now; absent where they are only mentioned.
    pub account: Option<String>,
}

/// No platform's conversations are named so.
const ACCOUNT: char = '@';

/// A conversation or a thread of it: the source of an event, and the target of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conversation {
    pub platform: PlatformKind,
    pub workspace: String,
    /// Slack's channel id, Teams' conversation id, a terminal's login name.
    #[serde(rename = "conversation")]
    pub id: String,
    /// The message that a thread hangs from.
    pub thread: Option<String>,
}

impl Conversation {
    /// A conversation, outside of its threads.
    pub fn new(platform: PlatformKind, workspace: &str, id: String) -> Conversation {
        Conversation { platform, workspace: workspace.to_owned(), id, thread: None }
    }

    /// The direct conversation with an account, before the platform has told its id.
    pub fn with(sender: &ChatAccount) -> Conversation {
        Conversation::new(sender.platform, &sender.workspace, format!("{ACCOUNT}{}", sender.account))
    }

    /// The account of a conversation that [`Conversation::with`] made.
    pub fn account(&self) -> Option<ChatAccount> {
        let account = self.id.strip_prefix(ACCOUNT)?.to_owned();
        Some(ChatAccount::new(self.platform, &self.workspace, account, None))
    }

    /// A thread belongs to its conversation: tokens and bindings compare conversations.
    pub fn same_conversation(&self, other: &Conversation) -> bool {
        // Slack's ids are unique in an organisation, and a click may come without its workspace.
        let same_workspace = self.workspace == other.workspace || self.platform == PlatformKind::Slack;
        self.platform == other.platform && same_workspace && self.id == other.id
    }
}

/// An event of a chat platform for the workflow.
#[derive(Debug, Clone)]
pub struct ChatEvent {
    /// The platform's id of this delivery: the same for a redelivery of the same thing.
    pub delivery: String,
    pub sender: ChatAccount,
    pub conversation: Conversation,
    /// The platform's way to answer this very event (Slack's `response_url`); opaque to everyone else.
    pub handle: Option<ReplyHandle>,
    pub event: ChatEventKind,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatEventKind {
    /// A line was typed.
    Command(TypedText),
    /// A button was clicked, on a message with this id.
    Button { token: String, message: String },
    /// A card is looked at, and its client asks what its user is to see of it.
    View { token: String, message: String },
    /// A form was submitted.
    FormSubmission(FormInput),
    /// Somebody types into a field of a form, and the client asks for its choices.
    FormQuery { input: FormInput, field: String, query: String },
    /// The sender's own page with the bot is opened, and shows what it was last given.
    Home,
}

/// Text that a person typed to the bot, out of the platform's markup and without the bot's own mention.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypedText {
    /// The text before the bot's mention. It belongs to the line where the text behind the mention is no command by itself.
    pub before: String,
    /// The text behind `/db` or behind the bot's mention.
    pub line: String,
    /// The people whom the text mentions, in order: each is in it as [`TypedText::MENTION`].
    pub mentions: Vec<Mention>,
}

/// A mention of a person in typed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// The id by which the platform writes the mention: Slack's user id, Teams' `29:…`. Absent where the client sent the name alone.
    pub id: Option<String>,
    /// The words shown for the mention: on Slack the id, since a name there is no identity.
    pub name: String,
}

impl TypedText {
    /// Unicode's OBJECT REPLACEMENT CHARACTER, the place of a mention.
    pub const MENTION: char = '\u{fffc}';

    /// The line in plain words, for an echo.
    pub fn words(&self) -> String {
        let skipped = self.before.matches(TypedText::MENTION).count();
        let mut names = self.mentions.iter().skip(skipped).map(|mention| mention.name.as_str());
        let mut words = String::with_capacity(self.line.len());
        for c in self.line.chars() {
            match c {
                TypedText::MENTION => words.push_str(names.next().unwrap_or_default()),
                c => words.push(c),
            }
        }
        words
    }
}

impl From<&str> for TypedText {
    fn from(line: &str) -> TypedText {
        TypedText { line: line.replace(TypedText::MENTION, ""), ..TypedText::default() }
    }
}

/// A short-lived way to answer one event. Secret: whoever holds it can speak as the bot.
#[derive(Clone)]
pub struct ReplyHandle {
    /// Slack's `response_url`; of Teams, the id of the delivery whose client waits.
    pub id: String,
    /// The time at which the event arrived: Slack's `response_url` lives 30 minutes.
    pub received_at: jiff::Timestamp,
    /// The answer replaces the card, for its sender only: it has to be the card.
    pub replaces_card: bool,
    /// Slack's `trigger_id`, with which one form can be opened within three seconds.
    pub trigger: Option<String>,
}

impl std::fmt::Debug for ReplyHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyHandle(received at {})", self.received_at)
    }
}
