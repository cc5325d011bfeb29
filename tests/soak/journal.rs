//! The journal of the soak: each call of a person, with its time, and each message that answers it. At the end it gives the history of
//! each run, for the checker.

use crate::linearizability::{Action, Answer, Answered, Observation, Operation, Time};
use crate::messages::{self, Heading, Told, action_of, heading, leading_number};
use countersign::demo::fake_slack::{Message, MessageRef};
use countersign::model::RunId;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

/// Words of messages that don't tell which run they are about: Slack's own about a request that wasn't acknowledged, and the bot's where
/// it can't read the audit log. The call stays open.
const WITHOUT_RUN: [&str; 3] =
    ["failed with the error", "the app did not answer the click", "The audit log can't be written"];

/// Words of a message that answers several calls of a person at once, also of other runs. The calls stay open.
const TOGETHER: &str = " of your commands were refused.";

/// Time after which no answer is expected, in microseconds: a replica is paused for a minute at most.
const ANSWER_LIMIT: Time = 90_000_000;

/// A person's call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Call {
    /// Of a run that is told apart by its order, a number in its reason.
    Request { order: usize },
    /// A click, or typed.
    OnRun { action: Action, run: RunId },
}

#[derive(Debug)]
struct Entry {
    person: String,
    call: Call,
    called_at: Time,
    answer: Option<Answered>,
    /// It was delivered again: an answer tells nothing of the other deliveries.
    is_repeated: bool,
    /// It was answered, and changed nothing for a reason that isn't the run's.
    is_void: bool,
}

/// A card's content at a time.
struct Sighting {
    at: Time,
    run: RunId,
    observation: Observation,
}

pub struct Journal {
    start: Instant,
    entries: Vec<Entry>,
    sightings: Vec<Sighting>,
    /// Messages with buttons, as they are now, of runs that nobody has seen decided. A run has several where a replica died before it
    /// recorded what it had posted: the buttons of one alone count.
    pending: BTreeMap<RunId, Vec<Message>>,
    decided: HashSet<RunId>,
    /// Every message that showed a card of the run.
    pub cards: BTreeMap<RunId, BTreeSet<(String, String)>>,
    /// The runs by their orders.
    pub runs: BTreeMap<usize, RunId>,
    requesters: HashMap<RunId, String>,
    seen: HashSet<MessageRef>,
    /// Answers that an internal error took the place of.
    pub internal_errors: usize,
    /// Texts that weren't understood.
    pub unknown: Vec<String>,
    /// Impossible on its own, without a search.
    pub contradictions: Vec<String>,
}

impl Journal {
    pub fn new() -> Journal {
        Journal {
            start: Instant::now(),
            entries: Vec::new(),
            sightings: Vec::new(),
            pending: BTreeMap::new(),
            decided: HashSet::new(),
            cards: BTreeMap::new(),
            runs: BTreeMap::new(),
            requesters: HashMap::new(),
            seen: HashSet::new(),
            internal_errors: 0,
            unknown: Vec::new(),
            contradictions: Vec::new(),
        }
    }

    fn now(&self) -> Time {
        self.start.elapsed().as_micros().try_into().expect("a short time")
    }

    /// Notes a call. One that is like an unanswered one counts from the time of that: their answers can't be told apart.
    pub fn call(&mut self, person: &str, call: Call) {
        let is_like = |entry: &&Entry| entry.is_open() && entry.person == person && entry.call == call;
        let called_at = self.entries.iter().rev().find(is_like).map_or(self.now(), |entry| entry.called_at);
        self.entries.push(Entry {
            person: person.to_owned(),
            call,
            called_at,
            answer: None,
            is_repeated: false,
            is_void: false,
        });
    }

    /// Notes that a request is delivered again, which is recorded once.
    pub fn repeat_request(&mut self, order: usize) {
        let call = Call::Request { order };
        let request = self.entries.iter_mut().find(|entry| entry.call == call);
        request.into_iter().for_each(|entry| entry.is_repeated = true);
    }

    /// True while an answer to a request of theirs may come.
    pub fn has_open_request(&self, person: &str) -> bool {
        let since = self.now().saturating_sub(ANSWER_LIMIT);
        let is_recent = |entry: &Entry| entry.is_open() && entry.called_at > since;
        self.entries.iter().any(|entry| entry.is_request() && entry.person == person && is_recent(entry))
    }

    /// False once the person has called so to some effect, and while an answer to that may come.
    pub fn may_call(&self, person: &str, call: &Call) -> bool {
        let since = self.now().saturating_sub(ANSWER_LIMIT);
        let is_settled = |entry: &Entry| match &entry.answer {
            Some(answered) => answered.answer != Answer::NotRecorded,
            None => entry.is_open() && entry.called_at > since,
        };
        let mut calls = self.entries.iter().filter(|entry| entry.person == person && entry.call == *call);
        !calls.any(is_settled)
    }

    /// The messages by which a run can be decided.
    pub fn pending_cards(&self) -> Vec<(RunId, &Message)> {
        self.pending.iter().flat_map(|(run, cards)| cards.iter().map(|card| (*run, card))).collect()
    }

    pub fn requester(&self, run: RunId) -> &str {
        self.requesters.get(&run).map_or("", String::as_str)
    }

    pub fn newest_run(&self) -> Option<RunId> {
        self.requesters.keys().max().copied()
    }

    /// Reads a message as it was posted or changed.
    pub fn read(&mut self, message: &Message) {
        let at = self.now();
        let text = message.plain();
        let Some(heading) = heading(&text) else {
            if !WITHOUT_RUN.iter().any(|words| text.contains(words)) {
                self.unknown.push(text);
            }
            return;
        };
        if text.contains(TOGETHER) {
            return;
        }
        if text.contains("An internal error occurred") {
            self.internal_errors += 1;
            return;
        }
        let is_first = self.seen.insert(message.at());
        let word = heading.command.split_whitespace().next().unwrap_or_default();
        match (word, message.ephemeral_to.is_some()) {
            ("count", false) => self.read_card(at, &heading, message, &text),
            ("backup", false) => {
                let run = heading.run.unwrap_or_default();
                self.cards.entry(run).or_default().insert((message.channel.clone(), message.ts.clone()));
            }
            // The buttons below an answer may change.
            _ if is_first => self.read_answer(at, word, &heading, &text),
            _ => {}
        }
    }

    fn read_card(&mut self, at: Time, heading: &Heading<'_>, message: &Message, text: &str) {
        let Some(run) = heading.run else { return self.unknown.push(text.to_owned()) };
        self.cards.entry(run).or_default().insert((message.channel.clone(), message.ts.clone()));
        self.requesters.insert(run, heading.person.to_owned());
        if let Some(order) = text.split_once("order ").and_then(|(_, order)| leading_number(order)) {
            let order = usize::try_from(order).expect("an order");
            let known = self.runs.insert(order, run);
            if known.is_some_and(|known| known != run) {
                self.contradictions.push(format!("order {order} was recorded as #{known:?} and as #{run}"));
            }
            self.answer(at, heading.person, &Call::Request { order }, &Told::Done);
        }
        self.note_buttons(run, message);
        let observation = messages::card(text);
        if observation.states.is_empty() {
            self.unknown.push(text.to_owned());
        }
        let decided = observation.decision.clone();
        if let Some((action, person)) = decided.and_then(|made| Some((action_of(made.kind)?, made.by?))) {
            self.done(at, &person, Call::OnRun { action, run });
        }
        if let Some(person) = messages::taken_back_by(text) {
            self.done(at, &person, Call::OnRun { action: Action::Stop, run });
        }
        self.sightings.push(Sighting { at, run, observation });
    }

    fn note_buttons(&mut self, run: RunId, message: &Message) {
        if message.button("Approve").is_none() {
            self.decided.insert(run);
        }
        if self.decided.contains(&run) {
            self.pending.remove(&run);
            return;
        }
        let cards = self.pending.entry(run).or_default();
        cards.retain(|card| card.at() != message.at());
        cards.push(message.clone());
    }

    /// A card names the person whose call took effect.
    fn done(&mut self, at: Time, person: &str, call: Call) {
        let is_done = |entry: &Entry| {
            let answer = entry.answer.as_ref().map(|answered| &answered.answer);
            entry.person == person
                && entry.call == call
                && matches!(answer, Some(Answer::Done | Answer::NotRecorded))
        };
        if self.entries.iter().any(is_done) || self.answer(at, person, &call, &Told::Done) {
            return;
        }
        let is_theirs = |entry: &&Entry| entry.person == person && entry.call == call;
        let Some(called_at) = self.entries.iter().find(is_theirs).map(|entry| entry.called_at) else {
            let words = format!("a card says that {person} did what they never asked for: {call:?}");
            return self.contradictions.push(words);
        };
        // The balancer has delivered it again, since a replica ended before it acknowledged it: the answer was the second replica's.
        let answer = Some(Answered { at, answer: Answer::Done });
        let person = person.to_owned();
        self.entries.push(Entry { person, call, called_at, answer, is_repeated: true, is_void: false });
    }

    fn read_answer(&mut self, at: Time, word: &str, heading: &Heading<'_>, text: &str) {
        let action = match word {
            "count" => return self.read_refused_request(at, heading.person, text),
            "approve" => Action::Approve,
            "deny" => Action::Deny,
            "withdraw" => Action::Withdraw,
            "stop" => Action::Stop,
            "show" => Action::Read,
            _ => return,
        };
        let typed = heading.command.split_whitespace().nth(1).and_then(leading_number);
        let Some(run) = typed.or(heading.run) else { return self.unknown.push(text.to_owned()) };
        let told =
            if action == Action::Read { messages::shown(text, run) } else { messages::told(text, run) };
        match told {
            Some(told) => {
                self.answer(at, heading.person, &Call::OnRun { action, run }, &told);
            }
            None => self.unknown.push(text.to_owned()),
        }
    }

    /// A request was refused. It stays open where the person has two, or where it isn't known whether it was recorded.
    fn read_refused_request(&mut self, at: Time, person: &str, text: &str) {
        let is_theirs = |entry: &&Entry| entry.is_request() && entry.is_open() && entry.person == person;
        let open: Vec<Call> = self.entries.iter().filter(is_theirs).map(|entry| entry.call.clone()).collect();
        if let [call] = open.as_slice() {
            let is_lost = text.contains("The audit log can't be written");
            self.answer(at, person, call, if is_lost { &Told::NotRecorded } else { &Told::Nothing });
        }
    }

    /// Answers the person's first open call of this kind. False: there is none.
    fn answer(&mut self, at: Time, person: &str, call: &Call, told: &Told) -> bool {
        let is_it = |entry: &&mut Entry| entry.is_open() && entry.person == person && entry.call == *call;
        let Some(entry) = self.entries.iter_mut().find(is_it) else { return false };
        let answer = match told {
            Told::Done => Answer::Done,
            Told::Refused(seen) => Answer::Refused(seen.clone()),
            Told::Seen(seen) => Answer::Seen(seen.clone()),
            Told::Missing => Answer::Missing,
            Told::NotRecorded => Answer::NotRecorded,
            Told::Nothing => {
                entry.is_void = true;
                return true;
            }
        };
        entry.answer = Some(Answered { at, answer });
        true
    }

    /// The operations on each run, the sights of its cards included. A card shows a state that the run has reached, at whatever time.
    pub fn histories(&self) -> BTreeMap<RunId, Vec<Operation>> {
        let mut histories: BTreeMap<RunId, Vec<Operation>> = BTreeMap::new();
        // A request that was refused may have been delivered again, and recorded then.
        for entry in self.entries.iter().filter(|entry| !entry.is_void || entry.is_request()) {
            let (run, action) = match entry.call {
                Call::Request { order } => (self.runs.get(&order).copied(), Action::Request),
                Call::OnRun { action, run } => (Some(run), action),
            };
            let Some(run) = run else { continue };
            histories.entry(run).or_default().push(Operation {
                person: entry.person.clone(),
                action,
                called_at: entry.called_at,
                answer: entry.answer.clone().filter(|answered| entry.is_last_word(answered)),
            });
        }
        for Sighting { at, run, observation } in &self.sightings {
            histories.entry(*run).or_default().push(Operation {
                person: "a card".to_owned(),
                action: Action::Read,
                called_at: 0,
                answer: Some(Answered { at: *at, answer: Answer::Seen(observation.clone()) }),
            });
        }
        histories
    }

    /// The orders of requests that were answered as recorded.
    pub fn recorded(&self) -> impl Iterator<Item = usize> + '_ {
        self.entries.iter().filter_map(|entry| match (&entry.call, &entry.answer) {
            (Call::Request { order }, Some(Answered { answer: Answer::Done, .. })) => Some(*order),
            _ => None,
        })
    }

    pub fn calls(&self) -> usize {
        self.entries.len()
    }

    /// The number of calls, and of those without an answer, by action.
    pub fn figures(&self) -> BTreeMap<String, (usize, usize)> {
        let mut figures: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for entry in &self.entries {
            let name = match entry.call {
                Call::Request { .. } => "Request".to_owned(),
                Call::OnRun { action, .. } => format!("{action:?}"),
            };
            let (all, open) = figures.entry(name).or_default();
            *all += 1;
            *open += usize::from(entry.is_open());
        }
        figures
    }
}

impl Entry {
    /// False where another delivery may still be recorded.
    fn is_last_word(&self, answered: &Answered) -> bool {
        !(self.is_request() && self.is_repeated && answered.answer == Answer::NotRecorded)
    }

    fn is_request(&self) -> bool {
        matches!(self.call, Call::Request { .. })
    }

    fn is_open(&self) -> bool {
        self.answer.is_none() && !self.is_void
    }
}
