//! Approvals of a run, who may still approve it, and how many must. A pure reading of the record and the configuration: a
//! person counts once, on whichever platform they are.

use crate::access::{Policy, could_approve_then};
use crate::app::App;
use crate::catalog::Command;
use crate::model::{ChatAccount, Conversation, Person, Run};

/// A person's approval, and the account and conversation that it came from.
pub(super) struct RecordedApproval<'a> {
    pub person: &'a Person,
    pub sender: Option<ChatAccount>,
    pub place: Conversation,
}

/// Everyone who has approved a run, each once, whatever their roles and accounts.
pub(super) fn approvals(run: &Run) -> Vec<RecordedApproval<'_>> {
    let mut approvals: Vec<RecordedApproval<'_>> = Vec::new();
    for event in
        run.events.iter().filter(|event| matches!(event.kind.as_str(), "approval_added" | "approved"))
    {
        let Some(person) = &event.by else { continue };
        if approvals.iter().any(|known| known.person.id == person.id) {
            continue;
        }
        let read = |name: &str| event.facts.get(name).cloned().unwrap_or_default();
        // Records from before the second platform have no origin: it was where the request is.
        let place = serde_json::from_value(read("in")).unwrap_or_else(|_| run.request.place.clone());
        let sender = serde_json::from_value(read("from")).ok().or_else(|| {
            let account = person.account.clone()?;
            let (platform, workspace) = (place.platform, place.workspace.clone());
            Some(ChatAccount { platform, workspace, account, name: person.id.clone() })
        });
        approvals.push(RecordedApproval { person, sender, place });
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
    people.retain(|person| could_approve_then(run, person) && !has_approved(person));
    people
}
