//! Tests that need the inside: the moments between a commit and its answer, and a writer whose file is full.

use super::connection::DbResult;
use super::worker::{WorkerThread, commit};
use super::*;
use crate::model::{EventKind, RunState};
use crate::store::compensation::Committed;
use crate::store::{Deadline, DeadlineCondition, NewEvent};
use rusqlite::{Connection, Transaction};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::task::{Context as TaskContext, Poll, Waker};
use tempfile::TempDir;
use tokio::sync::oneshot;

fn store_with(limits: StoreLimits) -> (TempDir, SqliteStore) {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(&directory.path().join("record.db"), limits).unwrap();
    (directory, store)
}

fn store() -> (TempDir, SqliteStore) {
    store_with(StoreLimits::default())
}

fn event(state: RunState) -> NewEvent {
    NewEvent {
        kind: EventKind::Checkpoint,
        by: None,
        facts: serde_json::json!({}),
        texts: BTreeMap::from([("reason".into(), "x".repeat(10_000))]),
        state,
        deadline: Deadline::None,
    }
}

/// The compensation of a write whose caller timed out.
fn late() -> NewEvent {
    let facts = serde_json::json!({"why": "nobody heard of it"});
    NewEvent { kind: EventKind::TimedOut, facts, texts: BTreeMap::new(), ..event(RunState::Stopped) }
}

fn new_run(delivery_id: &str, state: RunState) -> NewRun {
    NewRun {
        request: Run::example(("kill", Some("staging")), Timestamp::now(), state).request,
        delivery_id: delivery_id.into(),
        resource_locks: vec![format!("resource of {delivery_id}")],
        first_event: event(state),
        late_event: Some(late()),
        cards: Vec::new(),
        unless_break_glass_within: None,
        unless_frozen: false,
    }
}

fn append(run: RunId, version: i64, state: RunState) -> Append {
    Append {
        run,
        version,
        event: event(state),
        late_event: Some(late()),
        unless_frozen: false,
        deadline_condition: DeadlineCondition::Ignored,
    }
}

/// Does a write whose caller leaves between commit and answer, after `meanwhile`.
async fn written_too_late<T: Send + 'static>(
    store: &SqliteStore,
    work: impl FnOnce(&Transaction<'_>) -> DbResult<Committed<T>> + Send + 'static,
    meanwhile: impl FnOnce() + Send + 'static,
) {
    let job = Box::new(|thread: &mut WorkerThread| {
        let result = thread.attempt(|connection| commit(connection, work, || false));
        meanwhile();
        let (caller, _) = oneshot::channel();
        thread.reply(caller, result);
    });
    store.writer.jobs.try_send(job).unwrap();
    store.writer.execute(|_| Ok(())).await.unwrap();
}

async fn run(store: &SqliteStore, id: RunId) -> Run {
    store.get(id).await.unwrap().unwrap()
}

fn assert_stopped(run: &Run) {
    let last = run.events.last().unwrap();
    assert_eq!((run.state, last.kind, &last.by), (RunState::Stopped, EventKind::TimedOut, &None));
    assert_eq!(last.facts, late().facts);
}

#[tokio::test]
async fn what_was_opened_too_late_is_stopped() {
    let (_directory, store) = store();
    for (n, state) in [RunState::Pending, RunState::Running].into_iter().enumerate() {
        let new = new_run(&format!("d{n}"), state);
        written_too_late(&store, move |tx| runs::open(tx, &new, "me"), || {}).await;
        assert_stopped(&run(&store, n as i64 + 1).await);
    }
    // Its resources are free again.
    let again = NewRun { resource_locks: vec!["resource of d0".into()], ..new_run("d2", RunState::Pending) };
    assert!(matches!(store.open(again).await.unwrap(), OpenOutcome::New(_)));
    assert_eq!(store.verify().await.unwrap().first_error, None);
}

#[tokio::test]
async fn what_was_approved_or_started_too_late_is_stopped() {
    let (_directory, store) = store();
    for (id, state) in [(1, RunState::Approved), (2, RunState::Running)] {
        store.open(new_run(&format!("d{id}"), RunState::Pending)).await.unwrap();
        let late = append(id, 1, state);
        written_too_late(&store, move |tx| runs::append_if_unchanged(tx, &late, "me"), || {}).await;
        assert_stopped(&run(&store, id).await);
    }
}

#[tokio::test]
async fn what_nothing_is_to_follow_stays_when_it_is_late() {
    let (_directory, store) = store();
    store.open(new_run("d1", RunState::Running)).await.unwrap();
    for (version, state) in [(1, RunState::Running), (2, RunState::Succeeded)] {
        let late = Append { late_event: None, ..append(1, version, state) };
        written_too_late(&store, move |tx| runs::append_if_unchanged(tx, &late, "me"), || {}).await;
        let run = run(&store, 1).await;
        assert_eq!((run.version, run.state), (version + 1, state));
    }
}

#[tokio::test]
async fn a_copy_that_was_claimed_too_late_is_free() {
    let (_directory, store) = store();
    let new = new_run("d1", RunState::Pending);
    let conversation = new.request.conversation.clone();
    store.open(new).await.unwrap();
    let card = store.add_card(1, conversation, CardKind::Primary).await.unwrap();
    let period = Duration::from_secs(600);
    let instance = Arc::clone(&store.instance);
    written_too_late(&store, move |tx| cards::claim(tx, card, period, &instance), || {}).await;
    assert_eq!(store.outdated_cards().await.unwrap().len(), 1);
    assert!(store.claim_card(card, period).await.unwrap());
    assert_eq!(store.outdated_cards().await.unwrap(), [], "what was heard of counts");
}

#[tokio::test]
async fn a_stop_that_cannot_be_written_is_tried_again() {
    let limits = StoreLimits { lock_timeout: Duration::from_millis(20), ..StoreLimits::default() };
    let (directory, store) = store_with(limits);
    let other = Connection::open(directory.path().join("record.db")).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let lock = move || {
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        sender.send(other).unwrap();
    };
    let new = new_run("d1", RunState::Running);
    written_too_late(&store, move |tx| runs::open(tx, &new, "me"), lock).await;
    assert_eq!(run(&store, 1).await.state, RunState::Running);
    receiver.recv().unwrap().execute_batch("COMMIT").unwrap();
    // Nobody writes: the writer comes back to it by itself.
    while run(&store, 1).await.state == RunState::Running {}
    assert_stopped(&run(&store, 1).await);
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_commit_leaves_nothing() {
    let limits = StoreLimits { call_timeout: Duration::from_millis(50), ..StoreLimits::default() };
    let (_directory, store) = store_with(limits);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let new = new_run("d1", RunState::Running);
    let slow = move |transaction: &Transaction<'_>| {
        let opened = runs::open(transaction, &new, "me")?;
        let _ = wait.recv();
        Ok(opened)
    };
    let late: StoreResult<OpenOutcome> = store.writer.write(slow).await;
    assert!(matches!(late, Err(StoreError::TooLate)));
    go.send(()).unwrap();
    let conversation = new_run("", RunState::Pending).request.conversation;
    let binding = Binding { conversation, environment: "staging".into(), while_executing: None };
    while store.bind_conversation(binding.clone()).await.is_err() {}
    assert_eq!(store.get(1).await.unwrap(), None);
    assert_eq!(store.verify().await.unwrap().events, 0);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_stopped() {
    let (_directory, store) = store();
    let mut call = Box::pin(store.open(new_run("d1", RunState::Pending)));
    let mut context = TaskContext::from_waker(Waker::noop());
    assert!(matches!(call.as_mut().poll(&mut context), Poll::Pending));
    // The answer is sent once the worker runs its next job.
    store.writer.execute(|_| Ok(())).await.unwrap();
    assert_eq!(run(&store, 1).await.state, RunState::Pending);
    drop(call);
    store.writer.execute(|_| Ok(())).await.unwrap();
    assert_stopped(&run(&store, 1).await);
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_and_the_next_one_works() {
    let (_directory, store) = store();
    store.open(new_run("d1", RunState::Pending)).await.unwrap();
    let before = run(&store, 1).await;
    for (pragma, words) in [("max_page_count = 1", "disk is full"), ("query_only = 1", "read-only")] {
        let condition = move |connection: &Connection| {
            Ok(connection.execute_batch(&format!("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA {pragma};"))?)
        };
        store.writer.execute(condition).await.unwrap();
        let error = store.append_if_unchanged(append(1, 1, RunState::Approved)).await.unwrap_err();
        assert!(matches!(&error, StoreError::Broken(why) if why.contains(words)), "{error}");
        assert_eq!(run(&store, 1).await, before);
    }
    let outcome = store.append_if_unchanged(append(1, 1, RunState::Approved)).await.unwrap();
    assert!(matches!(outcome, AppendOutcome::Done(_)));
    assert_eq!(store.verify().await.unwrap().first_error, None);
}

#[tokio::test]
async fn readers_cannot_write() {
    let (_directory, store) = store();
    let conversation = new_run("", RunState::Pending).request.conversation;
    let binding = Binding { conversation, environment: "x".into(), while_executing: None };
    let refused = store.reader.read(move |tx| cards::bind(tx, &binding, "x")).await;
    assert!(matches!(refused, Err(StoreError::Broken(why)) if why.contains("read-only")));
}

#[tokio::test]
async fn commits_wait_for_the_disk() {
    let (_directory, store) = store();
    let pragmas = |connection: &Connection| {
        let of = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        Ok((journal, of("synchronous")?, of("foreign_keys")?, of("secure_delete")?))
    };
    assert_eq!(store.writer.execute(pragmas).await.unwrap(), ("wal".into(), 2, 1, 1));
}

thread_local! {
    /// The statements that this thread has prepared.
    static STATEMENTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn note_statement(sql: &str) {
    STATEMENTS.with_borrow_mut(|statements| statements.push(sql.to_owned()));
}

/// The plans of every statement that `work` prepares, each with its statement.
fn plans(connection: &Connection, work: impl FnOnce(&Connection) -> DbResult<()>) -> Vec<String> {
    STATEMENTS.take();
    work(connection).unwrap();
    let statements = STATEMENTS.take();
    let explain = |sql: &String| {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.raw_query().mapped(|row| row.get::<_, String>(3)).map(Result::unwrap);
        format!("{sql}\n{}", lines.collect::<Vec<_>>().join("\n"))
    };
    statements.iter().map(explain).collect()
}

/// Every filter that a command or the supervisor uses.
fn filters() -> Vec<Filter> {
    use RunState::*;
    let states = |states: &[RunState]| Filter { states: states.to_vec(), ..Filter::default() };
    let all = Filter { include_reads: true, ..Filter::default() };
    let environment = Some("staging".to_owned());
    vec![
        Filter::default(),
        all.clone(),
        states(&[Pending]),
        states(&[Interrupted]),
        states(&[Running]),
        Filter { include_reads: true, environment: environment.clone(), ..states(&[Pending, Approved]) },
        states(&[Pending, Approved, Running]),
        states(&[Failed, Partial, Stopped, Interrupted, Invalidated]),
        Filter { break_glass: true, ..Filter::default() },
        Filter { environment: environment.clone(), ..Filter::default() },
        Filter { requester: Some("ana".into()), ..all.clone() },
        Filter { command: Some("kill".into()), ..all.clone() },
        Filter { command: Some("kill".into()), environment, ..all.clone() },
        Filter { since: Some(Timestamp::now()), ..all.clone() },
        Filter { before: Some(3), ..all.clone() },
        Filter { text: Some("blocks".into()), ..all },
    ]
}

#[tokio::test]
async fn what_runs_often_reads_indexes() {
    let (_directory, store) = store();
    let card = (new_run("", RunState::Pending).request.conversation, CardKind::Primary);
    let new = NewRun {
        cards: vec![card],
        unless_frozen: true,
        unless_break_glass_within: Some(Duration::from_secs(1)),
        ..new_run("d1", RunState::Pending)
    };
    let (again, instance) = (
        NewRun { delivery_id: "d2".into(), resource_locks: vec![], ..new.clone() },
        Arc::clone(&store.instance),
    );
    store.open(new).await.unwrap();
    let work = move |connection: &Connection| {
        Ok(plans(connection, |connection| {
            let transaction = connection.unchecked_transaction()?;
            queries::orphans(connection, &instance)?;
            queries::overdue(connection)?;
            cards::outdated(connection, &instance)?;
            cards::of_run(connection, 1)?;
            cards::token(connection, String::new())?;
            cards::remove_old(&transaction, Timestamp::now())?;
            runs::frozen(connection)?;
            status::status(connection)?;
            runs::open(&transaction, &again, "me")?;
            runs::append_if_unchanged(&transaction, &append(1, 1, RunState::Approved), "me")?;
            filters().iter().try_for_each(|filter| lists::list(connection, filter).map(drop))
        }))
    };
    let plans = store.writer.execute(work).await.unwrap();
    assert!(plans.len() > 40, "{}", plans.len());
    for plan in &plans {
        // The index has the outdated cards alone; the chain's end is one row.
        let is_end = plan.contains("FROM events ORDER BY seq DESC LIMIT 1");
        let plan = plan.replace("SCAN cards USING INDEX cards_outdated", "");
        for table in ["events", "cards", "tokens", "event_texts", "resource_locks"] {
            assert!(is_end || !plan.contains(&format!("SCAN {table}")), "{plan}");
        }
        // The newest runs are read in their order, and no further than a page needs.
        let scans = plan.lines().filter(|line| line.contains("SCAN runs"));
        let is_page = plan.contains("ORDER BY id DESC") && !plan.contains("TEMP B-TREE");
        assert!(scans.count() == 0 || is_page, "{plan}");
    }
}

#[tokio::test]
async fn a_search_without_the_index_ends_and_says_so() {
    let (_directory, store) = store();
    store.open(new_run("d1", RunState::Pending)).await.unwrap();
    let fill = "INSERT INTO runs (version, state, opened_at, changed_at, delivery_id, request)
        WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
        SELECT 1, 'succeeded', opened_at, changed_at, 'd' || n, replace(request, 'kill', 'query')
          FROM n, runs WHERE id = 1";
    store.writer.execute(move |connection| Ok(connection.execute_batch(fill)?)).await.unwrap();
    let find = async |text: &str| {
        let page = store.list(Filter { text: Some(text.into()), ..Filter::default() }).await.unwrap();
        (page.total, page.unsearched_from)
    };
    assert_eq!(find("ki").await, (0, Some(1_000)));
    assert_eq!(find("kil").await, (1, None));
    assert_eq!(find("qu").await, (1_050, None), "enough were found");
}
