//! A history that moves from one store into another: the same bytes, and a store that goes on with it.

use crate::event_bytes;
use crate::postgres::{LIMITED_ROLE, databases, settings, store as postgres_store};
use crate::samples::{append, binding, conversation, done, freeze, new_run, opened, person};
use crate::{a_ledger, file_in, other_hand, store as file_store};
use countersign::config::PostgresStoreSettings;
use countersign::model::{ActiveFreeze, ButtonToken, Card, CardKind, Decision, Run, RunState, TokenPurpose};
use countersign::store::postgres::PostgresHistory;
use countersign::store::sqlite::{SqliteHistory, StoreLimits};
use countersign::store::{
    AppendOutcome, ChainReport, Copied, Deadline, EventRow, Filter, History, NewRun, OpenOutcome, Store,
    WatchState, copy,
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A store's place.
#[derive(Clone)]
enum Place {
    File(PathBuf),
    Database(PostgresStoreSettings),
}

impl Place {
    fn history(&self) -> Box<dyn History> {
        match self {
            Place::File(path) => Box::new(SqliteHistory::new(path.clone(), StoreLimits::default())),
            Place::Database(settings) => Box::new(PostgresHistory::new(settings.clone()).unwrap()),
        }
    }

    async fn store(&self) -> Arc<dyn Store> {
        match self {
            Place::File(path) => file_store(path),
            Place::Database(settings) => postgres_store(settings).await,
        }
    }
}

const IN_USE: &str = "another Countersign process uses it: stop every";

/// True while this process still closes the file: to close another descriptor of it would take SQLite's locks away.
fn is_open(place: &Place) -> bool {
    let Place::File(path) = place else { return false };
    let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|file| file == *path)
}

/// Copies as soon as no store of this test's is open there any more.
async fn copied(from: &Place, to: &Place) -> Result<Copied, String> {
    while is_open(from) || is_open(to) {
        tokio::task::yield_now().await;
    }
    loop {
        let result = copy(from.history(), to.history(), |_| {}).await;
        match result.map_err(|error| format!("{error:#}")) {
            Err(error) if error.contains(IN_USE) => tokio::task::yield_now().await,
            result => return result,
        }
    }
}

/// Everything that a store shows of its history.
#[derive(Debug, PartialEq)]
struct Shown {
    chain: ChainReport,
    events: Vec<EventRow>,
    runs: Vec<Run>,
    found: Vec<i64>,
    orphans: Vec<Run>,
    overdue: Vec<Run>,
    cards: Vec<Vec<Card>>,
    outdated: Vec<Card>,
    tokens: Vec<ButtonToken>,
    frozen: Option<ActiveFreeze>,
    environment: Option<String>,
    rate_limits: Vec<(String, Timestamp)>,
    watch_states: Vec<WatchState>,
}

const TOKENS: [&str; 2] = ["approve", "offer"];

async fn shown(place: &Place) -> Shown {
    let store = place.store().await;
    let all = Filter { limit: 1_000, ..Filter::default() };
    let found = store.list(Filter { text: Some("REASON 7".into()), ..all.clone() }).await.unwrap();
    let runs = store.list(all).await.unwrap().runs;
    let (mut cards, mut tokens) = (Vec::new(), Vec::new());
    for run in &runs {
        cards.push(store.run_cards(run.id).await.unwrap());
    }
    for token in TOKENS {
        tokens.extend(store.token(token).await.unwrap());
    }
    Shown {
        chain: store.verify().await.unwrap(),
        events: store.events(0, 10_000).await.unwrap(),
        found: found.runs.iter().map(|run| run.id).collect(),
        orphans: store.orphans().await.unwrap(),
        overdue: store.overdue().await.unwrap(),
        outdated: store.outdated_cards().await.unwrap(),
        frozen: store.frozen().await.unwrap(),
        environment: store.conversation_environment(conversation("C1")).await.unwrap(),
        rate_limits: store.rate_limits().await.unwrap(),
        watch_states: store.watch_states().await.unwrap(),
        runs,
        cards,
        tokens,
    }
}

/// The runs of [`everything`] that a test goes on with.
struct Known {
    pending: Run,
    interrupted: Run,
    last_card: i64,
}

/// A history that has something in every table, and gaps in them.
async fn everything(place: &Place) -> Known {
    let store = place.store().await;
    event_bytes::record(&store).await;
    let mut new = new_run("pending");
    new.first_event.deadline = Deadline::After(Duration::from_secs(3_600));
    new.first_event.texts = BTreeMap::from([("reason".into(), "reason 7".into())]);
    new.resource_locks = vec!["backup of x".into()];
    new.cards = vec![(conversation("C1"), CardKind::Primary), (conversation("C2"), CardKind::Direct)];
    let pending = opened(&store, new).await;
    let cards = store.run_cards(pending.id).await.unwrap();
    let told = Card { message: Some("171.1".into()), shown_version: pending.version, ..cards[0].clone() };
    assert!(store.update_card(told).await.unwrap());

    let mut erased = new_run("erased");
    erased.first_event.texts = BTreeMap::from([("reason".into(), "personal".into())]);
    let erased = opened(&store, erased).await;
    assert_eq!(store.erase(erased.id, "reason").await.unwrap(), 1);

    let mut overdue = new_run("overdue");
    overdue.first_event.deadline = Deadline::After(Duration::ZERO);
    opened(&store, overdue).await;

    let held = NewRun { resource_locks: vec!["vacuum of y".into()], ..new_run("held") };
    let running = done(&store, append(&opened(&store, held).await, "started", RunState::Running)).await;
    let interrupted = done(&store, append(&running, "interrupted", RunState::Interrupted)).await;
    done(&store, append(&opened(&store, new_run("lost")).await, "approved", RunState::Approved)).await;

    // The newest card is removed again: its number isn't given a second time.
    let closed = opened(&store, new_run("closed")).await;
    let last_card = store.add_card(closed.id, conversation("C1"), CardKind::Outcome).await.unwrap();
    done(&store, append(&closed, "denied", RunState::Denied)).await;
    while store.card(last_card).await.unwrap().is_some() {
        store.remove_old_cards(Duration::ZERO).await.unwrap();
    }

    let decision = TokenPurpose::Decision { run: pending.id, decision: Decision::Approve, card: cards[0].id };
    let offer =
        TokenPurpose::RunCommand { command: "kill".into(), environment: None, arguments: BTreeMap::new() };
    let tokens = TOKENS.into_iter().zip([decision, offer]);
    let token = |(token, purpose): (&str, _)| ButtonToken {
        token: token.to_owned(),
        purpose,
        conversation: conversation("C1"),
    };
    store.put_tokens(tokens.map(token).collect()).await.unwrap();
    let at = "2026-01-02T03:04:05Z".parse().unwrap();
    let frozen = ActiveFreeze { by: person("ben"), at, reason: Some("audit".into()) };
    assert!(store.change_freeze(freeze(None, Some(frozen))).await.unwrap());
    assert!(store.bind_conversation(binding(conversation("C1"), "staging")).await.unwrap());
    store
        .set_rate_limit("slack chat.postMessage".into(), "2100-01-01T00:00:00.5Z".parse().unwrap())
        .await
        .unwrap();
    for look in ["2026-01-02T03:04:00Z", "2026-01-02T03:05:00Z"] {
        let look = look.parse().unwrap();
        assert!(store.begin_look("production", "Watch", look).await.unwrap().is_some());
        assert!(store.end_look("production", "Watch", look, "found".to_owned()).await.unwrap());
    }
    Known { pending, interrupted, last_card }
}

/// The copy is a store like any other: what was begun in the original goes on, and its numbers follow.
async fn goes_on(place: &Place, known: &Known) {
    let store = place.store().await;
    let busy = NewRun { resource_locks: vec!["backup of x".into()], ..new_run("busy") };
    let busy = store.open(busy).await.unwrap();
    assert!(matches!(busy, OpenOutcome::ResourceBusy { by, .. } if by == known.pending.id), "{busy:?}");
    let again = store.open(new_run("pending")).await.unwrap();
    assert_eq!(again, OpenOutcome::Duplicate(known.pending.id));
    let mut approve = append(&known.pending, "approved", RunState::Approved);
    approve.unless_frozen = true;
    let frozen = store.append_if_unchanged(approve.clone()).await.unwrap();
    assert!(matches!(frozen, AppendOutcome::Frozen(_)), "{frozen:?}");
    let frozen = store.frozen().await.unwrap();
    assert!(store.change_freeze(freeze(frozen, None)).await.unwrap());
    done(&store, approve).await;
    let outdated = store.outdated_cards().await.unwrap();
    assert_eq!(outdated.iter().filter(|card| card.run == known.pending.id).count(), 2);
    let resumed = done(&store, append(&known.interrupted, "resumed", RunState::Running)).await;
    let busy = NewRun { resource_locks: vec!["vacuum of y".into()], ..new_run("busy") };
    let busy = store.open(busy).await.unwrap();
    assert!(matches!(busy, OpenOutcome::ResourceBusy { by, .. } if by == resumed.id), "{busy:?}");
    let card = store.add_card(resumed.id, conversation("C1"), CardKind::Outcome).await.unwrap();
    assert_eq!(card, known.last_card + 1);
    let newest = store.list(Filter::default()).await.unwrap().runs[0].id;
    assert_eq!(opened(&store, new_run("new")).await.id, newest + 1);
    assert_eq!(store.verify().await.unwrap().first_error, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_moves_to_a_server_and_back() {
    for (_, settings) in databases().await {
        let directory = TempDir::new().unwrap();
        let [first, back, last] =
            ["first.db", "back.db", "last.db"].map(|name| Place::File(directory.path().join(name)));
        let database = Place::Database(settings);
        let known = everything(&first).await;
        let expected = shown(&first).await;
        assert_eq!((expected.orphans.len(), expected.overdue.len(), expected.tokens.len()), (1, 1, 2));
        for (from, to) in [(&first, &database), (&database, &back), (&back, &last)] {
            let first_time = copied(from, to).await.unwrap();
            assert_eq!(first_time.summary.head, expected.chain.head);
            assert!(!first_time.was_there && first_time.summary.rows.values().all(|count| *count > 0));
            let second_time = copied(from, to).await.unwrap();
            assert_eq!(second_time, Copied { was_there: true, ..first_time });
            assert_eq!(shown(to).await, expected);
        }
        for copy in [&database, &back, &last] {
            goes_on(copy, &known).await;
        }
        assert_eq!(shown(&first).await, expected, "the source was changed");
        let mixed = copied(&first, &database).await.unwrap_err();
        assert!(
            mixed.contains("writing the copy: it isn't empty (") && mixed.contains(" in runs"),
            "{mixed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_cannot_be_copied_is_refused_in_words() {
    for (cluster, owners) in databases().await {
        let directory = TempDir::new().unwrap();
        let path = file_in(&directory);
        let (file, database) = (Place::File(path.clone()), Place::Database(owners.clone()));
        let refusals = [
            (&file, &database, "reading the audit log that is copied: there is no audit log yet: "),
            (
                &database,
                &file,
                "reading the audit log that is copied: there is no audit log yet: its database has none",
            ),
        ];
        for (from, to, words) in refusals {
            let refused = copied(from, to).await.unwrap_err();
            assert!(refused.starts_with(words), "{refused}");
        }
        assert!(!path.exists());

        drop(file.store().await);
        let empty = copied(&file, &database).await.unwrap_err();
        assert!(empty.contains("it is empty: there is nothing to copy"), "{empty}");
        a_ledger(&path).await;
        for place in [&file, &database] {
            let _used = place.store().await;
            let refused = copy(file.history(), database.history(), |_| {}).await.unwrap_err();
            assert!(format!("{refused:#}").contains(IN_USE), "{refused:#}");
        }
        let limited = Place::Database(settings(cluster, &owners.database, LIMITED_ROLE));
        let hand = cluster.connect(&owners.database).await.unwrap();
        let grants = fs::read_to_string("deploy/audit-log-grants.sql").unwrap();
        let grants = grants.replace(":\"DBNAME\"", &owners.database).replace(":\"bot\"", LIMITED_ROLE);
        hand.batch_execute(&grants).await.unwrap();
        let refused = copied(&file, &limited).await.unwrap_err();
        assert!(refused.contains("only the owner of its schema countersign can copy it"), "{refused}");

        let damage =
            "DROP TRIGGER events_are_not_changed; UPDATE events SET bytes = bytes || ' ' WHERE seq = 2";
        other_hand(&path).execute_batch(damage).unwrap();
        let damaged = copied(&file, &database).await.unwrap_err();
        assert!(damaged.contains("was changed or is damaged: event 2 was changed"), "{damaged}");
        let count = hand.query_one("SELECT count(*) FROM countersign.runs", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 0, "a refused copy left rows");
    }
}
