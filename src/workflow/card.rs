//! The card of a run: a pure function of its record, with people named by their accounts on a platform. The `outbox` sends it.

use super::eligibility::{approvals, pending_approvers, quorum};
use super::incident_card;
use super::links;
use super::scheduled_start::{self, SEVERITY};
use crate::actions::{self, Implementation, support::recovery};
use crate::app::App;
use crate::catalog::Command;
use crate::command_line::to_line;
use crate::config::NotificationPlace;
use crate::incident::{Incident, IncidentMessage};
use crate::model::{
    Block, Button, ButtonStyle, CardKind, Decision, EventKind, Heading, Person, Plan, PlatformKind, Reply,
    Run, RunEvent, RunId, RunState, Severity, Span, Text,
};
use crate::sql::{duration, minute, moment};
use crate::store::NewRun;
use std::collections::BTreeMap;

/// Events of a request that don't decide it.
const UNDECIDED: [EventKind; 4] =
    [EventKind::Requested, EventKind::ApprovalAdded, EventKind::Reminded, EventKind::Reviewed];

/// Approvers that a card notifies by name: more would be noise at night.
const MAX_NAMED: usize = 5;

pub(super) const DECISION_BUTTONS: [(&str, Decision, ButtonStyle); 3] = [
    ("Approve", Decision::Approve, ButtonStyle::Primary),
    ("Deny", Decision::Deny, ButtonStyle::Danger),
    ("Withdraw", Decision::Withdraw, ButtonStyle::Plain),
];

pub(super) fn heading(app: &App, run: &Run) -> Heading {
    Heading {
        requester: Some(run.request.requester.clone()),
        command: run.text("asked").unwrap_or(&run.request.command).to_owned(),
        environment: run.request.environment.as_deref().and_then(|name| app.environments.tag(name)),
        run: Some(run.id),
    }
}

/// The card as the record has it, without buttons, for people as that platform knows them.
pub fn render_card(app: &App, run: &Run, platform: PlatformKind) -> Reply {
    let mut reply = Reply::new(heading(app, run));
    let plan = run.text("plan").and_then(Plan::from_json);
    match run.state {
        RunState::Pending => {
            reply.indivisible = true;
            reply.blocks.push(waiting_block(app, run, platform, CardKind::Primary));
            reply.blocks.extend(run.text("reason").map(reason));
            let command = app.catalog.find(&run.request.command);
            reply.blocks.extend(plan.iter().flat_map(|plan| actions::plan_blocks(command, plan)));
            reply.blocks.extend(plan.iter().map(|plan| confirmation_line(&reply.heading, plan)));
        }
        RunState::Approved | RunState::Running => {
            let effect = plan.map(|plan| plan.effect).unwrap_or_default();
            let text = format!("Running: {effect}").into();
            reply.blocks.push(Block::Verdict { severity: Severity::Neutral, text });
            reply.blocks.extend(progress(app, run));
        }
        _ => {
            let incident = Incident::of(run);
            let mut end = match &incident {
                Some(incident) => incident_card::card_blocks(run, incident),
                None => end_blocks(app, run),
            };
            if incident.is_none() {
                end.extend(next_step(app, run, &end));
            }
            reply.blocks.extend(end);
            reply.blocks.extend(observed_progress(app, run));
            if let Some(plan) = plan.filter(|_| run.event(EventKind::Requested).is_some()) {
                reply.blocks.push(Block::Note(Text::new().plain("Requested: ").plain(plan.effect)));
            }
        }
    }
    reply.blocks.extend(review_reminder(app, run, platform));
    reply.blocks.extend(window_mention(app, run, platform));
    reply.blocks.extend(scheduled_start::description(run).map(|text| Block::Note(text.into())));
    reply.blocks.extend(event_lines(run));
    if !run.state.is_open() {
        reply.blocks.extend(links::block(links::of_run(app, run)));
    }
    reply
}

/// Renders a message in the thread of an incident's card. What has become critical, and a reminder, call the window's people.
pub(super) fn render_incident_message(
    app: &App,
    run: &Run,
    message: &IncidentMessage,
    platform: PlatformKind,
) -> Reply {
    let mut reply = Reply::new(heading(app, run));
    let incident = Incident::of(run).unwrap_or_default();
    reply.blocks.extend(incident_card::message_blocks(&incident, message));
    if message.is_critical() || message.is_reminder {
        reply.blocks.extend(window_mention(app, run, platform));
    }
    reply
}

/// Renders the card of a request before there is a run, to check that it fits: as it will be posted, and with every approval but the
/// last, of those with the longest names and of those with the shortest: a platform shows a name or pings an account.
pub(super) fn previews(app: &App, draft: &NewRun, platform: PlatformKind) -> Vec<Reply> {
    let NewRun { request, first_event: first, .. } = draft;
    let now = jiff::Timestamp::now();
    let event = |kind, by, texts| RunEvent {
        seq: i64::MAX,
        at: now,
        kind,
        by,
        facts: first.facts.clone(),
        texts,
        state: RunState::Pending,
    };
    let run = Run {
        id: RunId::MAX,
        version: 1,
        state: RunState::Pending,
        request: request.clone(),
        opened_at: now,
        changed_at: now,
        deadline: first.deadline.counted_from(now, None),
        events: vec![event(first.kind, first.by.clone(), first.texts.clone())],
    };
    let mut approvers = pending_approvers(app, &run);
    approvers.sort_by_key(|person| person.id.len());
    let needed = quorum(app, &run).saturating_sub(1).min(approvers.len());
    let (shortest, longest) = (&approvers[..needed], &approvers[approvers.len() - needed..]);
    let approved = |by: &[Person]| {
        let approval =
            |person: &Person| event(EventKind::ApprovalAdded, Some(person.clone()), BTreeMap::new());
        let mut run = run.clone();
        run.events.extend(by.iter().map(approval));
        with_sample_buttons(app, &run, platform)
    };
    vec![approved(&[]), approved(longest), approved(shortest)]
}

fn with_sample_buttons(app: &App, run: &Run, platform: PlatformKind) -> Reply {
    let approvers = pending_approvers_on(app, run, platform);
    let buttons = DECISION_BUTTONS.map(|(label, _, style)| Button {
        visible_to: approvers.clone(),
        ..Button::new(label, "0".repeat(32), style)
    });
    render_card(app, run, platform).with(Block::Buttons(buttons.into()))
}

/// Environment and plan once more, right above the buttons: on a phone the heading is out of sight by then.
fn confirmation_line(heading: &Heading, plan: &Plan) -> Block {
    let mut text = Text::new();
    if let Some(environment) = &heading.environment {
        let name =
            if environment.production { environment.name.to_uppercase() } else { environment.name.clone() };
        text = text.strong(name).plain(" · ");
    }
    Block::Text(text.code(heading.command.clone()).plain(format!(" · plan {}", &plan.digest()[..12])))
}

fn reason(reason: &str) -> Block {
    Block::Text(Text::new().strong("Reason: ").plain(reason))
}

/// "Needs approval from ben or cara within 30 min (18:52 UTC)."
fn waiting_line(
    approvers: &[Person],
    quorum: Quorum,
    period: Option<String>,
    is_pinged: &dyn Fn(&Person) -> bool,
) -> Block {
    let mut text = Text::new().plain(match (quorum.needed, quorum.given) {
        (0 | 1, _) => "Needs approval from ".to_owned(),
        (needed, 0) => format!("Needs {needed} approvals from "),
        (needed, given) => format!("{given} of {needed} approvals given. Needs approval from "),
    });
    text = any_of(text, approvers, is_pinged);
    if let Some(period) = period {
        text = text.plain(format!(" within {period}"));
    }
    Block::Verdict { severity: Severity::Warning, text: text.plain(".") }
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

fn separator(index: usize, is_last: bool, conjunction: &'static str) -> &'static str {
    match index {
        0 => "",
        _ if is_last => conjunction,
        _ => ", ",
    }
}

/// The approvals that a run needs, and those that it has.
struct Quorum {
    needed: usize,
    given: usize,
}

/// "ben, cara or dan".
fn any_of(mut text: Text, people: &[Person], is_pinged: &dyn Fn(&Person) -> bool) -> Text {
    for (index, person) in people.iter().take(MAX_NAMED).enumerate() {
        let is_last = index + 1 == people.len();
        text = text.plain(separator(index, is_last, " or "));
        text = if is_pinged(person) { text.ping(person) } else { text.person(person) };
    }
    if people.len() > MAX_NAMED {
        text = text.plain(format!(" or {} more", people.len() - MAX_NAMED));
    }
    text
}

/// People who can still approve a run, with their accounts on the platform.
pub(super) fn pending_approvers_on(app: &App, run: &Run, platform: PlatformKind) -> Vec<Person> {
    known_on(app, &pending_approvers(app, run), platform)
}

fn known_on(app: &App, people: &[Person], platform: PlatformKind) -> Vec<Person> {
    people.iter().map(|person| app.access.known_on(person, platform)).collect()
}

/// The line of a pending request: from whom it needs approval, and until when. On a card, those are notified by name who chose the
/// channel, since the others have a message of their own; a reminder notifies all.
pub(super) fn waiting_block(app: &App, run: &Run, platform: PlatformKind, kind: CardKind) -> Block {
    let period = run.deadline.map(|deadline| period(run.opened_at, deadline));
    let environment = run.request.environment.as_deref().and_then(|name| app.environments.tag(name));
    let is_production = environment.is_some_and(|environment| environment.production);
    let at = if kind == CardKind::Reminder { jiff::Timestamp::now() } else { run.opened_at };
    let is_pinged = |person: &Person| {
        let is_called = kind == CardKind::Reminder
            || app.access.notification_place(person) == Some(NotificationPlace::Channel);
        is_called && !app.access.is_quiet(person, is_production, at)
    };
    let mut approvers = pending_approvers_on(app, run, platform);
    // Only the first are named.
    approvers.sort_by_key(|person| !is_pinged(person));
    let quorum = Quorum { needed: quorum(app, run), given: approvals(run).len() };
    waiting_line(&approvers, quorum, period, &is_pinged)
}

/// The line that calls an approver to a card whose copy for them is refused.
pub(super) fn undelivered_copy(approver: &Person) -> Block {
    let text = any_of(Text::new(), std::slice::from_ref(approver), &|_| true);
    Block::Text(text.plain(
        ": a direct message about this request couldn't be sent to you. The request above needs your approval.",
    ))
}

/// A break-glass run that isn't reviewed yet: who used it, and who must review it.
fn review_reminder(app: &App, run: &Run, platform: PlatformKind) -> Option<Block> {
    let by = &run.request.requester.id;
    if !run.request.break_glass || run.event(EventKind::Reviewed).is_some() {
        return None;
    }
    let text = Text::new().strong("Break-glass: ").plain(format!("{by} ran this without approval. "));
    let text = any_of(text, &pending_approvers_on(app, run, platform), &|_| true)
        .plain(": one of you must review it. Type ")
        .code(format!("review {}", run.id))
        .plain(".");
    Some(Block::Verdict { severity: Severity::Critical, text })
}

/// A window that didn't go well, and the people who are notified of it.
fn window_mention(app: &App, run: &Run, platform: PlatformKind) -> Option<Block> {
    let people = known_on(app, &scheduled_start::notified(app, run), platform);
    let text = any_of(Text::new(), &people, &|_| true);
    let call =
        if Incident::of(run).is_some() { ": please look at this." } else { ": this window did not go well." };
    (!people.is_empty()).then(|| Block::Text(text.plain(call)))
}

/// The decision of a request and its end: "approved by ben at 18:52:27 UTC. Session 4711 ended." The decision is the last event of a
/// run that never started: an approval that was not carried out is told as revoked.
pub(super) fn ending(app: &App, run: &Run) -> String {
    let mut decisions = run.events.iter().filter(|event| !UNDECIDED.contains(&event.kind));
    let has_started = run.event(EventKind::Started).is_some();
    let decision = if has_started || run.state.is_open() { decisions.next() } else { decisions.next_back() };
    let decision = decision.map_or(String::new(), |event| {
        let by = event.by.as_ref().map_or("Countersign", |person| person.id.as_str());
        format!("{} by {by} at {}", event.kind.as_str(), moment(event.at))
    });
    let end = match run.state {
        state if state.is_open() => "It is running.".to_owned(),
        RunState::Denied | RunState::Withdrawn | RunState::Expired => "Nothing was done.".to_owned(),
        _ => {
            let verdict = end_blocks(app, run).into_iter().find_map(|block| match block {
                Block::Verdict { text, .. } => Some(text.words()),
                _ => None,
            });
            verdict.unwrap_or_default()
        }
    };
    format!("{decision}. {end}")
}

fn end_blocks(app: &App, run: &Run) -> Vec<Block> {
    let outcome = outcome_blocks(run);
    if !outcome.is_empty() {
        return outcome;
    }
    let last = run.events.last();
    let by = last.and_then(|event| event.by.as_ref()).map_or("Countersign", |person| person.id.as_str());
    let fact = last.and_then(|event| event.facts.get("why")).and_then(|why| why.as_str());
    let why = fact.or(last.and_then(|event| event.texts.get("why")).map(String::as_str));
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let (severity, text): (Severity, String) = match run.state {
        RunState::Denied => (Severity::Warning, format!("Denied by {by}{why}. Nothing was done.")),
        RunState::Withdrawn => (Severity::Neutral, format!("Withdrawn by {by}. Nothing was done.")),
        RunState::Revoked if last.is_some_and(|event| event.by.is_some()) => {
            (Severity::Warning, format!("The approval was taken back by {by}{why}. Nothing was done."))
        }
        RunState::Revoked => (Severity::Warning, format!("The approval was revoked{why}. Nothing was done.")),
        RunState::Expired if run.event(EventKind::Approved).is_some() => {
            (Severity::Warning, "Expired: the run was approved but did not start in time. Nothing was done.".to_owned())
        }
        RunState::Expired => (Severity::Warning, "Expired: the request was not decided in time. Nothing was done.".to_owned()),
        RunState::Invalidated => (Severity::Warning, format!("Invalidated{why}. Nothing was done.")),
        RunState::Interrupted if resumes(app, run) => {
            (Severity::Warning, "Countersign was interrupted during this run. The run resumes from its last checkpoint as soon as possible.".to_owned())
        }
        RunState::Interrupted if observed_progress(app, run).is_some() => {
            (Severity::Warning, "Countersign was interrupted during this run. What it started may still be running: it is being watched and will not be repeated.".to_owned())
        }
        RunState::Interrupted => {
            (Severity::Critical, "Countersign was interrupted during this run: its outcome is unknown. It will not be repeated. Check the database before you request it again.".to_owned())
        }
        other => (Severity::Neutral, format!("{other:?}{why}")),
    };
    vec![Block::Verdict { severity, text: text.into() }]
}

/// One next step for an end that isn't as requested, unless the end itself names one.
fn next_step(app: &App, run: &Run, end: &[Block]) -> Option<Block> {
    let is_line = |code: &str| {
        let mut words = code.split_whitespace();
        words.next().is_some_and(|name| app.catalog.find(name).is_some()) && words.next().is_some()
    };
    let texts = end.iter().filter_map(|block| match block {
        Block::Verdict { text, .. } | Block::Text(text) | Block::Note(text) => Some(text),
        _ => None,
    });
    let has_step =
        texts.flat_map(|text| &text.0).any(|span| matches!(span, Span::Code(code) if is_line(code)));
    if has_step {
        return None;
    }
    let command = app.catalog.find(&run.request.command);
    let by_person = run.events.last().is_some_and(|event| event.by.is_some());
    let id = run.id;
    let text = match (run.state, command) {
        (RunState::Succeeded | RunState::Withdrawn, _) => return None,
        (RunState::Expired | RunState::Failed | RunState::Stopped | RunState::Partial, Some(command)) => {
            again(command, run)
        }
        (RunState::Revoked, Some(command)) if !by_person => again(command, run),
        (RunState::Interrupted, _) if resumes(app, run) || observed_progress(app, run).is_some() => {
            Text::new().code(format!("stop {id}")).plain(" ends it for good.")
        }
        _ => Text::new().code(format!("show {id}")).plain(" shows what was requested and what happened."),
    };
    Some(Block::Text(text))
}

/// The line that requests a run once more, as a run of its own.
fn again(command: &Command, run: &Run) -> Text {
    let line = to_line(&command.name, &command.header.args, &run.request.arguments);
    Text::from("If it is still needed, request it again: ").code(line)
}

fn resumes(app: &App, run: &Run) -> bool {
    let code = app.catalog.find(&run.request.command).and_then(actions::find);
    matches!(code, Some(Implementation::Action(act)) if recovery::resumes(act, run))
}

fn progress(app: &App, run: &Run) -> Option<Block> {
    app.progress.get(run.id).map(|share| Block::Progress { percent: share.percent, label: share.label })
}

/// Progress that is observed of an interrupted run.
fn observed_progress(app: &App, run: &Run) -> Option<Block> {
    progress(app, run).filter(|_| run.state == RunState::Interrupted)
}

fn outcome_blocks(run: &Run) -> Vec<Block> {
    let stored = run.text("outcome").and_then(|stored| serde_json::from_str(stored).ok());
    let Some((text, mut blocks)): Option<(Text, Vec<Block>)> = stored else { return Vec::new() };
    let of_answer = run.events.last().and_then(|event| event.facts.get(SEVERITY));
    let of_answer = of_answer.and_then(|severity| serde_json::from_value(severity.clone()).ok());
    let severity = match run.state {
        RunState::Succeeded => of_answer.unwrap_or(Severity::Ok),
        RunState::Invalidated | RunState::Stopped | RunState::Partial => Severity::Warning,
        _ => Severity::Critical,
    };
    blocks.insert(0, Block::Verdict { severity, text });
    blocks
}

/// A small line for each decision, with its person and time.
fn event_lines(run: &Run) -> Vec<Block> {
    let mut lines: Vec<Block> = approval_line(run).into_iter().collect();
    for event in &run.events {
        // The reason of a decision that ended the request is in its verdict.
        let why = match event.kind {
            EventKind::Denied | EventKind::Withdrawn | EventKind::Revoked => None,
            EventKind::StopRequested | EventKind::Reviewed => event.texts.get("why"),
            _ => continue,
        };
        let Some(by) = &event.by else { continue };
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        let done = event.kind.as_str().replace('_', " ");
        let text = Text::new().plain(format!("{done} by ")).person(by);
        lines.push(Block::Note(text.plain(format!(", {}{why}", moment(event.at)))));
    }
    if !run.state.is_open() {
        lines.extend(run.text("reason").map(reason));
    }
    lines
}

/// "approved by ben and cara, 2026-11-29 18:52:27 UTC": everyone who approved, and when the last did.
fn approval_line(run: &Run) -> Option<Block> {
    let is_approval = |kind| matches!(kind, EventKind::ApprovalAdded | EventKind::Approved);
    let approvals = run.events.iter().filter(|event| is_approval(event.kind));
    let approvals: Vec<_> = approvals.filter_map(|event| Some((event.by.as_ref()?, event.at))).collect();
    let (_, last) = approvals.last()?;
    let mut text = Text::new().plain("approved by ");
    for (index, (person, _)) in approvals.iter().enumerate() {
        let is_last = index + 1 == approvals.len();
        text = text.plain(separator(index, is_last, " and ")).person(person);
    }
    Some(Block::Note(text.plain(format!(", {}", moment(*last)))))
}
