//! Linearizability of one run's states: some order of the operations on it respects real time, and each step and each answer of it is
//! what the transition table allows. The checker knows that table and the clients' times, not the audit log. Runs don't depend on
//! each other, so each is checked alone.
//!
//! The search is Lowe's "just-in-time" variant of Wing's and Gong's: calls and answers are taken in the order of their times, and the
//! set of configurations holds every state that the run may be in, with the open operations that have taken effect by then.

use countersign::model::{EventKind, RunState, next_state};
use std::collections::{BTreeSet, HashSet};
use std::fmt;

/// Microseconds since the log began, on one clock for all clients.
pub type Time = u64;

/// One operation of a person on the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub person: String,
    pub action: Action,
    pub called_at: Time,
    /// `None`: it is open for ever. It takes effect at any time after its call, or never.
    pub answer: Option<Answered>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Request,
    Approve,
    Deny,
    Withdraw,
    Stop,
    Read,
}

/// An answer, and the time at which the person had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub at: Time,
    pub answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The operation took effect.
    Done,
    /// It changed nothing, since the run was like this: no longer pending.
    Refused(Observation),
    /// It was told that it could not be recorded. It has no effect, or the run is closed without having done anything.
    NotRecorded,
    /// A read.
    Seen(Observation),
    /// A read: there is no such run.
    Missing,
}

/// The part of a run that an answer tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// One of these; empty where the state isn't told.
    pub states: Vec<RunState>,
    pub decision: Option<Decision>,
}

/// The decision of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decision {
    pub kind: EventKind,
    /// `None` is Countersign itself.
    pub by: Option<String>,
}

/// A run as the transition table allows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Model {
    pub state: Option<RunState>,
    pub decision: Option<Decision>,
    /// An operation took effect of which the person was told that it didn't: the run is closed without having done anything.
    must_not_act: bool,
}

/// The events that Countersign causes by itself.
const SYSTEM: [EventKind; 12] = [
    EventKind::Started,
    EventKind::Checkpoint,
    EventKind::Resumed,
    EventKind::Succeeded,
    EventKind::Failed,
    EventKind::Partial,
    EventKind::Stopped,
    EventKind::Revoked,
    EventKind::Expired,
    EventKind::Invalidated,
    EventKind::Interrupted,
    EventKind::TimedOut,
];

/// The events that may follow an operation of which the person was told that it wasn't recorded.
const LATE: [EventKind; 6] = [
    EventKind::Started,
    EventKind::Revoked,
    EventKind::Expired,
    EventKind::Invalidated,
    EventKind::Interrupted,
    EventKind::TimedOut,
];

impl Model {
    /// The run after an event, if the table allows it.
    pub fn after(&self, kind: EventKind, by: Option<&str>) -> Option<Model> {
        let state = next_state(self.state, kind)?;
        if self.must_not_act && !LATE.contains(&kind) {
            return None;
        }
        let decides = self.state == Some(RunState::Pending) && state != RunState::Pending;
        let decision =
            if decides { Some(Decision { kind, by: by.map(str::to_owned) }) } else { self.decision.clone() };
        Some(Model { state: Some(state), decision, must_not_act: self.must_not_act })
    }

    /// The run after a person's action took effect, if it can.
    pub fn after_action(&self, action: Action, person: &str) -> Option<Model> {
        let kind = match (action, self.state) {
            (Action::Request, _) => EventKind::Requested,
            (Action::Approve, _) => EventKind::Approved,
            (Action::Deny, _) => EventKind::Denied,
            (Action::Withdraw, _) => EventKind::Withdrawn,
            (Action::Stop, Some(RunState::Approved)) => EventKind::Revoked,
            (Action::Stop, _) => EventKind::StopRequested,
            (Action::Read, _) => return None,
        };
        self.after(kind, Some(person))
    }

    /// Everything that an answer can tell of it.
    pub fn observation(&self) -> Observation {
        Observation { states: self.state.into_iter().collect(), decision: self.decision.clone() }
    }

    /// The same, of which the person was told that it isn't so.
    pub fn without_effect(self) -> Model {
        Model { must_not_act: true, ..self }
    }

    fn matches(&self, seen: &Observation) -> bool {
        let is_state = seen.states.is_empty() || self.state.is_some_and(|state| seen.states.contains(&state));
        let is_decision = seen.decision.is_none() || seen.decision == self.decision;
        self.state.is_some() && is_state && is_decision
    }

    /// True if an operation that changes nothing is answered so in this state.
    pub fn answers(&self, answer: &Answer) -> bool {
        match answer {
            Answer::Refused(seen) => self.state != Some(RunState::Pending) && self.matches(seen),
            Answer::Seen(seen) => self.matches(seen),
            Answer::Missing => self.state.is_none(),
            Answer::Done | Answer::NotRecorded => false,
        }
    }

    /// The runs that this one may become by Countersign's own events.
    pub fn after_system(&self) -> impl Iterator<Item = Model> + '_ {
        SYSTEM.into_iter().filter(|_| self.state.is_some()).filter_map(|kind| self.after(kind, None))
    }
}

/// The first answer that no order explains.
#[derive(Debug)]
pub struct Violation {
    /// Index of the operation.
    pub operation: usize,
    /// The states that the run may have been in when the answer came.
    before: Vec<Model>,
    history: Vec<Operation>,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "no order of the operations explains the answer of number {}:", self.operation)?;
        for (index, operation) in self.history.iter().enumerate() {
            let Operation { person, action, called_at, answer } = operation;
            write!(out, "{index:>4} {called_at:>10} {person} {action:?}: ")?;
            match answer {
                Some(Answered { at, answer }) => writeln!(out, "at {at} {answer:?}")?,
                None => writeln!(out, "open")?,
            }
        }
        write!(out, "before it, the run may have been: {:?}", self.before)
    }
}

/// A state that the run may be in, with the unanswered operations that have taken effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration {
    model: Model,
    done: BTreeSet<usize>,
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Operations that were called and may still take effect.
    pending: BTreeSet<usize>,
    configurations: HashSet<Configuration>,
}

impl Search<'_> {
    /// Adds every configuration that follows from one of the known ones.
    fn close(&mut self) {
        let mut work: Vec<Configuration> = self.configurations.drain().collect();
        let mut closed = HashSet::new();
        while let Some(configuration) = work.pop() {
            let configuration = self.with_reads(configuration);
            if closed.contains(&configuration) {
                continue;
            }
            let Configuration { model, done } = &configuration;
            work.extend(model.after_system().map(|model| Configuration { model, done: done.clone() }));
            for &index in self.pending.difference(done) {
                if let Some(model) = self.effect(model, index) {
                    let mut done = done.clone();
                    done.insert(index);
                    work.push(Configuration { model, done });
                }
            }
            closed.insert(configuration);
        }
        self.configurations = closed;
    }

    /// An operation that changes nothing restricts nothing that follows: it is taken as soon as its answer fits.
    fn with_reads(&self, mut configuration: Configuration) -> Configuration {
        let fits = |index: &&usize| {
            let answered = self.operations[**index].answer.as_ref();
            answered.is_some_and(|answered| configuration.model.answers(&answered.answer))
        };
        let fitting: Vec<usize> = self.pending.iter().filter(fits).copied().collect();
        configuration.done.extend(fitting);
        configuration
    }

    /// The run after an operation took effect, if it did by its answer, or may have.
    fn effect(&self, model: &Model, index: usize) -> Option<Model> {
        let Operation { person, action, answer, .. } = &self.operations[index];
        let after = model.after_action(*action, person)?;
        match answer.as_ref().map(|answered| &answered.answer) {
            None | Some(Answer::Done) => Some(after),
            Some(Answer::NotRecorded) => Some(after.without_effect()),
            Some(Answer::Refused(_) | Answer::Seen(_) | Answer::Missing) => None,
        }
    }

    fn answer(&mut self, index: usize) -> Result<(), Violation> {
        // It may still take effect, as an open one.
        if self.operations[index].answer.as_ref().is_some_and(|given| given.answer == Answer::NotRecorded) {
            return Ok(());
        }
        self.close();
        let before: Vec<Model> =
            self.configurations.iter().map(|configuration| configuration.model.clone()).collect();
        self.pending.remove(&index);
        let answered = self
            .configurations
            .drain()
            .filter_map(|mut configuration| configuration.done.remove(&index).then_some(configuration));
        self.configurations = answered.collect();
        if self.configurations.is_empty() {
            return Err(Violation { operation: index, before, history: self.operations.to_vec() });
        }
        Ok(())
    }
}

/// Checks the operations on one run, in any order.
///
/// # Errors
/// An answer that no order explains.
pub fn check(operations: &[Operation]) -> Result<(), Violation> {
    let calls = operations.iter().enumerate().map(|(index, operation)| (operation.called_at, false, index));
    let answers = operations.iter().enumerate().filter_map(|(index, operation)| {
        operation.answer.as_ref().map(|answered| (answered.at, true, index))
    });
    let mut moments: Vec<(Time, bool, usize)> = calls.chain(answers).collect();
    // Of one time, the calls come first: what isn't ordered is concurrent.
    moments.sort_unstable();
    let first = Configuration { model: Model::default(), done: BTreeSet::new() };
    let mut search = Search { operations, pending: BTreeSet::new(), configurations: HashSet::from([first]) };
    for (_, is_answer, index) in moments {
        if is_answer {
            search.answer(index)?;
        } else {
            search.pending.insert(index);
        }
    }
    Ok(())
}
