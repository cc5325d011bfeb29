//! Runs and events for the store's tests, and the calls that must succeed.

use countersign::message::{Person, Place, PlatformName, Sender};
use countersign::store::{Append, Appended, Change, NewRun, Opened, Request, Run, State, Store};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

pub fn person(id: &str) -> Person {
    Person { id: id.into(), account: Some(format!("U-{id}")) }
}

pub fn place(conversation: &str) -> Place {
    Place {
        platform: PlatformName::Slack,
        workspace: "T1".into(),
        conversation: conversation.into(),
        thread: None,
    }
}

pub fn change(kind: &str, state: State) -> Change {
    Change {
        kind: kind.into(),
        by: Some(person("ana")),
        facts: json!({"pid": 4711}),
        texts: BTreeMap::new(),
        state,
        deadline: None,
    }
}

/// A run that waits for approval: `ana` asks to kill 4711 in staging.
pub fn new_run(delivery: &str) -> NewRun {
    let sender = Sender {
        platform: PlatformName::Slack,
        workspace: "T1".into(),
        account: "U-ana".into(),
        name: "Ana".into(),
    };
    let request = Request {
        command: "kill".into(),
        arguments: BTreeMap::from([("pid".into(), "4711".into())]),
        risk: "danger".into(),
        environment: Some("staging".into()),
        requester: person("ana"),
        sender: Some(sender),
        place: place("C1"),
        command_hash: "c0".into(),
        config_hash: "c1".into(),
        alone: false,
    };
    let first = change("requested", State::Pending);
    NewRun {
        request,
        delivery: delivery.into(),
        holds: Vec::new(),
        first,
        unheard: None,
        copies: Vec::new(),
        unless_alone_since: None,
        unless_frozen: false,
    }
}

pub fn append(run: &Run, kind: &str, state: State) -> Append {
    Append {
        run: run.id,
        version: run.version,
        change: change(kind, state),
        unheard: None,
        unless_frozen: false,
    }
}

/// Opens it; anything but a new run fails the test.
pub async fn opened(store: &Arc<dyn Store>, new: NewRun) -> Run {
    match store.open(new).await.unwrap() {
        Opened::New(run) => *run,
        other => panic!("not opened: {other:?}"),
    }
}

/// Appends it; anything but success fails the test.
pub async fn done(store: &Arc<dyn Store>, append: Append) -> Run {
    match store.append_if(append).await.unwrap() {
        Appended::Done(run) => *run,
        other => panic!("not appended: {other:?}"),
    }
}
