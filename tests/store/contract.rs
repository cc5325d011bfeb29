//! What every store must do, whatever it stands on. A store's own test file says how to make some (`Fresh`) and names these
//! tests with `contract!`; it includes `samples.rs` as `crate::samples`. What only one kind of store can show (its file, its locks) is not here.

use crate::samples::{append, binding, conversation, done, freeze, new_run, opened, person};
use countersign::model::{
    ActiveFreeze, ButtonToken, Card, CardKind, Conversation, Decision, EventKind, PlatformKind, Run,
    RunState, TokenPurpose,
};
use countersign::store::{
    Append, AppendOutcome, Binding, Deadline, Figure, Filter, FreezeChange, NewRun, OpenOutcome, Store,
    StoreError,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod deadlines;
mod lists;

pub use deadlines::*;
pub use lists::*;

/// Two replicas of one new, empty store.
pub struct Fresh {
    pub stores: [Arc<dyn Store>; 2],
    /// Whatever must outlive them.
    pub keep: Box<dyn Any>,
}

/// Every test of the contract, with an async function that makes a `Fresh` for each server.
macro_rules! contract {
    ($fresh:path) => {
        $crate::contract::contract!($fresh: a_run_is_kept_as_it_was_opened, a_redelivery_finds_its_run, a_held_resource_is_refused,
            every_end_lets_go, who_goes_on_takes_its_resources_again, a_freeze_stops_what_asks_to_be_stopped, only_who_executes_a_run_changes_settings, one_of_fifty_appends_wins,
            one_of_fifty_opens_wins, a_stale_append_shows_the_run, a_deadline_passes, a_deadline_is_a_condition,
            break_glass_is_limited, lists_are_filtered, a_list_has_pages, events_are_read_in_pages,
            finding_knows_capitals, finding_is_containing, old_cards_are_removed, erased_text_is_not_found, nul_characters_are_refused, tokens_never_change, copies_lag_until_shown, one_sends_a_copy, conversations_are_bound, a_look_begins_once_and_keeps_what_it_found, figures_are_kept_for_a_while,
            the_chain_grows_and_holds, the_status_counts_what_is_open, a_missing_run_is_said);
    };
    ($fresh:path: $($name:ident),+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            for fresh in $fresh().await {
                contract::$name(&fresh.stores).await;
                drop(fresh.keep);
            }
        })+
    };
}
pub(crate) use contract;

fn frozen() -> ActiveFreeze {
    ActiveFreeze {
        by: person("ben"),
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
        reason: Some("audit".into()),
    }
}

pub async fn a_run_is_kept_as_it_was_opened([a, b]: &[Arc<dyn Store>; 2]) {
    let mut new = new_run("d1");
    new.first_event.texts =
        BTreeMap::from([("line".into(), "kill 4711".into()), ("reason".into(), "it blocks".into())]);
    let before = Timestamp::now();
    let run = opened(a, new.clone()).await;
    assert_eq!((run.version, run.state, &run.request), (1, RunState::Pending, &new.request));
    assert_eq!(run.opened_at, run.changed_at);
    assert!((run.opened_at.duration_since(before)).abs() < SignedDuration::from_hours(1));
    let [event] = &run.events[..] else { panic!("one event: {run:?}") };
    assert_eq!(
        (event.kind.as_str(), &event.by, &event.facts),
        ("requested", &new.first_event.by, &new.first_event.facts)
    );
    assert_eq!((event.seq, event.at, &event.texts), (1, run.opened_at, &new.first_event.texts));
    assert_eq!(b.get(run.id).await.unwrap(), Some(run.clone()));
    assert_eq!(b.get(run.id + 1).await.unwrap(), None);

    let mut approve = append(&run, "approved", RunState::Approved);
    approve.event.by = None;
    approve.event.texts = BTreeMap::from([("reason".into(), "go on".into())]);
    let approved = done(b, approve).await;
    assert_eq!((approved.version, approved.state), (2, RunState::Approved));
    assert_eq!((approved.text("reason"), approved.text("line")), (Some("go on"), Some("kill 4711")));
    assert_eq!(approved.event(EventKind::Approved).unwrap().by, None);
    assert_eq!((approved.events[0].clone(), approved.changed_at), (event.clone(), approved.events[1].at));
    assert_eq!(a.get(run.id).await.unwrap(), Some(approved));
}

pub async fn a_redelivery_finds_its_run([a, b]: &[Arc<dyn Store>; 2]) {
    let run = opened(a, new_run("d1")).await;
    assert_eq!(b.open(new_run("d1")).await.unwrap(), OpenOutcome::Duplicate(run.id));
    assert!(a.change_freeze(freeze(None, Some(frozen()))).await.unwrap());
    let again = NewRun { unless_frozen: true, ..new_run("d1") };
    assert_eq!(b.open(again).await.unwrap(), OpenOutcome::Duplicate(run.id));
    assert_eq!(a.verify().await.unwrap().events, 1);
}

pub async fn a_held_resource_is_refused([a, b]: &[Arc<dyn Store>; 2]) {
    let holding = |delivery_id: &str, resources: &[&str]| NewRun {
        resource_locks: resources.iter().map(|resource| resource.to_string()).collect(),
        ..new_run(delivery_id)
    };
    let run = opened(a, holding("d1", &["table x", "backup of y"])).await;
    let held = b.open(holding("d2", &["table z", "backup of y"])).await.unwrap();
    assert_eq!(held, OpenOutcome::ResourceBusy { resource: "backup of y".into(), by: run.id });
    assert_eq!(b.list(Filter::default()).await.unwrap().total, 1);
    // What was refused holds nothing, and its delivery was not used up.
    opened(b, holding("d2", &["table z"])).await;
    let mut elsewhere = holding("d3", &["table x"]);
    elsewhere.request.environment = Some("production".into());
    opened(b, elsewhere).await;
    let mut nowhere = holding("d4", &["table x"]);
    nowhere.request.environment = None;
    let nowhere_run = opened(b, nowhere.clone()).await;
    nowhere.delivery_id = "d5".into();
    let held = OpenOutcome::ResourceBusy { resource: "table x".into(), by: nowhere_run.id };
    assert_eq!(a.open(nowhere).await.unwrap(), held);
    let running = done(b, append(&run, "started", RunState::Running)).await;
    let held = OpenOutcome::ResourceBusy { resource: "table x".into(), by: run.id };
    assert_eq!(a.open(holding("d6", &["table x"])).await.unwrap(), held);
    done(a, append(&running, "succeeded", RunState::Succeeded)).await;
    opened(a, holding("d6", &["table x", "backup of y"])).await;
}

pub async fn every_end_lets_go([a, b]: &[Arc<dyn Store>; 2]) {
    use RunState::*;
    let ends =
        [Succeeded, Failed, Partial, Stopped, Interrupted, Denied, Withdrawn, Revoked, Expired, Invalidated];
    for (n, end) in ends.into_iter().enumerate() {
        let run = opened(a, NewRun { resource_locks: vec!["x".into()], ..new_run(&format!("d{n}")) }).await;
        done(b, append(&run, "stopped", end)).await;
    }
    let mut over = NewRun { resource_locks: vec!["x".into()], ..new_run("over") };
    over.first_event.state = Denied;
    opened(a, over).await;
    opened(a, NewRun { resource_locks: vec!["x".into()], ..new_run("last") }).await;
}

pub async fn who_goes_on_takes_its_resources_again([a, b]: &[Arc<dyn Store>; 2]) {
    let holding =
        |delivery_id: &str| NewRun { resource_locks: vec!["x".into(), "y".into()], ..new_run(delivery_id) };
    let run = opened(a, holding("d1")).await;
    let lost = done(a, append(&run, "interrupted", RunState::Interrupted)).await;
    let other = opened(b, NewRun { resource_locks: vec!["y".into()], ..new_run("d2") }).await;
    let resume = append(&lost, "resumed", RunState::Running);
    let held = AppendOutcome::ResourceBusy { resource: "y".into(), by: other.id };
    assert_eq!(b.append_if_unchanged(resume.clone()).await.unwrap(), held);
    assert_eq!(a.get(run.id).await.unwrap().as_ref(), Some(&lost));
    done(b, append(&other, "failed", RunState::Succeeded)).await;
    let resumed = done(b, resume).await;
    let held = OpenOutcome::ResourceBusy { resource: "x".into(), by: run.id };
    assert_eq!(a.open(holding("d3")).await.unwrap(), held);
    done(b, append(&resumed, "failed", RunState::Succeeded)).await;
    opened(a, holding("d3")).await;
}

pub async fn a_freeze_stops_what_asks_to_be_stopped([a, b]: &[Arc<dyn Store>; 2]) {
    assert_eq!(a.frozen().await.unwrap(), None);
    let run = opened(a, NewRun { unless_frozen: true, ..new_run("d1") }).await;
    assert!(a.change_freeze(freeze(None, Some(frozen()))).await.unwrap());
    assert_eq!(b.frozen().await.unwrap(), Some(frozen()));
    let acting = NewRun { unless_frozen: true, ..new_run("d2") };
    assert_eq!(b.open(acting.clone()).await.unwrap(), OpenOutcome::Frozen(frozen()));
    opened(b, NewRun { unless_frozen: false, ..new_run("d3") }).await;
    let start = Append { unless_frozen: true, ..append(&run, "approved", RunState::Approved) };
    assert_eq!(b.append_if_unchanged(start.clone()).await.unwrap(), AppendOutcome::Frozen(frozen()));
    assert_eq!(b.get(run.id).await.unwrap(), Some(run));
    let other = ActiveFreeze { by: person("cara"), ..frozen() };
    assert!(!b.change_freeze(freeze(None, Some(other.clone()))).await.unwrap());
    assert!(!b.change_freeze(freeze(Some(other), None)).await.unwrap());
    assert_eq!(a.frozen().await.unwrap(), Some(frozen()));
    assert!(a.change_freeze(freeze(Some(frozen()), None)).await.unwrap());
    assert_eq!(b.frozen().await.unwrap(), None);
    opened(b, acting).await;
    done(b, start).await;
}

pub async fn only_who_executes_a_run_changes_settings([a, b]: &[Arc<dyn Store>; 2]) {
    let run = opened(a, new_run("d1")).await;
    let change = |run: &Run| FreezeChange { while_executing: Some(run.id), ..freeze(None, Some(frozen())) };
    let bind =
        |run: &Run| Binding { while_executing: Some(run.id), ..binding(conversation("C1"), "staging") };
    assert!(!a.change_freeze(change(&run)).await.unwrap() && !a.bind_conversation(bind(&run)).await.unwrap());
    let running = done(a, append(&run, "started", RunState::Running)).await;
    assert!(!b.change_freeze(change(&run)).await.unwrap() && !b.bind_conversation(bind(&run)).await.unwrap());
    let interrupted = done(b, append(&running, "interrupted", RunState::Interrupted)).await;
    assert!(!a.change_freeze(change(&run)).await.unwrap() && !a.bind_conversation(bind(&run)).await.unwrap());
    done(b, append(&interrupted, "resumed", RunState::Running)).await;
    assert!(!a.change_freeze(change(&run)).await.unwrap() && !a.bind_conversation(bind(&run)).await.unwrap());
    assert_eq!(a.frozen().await.unwrap(), None);
    assert_eq!(a.conversation_environment(conversation("C1")).await.unwrap(), None);
    assert!(b.change_freeze(change(&run)).await.unwrap() && b.bind_conversation(bind(&run)).await.unwrap());
    assert_eq!(a.frozen().await.unwrap(), Some(frozen()));
    assert_eq!(a.conversation_environment(conversation("C1")).await.unwrap(), Some("staging".into()));
}

pub async fn one_of_fifty_appends_wins(stores: &[Arc<dyn Store>; 2]) {
    let run = opened(&stores[0], new_run("d1")).await;
    let calls = (0..50).map(|n| {
        let store = Arc::clone(&stores[n % 2]);
        let mut append = append(&run, "approved", RunState::Approved);
        append.event.facts = json!({ "caller": n });
        tokio::spawn(async move { store.append_if_unchanged(append).await.unwrap() })
    });
    let mut winners = Vec::new();
    for call in futures::future::join_all(calls).await {
        match call.unwrap() {
            AppendOutcome::Done(run) => winners.push(run),
            AppendOutcome::VersionConflict(run) => assert_eq!(run.version, 2),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(stores[0].get(run.id).await.unwrap().as_ref(), Some(&*winners[0]));
    let verified = stores[1].verify().await.unwrap();
    assert_eq!((verified.events, verified.first_error), (2, None));
}

pub async fn one_of_fifty_opens_wins(stores: &[Arc<dyn Store>; 2]) {
    let calls = (0..50).map(|n| {
        let store = Arc::clone(&stores[n % 2]);
        // Half are the same delivery, half are others that want the same resource.
        let delivery_id = if n < 25 { "same".to_string() } else { format!("d{n}") };
        let new = NewRun { resource_locks: vec!["x".into()], ..new_run(&delivery_id) };
        tokio::spawn(async move { store.open(new).await.unwrap() })
    });
    let outcomes: Vec<OpenOutcome> =
        futures::future::join_all(calls).await.into_iter().map(|call| call.unwrap()).collect();
    let new = outcomes.iter().filter(|outcome| matches!(outcome, OpenOutcome::New(_))).count();
    assert_eq!(new, 1, "{outcomes:?}");
    assert_eq!(stores[0].list(Filter::default()).await.unwrap().total, 1);
}

pub async fn a_stale_append_shows_the_run([a, b]: &[Arc<dyn Store>; 2]) {
    let run = opened(a, new_run("d1")).await;
    let denied = done(b, append(&run, "denied", RunState::Denied)).await;
    let late = a.append_if_unchanged(append(&run, "approved", RunState::Approved)).await.unwrap();
    assert_eq!(late, AppendOutcome::VersionConflict(Box::new(denied)));
}

/// PostgreSQL's text can't hold it, so no store does.
pub async fn nul_characters_are_refused([a, _]: &[Arc<dyn Store>; 2]) {
    let nul = || "a\u{0}b".to_owned();
    let mut changes: Vec<NewRun> = (0..7).map(|n| new_run(&format!("d{n}"))).collect();
    changes[0].delivery_id = nul();
    changes[1].request.arguments.insert("pid".into(), nul());
    changes[2].request.requester.id = nul();
    changes[3].resource_locks = vec![nul()];
    changes[4].first_event.texts.insert("reason".into(), nul());
    changes[5].first_event.facts = json!({"a": [{ "b": nul() }]});
    changes[6].cards = vec![(conversation(&nul()), CardKind::Primary)];
    for new in changes {
        assert!(matches!(a.open(new.clone()).await, Err(StoreError::NulCharacter)), "{new:?}");
    }
    let run = opened(a, new_run("good")).await;
    let mut approve = append(&run, "approved", RunState::Approved);
    approve.event.texts.insert(nul(), "x".into());
    assert!(matches!(a.append_if_unchanged(approve).await, Err(StoreError::NulCharacter)));
    let card = a.add_card(run.id, conversation(&nul()), CardKind::Primary).await;
    assert!(matches!(card, Err(StoreError::NulCharacter)));
    let bound = a.bind_conversation(binding(conversation("C1"), &nul())).await;
    assert!(matches!(bound, Err(StoreError::NulCharacter)));
    let wrong = ActiveFreeze { reason: Some(nul()), ..frozen() };
    assert!(matches!(a.change_freeze(freeze(None, Some(wrong))).await, Err(StoreError::NulCharacter)));
    assert!(matches!(a.set_rate_limit(nul(), Timestamp::now()).await, Err(StoreError::NulCharacter)));
    assert_eq!((a.verify().await.unwrap().events, a.frozen().await.unwrap()), (1, None));
}

pub async fn tokens_never_change([a, b]: &[Arc<dyn Store>; 2]) {
    let thread = Conversation { thread: Some("171.1".into()), ..conversation("C1") };
    let verdict = TokenPurpose::Decision { run: 7, decision: Decision::Approve, card: 3 };
    let offer = TokenPurpose::RunCommand {
        command: "kill".into(),
        environment: None,
        arguments: BTreeMap::from([("pid".into(), "1".into())]),
    };
    let tokens = [
        ButtonToken { token: "0a".into(), purpose: verdict.clone(), conversation: thread },
        ButtonToken { token: "0b".into(), purpose: offer.clone(), conversation: conversation("C2") },
    ];
    a.put_tokens(tokens.to_vec()).await.unwrap();
    assert_eq!(b.token("0a").await.unwrap().as_ref(), Some(&tokens[0]));
    assert_eq!(b.token("0b").await.unwrap().as_ref(), Some(&tokens[1]));
    assert_eq!(b.token("0A").await.unwrap(), None);
    let more = ButtonToken { token: "0c".into(), purpose: offer.clone(), conversation: conversation("C1") };
    let again = ButtonToken { token: "0a".into(), purpose: offer, conversation: conversation("C1") };
    assert!(matches!(a.put_tokens(vec![more, again]).await, Err(StoreError::Broken(_))));
    assert_eq!(b.token("0a").await.unwrap().as_ref(), Some(&tokens[0]));
    assert_eq!(b.token("0c").await.unwrap(), None);
    let (first, second) = tokio::join!(a.take_token("0b"), b.take_token("0b"));
    assert_eq!(first.unwrap() as u8 + second.unwrap() as u8, 1, "one of two processes takes it");
    assert_eq!(b.token("0b").await.unwrap(), None);
    assert!(!a.take_token("0b").await.unwrap() && a.token("0a").await.unwrap().is_some());
}

pub async fn copies_lag_until_shown([a, b]: &[Arc<dyn Store>; 2]) {
    // The first is noted with the run itself.
    let run =
        opened(a, NewRun { cards: vec![(conversation("C1"), CardKind::Primary)], ..new_run("d1") }).await;
    let cards = b.run_cards(run.id).await.unwrap();
    assert_eq!(cards.len(), 1);
    let first = cards[0].id;
    let second = b.add_card(run.id, conversation("D2"), CardKind::Primary).await.unwrap();
    let card = Card {
        id: first,
        run: run.id,
        conversation: conversation("C1"),
        message: None,
        kind: CardKind::Primary,
        shown_version: 0,
        abandoned: false,
    };
    assert_eq!(b.card(first).await.unwrap(), Some(card.clone()));
    assert_eq!(b.card(second + 1).await.unwrap(), None);
    let ids = |cards: Vec<Card>| cards.iter().map(|card| card.id).collect::<Vec<_>>();
    assert_eq!(ids(b.outdated_cards().await.unwrap()), [first, second]);
    let delivered = Card { message: Some("171.2".into()), shown_version: 1, ..card.clone() };
    a.update_card(delivered.clone()).await.unwrap();
    let abandoned = Card { id: second, conversation: conversation("D2"), abandoned: true, ..card.clone() };
    a.update_card(abandoned.clone()).await.unwrap();
    assert_eq!(b.outdated_cards().await.unwrap(), []);
    assert_eq!(b.run_cards(run.id).await.unwrap(), [delivered.clone(), abandoned]);
    done(b, append(&run, "approved", RunState::Approved)).await;
    assert_eq!(a.outdated_cards().await.unwrap(), [delivered]);
    assert_eq!(a.run_cards(run.id + 1).await.unwrap(), []);
    assert!(a.update_card(Card { id: second + 1, ..card }).await.is_err());
    assert!(a.add_card(run.id + 1, conversation("C1"), CardKind::Primary).await.is_err());
}

pub async fn old_cards_are_removed([a, b]: &[Arc<dyn Store>; 2]) {
    let (open, over) = (opened(a, new_run("d1")).await, opened(a, new_run("d2")).await);
    let token =
        |token: &str, purpose| ButtonToken { token: token.into(), purpose, conversation: conversation("C1") };
    let offer =
        TokenPurpose::RunCommand { command: "kill".into(), environment: None, arguments: BTreeMap::new() };
    let mut tokens = vec![token("offer", offer)];
    for run in [&open, &over] {
        let card = a.add_card(run.id, conversation("C1"), CardKind::Primary).await.unwrap();
        let purpose = TokenPurpose::Decision { run: run.id, decision: Decision::Approve, card };
        tokens.push(token(&format!("run {}", run.id), purpose));
        tokens.push(token(&format!("view {}", run.id), TokenPurpose::View { run: run.id, card }));
    }
    a.put_tokens(tokens.clone()).await.unwrap();
    done(a, append(&over, "denied", RunState::Denied)).await;
    assert_eq!(b.remove_old_cards(Duration::from_secs(3_600)).await.unwrap(), 0, "none is as old");
    let mut removed = 0;
    while removed < 4 {
        removed += b.remove_old_cards(Duration::ZERO).await.unwrap();
    }
    let mut left = Vec::new();
    for token in &tokens {
        left.extend(a.token(&token.token).await.unwrap().map(|token| token.token));
    }
    assert_eq!(left, ["run 1", "view 1"]);
    let cards = [a.run_cards(open.id).await.unwrap().len(), a.run_cards(over.id).await.unwrap().len()];
    assert_eq!((cards, b.remove_old_cards(Duration::ZERO).await.unwrap()), ([1, 0], 0));
}

pub async fn conversations_are_bound([a, b]: &[Arc<dyn Store>; 2]) {
    assert_eq!(a.conversation_environment(conversation("C1")).await.unwrap(), None);
    assert!(a.bind_conversation(binding(conversation("C1"), "staging")).await.unwrap());
    let thread = Conversation { thread: Some("171.1".into()), ..conversation("C1") };
    assert_eq!(b.conversation_environment(thread.clone()).await.unwrap(), Some("staging".into()));
    assert!(b.bind_conversation(binding(thread, "production")).await.unwrap());
    assert_eq!(a.conversation_environment(conversation("C1")).await.unwrap(), Some("production".into()));
    assert_eq!(a.conversation_environment(conversation("C2")).await.unwrap(), None);
    let teams = Conversation { platform: PlatformKind::Teams, ..conversation("C1") };
    assert_eq!(a.conversation_environment(teams).await.unwrap(), None);
}

pub async fn the_chain_grows_and_holds([a, b]: &[Arc<dyn Store>; 2]) {
    let empty = a.verify().await.unwrap();
    assert_eq!((empty.events, empty.head, empty.first_error), (0, "0".repeat(64), None));
    let mut heads = Vec::new();
    for n in 0..5 {
        let mut new = new_run(&format!("d{n}"));
        new.first_event.facts =
            json!({"z": 1.5, "a": {"ü": [null, "\u{1f512}\"\\"]}, "m": 1e300, "big": u64::MAX});
        new.first_event.texts = BTreeMap::from([("query".into(), "SELECT '\u{1}'\n-- ü".into())]);
        new.first_event.deadline = Deadline::After(Duration::from_secs(3_600));
        let run = opened(a, new.clone()).await;
        assert_eq!(run.events[0].facts, new.first_event.facts);
        assert_eq!(run.events[0].texts, new.first_event.texts);
        done(b, append(&run, "approved", RunState::Approved)).await;
        let verified = a.verify().await.unwrap();
        assert_eq!((verified.events, &verified.first_error), (2 * (n + 1), &None));
        assert!(!heads.contains(&verified.head));
        heads.push(verified.head);
    }
}

pub async fn a_missing_run_is_said([a, _]: &[Arc<dyn Store>; 2]) {
    let run = opened(a, new_run("d1")).await;
    let missing = Append { run: run.id + 1, ..append(&run, "approved", RunState::Approved) };
    let error = a.append_if_unchanged(missing).await.unwrap_err();
    assert!(error.to_string().contains(&format!("there is no run {}", run.id + 1)), "{error}");
}

pub async fn a_look_begins_once_and_keeps_what_it_found([a, b]: &[Arc<dyn Store>; 2]) {
    let minute = |minute: i64| Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap();
    let begin =
        async |store: &Arc<dyn Store>, at| store.begin_look("production", "Watch", minute(at)).await.unwrap();
    let end = async |at, content: &str| {
        a.end_look("production", "Watch", minute(at), content.to_owned()).await.unwrap()
    };
    let first = begin(a, 0).await.unwrap();
    assert_eq!((first.newest_look, first.previous_look, first.content_look), (minute(0), None, None));
    assert!(!first.is_previous_in_progress() && first.content.is_empty());
    // The same one, and an earlier one, begin nowhere else; another window's does.
    assert_eq!((begin(b, 0).await, begin(b, -1).await), (None, None));
    assert!(b.begin_look("staging", "Watch", minute(0)).await.unwrap().is_some());
    // The next one begins before the first has ended, and sees that.
    let second = begin(b, 1).await.unwrap();
    assert!(second.previous_look == Some(minute(0)) && second.is_previous_in_progress());
    assert!(end(0, "first").await && end(1, "second").await);
    // What comes too late changes nothing.
    assert!(!end(0, "late").await);
    let third = begin(a, 2).await.unwrap();
    assert_eq!((third.content.as_str(), third.content_look), ("second", Some(minute(1))));
    assert!(!third.is_previous_in_progress() && third.stored_at.is_some());
    let mut states = b.watch_states().await.unwrap();
    states.sort_by(|left, right| left.environment.cmp(&right.environment));
    let found: Vec<_> = states.iter().map(|state| (state.environment.as_str(), state.newest_look)).collect();
    assert_eq!(found, [("production", minute(2)), ("staging", minute(0))]);
    // A clock that was an hour ahead holds nothing up.
    assert!(begin(a, 70).await.is_some() && begin(a, 20).await.is_none());
    assert!(begin(b, 4).await.is_some());
    assert_eq!(a.verify().await.unwrap().events, 0, "it is no part of the chain");
}

pub async fn figures_are_kept_for_a_while([a, b]: &[Arc<dyn Store>; 2]) {
    let now = a.now().await.unwrap();
    let figure = |server: &str, name: &str, hours: i64, value: f64| Figure {
        environment: "production".to_owned(),
        server: server.to_owned(),
        name: name.to_owned(),
        at: Timestamp::from_second(now.as_second() - 3_600 * hours).unwrap(),
        value,
    };
    let first = [figure("main", "bytes", 1, 2.5), figure("main", "bytes", 2, 1.5)];
    let others = [figure("other", "bytes", 1, 7.0), figure("main", "sessions", 1, 8.0)];
    a.put_figures([&first[..], &others].concat()).await.unwrap();
    // Another replica's of the same time is too late; one from before the period goes at once.
    b.put_figures(vec![figure("main", "bytes", 1, 9.0), figure("main", "bytes", 15 * 24, 9.0)])
        .await
        .unwrap();
    let kept = b.figures("production", "main", "bytes").await.unwrap();
    assert_eq!(kept, [(first[1].at, 1.5), (first[0].at, 2.5)]);
    assert!(b.figures("staging", "main", "bytes").await.unwrap().is_empty());
    assert_eq!(a.verify().await.unwrap().events, 0, "they are no part of the chain");
}
