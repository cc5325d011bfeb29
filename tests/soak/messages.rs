//! A message of the bot's, as a simulated person reads it.

use crate::linearizability::{Action, Decision, Observation};
use countersign::model::{EventKind, RunId, RunState};
use strum::VariantArray;

/// The first line: "p017 requested count on 🔴 PRODUCTION · #12".
#[derive(Debug, PartialEq, Eq)]
pub struct Heading<'a> {
    pub person: &'a str,
    pub command: &'a str,
    pub run: Option<RunId>,
}

pub fn heading(text: &str) -> Option<Heading<'_>> {
    let line = text.lines().next()?;
    let (person, rest) = line.split_once(" requested ")?;
    let command = rest.split(" on ").next()?;
    let run = rest.rsplit_once(" · #").and_then(|(_, run)| leading_number(run));
    Some(Heading { person, command, run })
}

/// 12 of "12. …".
pub fn leading_number(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The words up to a comma, a full stop or a space.
fn name(text: &str) -> String {
    text.split([',', '.', ' ', ':', '\n']).next().unwrap_or_default().to_owned()
}

fn decision(kind: EventKind, by: &str) -> Option<Decision> {
    Some(Decision { kind, by: Some(name(by)) })
}

/// Words of a card, and the states in which it has them.
const CARD_WORDS: [(&str, &[RunState]); 17] = [
    ("Needs approval from ", &[RunState::Pending]),
    ("Running: ", &[RunState::Approved, RunState::Running]),
    ("count ran on ", &[RunState::Succeeded]),
    (" is backed up", &[RunState::Succeeded]),
    ("Denied by ", &[RunState::Denied]),
    ("Withdrawn by ", &[RunState::Withdrawn]),
    ("The approval was taken back by ", &[RunState::Revoked]),
    ("The approval was revoked", &[RunState::Revoked]),
    ("Expired: ", &[RunState::Expired]),
    ("Invalidated", &[RunState::Invalidated]),
    ("Countersign was interrupted during this run", &[RunState::Interrupted]),
    ("Stopped", &[RunState::Stopped]),
    (" the result is unknown", &[RunState::Interrupted]),
    ("Nothing was changed.", &[RunState::Failed]),
    (" holds Countersign's lock on ", &[RunState::Failed]),
    ("process was paused or cut off", &[RunState::Failed]),
    ("failed", &[RunState::Failed]),
];

/// The state that a card shows, and who decided.
pub fn card(text: &str) -> Observation {
    let states = CARD_WORDS.iter().find(|(words, _)| text.contains(words));
    let states = states.map_or(Vec::new(), |(_, states)| states.to_vec());
    let after = |words: &str| text.split_once(words).map(|(_, rest)| rest);
    let decision = after("\napproved by ")
        .and_then(|by| decision(EventKind::Approved, by))
        .or_else(|| after("Denied by ").and_then(|by| decision(EventKind::Denied, by)))
        .or_else(|| after("Withdrawn by ").and_then(|by| decision(EventKind::Withdrawn, by)));
    Observation { states, decision }
}

/// The person who took an approval back.
pub fn taken_back_by(text: &str) -> Option<String> {
    text.split_once("The approval was taken back by ").map(|(_, by)| name(by))
}

/// An answer to one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Done,
    Refused(Observation),
    Seen(Observation),
    Missing,
    NotRecorded,
    /// It changed nothing, for a reason that isn't the run's.
    Nothing,
}

/// Refusals that tell nothing of the run.
const OTHER_REFUSALS: [&str; 9] = [
    "This card isn't delivered yet",
    "This message isn't the card that was delivered",
    "can't confirm your account",
    "Countersign is overloaded",
    "ends in a moment and can't be stopped",
    // What a stop of an interrupted run says.
    "is closed",
    "No session carries the name of run",
    "has no sessions left on PostgreSQL",
    "got the signal to end",
];

/// The answer to a click or a typed command about a run; `None` for words that aren't known.
pub fn told(text: &str, run: RunId) -> Option<Told> {
    if text.contains("The audit log can't be written") || text.contains("The decision could not be recorded")
    {
        return Some(Told::NotRecorded);
    }
    if text.contains("The audit log can't be used") || OTHER_REFUSALS.iter().any(|words| text.contains(words))
    {
        return Some(Told::Nothing);
    }
    let after = |words: &str| text.split_once(words).map(|(_, rest)| rest);
    if let Some(ending) = after("This request is already decided: ") {
        return already_decided(ending).map(Told::Refused);
    }
    if text.contains("This request has expired") {
        return Some(Told::Refused(Observation { states: vec![RunState::Expired], decision: None }));
    }
    if text.contains(&format!("Request #{run} is withdrawn."))
        || text.contains(&format!("Request #{run} is denied."))
    {
        return Some(Told::Done);
    }
    if text.contains("was decided in the meantime") {
        return Some(Told::Refused(Observation::default()));
    }
    if let Some(word) = after(&format!("Request #{run} isn't pending: it is ")) {
        return state(word).map(|state| Told::Refused(seen(state)));
    }
    if let Some(word) = after(&format!("Run #{run} has already ended: ")) {
        return state(word).map(|state| Told::Refused(seen(state)));
    }
    if text.contains(&format!("Run #{run} has ended: "))
        || text.contains(&format!("Run #{run} was asked to stop"))
    {
        return Some(Told::Done);
    }
    if text.contains(&format!("Request #{run} has not started")) {
        return Some(Told::Seen(seen(RunState::Pending)));
    }
    if text.contains(&format!("Run #{run} had already ended")) {
        return Some(Told::Refused(Observation::default()));
    }
    None
}

fn seen(state: RunState) -> Observation {
    Observation { states: vec![state], decision: None }
}

fn state(word: &str) -> Option<RunState> {
    let word = name(word);
    RunState::VARIANTS.iter().copied().find(|state| state.word() == word)
}

/// "approved by p003 at 2026-…. It is running."
fn already_decided(ending: &str) -> Option<Observation> {
    let (kind, by) = ending.split_once(" by ")?;
    let closed = |state| Some(seen(state));
    match kind {
        "approved" => Some(Observation { states: Vec::new(), decision: decision(EventKind::Approved, by) }),
        "denied" => {
            Some(Observation { states: vec![RunState::Denied], decision: decision(EventKind::Denied, by) })
        }
        "withdrawn" => Some(Observation {
            states: vec![RunState::Withdrawn],
            decision: decision(EventKind::Withdrawn, by),
        }),
        "revoked" => closed(RunState::Revoked),
        "expired" => closed(RunState::Expired),
        "invalidated" => closed(RunState::Invalidated),
        "timed_out" => closed(RunState::Stopped),
        _ => None,
    }
}

/// The answer to `show`.
pub fn shown(text: &str, run: RunId) -> Option<Told> {
    if text.contains(&format!("There is no run #{run}.")) {
        return Some(Told::Missing);
    }
    let verdict = text.lines().find_map(|line| line.split_once(&format!("#{run} count")))?.1;
    let words = verdict.split_once(": ")?.1;
    let states = vec![state(words)?];
    let row = text.lines().find_map(|line| line.strip_prefix("approved | "));
    Some(Told::Seen(Observation { states, decision: row.and_then(|by| decision(EventKind::Approved, by)) }))
}

/// The decision's action.
pub fn action_of(kind: EventKind) -> Option<Action> {
    match kind {
        EventKind::Approved => Some(Action::Approve),
        EventKind::Denied => Some(Action::Deny),
        EventKind::Withdrawn => Some(Action::Withdraw),
        _ => None,
    }
}

#[test]
fn messages_are_read() {
    let card_text =
        "p017 requested count --reason \"order 4\" on 🔴 PRODUCTION · #12\n⚠️ Needs approval from <@U1>.";
    let first = Heading { person: "p017", command: "count --reason \"order 4\"", run: Some(12) };
    assert_eq!(heading(card_text), Some(first));
    assert_eq!(card(card_text), seen(RunState::Pending));
    let approved = Observation {
        states: vec![RunState::Succeeded],
        decision: Some(Decision { kind: EventKind::Approved, by: Some("p003".to_owned()) }),
    };
    assert_eq!(card("x\n✅ count ran on main.\napproved by p003, 2026-11-30 18:52:27 UTC"), approved);
    let refused = "This request is already decided: approved by p003 at 2026-11-30. It is running.";
    let by = Observation { states: Vec::new(), ..approved };
    assert_eq!(told(refused, 12), Some(Told::Refused(by)));
    let shown_text = "p1 requested show 12 on x\n✅ #12 count: succeeded. count ran on main.\n";
    assert_eq!(shown(shown_text, 12), Some(Told::Seen(seen(RunState::Succeeded))));
    assert_eq!(told("Something new.", 12), None);
}
