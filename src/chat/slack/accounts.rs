//! Slack's answers about accounts and conversations. What is unknown or can't be seen counts as external.

use super::api::SlackApiError;
use crate::model::ChatAccount;
use crate::platform::{AccountInfo, ConversationInfo, Standing};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Source: <https://api.slack.com/types/user>.
#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
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

#[derive(Deserialize)]
struct EnterpriseUser {
    #[serde(default)]
    teams: Vec<String>,
}

/// Source: <https://api.slack.com/types/conversation>.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Channel {
    is_member: bool,
    is_im: bool,
    is_mpim: bool,
    is_ext_shared: bool,
    is_pending_ext_shared: bool,
}

/// An account out of the answer of `users.info`.
pub(super) fn account(
    answer: Result<Value, SlackApiError>,
    sender: &ChatAccount,
    workspaces: &[String],
) -> Result<AccountInfo, SlackApiError> {
    let answer = match answer {
        Ok(mut answer) => answer["user"].take(),
        Err(SlackApiError::Code(code)) if matches!(code.as_str(), "user_not_found" | "user_not_visible") => {
            return Ok(AccountInfo { standing: Standing::External, workspace: sender.workspace.clone() });
        }
        Err(error) => return Err(error),
    };
    let user: User = serde_json::from_value(answer).map_err(|_| unreadable())?;
    let workspace = user.team_id.clone().unwrap_or_else(|| sender.workspace.clone());
    Ok(AccountInfo { standing: standing(&user, &workspace, sender, workspaces), workspace })
}

fn standing(user: &User, home: &str, sender: &ChatAccount, workspaces: &[String]) -> Standing {
    // In an organisation with several workspaces a user belongs to more than their home.
    let teams = user.enterprise_user.as_ref().map(|user| user.teams.as_slice()).unwrap_or_default();
    let is_listened_to = |team: &str| workspaces.iter().any(|workspace| workspace == team);
    let is_shared = teams.iter().any(|team| is_listened_to(team));
    let is_ours = |team: &str| is_listened_to(team) || (is_shared && teams.iter().any(|other| other == team));
    if user.deleted {
        Standing::Deactivated
    } else if user.is_bot || user.is_workflow_bot || user.id == "USLACKBOT" {
        Standing::Bot
    } else if user.is_stranger || user.id != sender.account || !is_ours(home) || !is_ours(&sender.workspace) {
        Standing::External
    } else if user.is_restricted || user.is_ultra_restricted {
        Standing::Guest
    } else {
        Standing::Member
    }
}

/// A conversation out of the answer of `conversations.info`.
pub(super) fn conversation(answer: Result<Value, SlackApiError>) -> Result<ConversationInfo, SlackApiError> {
    let answer = match answer {
        Ok(mut answer) => answer["channel"].take(),
        // The bot isn't a member of what it can't see, and its answers there stay private.
        Err(SlackApiError::Code(code)) if matches!(code.as_str(), "channel_not_found" | "not_in_channel") => {
            return Ok(ConversationInfo { bot_is_in: false, direct: false, shared: true });
        }
        Err(error) => return Err(error),
    };
    let channel: Channel = serde_json::from_value(answer).map_err(|_| unreadable())?;
    Ok(ConversationInfo {
        bot_is_in: channel.is_member || channel.is_im || channel.is_mpim,
        direct: channel.is_im,
        shared: channel.is_ext_shared || channel.is_pending_ext_shared,
    })
}

/// The accounts of a user group out of the answer of `usergroups.users.list`.
pub(super) fn members(answer: Result<Value, SlackApiError>) -> Result<BTreeSet<String>, SlackApiError> {
    serde_json::from_value(answer?["users"].take()).map_err(|_| unreadable())
}

fn unreadable() -> SlackApiError {
    SlackApiError::Unavailable("unreadable_answer".to_owned())
}
