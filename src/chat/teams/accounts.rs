//! Teams' answers about the members of a conversation. What is unknown or can't be seen counts as external.

use super::connector::{ConnectorError, Member};
use crate::model::ChatAccount;
use crate::platform::{AccountInfo, ConversationInfo, Standing};
use std::sync::Arc;

/// An account out of a conversation's member. Whoever is deactivated, or was removed, is a member of nothing.
pub(super) fn account(
    answer: Result<Member, ConnectorError>,
    sender: &ChatAccount,
    tenants: &[String],
) -> Result<AccountInfo, ConnectorError> {
    let member = match answer {
        Ok(member) => member,
        Err(ConnectorError::Code(404, _)) => {
            return Ok(AccountInfo { standing: Standing::Deactivated, workspace: sender.workspace.clone() });
        }
        Err(error) => return Err(error),
    };
    let workspace = member.tenant_id.clone().unwrap_or_default();
    let standing = match standing(&member, tenants) {
        Standing::Member if !is(&member, &sender.account) => Standing::External,
        standing => standing,
    };
    Ok(AccountInfo { standing, workspace })
}

/// By the member's tenant and role.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/get-teams-context>.
pub(super) fn standing(member: &Member, tenants: &[String]) -> Standing {
    let is_guest = member.user_principal_name.as_deref().is_some_and(|name| name.contains("#EXT#"));
    let is_listened_to = member.tenant_id.as_ref().is_some_and(|tenant| tenants.contains(tenant));
    match member.user_role.as_deref() {
        _ if !is_listened_to => Standing::External,
        None | Some("user") if !is_guest => Standing::Member,
        None | Some("user" | "guest") => Standing::Guest,
        Some(_) => Standing::External,
    }
}

/// Compares a member with an account, by its Entra object id.
pub(super) fn is(member: &Member, account: &str) -> bool {
    let mut ids = member.aad_object_id.iter().chain(&member.object_id).peekable();
    ids.peek().is_some() && ids.all(|id| id.eq_ignore_ascii_case(account))
}

/// A conversation by its members: `None` where they are too many to be read.
pub(super) fn conversation(
    id: &str,
    members: Result<Option<Arc<Vec<Member>>>, ConnectorError>,
    tenants: &[String],
) -> Result<ConversationInfo, ConnectorError> {
    match members {
        Ok(members) => {
            let is_external = |member: &Member| standing(member, tenants) == Standing::External;
            let shared = members.is_none_or(|members| members.iter().any(is_external));
            Ok(ConversationInfo { bot_is_in: true, direct: is_direct(id), shared })
        }
        // What the bot can't see may be anything: it isn't in, and its answers stay private.
        Err(ConnectorError::Code(403 | 404, _)) => {
            Ok(ConversationInfo { bot_is_in: false, direct: false, shared: true })
        }
        Err(error) => Err(error),
    }
}

/// Channels and chats of several begin with `19:`; a person's own with the bot doesn't.
pub(super) fn is_direct(id: &str) -> bool {
    !id.starts_with("19:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(tenant: &str, role: Option<&str>, name: &str) -> Member {
        Member {
            id: "29:x".to_owned(),
            aad_object_id: Some("A".to_owned()),
            object_id: None,
            tenant_id: Some(tenant.to_owned()).filter(|tenant| !tenant.is_empty()),
            user_role: role.map(str::to_owned),
            user_principal_name: Some(name.to_owned()),
        }
    }

    #[test]
    fn only_a_user_of_our_tenant_is_a_member() {
        let ours = ["T".to_owned()];
        for (tenant, role, name, expected) in [
            ("T", Some("user"), "ana@x", Standing::Member),
            ("T", None, "ana@x", Standing::Member),
            ("T", Some("guest"), "gil@x", Standing::Guest),
            ("T", Some("user"), "gil_y#EXT#@x", Standing::Guest),
            ("T", Some("anonymous"), "", Standing::External),
            ("U", Some("user"), "eve@y", Standing::External),
            ("", Some("user"), "eve@y", Standing::External),
        ] {
            assert_eq!(standing(&member(tenant, role, name), &ours), expected, "{tenant} {role:?} {name}");
        }
    }

    #[test]
    fn a_conversation_with_one_of_elsewhere_is_shared() {
        let ours = ["T".to_owned()];
        let inside = vec![member("T", None, "ana@x"), member("T", Some("guest"), "gil@x")];
        let outside = vec![member("T", None, "ana@x"), member("U", None, "eve@y")];
        let is_shared = |members: Option<Vec<Member>>| {
            conversation("19:c@thread.tacv2", Ok(members.map(Arc::new)), &ours).unwrap().shared
        };
        assert!(!is_shared(Some(inside)));
        assert!(is_shared(Some(outside)) && is_shared(None));
    }
}
