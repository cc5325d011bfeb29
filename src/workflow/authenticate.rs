//! Who speaks: a listed person behind a platform's account in good standing. The same check for typed commands, row buttons,
//! verdicts, and again for everyone concerned when a run starts.

use super::Workflow;
use crate::error::{Error, Result};
use crate::model::{ChatAccount, Conversation, IncomingEvent, Person};
use crate::platform::{Platform, SendError, Standing};
use std::time::Duration;

/// While the platform can't tell an account's standing, it is asked again so often before the request is refused.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];

/// What to type while the chat can't say who somebody is.
pub(super) const ELSEWHERE: &str =
    "Try again in a moment. `countersign run` in a terminal on Countersign's host works without the chat.";

/// How old the platform's word on an account may be.
#[derive(Clone, Copy)]
enum Freshness {
    /// Five minutes at most.
    Recent,
    New,
}

impl Workflow {
    /// The person behind an account.
    ///
    /// # Errors
    /// [`Error::User`] for everyone who gets nothing: unlisted, guest, external, bot, deactivated, and while the platform
    /// can't say.
    pub(super) async fn identify(&self, incoming: &IncomingEvent) -> Result<Person> {
        self.person_by((&incoming.sender, &incoming.place), Freshness::Recent).await
    }

    /// As [`Workflow::identify`], with the account's standing asked anew where it spoke before.
    pub(super) async fn identify_now(&self, sender: &ChatAccount, place: &Conversation) -> Result<Person> {
        self.person_by((sender, place), Freshness::New).await
    }

    /// Passes if somebody has a role for what they do that no group of the chat keeps from them.
    ///
    /// # Errors
    /// [`Error::User`], also while the platform can't say who is in the group.
    pub(super) async fn narrowed(&self, sender: &ChatAccount, roles: &[&str]) -> Result<()> {
        match self.group_of(sender, roles).await {
            Some(true) => Ok(()),
            Some(false) => Err(Error::instead(
                format!(
                    "Your role {} requires membership in its chat group, and you aren't a member.",
                    roles.join(" and ")
                ),
                "Ask the group's owner to add you.",
            )),
            None => Err(Error::instead(
                "The members of your role's chat group can't be read, so nothing was executed.",
                ELSEWHERE,
            )),
        }
    }

    /// Whether one of the roles isn't narrowed by a group of a chat, or they are in it; `None` while nobody can tell.
    pub(super) async fn group_of(&self, sender: &ChatAccount, roles: &[&str]) -> Option<bool> {
        let Some(platform) = self.platform(sender.platform) else { return Some(!roles.is_empty()) };
        let mut seen = Some(false);
        for role in roles {
            match self.in_its_group(role, (&**platform, sender)).await {
                Ok(true) => return Some(true),
                Ok(false) => {}
                Err(why) => {
                    tracing::warn!(role, %why, "reading group members failed");
                    seen = None;
                }
            }
        }
        seen
    }

    /// A group narrows its role wherever its people speak: without one where they do, the other chats' count.
    async fn in_its_group(
        &self,
        role: &str,
        (platform, sender): (&dyn Platform, &ChatAccount),
    ) -> Result<bool, SendError> {
        if let Some(is) = platform.in_group(role, sender).await? {
            return Ok(is);
        }
        let person = self.app.access.person(sender);
        for other in self.platforms.values().filter(|other| other.name() != platform.name()) {
            let known = person.as_ref().map(|person| self.app.access.known_on(person, other.name()));
            // Without an account there they are in none of its groups.
            let there = ChatAccount {
                platform: other.name(),
                workspace: other.home().to_owned(),
                account: known.and_then(|person| person.account).unwrap_or_default(),
                name: sender.name.clone(),
            };
            if other.in_group(role, &there).await? == Some(false) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn person_by(
        &self,
        (sender, place): (&ChatAccount, &Conversation),
        word: Freshness,
    ) -> Result<Person> {
        let person = self.app.access.person(sender).ok_or_else(|| {
            Error::instead(
                "You are not in Countersign's list of people, so you can't use it.",
                format!("Ask its operators to add the account `{}`.", sender.account),
            )
        })?;
        match self.standing((sender, place), word).await? {
            Standing::Member => Ok(person),
            other => Err(Error::user(format!("Countersign isn't available to {}.", describe(other)))),
        }
    }

    async fn standing(
        &self,
        (sender, place): (&ChatAccount, &Conversation),
        word: Freshness,
    ) -> Result<Standing> {
        if !sender.platform.is_chat() {
            // The operating system has vouched for its user, and the list of people says whose login that is.
            return Ok(Standing::Member);
        }
        let platform = self
            .platform(sender.platform)
            .ok_or_else(|| Error::Internal(anyhow::anyhow!("an event of a platform that isn't there")))?;
        let mut pauses = PAUSES.iter();
        loop {
            let account = match word {
                Freshness::Recent => platform.account(sender, place).await,
                Freshness::New => platform.account_now(sender, place).await,
            };
            match account {
                Ok(account)
                    if account.standing == Standing::Member && account.workspace != sender.workspace =>
                {
                    return Ok(Standing::External);
                }
                Ok(account) => return Ok(account.standing),
                Err(SendError::Unavailable(_)) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => {
                        return Err(Error::instead(
                            "The chat platform can't confirm your account right now, so nothing was executed.",
                            ELSEWHERE,
                        ));
                    }
                },
                Err(_) => {
                    return Err(Error::user(
                        "The chat platform doesn't know your account. Nothing was done.",
                    ));
                }
            }
        }
    }
}

fn describe(standing: Standing) -> &'static str {
    match standing {
        Standing::Member => "members",
        Standing::Guest => "guest accounts",
        Standing::External => "accounts of other organisations",
        Standing::Bot => "bots",
        Standing::Deactivated => "deactivated accounts",
    }
}
