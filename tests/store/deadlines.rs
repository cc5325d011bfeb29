//! Deadlines, claims and the limit of break-glass: every store judges them by its own clock, never by the caller's.

use crate::samples::{append, conversation, done, new_run, opened};
use countersign::model::{Card, CardKind, RunState};
use countersign::store::{Append, AppendOutcome, Deadline, DeadlineCondition, NewRun, OpenOutcome, Store};
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3_600);

pub async fn a_deadline_passes([a, b]: &[Arc<dyn Store>; 2]) {
    let (over, ahead) = (Deadline::After(Duration::ZERO), Deadline::After(HOUR));
    let pending = async |id: &str, deadline| {
        let mut new = new_run(id);
        new.first_event.deadline = deadline;
        opened(a, new).await
    };
    let ids = async || -> Vec<i64> { b.overdue().await.unwrap().iter().map(|run| run.id).collect() };
    let without = pending("without", Deadline::None).await;
    let in_time = pending("in time", ahead).await;
    let late = pending("late", over).await;
    assert_eq!((without.deadline, late.deadline), (None, Some(late.opened_at)));
    // Counted from the event's own time.
    assert_eq!(in_time.deadline, Some(in_time.opened_at + HOUR));
    assert_eq!((ids().await, b.overdue().await.unwrap()), (vec![late.id], vec![late.clone()]));
    // An event within a state leaves the deadline, another state has its own.
    let mut reminder = append(&in_time, "reminded", RunState::Pending);
    reminder.event.deadline = Deadline::Unchanged;
    let reminded = done(b, reminder).await;
    assert_eq!(reminded.deadline, in_time.deadline);
    let mut approve = append(&reminded, "approved", RunState::Approved);
    approve.event.deadline = over;
    let approved = done(b, approve).await;
    assert_eq!(approved.deadline, Some(approved.changed_at));
    assert_eq!(ids().await, [in_time.id, late.id]);
    let mut start = append(&approved, "started", RunState::Running);
    start.event.deadline = over;
    let running = done(a, start).await;
    assert_eq!(ids().await, [late.id]);
    assert_eq!(done(a, append(&running, "succeeded", RunState::Succeeded)).await.deadline, None);
    assert_eq!(a.verify().await.unwrap().first_error, None);
}

/// A start, a decision and an expiry, judged by the store's own clock in the transaction that writes.
pub async fn a_deadline_is_a_condition([a, b]: &[Arc<dyn Store>; 2]) {
    let (over, ahead) = (Deadline::After(Duration::ZERO), Deadline::After(HOUR));
    let (now, later) = (Some(Duration::ZERO), Some(HOUR));
    let cases = [
        (over, None, true),
        (over, later, true),
        (ahead, None, false),
        (ahead, later, false),
        (ahead, now, true),
        (Deadline::None, None, false),
        (Deadline::None, now, true),
    ];
    for (n, (deadline, max_age, is_overdue)) in cases.into_iter().enumerate() {
        let mut new = new_run(&format!("d{n}"));
        new.first_event.deadline = deadline;
        let run = opened(a, new).await;
        let with =
            |kind, state, deadline_condition| Append { deadline_condition, ..append(&run, kind, state) };
        let start = with("started", RunState::Running, DeadlineCondition::Ahead { max_age });
        let expire = with("expired", RunState::Expired, DeadlineCondition::Passed { max_age });
        let unchanged = Box::new(run.clone());
        let (refused, outcome, allowed) = if is_overdue {
            (start, AppendOutcome::Overdue(unchanged), expire)
        } else {
            (expire, AppendOutcome::NotOverdue(unchanged), start)
        };
        assert_eq!(b.append_if_unchanged(refused).await.unwrap(), outcome, "{deadline:?} {max_age:?}");
        assert_eq!(b.get(run.id).await.unwrap(), Some(run));
        done(b, allowed).await;
    }
}

pub async fn break_glass_is_limited([a, b]: &[Arc<dyn Store>; 2]) {
    let alone = |id: &str, unless_break_glass_within| {
        let mut new = NewRun { unless_break_glass_within, ..new_run(id) };
        new.request.break_glass = true;
        new
    };
    opened(a, new_run("usual")).await;
    let first = opened(a, alone("d1", Some(HOUR))).await;
    let again = b.open(alone("d2", Some(HOUR))).await.unwrap();
    assert_eq!(again, OpenOutcome::RateLimited(Box::new(first)));
    assert!(matches!(b.open(alone("d2", Some(Duration::MAX))).await.unwrap(), OpenOutcome::RateLimited(_)));
    opened(b, alone("d2", None)).await;
    // The time goes on by itself; what was refused has used up no delivery.
    loop {
        match b.open(alone("d3", Some(Duration::from_micros(1)))).await.unwrap() {
            OpenOutcome::New(_) => break,
            outcome => assert!(matches!(outcome, OpenOutcome::RateLimited(_)), "{outcome:?}"),
        }
    }
}

pub async fn one_sends_a_copy([a, b]: &[Arc<dyn Store>; 2]) {
    let run = opened(a, new_run("d1")).await;
    let id = a.add_card(run.id, conversation("C1"), CardKind::Primary).await.unwrap();
    assert!(!a.claim_card(id + 1, HOUR).await.unwrap(), "there is no such copy");
    assert!(a.claim_card(id, HOUR).await.unwrap());
    assert!(!b.claim_card(id, HOUR).await.unwrap() && !a.claim_card(id, HOUR).await.unwrap());
    assert_eq!(b.outdated_cards().await.unwrap(), []);
    let card = a.card(id).await.unwrap().unwrap();
    a.update_card(card.clone()).await.unwrap();
    assert_eq!(b.outdated_cards().await.unwrap(), std::slice::from_ref(&card));
    assert!(
        b.claim_card(id, Duration::ZERO).await.unwrap() && a.claim_card(id, HOUR).await.unwrap(),
        "a claim runs out"
    );
    let sent = |message: &str| Card { message: Some(message.into()), ..card.clone() };
    assert!(!b.update_card(sent("late")).await.unwrap(), "another has claimed it since");
    assert!(a.update_card(sent("in time")).await.unwrap());
    assert_eq!(b.card(id).await.unwrap(), Some(sent("in time")));
}
