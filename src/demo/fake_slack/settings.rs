//! The plain values that a workspace is made of.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ApiError;

/// The settings that a workspace is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// After how long a request counts as not acknowledged: 3 s in Slack.
    pub ack_limit: Duration,
    /// Calls are refused that come faster than Slack allows.
    pub rate_limits: bool,
    /// Messages that a channel (or a response URL) takes at once before one per second counts.
    pub burst: u32,
    /// Calls of another method that are taken at once before its tier's rate counts; `None` is a minute's worth.
    pub tier_burst: Option<u32>,
    /// The page's panel "Try this first".
    pub guide: Vec<GuideStep>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ack_limit: Duration::from_secs(3),
            rate_limits: true,
            burst: 3,
            tier_burst: None,
            guide: Vec::new(),
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
    pub why: String,
}

/// A person or a bot in the workspace.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    pub id: String,
    pub name: String,
    pub kind: Kind,
    /// Shown on the page beside the name, such as "on call".
    pub role_label: String,
}

impl Account {
    /// An account without a role label.
    pub fn new(id: &str, name: &str, kind: Kind) -> Account {
        Account { id: id.into(), name: name.into(), kind, role_label: String::new() }
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
    pub bot_in: bool,
    /// Another company is in it.
    pub shared_externally: bool,
    pub private: bool,
}

/// A way in which calls of the bot fail.
#[derive(Debug, Clone, PartialEq, Eq)]
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
