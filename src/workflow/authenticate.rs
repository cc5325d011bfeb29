//! Authentication: from a platform's account in good standing to a listed person, and the groups that narrow their roles.
//! The same check serves typed commands, row buttons and decisions, and everyone involved once more when a run starts.

use super::platforms::{OPERATORS_CAN_FIX, Platforms};
use crate::app::App;
use crate::error::{Error, Result};
use crate::model::{ChatAccount, ChatEvent, Conversation, Person};
use crate::platform::{AccountInfo, AccountKind, Freshness, Platform, SendError};
use std::sync::Arc;
use std::time::Duration;

/// Pauses between the retries while the platform can't report an account's kind; then the command is refused.
const RETRY_PAUSES: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];

/// The next step while the chat platform can't confirm who somebody is.
pub(super) const USE_TERMINAL: &str =
    "Try again in a moment. `countersign run` in a terminal on Countersign's host works without the chat.";

#[derive(Clone)]
pub(super) struct Authenticator {
    pub app: Arc<App>,
    pub platforms: Arc<Platforms>,
}

impl Authenticator {
    /// The person behind an account.
    ///
    /// # Errors
    /// [`Error::User`] for every account that isn't accepted: unlisted, guest, external, bot, deactivated; and while the
    /// platform can't tell.
    pub async fn identify(&self, incoming: &ChatEvent) -> Result<Person> {
        self.person_of(&incoming.sender, &incoming.conversation, Freshness::Recent).await
    }

    /// As [`Authenticator::identify`], with the account's kind read again from the platform.
    pub async fn identify_now(&self, sender: &ChatAccount, conversation: &Conversation) -> Result<Person> {
        self.person_of(sender, conversation, Freshness::Current).await
    }

    /// Passes if one of the roles is theirs without a chat group, or they are in its group.
    ///
    /// # Errors
    /// [`Error::User`], also while the platform can't tell who is in the group.
    pub async fn require_role_group(
        &self,
        sender: &ChatAccount,
        roles: &[&str],
        freshness: Freshness,
    ) -> Result<()> {
        match self.any_role_group(sender, roles, freshness).await {
            Some(true) => Ok(()),
            Some(false) => {
                let roles = roles.join(" and ");
                Err(Error::instead(
                    format!(
                        "Your role {roles} requires membership in its chat group, and you aren't a member."
                    ),
                    "Ask the group's owner to add you.",
                ))
            }
            None => Err(Error::instead(
                "The members of your role's chat group can't be read, so nothing was executed.",
                format!("{USE_TERMINAL} If it stays so: {OPERATORS_CAN_FIX}"),
            )),
        }
    }

    /// Tells if one of the roles has no chat group, or they are in its group; `None` while the platform can't tell.
    pub async fn any_role_group(
        &self,
        sender: &ChatAccount,
        roles: &[&str],
        freshness: Freshness,
    ) -> Option<bool> {
        let Some(platform) = self.platforms.get(sender.platform) else { return Some(!roles.is_empty()) };
        let mut result = Some(false);
        for role in roles {
            match self.is_in_role_group(role, &**platform, sender, freshness).await {
                Ok(true) => return Some(true),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(role, %error, "reading group members failed");
                    result = None;
                }
            }
        }
        result
    }

    /// Tells if they are in the role's group. A group narrows its role on every platform: where the sender's platform has
    /// no group for it, the groups of the other platforms count.
    async fn is_in_role_group(
        &self,
        role: &str,
        platform: &dyn Platform,
        sender: &ChatAccount,
        freshness: Freshness,
    ) -> Result<bool, SendError> {
        let person = self.app.access.person(sender);
        // A group may hold any of a person's accounts.
        let accounts =
            person.as_ref().map_or(&[][..], |person| self.app.access.accounts(person, sender.platform));
        let others = accounts.iter().filter(|account| **account != sender.account);
        let mut is_member = None;
        for account in std::iter::once(&sender.account).chain(others) {
            let account = ChatAccount { account: account.clone(), ..sender.clone() };
            is_member = platform.in_group(role, &account, freshness).await?;
            if is_member != Some(false) {
                break;
            }
        }
        if let Some(is_member) = is_member {
            return Ok(is_member);
        }
        for other in self.platforms.iter().filter(|other| other.name() != platform.name()) {
            let known = person.as_ref().map(|person| self.app.access.known_on(person, other.name()));
            // Without an account on that platform they are in none of its groups.
            let account = ChatAccount {
                platform: other.name(),
                workspace: other.default_workspace().to_owned(),
                account: known.and_then(|person| person.account).unwrap_or_default(),
                name: sender.name.clone(),
            };
            if other.in_group(role, &account, freshness).await? == Some(false) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn person_of(
        &self,
        sender: &ChatAccount,
        conversation: &Conversation,
        freshness: Freshness,
    ) -> Result<Person> {
        let person = self.app.access.person(sender).ok_or_else(|| {
            Error::instead(
                "You are not in Countersign's list of people, so you can't use it.",
                format!("Ask its operators to add the account `{}`.", sender.account),
            )
        })?;
        let excluded = match self.account_kind(sender, conversation, freshness).await? {
            AccountKind::Member => return Ok(person),
            AccountKind::Guest => "guest accounts",
            AccountKind::External => "accounts of other organisations",
            AccountKind::Bot => "bots",
            AccountKind::Deactivated => "deactivated accounts",
        };
        Err(Error::user(format!("Countersign isn't available to {excluded}.")))
    }

    /// Tells if the report is about the sender: by its ids, or because the configuration lists one of them for the same person. An
    /// id that is listed for somebody else makes it nobody's.
    pub(super) fn is_of_sender(&self, account: &AccountInfo, sender: &ChatAccount) -> bool {
        let owner =
            |id: &String| self.app.access.person(&ChatAccount { account: id.clone(), ..sender.clone() });
        let person = owner(&sender.account).map(|person| person.id);
        let owners: Vec<String> = account.ids.iter().filter_map(owner).map(|person| person.id).collect();
        let is_known = account.ids.contains(&sender.account) || !owners.is_empty();
        is_known && owners.iter().all(|owner| person.as_ref() == Some(owner))
    }

    async fn account_kind(
        &self,
        sender: &ChatAccount,
        conversation: &Conversation,
        freshness: Freshness,
    ) -> Result<AccountKind> {
        if !sender.platform.is_chat() {
            // The operating system has authenticated its user, and the list of people maps that login to a person.
            return Ok(AccountKind::Member);
        }
        let platform = self.platforms.get(sender.platform).ok_or_else(|| {
            Error::Internal(anyhow::anyhow!("an event of a platform that isn't configured"))
        })?;
        let mut pauses = RETRY_PAUSES.iter();
        loop {
            return match platform.account(sender, conversation, freshness).await {
                Ok(account)
                    if account.kind == AccountKind::Member && !self.is_of_sender(&account, sender) =>
                {
                    Ok(AccountKind::External)
                }
                Ok(account) => Ok(account.kind),
                Err(SendError::NotSetUp(_)) => Err(Error::instead(
                    "Countersign isn't set up to look up accounts in this chat, so nothing was executed.",
                    OPERATORS_CAN_FIX,
                )),
                Err(error) if error.is_outage() => match pauses.next() {
                    Some(pause) => {
                        tokio::time::sleep(*pause).await;
                        continue;
                    }
                    None => Err(Error::instead(
                        "The chat platform can't confirm your account right now, so nothing was executed.",
                        USE_TERMINAL,
                    )),
                },
                Err(_) => Err(Error::user("The chat platform doesn't know your account. Nothing was done.")),
            };
        }
    }
}
