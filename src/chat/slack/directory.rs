//! Slack's reports on accounts, user groups and conversations, and the meaning of their errors. Nothing is sent here.

use super::api::SlackApiError;
use crate::chat::payload;
use crate::model::ChatAccount;
use crate::platform::{AccountInfo, AccountKind, SendError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The part of an answer. What can't be read isn't there at the next attempt either: it is reported as not set up.
pub(super) fn read<T: DeserializeOwned>(method: &str, answer: &Value, part: &str) -> Result<T, SendError> {
    payload::read(answer[part].clone()).map_err(|shape| {
        tracing::warn!(method, %shape, "an answer of Slack can't be read");
        SendError::NotSetUp(format!("{method}: unreadable_answer"))
    })
}

/// True for the codes by which Slack says that it knows no such account.
/// Source: <https://docs.slack.dev/reference/methods/users.info#errors>.
pub(super) fn is_unknown_account(code: &str) -> bool {
    matches!(code, "user_not_found" | "user_not_visible" | "users_not_found" | "enterprise_is_restricted")
}

/// Codes of what passes by itself.
/// Source: <https://docs.slack.dev/reference/methods/conversations.info#errors>.
const PASSING: [&str; 6] = [
    "fatal_error",
    "internal_error",
    "ratelimited",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];

/// The error of a call that reads. Every code that doesn't pass by itself is one that the bot's operators can do something about: a
/// missing scope, a revoked token, a user group that was disabled (`no_such_subteam`, `subteam_disabled`).
pub(super) fn error(method: &str, error: SlackApiError) -> SendError {
    match error {
        SlackApiError::Code(code) if !PASSING.contains(&code.as_str()) && !code.starts_with("http_5") => {
            let call = format!("{method}: {code}");
            tracing::error!(call, "Slack refuses a call that Countersign must be set up for");
            SendError::NotSetUp(call)
        }
        SlackApiError::Code(code) | SlackApiError::Unavailable(code) => SendError::Unavailable(code),
        SlackApiError::RateLimited(wait) => SendError::RateLimited(wait),
        SlackApiError::ResponseUrlExpired | SlackApiError::ForeignUrl => SendError::NoRoute,
    }
}

/// Source: <https://api.slack.com/types/user>.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SlackUser {
    id: String,
    team_id: Option<String>,
    deleted: bool,
    is_bot: bool,
    is_workflow_bot: bool,
    is_restricted: bool,
    is_ultra_restricted: bool,
    /// Of another organisation, seen through a shared channel.
    is_stranger: bool,
    enterprise_user: Option<EnterpriseUser>,
}

/// Membership in an organisation of several workspaces. Source: <https://docs.slack.dev/enterprise/>.
#[derive(Deserialize, Default)]
#[serde(default)]
struct EnterpriseUser {
    /// The account's other id.
    id: Option<String>,
    enterprise_id: Option<String>,
    teams: Vec<String>,
}

/// Source: <https://api.slack.com/types/conversation>.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SlackChannel {
    pub is_member: bool,
    pub is_im: bool,
    pub is_mpim: bool,
    pub is_ext_shared: bool,
    pub is_pending_ext_shared: bool,
}

impl SlackUser {
    /// The report on an account. A member belongs to one of the workspaces that are listened to, whichever of the organisation's is
    /// their home.
    pub(super) fn account_info(&self, sender: &ChatAccount, workspaces: &[String]) -> AccountInfo {
        let organisation = self.enterprise_user.as_ref();
        let home = self.team_id.as_ref().unwrap_or(&sender.workspace);
        let teams = organisation.into_iter().flat_map(|user| user.teams.iter().chain(&user.enterprise_id));
        let own: Vec<&String> = std::iter::once(home).chain(teams).collect();
        let is_ours = |team: &String| workspaces.contains(team);
        let is_member = own.iter().any(|team| is_ours(team))
            && (own.contains(&&sender.workspace) || is_ours(&sender.workspace));
        let kind = if self.deleted {
            AccountKind::Deactivated
        } else if self.is_bot || self.is_workflow_bot || self.id == "USLACKBOT" {
            AccountKind::Bot
        } else if self.is_stranger || !is_member {
            AccountKind::External
        } else if self.is_restricted || self.is_ultra_restricted {
            AccountKind::Guest
        } else {
            AccountKind::Member
        };
        let other = organisation.and_then(|user| user.id.clone());
        AccountInfo { kind, ids: std::iter::once(self.id.clone()).chain(other).collect() }
    }
}
