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
use crate::sql::{duration, minute, moment};

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
            if let Some(plan) = plan.filter(|_| run.event("requested").is_some()) {
                reply.blocks.push(Block::Note(Text::new().plain("Requested: ").plain(plan.effect)));
            }
        }
    }
    reply.blocks.extend(owed(flow, run, platform));
    reply.blocks.extend(event_lines(run));
    reply
}

/// What the card would look like, before there is a run: to see that it fits.
pub fn preview(flow: &Workflow, intent: &Intent<'_>, (plan, could): (&Plan, &[Person])) -> Reply {
    let mut reply = Reply::new(Heading { run: Some(RunId::MAX), ..intent.heading(flow) });
    reply.whole = true;
    let platform = intent.incoming.place.platform;
    let called: Vec<Person> = could.iter().map(|person| flow.app.access.known_on(person, platform)).collect();
    reply
        .blocks
        .push(waiting_line(&called, &Quorum { needed: intent.policy.approvers, given: 0, period: None }));
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

/// Approvals of a request: how many it needs, how many it has, and until when it waits for more.
struct Quorum {
    needed: usize,
    given: usize,
    /// When it was requested, and when it expires.
    period: Option<(jiff::Timestamp, jiff::Timestamp)>,
}

/// "Needs approval from ben or cara within 30 min (18:52 UTC)."
fn waiting_line(approvers: &[Person], quorum: &Quorum) -> Block {
    let mut text = Text::new().plain(match (quorum.needed, quorum.given) {
        (0 | 1, _) => "Needs approval from ".to_owned(),
        (needed, 0) => format!("Needs {needed} approvals from "),
        (needed, given) => format!("{given} of {needed} approvals given. Needs approval from "),
    });
    text = any_of(text, approvers);
    if let Some((from, until)) = quorum.period {
        text = text.plain(format!(" within {}", period(from, until)));
    }
    Block::Verdict { tone: Severity::Warning, text: text.plain(".") }
}

/// "30 min (18:52 UTC)"; with the date, where it isn't the same day's.
fn period(from: jiff::Timestamp, until: jiff::Timestamp) -> String {
    let seconds = until.duration_since(from).as_secs();
    let length = match seconds {
        60..3_600 if seconds % 60 == 0 => format!("{} min", seconds / 60),
        _ => duration(seconds as f64),
    };
    let same_day = from.strftime("%F").to_string() == until.strftime("%F").to_string();
    let end = if same_day { until.strftime("%H:%M UTC").to_string() } else { minute(until) };
    format!("{length} ({end})")
}

/// "ben, cara or dan", each notified.
fn any_of(mut text: Text, people: &[Person]) -> Text {
    let named = people.len().min(MOST_CALLED);
    for (index, person) in people.iter().take(MOST_CALLED).enumerate() {
        let is_last = index + 1 == named && people.len() <= MOST_CALLED;
        let separator = match index {
            0 => "",
            _ if is_last => " or ",
            _ => ", ",
        };
        text = text.plain(separator).ping(person);
    }
    if people.len() > MOST_CALLED {
        text = text.plain(format!(" or {} more", people.len() - MOST_CALLED));
    }
    text
}

/// Who can still approve it, as a platform knows them.
pub(super) fn called(flow: &Workflow, run: &Run, platform: PlatformKind) -> Vec<Person> {
    flow.still_called(run).iter().map(|person| flow.app.access.known_on(person, platform)).collect()
}

pub(super) fn waits_for(flow: &Workflow, run: &Run, platform: PlatformKind) -> Block {
    let command = flow.app.catalog.find(&run.request.command);
    let needed = command.map_or(1, |command| flow.policy_of(run, command).approvers);
    let period = run.deadline.map(|deadline| (run.opened_at, deadline));
    let quorum = Quorum { needed, given: voters(run).len(), period };
    waiting_line(&called(flow, run, platform), &quorum)
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
    let mut text = Text::new().strong("Break-glass: ").plain(format!("{by} ran this without approval. "));
    text = any_of(text, &called(flow, run, platform))
        .plain(": one of you must review it. Type ")
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
        RunState::Revoked => (Severity::Warning, format!("The approval was revoked{why}. Nothing was done.")),
        RunState::Expired if run.event(EventKind::Approved.word()).is_some() => {
            (Severity::Warning, "Expired: the run was approved but did not start in time. Nothing was done. Request it again if it is still needed.".to_owned())
        }
        RunState::Expired => (Severity::Warning, "Expired: the request was not decided in time. Nothing was done. Request it again if it is still needed.".to_owned()),
        RunState::Invalidated => (Severity::Warning, format!("Invalidated{why}. Nothing was done.")),
        RunState::Interrupted if goes_on(flow, run) => {
            (Severity::Warning, "Countersign was interrupted during this run. The run resumes from its last checkpoint as soon as possible; `stop` ends it for good.".to_owned())
        }
        RunState::Interrupted if watched(flow, run).is_some() => {
            (Severity::Warning, format!("Countersign was interrupted during this run. What it started may still be running: it is being watched and will not be repeated. `stop {}` ends it.", run.id))
        }
        RunState::Interrupted => {
            (Severity::Critical, "Countersign was interrupted during this run: its outcome is unknown. It will not be repeated. Check the database before you request it again.".to_owned())
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

/// A small line for each decision, with its person and time.
fn event_lines(run: &Run) -> Vec<Block> {
    let kinds = ["denied", "withdrawn", "revoked", "stop_requested", "reviewed"];
    let mut lines: Vec<Block> = approval_line(run).into_iter().collect();
    for event in run.events.iter().filter(|event| kinds.contains(&event.kind.as_str())) {
        let Some(by) = &event.by else { continue };
        let done = match event.kind.as_str() {
            "stop_requested" => "stop requested",
            kind => kind,
        };
        // The reason of a decision that ended the request is in its verdict.
        let has_reason = ["stop_requested", "reviewed"].contains(&event.kind.as_str());
        let why = event.texts.get("why").filter(|_| has_reason);
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        let text = Text::new().plain(format!("{done} by ")).person(by);
        lines.push(Block::Note(text.plain(format!(", {}{why}", moment(event.at)))));
    }
    if !run.state.is_open() && run.state != RunState::Pending {
        lines.extend(run.text("reason").map(reason));
    }
    lines
}

/// "approved by ben and cara, 2026-11-29 18:52:27 UTC": everyone who approved, and when the last did.
fn approval_line(run: &Run) -> Option<Block> {
    let approvals: Vec<_> = run
        .events
        .iter()
        .filter(|event| ["approval_added", "approved"].contains(&event.kind.as_str()))
        .filter_map(|event| Some((event.by.as_ref()?, event.at)))
        .collect();
    let (_, last) = approvals.last()?;
    let mut text = Text::new().plain("approved by ");
    for (index, (person, _)) in approvals.iter().enumerate() {
        let separator = match index {
            0 => "",
            _ if index + 1 == approvals.len() => " and ",
            _ => ", ",
        };
        text = text.plain(separator).person(person);
    }
    Some(Block::Note(text.plain(format!(", {}", moment(*last)))))
}
