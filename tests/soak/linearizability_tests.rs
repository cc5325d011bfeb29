//! Tests of the checker: histories of a sequential machine pass, also where their operations overlap; mutated ones fail; and on any
//! small history it agrees with a search through all orders.

use crate::linearizability::{
    Action, Answer, Answered, Decision, Model, Observation, Operation, Time, check,
};
use countersign::model::{EventKind, RunState};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const PEOPLE: [&str; 4] = ["ana", "ben", "cara", "dan"];

/// Microseconds between two steps of the machine.
const STEP: Time = 100;

/// A step of the sequential machine.
#[derive(Debug, Clone)]
enum Step {
    Person { person: &'static str, action: Action, reach: Reach },
    System(EventKind),
}

/// The times around an operation's effect.
#[derive(Debug, Clone)]
struct Reach {
    before: Time,
    /// `None`: its answer is lost.
    after: Option<Time>,
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Approve, Action::Deny, Action::Withdraw, Action::Stop, Action::Read, Action::Read])
}

fn system() -> impl Strategy<Value = EventKind> {
    select(vec![
        EventKind::Started,
        EventKind::Started,
        EventKind::Succeeded,
        EventKind::Failed,
        EventKind::Interrupted,
        EventKind::Expired,
        EventKind::Revoked,
        EventKind::TimedOut,
    ])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reach = (0..4 * STEP, prop_oneof![9 => (0..4 * STEP).prop_map(Some), 1 => Just(None)])
        .prop_map(|(before, after)| Reach { before, after });
    let person = (select(PEOPLE.to_vec()), action(), reach)
        .prop_map(|(person, action, reach)| Step::Person { person, action, reach });
    vec(prop_oneof![3 => person, 1 => system().prop_map(Step::System)], 0..24)
}

/// Runs the machine: every operation takes effect at a moment of its own between its call and its answer.
fn history(steps: &[Step]) -> (Vec<Operation>, Model) {
    let request = Step::Person {
        person: PEOPLE[0],
        action: Action::Request,
        reach: Reach { before: 0, after: Some(0) },
    };
    let (mut model, mut operations) = (Model::default(), Vec::new());
    for (step, now) in std::iter::once(&request).chain(steps).zip((10 * STEP..).step_by(STEP as usize)) {
        match step {
            Step::System(kind) => model = model.after(*kind, None).unwrap_or(model),
            Step::Person { person, action, reach } => {
                let answer = match model.after_action(*action, person) {
                    Some(after) => {
                        model = after;
                        Answer::Done
                    }
                    None if *action == Action::Read => Answer::Seen(model.observation()),
                    // A stop of a pending request is told so.
                    None if model.state == Some(RunState::Pending) => Answer::Seen(model.observation()),
                    None => Answer::Refused(model.observation()),
                };
                operations.push(Operation {
                    person: (*person).to_owned(),
                    action: *action,
                    called_at: now - reach.before,
                    answer: reach.after.map(|after| Answered { at: now + after, answer }),
                });
            }
        }
    }
    (operations, model)
}

/// A time after all of the history.
fn end(operations: &[Operation]) -> Time {
    let times = |operation: &Operation| {
        operation.called_at.max(operation.answer.as_ref().map_or(0, |answered| answered.at))
    };
    operations.iter().map(times).max().unwrap_or_default() + 1
}

fn operation(person: &str, action: Action, (called_at, at): (Time, Time), answer: Answer) -> Operation {
    Operation { person: person.to_owned(), action, called_at, answer: Some(Answered { at, answer }) }
}

fn decided(operations: &[Operation]) -> Option<usize> {
    operations.iter().position(|operation| {
        matches!(operation.action, Action::Approve | Action::Deny | Action::Withdraw)
            && operation.answer.as_ref().is_some_and(|answered| answered.answer == Answer::Done)
    })
}

fn refused(operations: &[Operation]) -> Option<usize> {
    operations.iter().position(|operation| {
        matches!(operation.action, Action::Approve | Action::Deny | Action::Withdraw)
            && operation.answer.as_ref().is_some_and(|answered| matches!(answered.answer, Answer::Refused(_)))
    })
}

fn fails(operations: &[Operation]) -> Result<(), TestCaseError> {
    prop_assert!(check(operations).is_err(), "accepted: {operations:#?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sequential_machine_with_overlaps_passes(steps in steps()) {
        if let Err(violation) = check(&history(&steps).0) {
            prop_assert!(false, "{violation}");
        }
    }

    #[test]
    fn a_second_decision_fails(steps in steps(), at in any::<Index>()) {
        let (mut operations, _) = history(&steps);
        prop_assume!(decided(&operations).is_some());
        let called_at = at.index(2_000) as Time;
        operations.push(operation("eve", Action::Approve, (called_at, called_at + 10 * STEP), Answer::Done));
        fails(&operations)?;
    }

    #[test]
    fn an_older_state_after_a_newer_one_fails(steps in steps()) {
        let (mut operations, model) = history(&steps);
        let end = end(&operations);
        operations.push(operation("ana", Action::Read, (end, end + 1), Answer::Seen(model.observation())));
        prop_assert!(check(&operations).is_ok());
        let older = match model.state {
            Some(RunState::Pending) => Answer::Missing,
            _ => Answer::Seen(Observation { states: vec![RunState::Pending], decision: None }),
        };
        operations.push(operation("ana", Action::Read, (end + 2, end + 3), older));
        fails(&operations)?;
    }

    #[test]
    fn swapped_answers_fail(steps in steps()) {
        let (mut operations, _) = history(&steps);
        let (winner, loser) = (decided(&operations), refused(&operations));
        prop_assume!(winner.is_some() && loser.is_some());
        let (winner, loser) = (winner.unwrap_or_default(), loser.unwrap_or_default());
        let took = |operations: &[Operation], index: usize| {
            operations[index].answer.as_ref().map(|answered| answered.answer.clone())
        };
        let is_same = (operations[winner].action, &operations[winner].person)
            == (operations[loser].action, &operations[loser].person);
        prop_assume!(!is_same);
        let (won, lost) = (took(&operations, winner), took(&operations, loser));
        for (index, answer) in [(winner, lost), (loser, won)] {
            if let (Some(answered), Some(answer)) = (operations[index].answer.as_mut(), answer) {
                answered.answer = answer;
            }
        }
        fails(&operations)?;
    }

    #[test]
    fn it_agrees_with_a_search_through_all_orders(operations in vec(any_operation(), 1..6)) {
        prop_assert_eq!(check(&operations).is_ok(), is_linearizable(&operations), "{:#?}", operations);
    }
}

/// An operation with any answer, at any time.
fn any_operation() -> impl Strategy<Value = Operation> {
    let action = prop_oneof![3 => Just(Action::Request), 3 => Just(Action::Approve), 5 => action()];
    let state = select(vec![RunState::Pending, RunState::Denied, RunState::Running, RunState::Stopped]);
    let decision = prop_oneof![
        Just(None),
        select(PEOPLE[..2].to_vec())
            .prop_map(|person| { Some(Decision { kind: EventKind::Approved, by: Some(person.to_owned()) }) })
    ];
    let seen = (vec(state, 0..2), decision).prop_map(|(states, decision)| Observation { states, decision });
    let whatever = (select(PEOPLE[..2].to_vec()), action, 0..30_u64, 0..30_u64, seen, 0..10_u8);
    whatever.prop_map(|(person, action, called_at, length, seen, choice)| {
        let answer = match (action, choice) {
            (_, 0) => None,
            (Action::Read, 1) => Some(Answer::Missing),
            (Action::Read, _) => Some(Answer::Seen(seen)),
            (_, 1) => Some(Answer::NotRecorded),
            (Action::Request, _) | (_, 2..=5) => Some(Answer::Done),
            _ => Some(Answer::Refused(seen)),
        };
        let answer = answer.map(|answer| Answered { at: called_at + length, answer });
        Operation { person: person.to_owned(), action, called_at, answer }
    })
}

/// Every order of every choice of operations that took effect or were answered, one by one.
fn is_linearizable(operations: &[Operation]) -> bool {
    fn extends(operations: &[Operation], models: &[Model], rest: &[usize]) -> bool {
        let is_owed = |index: &usize| {
            operations[*index].answer.as_ref().is_some_and(|given| given.answer != Answer::NotRecorded)
        };
        if models.is_empty() {
            return false;
        }
        if !rest.iter().any(is_owed) {
            return true;
        }
        rest.iter().any(|&next| {
            let is_before = |other: &usize| {
                let answered = operations[*other].answer.as_ref();
                is_owed(other) && answered.is_some_and(|given| given.at < operations[next].called_at)
            };
            let others: Vec<usize> = rest.iter().copied().filter(|other| *other != next).collect();
            !others.iter().any(is_before) && extends(operations, &after(models, &operations[next]), &others)
        })
    }
    let all: Vec<usize> = (0..operations.len()).collect();
    extends(operations, &[Model::default()], &all)
}

/// The models after one operation was answered as it was, from any that follows from these by Countersign's own events.
fn after(models: &[Model], operation: &Operation) -> Vec<Model> {
    let mut reached = models.to_vec();
    let mut index = 0;
    while index < reached.len() {
        let next: Vec<Model> = reached[index].after_system().collect();
        for model in next {
            if !reached.contains(&model) {
                reached.push(model);
            }
        }
        index += 1;
    }
    let answer = operation.answer.as_ref().map(|answered| &answered.answer);
    let next = reached.into_iter().filter_map(|model| match answer {
        None | Some(Answer::Done) => model.after_action(operation.action, &operation.person),
        Some(Answer::NotRecorded) => {
            model.after_action(operation.action, &operation.person).map(Model::without_effect)
        }
        Some(answer) => model.answers(answer).then_some(model),
    });
    next.collect()
}

const REQUEST: (Time, Time) = (0, 1);

fn requested() -> Operation {
    operation("ana", Action::Request, REQUEST, Answer::Done)
}

fn seen(state: RunState) -> Answer {
    Answer::Seen(Observation { states: vec![state], decision: None })
}

#[test]
fn an_open_approval_may_have_taken_effect() {
    let open = Operation { person: "ben".to_owned(), action: Action::Approve, called_at: 10, answer: None };
    let read = |state| operation("cara", Action::Read, (20, 30), seen(state));
    for state in [RunState::Pending, RunState::Approved, RunState::Running, RunState::Succeeded] {
        check(&[requested(), open.clone(), read(state)]).unwrap();
    }
    check(&[requested(), open, read(RunState::Denied)]).unwrap_err();
    check(&[requested(), read(RunState::Approved)]).unwrap_err();
}

#[test]
fn an_approval_that_was_not_recorded_does_nothing() {
    let told = operation("ben", Action::Approve, (10, 20), Answer::NotRecorded);
    let read = |state| operation("cara", Action::Read, (30, 40), seen(state));
    for state in [RunState::Pending, RunState::Approved, RunState::Running, RunState::Stopped] {
        check(&[requested(), told.clone(), read(state)]).unwrap();
    }
    check(&[requested(), told, read(RunState::Succeeded)]).unwrap_err();
}

#[test]
fn a_recorded_request_is_never_missing_again() {
    let missing = |called_at| operation("cara", Action::Read, (called_at, called_at + 5), Answer::Missing);
    check(&[requested(), missing(1)]).unwrap();
    let violation = check(&[requested(), missing(2)]).unwrap_err();
    assert_eq!(violation.operation, 1);
    assert!(violation.to_string().contains("cara Read: at 7 Missing"), "{violation}");
}

#[test]
fn a_refusal_names_who_decided() {
    let approved = operation("ben", Action::Approve, (10, 20), Answer::Done);
    let refused = |by: &str| {
        let decision = Some(Decision { kind: EventKind::Approved, by: Some(by.to_owned()) });
        let seen = Observation { states: Vec::new(), decision };
        operation("cara", Action::Deny, (10, 20), Answer::Refused(seen))
    };
    check(&[requested(), approved.clone(), refused("ben")]).unwrap();
    check(&[requested(), approved, refused("dan")]).unwrap_err();
    check(&[requested(), refused("ben")]).unwrap_err();
}
