//! Runs and events for the store's tests, and the calls that must succeed.

use countersign::model::{
    ActiveFreeze, ChatAccount, Conversation, Person, PlatformKind, Risk, Run, RunRequest, RunState,
};
use countersign::store::{
    Append, AppendOutcome, Binding, Deadline, DeadlineCondition, FreezeChange, NewEvent, NewRun, OpenOutcome,
    Store,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn person(id: &str) -> Person {
    Person { id: id.into(), account: Some(format!("U-{id}")) }
}

pub fn conversation(conversation: &str) -> Conversation {
    Conversation {
        platform: PlatformKind::Slack,
        workspace: "T1".into(),
        id: conversation.into(),
        thread: None,
    }
}

pub fn change(kind: &str, state: RunState) -> NewEvent {
    NewEvent {
        kind: serde_json::from_value(kind.into()).expect("an event's name"),
        by: Some(person("ana")),
        facts: json!({"pid": 4711}),
        texts: BTreeMap::new(),
        state,
        deadline: Deadline::None,
    }
}

/// A run that waits for approval: `ana` asks to kill 4711 in staging.
pub fn new_run(delivery_id: &str) -> NewRun {
    let sender = ChatAccount {
        platform: PlatformKind::Slack,
        workspace: "T1".into(),
        account: "U-ana".into(),
        name: "Ana".into(),
    };
    let request = RunRequest {
        command: "kill".into(),
        arguments: BTreeMap::from([("pid".into(), "4711".into())]),
        risk: Risk::Danger,
        environment: Some("staging".into()),
        requester: person("ana"),
        sender: Some(sender),
        conversation: conversation("C1"),
        command_hash: "c0".into(),
        config_hash: "c1".into(),
        break_glass: false,
    };
    let first_event = change("requested", RunState::Pending);
    NewRun {
        request,
        delivery_id: delivery_id.into(),
        resource_locks: Vec::new(),
        first_event,
        late_event: None,
        cards: Vec::new(),
        unless_break_glass_within: None,
        unless_frozen: false,
    }
}

pub fn append(run: &Run, kind: &str, state: RunState) -> Append {
    Append {
        run: run.id,
        version: run.version,
        event: change(kind, state),
        late_event: None,
        unless_frozen: false,
        deadline_condition: DeadlineCondition::Ignored,
    }
}

/// A change of the freeze on no other condition.
pub fn freeze(from: Option<ActiveFreeze>, to: Option<ActiveFreeze>) -> FreezeChange {
    FreezeChange { from, to, while_executing: None }
}

/// An unconditional binding.
pub fn binding(conversation: Conversation, environment: &str) -> Binding {
    Binding { conversation, environment: environment.to_owned(), while_executing: None }
}

/// Opens it; anything but a new run fails the test.
pub async fn opened(store: &Arc<dyn Store>, new: NewRun) -> Run {
    match store.open(new).await.unwrap() {
        OpenOutcome::New(run) => *run,
        other => panic!("not opened: {other:?}"),
    }
}

/// Appends it; anything but success fails the test.
pub async fn done(store: &Arc<dyn Store>, append: Append) -> Run {
    match store.append_if_unchanged(append).await.unwrap() {
        AppendOutcome::Done(run) => *run,
        other => panic!("not appended: {other:?}"),
    }
}
