//! Approvals of a run, who may still approve it, and how many must: a person counts once, on whichever platform they are. And the
//! recipients of a request: the conversations in which its card and its outcome are posted.

use super::authenticate::{Authenticator, USE_TERMINAL};
use super::intent::{Intent, Recipients};
use super::platforms::OPERATORS_CAN_FIX;
use crate::access::{Policy, could_approve_at_request};
use crate::app::App;
use crate::catalog::Command;
use crate::config::NotificationPlace;
use crate::error::{Error, Result};
use crate::model::{CardKind, ChatAccount, Conversation, EventKind, Person, PlatformKind, Run};
use crate::platform::{AccountKind, Freshness, Platform, SendError};

/// A person's approval, and the account and conversation that it came from.
pub(super) struct RecordedApproval<'a> {
    pub person: &'a Person,
    pub sender: Option<ChatAccount>,
    pub conversation: Conversation,
}

/// Everyone who has approved a run, each once, whatever their roles and accounts.
pub(super) fn approvals(run: &Run) -> Vec<RecordedApproval<'_>> {
    let mut approvals: Vec<RecordedApproval<'_>> = Vec::new();
    let is_approval = |kind| matches!(kind, EventKind::ApprovalAdded | EventKind::Approved);
    for event in run.events.iter().filter(|event| is_approval(event.kind)) {
        let Some(person) = &event.by else { continue };
        if approvals.iter().any(|known| known.person.id == person.id) {
            continue;
        }
        let read = |name: &str| event.facts.get(name).cloned().unwrap_or_default();
        // Records from before the second platform have no origin: it was where the request is.
        let conversation =
            serde_json::from_value(read("in")).unwrap_or_else(|_| run.request.conversation.clone());
        let sender = serde_json::from_value(read("from")).ok().or_else(|| {
            let account = person.account.clone()?;
            let (platform, workspace) = (conversation.platform, conversation.workspace.clone());
            Some(ChatAccount { platform, workspace, account, name: person.id.clone() })
        });
        approvals.push(RecordedApproval { person, sender, conversation });
    }
    approvals
}

/// The stricter of the policy at the time of the request and the one that the configuration has now.
pub(super) fn policy_of(app: &App, run: &Run, command: &Command) -> Policy {
    let now = app.access.policy(command, run.request.environment.as_deref());
    now.with_recorded(run.events.first().and_then(|event| event.facts.get("policy")))
}

/// The approvals that a run needs in all.
pub(super) fn quorum(app: &App, run: &Run) -> usize {
    let command = app.catalog.find(&run.request.command);
    command.map_or(1, |command| policy_of(app, run, command).approvers)
}

/// People who can still approve a run: eligible at the time of the request and now, and they haven't approved it yet.
pub(super) fn pending_approvers(app: &App, run: &Run) -> Vec<Person> {
    let environment = run.request.environment.as_deref();
    let Some(command) = app.catalog.find(&run.request.command) else { return Vec::new() };
    let mut people = app.access.approvers(command, environment, &run.request.requester);
    let approvals = approvals(run);
    let has_approved = |person: &Person| approvals.iter().any(|approval| approval.person.id == person.id);
    people.retain(|person| could_approve_at_request(run, person) && !has_approved(person));
    people
}

/// Tells if an account is a member there; `None` if the bot isn't set up to ask. While the platform can't be reached, it counts as one:
/// a click is checked again.
async fn may_be_member(
    authenticator: &Authenticator,
    platform: &dyn Platform,
    sender: &ChatAccount,
    conversation: &Conversation,
) -> Option<bool> {
    match platform.account(sender, conversation, Freshness::Recent).await {
        Ok(account) => {
            Some(account.kind == AccountKind::Member && authenticator.is_of_sender(&account, sender))
        }
        Err(SendError::NotSetUp(_)) => None,
        Err(error) => Some(error.is_outage()),
    }
}

impl Authenticator {
    /// The chat accounts of a person, those on the preferred platform first.
    fn accounts_of(&self, person: &Person, preferred: PlatformKind) -> Vec<ChatAccount> {
        let mut platforms: Vec<_> =
            self.platforms.iter().filter(|platform| platform.name().is_chat()).collect();
        platforms.sort_by_key(|platform| (platform.name() != preferred, platform.name()));
        let known = platforms.iter().filter_map(|platform| {
            let account = self.app.access.known_on(person, platform.name()).account?;
            let (name, workspace) = (person.id.clone(), platform.default_workspace().to_owned());
            Some(ChatAccount { platform: platform.name(), workspace, account, name })
        });
        known.collect()
    }

    /// The direct conversation with a person, in that conversation's workspace if they have an account there.
    fn direct_conversation(&self, person: &Person, conversation: &Conversation) -> Option<Conversation> {
        let mut sender = self.accounts_of(person, conversation.platform).into_iter().next()?;
        if sender.platform == conversation.platform {
            sender.workspace.clone_from(&conversation.workspace);
        }
        Some(Conversation::with(&sender))
    }

    /// People who could approve the intent: those with a role for it, in the role's chat group if it has one, and with an
    /// accepted account.
    ///
    /// # Errors
    /// [`Error::User`] while the platform can't tell whose accounts count or who is in a group, and when there are too few of them.
    pub(super) async fn eligible_approvers(&self, intent: &Intent<'_>) -> Result<Vec<Person>> {
        let environment = intent.environment.as_deref();
        let access = &self.app.access;
        let listed = access.approvers(intent.command, environment, &intent.person);
        let conversation = &intent.incoming.conversation;
        let checks = listed.iter().map(|person| async {
            let roles = access.roles_to_approve(person, intent.command, environment);
            self.has_member_account(person, conversation, &roles).await
        });
        let checks = futures::future::join_all(checks).await;
        if checks.contains(&None) {
            return Err(Error::instead(
                "The approvers' accounts or the members of the approvers' group can't be read from the chat platform, so no approval was requested.",
                format!("{USE_TERMINAL} If it stays so: {OPERATORS_CAN_FIX}"),
            ));
        }
        let eligible = listed.iter().zip(checks).filter(|(_, check)| *check == Some(true));
        let eligible: Vec<Person> = eligible.map(|(person, _)| person.clone()).collect();
        if eligible.len() < intent.policy.approvers {
            return Err(too_few_approvers(listed.len(), &eligible, intent.policy.approvers));
        }
        Ok(eligible)
    }

    /// Tells if one of the person's accounts could approve; `None` while the platform can't tell.
    async fn has_member_account(
        &self,
        person: &Person,
        conversation: &Conversation,
        roles: &[&str],
    ) -> Option<bool> {
        let mut result = Some(false);
        for sender in self.accounts_of(person, conversation.platform) {
            let Some(platform) = self.platforms.get(sender.platform) else { continue };
            let direct = Conversation::with(&sender);
            let conversation = if conversation.platform == sender.platform { conversation } else { &direct };
            // A person who isn't in the request's conversation is reached directly.
            let mut membership = may_be_member(self, &**platform, &sender, conversation).await;
            if membership == Some(false) {
                membership = may_be_member(self, &**platform, &sender, &direct).await;
            }
            match membership {
                Some(true) => {}
                Some(false) => continue,
                None => {
                    result = None;
                    continue;
                }
            }
            match self.any_role_group(&sender, roles, Freshness::Recent).await {
                Some(true) => return Some(true),
                Some(false) => {}
                None => result = None,
            }
        }
        result
    }

    /// False for an approver who reads of it in the channel instead, or later: nobody is told twice.
    fn is_told_directly(&self, intent: &Intent<'_>, person: &Person, near: &Conversation) -> bool {
        let access = &self.app.access;
        let environment = intent.environment.as_deref().and_then(|name| self.app.environments.tag(name));
        let is_production = environment.is_some_and(|environment| environment.production);
        let is_named_there = access.notification_place(person) == Some(NotificationPlace::Channel)
            && access.known_on(person, near.platform).account.is_some();
        !is_named_there && !access.is_quiet(person, is_production, jiff::Timestamp::now())
    }

    /// Recipients of a request: its conversation, the approvers directly, and the requester for the outcome.
    pub(super) fn recipients_of_request(&self, intent: &Intent<'_>, approvers: Vec<Person>) -> Recipients {
        let conversation = &intent.incoming.conversation;
        let primary = if conversation.platform.is_chat() {
            Some(conversation.clone())
        } else {
            self.platforms.terminal_conversation()
        };
        let near = primary.as_ref().unwrap_or(conversation).clone();
        let mut cards: Vec<_> =
            primary.map(|conversation| (conversation, CardKind::Primary)).into_iter().collect();
        let direct = approvers.iter().filter(|person| self.is_told_directly(intent, person, &near));
        let direct = direct.filter_map(|person| self.direct_conversation(person, &near));
        cards.extend(direct.map(|conversation| (conversation, CardKind::Direct)));
        cards.extend(
            self.outcome_conversation(intent, &near).map(|conversation| (conversation, CardKind::Outcome)),
        );
        Recipients { approvers, cards }
    }

    /// Recipients of a start of the schedule that needs no approval: the window's channel, for the outcome.
    pub(super) fn recipients_of_start(&self, intent: &Intent<'_>) -> Recipients {
        let outcome = self.outcome_conversation(intent, &intent.incoming.conversation);
        let cards = outcome.map(|conversation| (conversation, CardKind::Outcome)).into_iter().collect();
        Recipients { cards, ..Recipients::default() }
    }

    /// Recipients of a write that posts its progress: its conversation, and the requester for the outcome.
    pub(super) fn recipients_of_write(&self, intent: &Intent<'_>) -> Recipients {
        let conversation = &intent.incoming.conversation;
        let outcome = self
            .outcome_conversation(intent, conversation)
            .map(|conversation| (conversation, CardKind::Outcome));
        let cards = std::iter::once((conversation.clone(), CardKind::Primary)).chain(outcome).collect();
        Recipients { cards, ..Recipients::default() }
    }

    /// The conversation in which the requester gets the outcome: with the account that they used, or with their chat account. None for
    /// who sits where the card is, unless they chose a direct message. A window has its channel: an edit of the card notifies nobody.
    fn outcome_conversation(&self, intent: &Intent<'_>, near: &Conversation) -> Option<Conversation> {
        if intent.start.is_some() {
            return Some(near.clone()).filter(|near| near.platform.is_chat());
        }
        let sender = &intent.incoming.sender;
        match self.app.access.notification_place(&intent.person) {
            Some(NotificationPlace::Channel) => return None,
            None if intent.incoming.conversation.platform.is_chat() => return None,
            None | Some(NotificationPlace::Direct) => {}
        }
        if sender.platform.is_chat() {
            return Some(Conversation::with(sender));
        }
        self.direct_conversation(&intent.person, near)
    }
}

/// The change that the configuration, or the chat group, needs before the request can be approved.
fn too_few_approvers(listed: usize, eligible: &[Person], needed: usize) -> Error {
    let names: Vec<&str> = eligible.iter().map(|person| person.id.as_str()).collect();
    let hint = if listed >= needed {
        "Other people have a role for it, but they aren't in the role's chat group, or have no accepted account there."
    } else if names.len() + 1 < needed {
        "Assign a role that approves it to more people in the configuration."
    } else {
        "Assign a role that approves it to another person in the configuration."
    };
    if names.is_empty() {
        let problem = "This needs somebody else's approval, and no other person can approve it, so it was not requested.";
        return Error::instead(problem, hint);
    }
    let names = names.join(" and ");
    let problem = format!(
        "This needs {needed} approvals from others, and only {names} can approve it, so it was not requested."
    );
    Error::instead(problem, hint)
}
