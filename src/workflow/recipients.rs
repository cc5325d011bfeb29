//! Who a request concerns, and how each is reached: who could approve it, who has, and where its card and its outcome are to
//! stand. A person counts once, on whichever platform they are.

use super::Workflow;
use super::authenticate::ELSEWHERE;
use super::intent::Intent;
use crate::access::could_approve_then;
use crate::error::{Error, Result};
use crate::model::{CardKind, ChatAccount, Conversation, IncomingEvent, Person, PlatformKind, Run};
use crate::platform::{Platform, SendError, Standing};
use serde_json::{Value, json};

/// Who could approve a request when it was asked, and the copies of its card that are noted with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Recipients {
    pub approvers: Vec<Person>,
    pub cards: Vec<(Conversation, CardKind)>,
}

/// Whether an account has a member's standing there, or the platform can't tell now.
async fn may_count(platform: &dyn Platform, (sender, place): (&ChatAccount, &Conversation)) -> bool {
    match platform.account(sender, place).await {
        Ok(account) => account.standing == Standing::Member,
        Err(why) => matches!(why, SendError::Unavailable(_)),
    }
}

/// Somebody who has approved, and from where.
pub(super) struct Approval<'a> {
    pub person: &'a Person,
    pub sender: Option<ChatAccount>,
    pub place: Conversation,
}

/// What the record keeps of a verdict besides who said it.
pub(super) fn said_from(incoming: &IncomingEvent) -> Value {
    json!({ "from": incoming.sender, "in": incoming.place })
}

/// Everyone who has approved, each once, whatever their roles and accounts.
pub(super) fn voters(run: &Run) -> Vec<Approval<'_>> {
    let mut voters: Vec<Approval<'_>> = Vec::new();
    for event in
        run.events.iter().filter(|event| matches!(event.kind.as_str(), "approval_added" | "approved"))
    {
        let Some(person) = &event.by else { continue };
        if voters.iter().any(|known| known.person.id == person.id) {
            continue;
        }
        let read = |name: &str| event.facts.get(name).cloned().unwrap_or_default();
        // A record of before there were two platforms doesn't say: it was where the request is.
        let place = serde_json::from_value(read("in")).unwrap_or_else(|_| run.request.place.clone());
        let sender = serde_json::from_value(read("from")).ok().or_else(|| {
            let account = person.account.clone()?;
            let (platform, workspace) = (place.platform, place.workspace.clone());
            Some(ChatAccount { platform, workspace, account, name: person.id.clone() })
        });
        voters.push(Approval { person, sender, place });
    }
    voters
}

impl Workflow {
    /// The accounts by which somebody is reached in chat: on that platform first.
    fn accounts_of(&self, person: &Person, first: PlatformKind) -> Vec<ChatAccount> {
        let mut platforms: Vec<_> = self.platforms.values().filter(|one| one.name().is_chat()).collect();
        platforms.sort_by_key(|one| (one.name() != first, one.name()));
        let known = platforms.iter().filter_map(|platform| {
            let account = self.app.access.known_on(person, platform.name()).account?;
            let (name, workspace) = (person.id.clone(), platform.home().to_owned());
            Some(ChatAccount { platform: platform.name(), workspace, account, name })
        });
        known.collect()
    }

    /// The conversation with somebody alone, in the place's workspace if they have an account there.
    fn directly(&self, person: &Person, place: &Conversation) -> Option<Conversation> {
        let mut sender = self.accounts_of(person, place.platform).into_iter().next()?;
        if sender.platform == place.platform {
            sender.workspace.clone_from(&place.workspace);
        }
        Some(Conversation::with(&sender))
    }

    /// Who could approve it: whoever has a role for it that no group of the chat keeps from them, and an account that counts.
    ///
    /// # Errors
    /// While nobody can tell who is in a group.
    pub(super) async fn could_approve(&self, intent: &Intent<'_>) -> Result<Vec<Person>> {
        let environment = intent.environment.as_deref();
        let access = &self.app.access;
        let listed = access.approvers(intent.command, environment, &intent.person);
        let place = &intent.incoming.place;
        let counted = listed.iter().map(|person| async {
            let roles = access.roles_to_approve(person, intent.command, environment);
            self.counts(person, (place, &roles)).await
        });
        let counted = futures::future::join_all(counted).await;
        if counted.contains(&None) {
            return Err(Error::instead(
                "The members of the approvers' group can't be read from the chat platform, so no approval was requested.",
                ELSEWHERE,
            ));
        }
        let could = listed.iter().zip(counted).filter(|(_, counts)| *counts == Some(true));
        let could: Vec<Person> = could.map(|(person, _)| person.clone()).collect();
        match could.len() < intent.policy.approvers {
            true => Err(too_few((&listed, &could), intent.policy.approvers)),
            false => Ok(could),
        }
    }

    /// Whether one of the person's accounts could approve; `None` while nobody can tell who is in a group. What the platform
    /// can't say of an account now is asked again when they click.
    async fn counts(&self, person: &Person, (place, roles): (&Conversation, &[&str])) -> Option<bool> {
        let mut seen = Some(false);
        for sender in self.accounts_of(person, place.platform) {
            let Some(platform) = self.platform(sender.platform) else { continue };
            let there = Conversation::with(&sender);
            let place = if place.platform == sender.platform { place } else { &there };
            // Whoever isn't where it was asked is reached directly.
            if !may_count(&**platform, (&sender, place)).await
                && !may_count(&**platform, (&sender, &there)).await
            {
                continue;
            }
            match self.group_of(&sender, roles).await {
                Some(true) => return Some(true),
                Some(false) => {}
                None => seen = None,
            }
        }
        seen
    }

    /// Of a request: its card where it was asked, the card directly to each who could approve it, and what becomes of it directly to
    /// the requester.
    pub(super) fn concerned(&self, intent: &Intent<'_>, approvers: Vec<Person>) -> Recipients {
        let place = &intent.incoming.place;
        let card = match place.platform.is_chat() {
            true => Some(place.clone()),
            false => self.place_for_others(),
        };
        let near = card.as_ref().unwrap_or(place).clone();
        let mut cards: Vec<_> = card.map(|place| (place, CardKind::Primary)).into_iter().collect();
        let direct = approvers.iter().filter_map(|person| self.directly(person, &near));
        cards.extend(direct.map(|place| (place, CardKind::Direct)));
        cards.extend(self.result(intent, &near).map(|place| (place, CardKind::Outcome)));
        Recipients { approvers, cards }
    }

    /// Of work that lasts: its message where it was asked, and its outcome directly.
    pub(super) fn followed(&self, intent: &Intent<'_>) -> Recipients {
        let place = &intent.incoming.place;
        let result = self.result(intent, place).map(|place| (place, CardKind::Outcome));
        let cards = std::iter::once((place.clone(), CardKind::Primary)).chain(result).collect();
        Recipients { cards, ..Recipients::default() }
    }

    /// Where the requester hears the outcome: the account that they asked from, or the one that they have in chat.
    fn result(&self, intent: &Intent<'_>, near: &Conversation) -> Option<Conversation> {
        let sender = &intent.incoming.sender;
        match sender.platform.is_chat() {
            true => Some(Conversation::with(sender)),
            false => self.directly(&intent.person, near),
        }
    }

    /// Where the configuration lets requests stand that were made where no others are.
    pub(super) fn place_for_others(&self) -> Option<Conversation> {
        let places = self.platforms.values().filter_map(|platform| platform.place_for_others());
        places.min_by_key(|place| place.platform)
    }

    /// Who can still approve a run: whoever could when it was asked and can now, but for those who have.
    pub(super) fn still_called(&self, run: &Run) -> Vec<Person> {
        let environment = run.request.environment.as_deref();
        let Some(command) = self.app.catalog.find(&run.request.command) else { return Vec::new() };
        let mut people = self.app.access.approvers(command, environment, &run.request.requester);
        let voters = voters(run);
        let has_said = |person: &Person| voters.iter().any(|voter| voter.person.id == person.id);
        people.retain(|person| could_approve_then(run, person) && !has_said(person));
        people
    }
}

/// What the configuration, or the group in the chat, would have to change.
fn too_few((listed, could): (&[Person], &[Person]), needed: usize) -> Error {
    let names: Vec<&str> = could.iter().map(|person| person.id.as_str()).collect();
    let instead = match (listed.len() >= needed, names.len() + 1 < needed) {
        (true, _) => {
            "Other people have a role for it, but they aren't in the role's chat group, or have no accepted account there."
        }
        (false, false) => "Assign a role that approves it to another person in the configuration.",
        (false, true) => "Assign a role that approves it to more people in the configuration.",
    };
    let problem = match names.as_slice() {
        [] => "This needs an approval, and you are the only approver, so it was not requested.".to_owned(),
        some => {
            format!(
                "This needs {needed} approvals from others, and only {} can approve it, so it was not requested.",
                some.join(" and ")
            )
        }
    };
    Error::instead(problem, instead)
}
