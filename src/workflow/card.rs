//! The card of a run: a pure function of its record, in the words of a platform's people. How its copies are sent is the
//! `outbox`'s business.

use super::Workflow;
use super::executor::outcome_blocks;
use super::intent::Intent;
use super::recipients::voters;
use crate::actions::{self, Implementation, support::recovery};
use crate::app::Share;
use crate::model::{
    Block, Button, ButtonStyle, Decision, EventKind, Heading, Person, Plan, PlatformKind, Reply, Run, RunId,
    RunState, Severity, Text,
};
use crate::sql::moment;

/// Approvers that are called by name on a card: more would be noise at night.
pub(super) const MOST_CALLED: usize = 5;

/// What a card's buttons say.
pub(super) const VERDICTS: [(&str, Decision, ButtonStyle); 3] = [
    ("Approve", Decision::Approve, ButtonStyle::Primary),
    ("Deny", Decision::Deny, ButtonStyle::Danger),
    ("Withdraw", Decision::Withdraw, ButtonStyle::Plain),
];

pub(super) fn heading(flow: &Workflow, run: &Run) -> Heading {
    Heading {
        who: Some(run.request.requester.clone()),
        asked: run.text("asked").unwrap_or(&run.request.command).to_owned(),
        environment: run.request.environment.as_deref().and_then(|name| flow.app.environments.tag(name)),
        run: Some(run.id),
    }
}

/// The card as the record has it, without buttons, for people as that platform knows them.
pub fn render_card(flow: &Workflow, run: &Run, platform: PlatformKind) -> Reply {
    let mut reply = Reply::new(heading(flow, run));
    let plan = run.text("plan").and_then(Plan::read);
    match run.state {
        RunState::Pending => {
            reply.whole = true;
            reply.blocks.extend(waiting(flow, run, platform));
            reply.blocks.extend(plan.iter().flat_map(Plan::blocks));
            reply.blocks.extend(plan.iter().map(|plan| sign_here(&reply.heading, plan)));
        }
        RunState::Approved | RunState::Running => {
            let share = flow.app.progress.get(run.id);
            let text = plan.as_ref().map_or(String::new(), |plan| plan.effect.clone());
            reply
                .blocks
                .push(Block::Verdict { tone: Severity::Neutral, text: format!("Running: {text}").into() });
            if let Some(share) = share {
                reply.blocks.push(Block::Progress { percent: share.percent, label: share.label });
            }
        }
        _ => {
            reply.blocks.extend(ended(flow, run));
            if let Some(share) = watched(flow, run) {
                reply.blocks.push(Block::Progress { percent: share.percent, label: share.label });
            }
            if let Some(plan) = plan.filter(|_| run.event(EventKind::Requested).is_some()) {
                reply.blocks.push(Block::Note(Text::new().plain("Asked: ").plain(plan.effect)));
            }
        }
    }
    reply.blocks.extend(owed(flow, run, platform));
    reply.blocks.extend(story(run));
    reply
}

/// What the card would look like, before there is a run: to see that it fits.
pub fn preview(flow: &Workflow, intent: &Intent<'_>, (plan, could): (&Plan, &[Person])) -> Reply {
    let mut reply = Reply::new(Heading { run: Some(RunId::MAX), ..intent.heading(flow) });
    reply.whole = true;
    let platform = intent.incoming.place.platform;
    let called: Vec<Person> = could.iter().map(|person| flow.app.access.known_on(person, platform)).collect();
    reply.blocks.push(call(&called, (intent.policy.approvers, 0), None));
    reply.blocks.extend(plan.blocks());
    reply.blocks.extend(intent.reason.as_deref().map(reason));
    reply.blocks.push(sign_here(&reply.heading, plan));
    let button = |(label, _, style): (&str, Decision, ButtonStyle)| Button {
        who: called.clone(),
        ..Button::new(label, "0".repeat(32), style)
    };
    reply.with(Block::Buttons(VERDICTS.map(button).to_vec()))
}

/// Environment and plan once more, right above the buttons: on a phone the heading is out of sight by then.
fn sign_here(heading: &Heading, plan: &Plan) -> Block {
    let mut text = Text::new();
    if let Some(environment) = &heading.environment {
        let name =
            if environment.production { environment.name.to_uppercase() } else { environment.name.clone() };
        text = text.strong(name).plain(" · ");
    }
    Block::Text(text.code(heading.asked.clone()).plain(format!(" · plan {}", &plan.digest()[..12])))
}

fn reason(reason: &str) -> Block {
    Block::Text(Text::new().strong("Reason: ").plain(reason))
}

/// `needed` of them must agree, and `agreed` have.
fn call(called: &[Person], (needed, agreed): (usize, usize), deadline: Option<jiff::Timestamp>) -> Block {
    let mut text = Text::new().plain(match (needed, agreed) {
        (0 | 1, _) => "Waits for a second person: ".to_owned(),
        (needed, 0) => format!("Waits for {needed} different people: "),
        (needed, agreed) => format!("{agreed} of {needed} have approved. Waits for "),
    });
    for (at, person) in called.iter().take(MOST_CALLED).enumerate() {
        text = if at > 0 { text.plain(", ") } else { text };
        text = text.ping(person);
    }
    if called.len() > MOST_CALLED {
        text = text.plain(format!(" or {} more", called.len() - MOST_CALLED));
    }
    let until = deadline.map_or(String::new(), |until| format!(", until {}", moment(until)));
    Block::Verdict { tone: Severity::Warning, text: text.plain(until).plain(".") }
}

/// Who can still approve it, as a platform knows them.
pub(super) fn called(flow: &Workflow, run: &Run, platform: PlatformKind) -> Vec<Person> {
    flow.still_called(run).iter().map(|person| flow.app.access.known_on(person, platform)).collect()
}

pub(super) fn waits_for(flow: &Workflow, run: &Run, platform: PlatformKind) -> Block {
    let command = flow.app.catalog.find(&run.request.command);
    let needed = command.map_or(1, |command| flow.policy_of(run, command).approvers);
    call(&called(flow, run, platform), (needed, voters(run).len()), run.deadline)
}

fn waiting(flow: &Workflow, run: &Run, platform: PlatformKind) -> Vec<Block> {
    let mut blocks = vec![waits_for(flow, run, platform)];
    blocks.extend(run.text("reason").map(reason));
    blocks
}

/// Somebody acted alone: who, and who has to look at it.
fn owed(flow: &Workflow, run: &Run, platform: PlatformKind) -> Option<Block> {
    let by = &run.request.requester.id;
    if !run.request.break_glass || run.event(EventKind::Reviewed).is_some() {
        return None;
    }
    let mut text = Text::new().strong("Alone: ").plain(format!("{by} did this without a second person. "));
    for (at, person) in called(flow, run, platform).iter().take(MOST_CALLED).enumerate() {
        text = text.plain(if at > 0 { ", " } else { "" }).ping(person);
    }
    text = text
        .plain(": one of you has to look at it, then type ")
        .code(format!("review {}", run.id))
        .plain(".");
    Some(Block::Verdict { tone: Severity::Critical, text })
}

fn ended(flow: &Workflow, run: &Run) -> Vec<Block> {
    let outcome = outcome_blocks(run);
    if !outcome.is_empty() {
        return outcome;
    }
    let last = run.events.last();
    let by = last.and_then(|event| event.by.as_ref()).map_or("Countersign", |person| person.id.as_str());
    let fact = last.and_then(|event| event.facts.get("why")).and_then(|why| why.as_str());
    let why = fact.or(last.and_then(|event| event.texts.get("why")).map(String::as_str));
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let (tone, text) = match run.state {
        RunState::Denied => (Severity::Warning, format!("Denied by {by}{why}. Nothing was done.")),
        RunState::Withdrawn => (Severity::Neutral, format!("Withdrawn by {by}. Nothing was done.")),
        RunState::Revoked if last.is_some_and(|event| event.by.is_some()) => {
            (Severity::Warning, format!("The approval was taken back by {by}{why}. Nothing was done."))
        }
        RunState::Revoked => (Severity::Warning, format!("The approval no longer counted{why}. Nothing was done.")),
        RunState::Expired if run.event(EventKind::Approved).is_some() => {
            (Severity::Warning, "Expired: it was approved and did not start in time. Nothing was done. Ask again if it still matters.".to_owned())
        }
        RunState::Expired => (Severity::Warning, "Expired: nobody decided in time. Nothing was done. Ask again if it still matters.".to_owned()),
        RunState::Invalidated => (Severity::Warning, format!("Void{why}. Nothing was done.")),
        RunState::Interrupted if goes_on(flow, run) => {
            (Severity::Warning, "Countersign was interrupted while it ran. It goes on from its last step as soon as it can; `stop` ends it for good.".to_owned())
        }
        RunState::Interrupted if watched(flow, run).is_some() => {
            (Severity::Warning, format!("Countersign was interrupted while it ran. What it began may go on: that is watched, and nothing is repeated. `stop {}` ends it.", run.id))
        }
        RunState::Interrupted => {
            (Severity::Critical, "Countersign was interrupted while it ran: what became of it is unknown. It is not repeated; look before asking again.".to_owned())
        }
        other => (Severity::Neutral, format!("{other:?}{why}")),
    };
    vec![Block::Verdict { tone, text: text.into() }]
}

/// Whether the keeper will take it up again.
fn goes_on(flow: &Workflow, run: &Run) -> bool {
    let code = flow.app.catalog.find(&run.request.command).and_then(actions::find);
    matches!(code, Some(Implementation::Action(act)) if recovery::goes_on(act, run))
}

/// What is seen of an interrupted run.
fn watched(flow: &Workflow, run: &Run) -> Option<Share> {
    flow.app.progress.get(run.id).filter(|_| run.state == RunState::Interrupted)
}

/// Who did what, in one small line each.
fn story(run: &Run) -> Vec<Block> {
    let kinds =
        ["approval_added", "approved", "denied", "withdrawn", "revoked", "stop_requested", "reviewed"];
    let told = run.events.iter().filter(|event| kinds.contains(&event.kind.as_str()));
    let mut lines: Vec<Block> = told
        .filter_map(|event| {
            let by = event.by.as_ref()?;
            // What ends a request says why above.
            let why = event
                .texts
                .get("why")
                .filter(|_| ["stop_requested", "reviewed"].contains(&event.kind.as_str()));
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            let text = Text::new()
                .plain(match event.kind.as_str() {
                    "stop_requested" => "told to stop by ".to_owned(),
                    kind => format!("{kind} by "),
                })
                .person(by)
                .plain(format!(", {}{why}", moment(event.at)));
            Some(Block::Note(text))
        })
        .collect();
    if !run.state.is_open() && run.state != RunState::Pending {
        lines.extend(run.text("reason").map(reason));
    }
    lines
}
