//! A fault inside Countersign, a panic, anywhere in a command, or an audit log that can't be used: whoever asked is answered, what was
//! opened is closed, and the next command is as good as ever.

use crate::fake_chat::{self, Room, incident};
use crate::harness::{Scene, Twist};
use async_trait::async_trait;
use countersign::catalog::{Catalog, Command};
use countersign::model::{
    ActiveFreeze, ButtonToken, Card, CardKind, ChatAccount, ChatEvent, ChatEventKind, Conversation,
    PlatformKind, Reply, Risk, Run, RunId, RunState,
};
use countersign::store::sqlite::{SqliteStore, StoreLimits};
use countersign::store::{
    Append, AppendOutcome, Binding, ChainReport, EventRow, Figure, Filter, FreezeChange, NewRun, OpenOutcome,
    RunPage, Store, StoreError, StoreResult, StoreStatus, WatchState,
};
use countersign::workflow::{Completion, Workflow};
use jiff::Timestamp;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A record one of whose methods panics, or finds the store broken.
struct FaultyStore {
    store: SqliteStore,
    panics: Mutex<&'static str>,
    fails: Mutex<&'static str>,
}

/// Calls the method of the good store, unless it is a faulty one.
macro_rules! faulty {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        const METHODS: &[&str] = &[$(stringify!($name)),*];

        #[async_trait]
        impl Store for FaultyStore {
            $(async fn $name(&self, $($argument: $type),*) -> StoreResult<$answer> {
                let panics = *self.panics.lock().unwrap();
                assert!(panics != stringify!($name), "the fault of {panics}");
                if *self.fails.lock().unwrap() == stringify!($name) {
                    return Err(StoreError::Broken("its disk is gone".to_owned()));
                }
                self.store.$name($($argument),*).await
            })*
        }
    };
}

countersign::store::store_methods!(faulty);

/// A bot that is spoken to directly.
struct Place {
    scene: Scene,
    room: Arc<Room>,
    flow: Arc<Workflow>,
    store: Arc<FaultyStore>,
    deliveries: AtomicUsize,
}

impl Place {
    async fn set() -> Place {
        let scene = Scene::without_bot(Twist::default()).await;
        let room = Arc::new(Room::default());
        let mut app = countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap();
        let path = scene.directory.path().join("faulty.db");
        let store = SqliteStore::open(&path, StoreLimits::default()).unwrap();
        let store = Arc::new(FaultyStore { store, panics: Mutex::new(""), fails: Mutex::new("") });
        app.audit.store = store.clone();
        let flow = Workflow::new(app, vec![room.clone()]);
        Place { scene, room, flow, store, deliveries: AtomicUsize::new(0) }
    }

    fn fault(&self, method: &'static str) {
        *self.store.panics.lock().unwrap() = method;
    }

    fn failure(&self, method: &'static str) {
        *self.store.fails.lock().unwrap() = method;
    }

    /// Cara, who has every role, does something; what she is told, and all that was answered or posted.
    async fn does(&self, event: ChatEventKind) -> (Completion, Vec<Reply>, usize) {
        let sender = ChatAccount::new(PlatformKind::Slack, "T0SAMPLE", "U0CARA".to_owned(), None);
        let delivery = self.deliveries.fetch_add(1, Ordering::Relaxed).to_string();
        let incoming = ChatEvent { delivery, sender, conversation: incident(), handle: None, event };
        let posted = self.room.posted();
        let ending = self.flow.handle_and_wait(incoming, Duration::from_secs(30)).await;
        let answers = std::mem::take(&mut *self.room.answers.lock().unwrap());
        (ending, answers, self.room.posted() - posted)
    }

    async fn says(&self, line: &str) -> (Completion, Vec<Reply>, usize) {
        self.does(ChatEventKind::Command(line.into())).await
    }

    async fn runs(&self) -> Vec<Run> {
        let filter = Filter { include_reads: true, limit: 1_000, ..Filter::default() };
        self.store.store.list(filter).await.unwrap().runs
    }
}

fn words(answers: &[Reply]) -> String {
    answers.iter().map(fake_chat::words).collect::<Vec<_>>().join("\n")
}

const INTERNAL: &str = "An internal error occurred";

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_told_and_the_run_is_closed() {
    let place = Place::set().await;
    for (method, line, told, state) in [
        // The line is being read; the run is opened; the question is asked; the plan is made; the command acts.
        ("conversation_environment", "sizes", INTERNAL, None),
        ("open", "sizes --env staging", INTERNAL, None),
        ("list", "history", INTERNAL, Some(RunState::Failed)),
        ("get", "stop 1", INTERNAL, None),
        ("frozen", "unfreeze", INTERNAL, None),
        ("frozen", "unfreeze --dry-run", INTERNAL, None),
        ("change_freeze", "freeze", "failed inside Countersign", Some(RunState::Interrupted)),
    ] {
        let before = place.runs().await.len();
        place.fault(method);
        let (ending, answers, _) = place.says(line).await;
        place.fault("");
        let text = words(&answers);
        assert!(text.contains(told), "{line}: {text}");
        assert_eq!(answers.len(), 1, "{line}: {text}");
        assert_eq!(ending == Completion::Failed, told == INTERNAL, "{line}: {ending:?}");
        let runs = place.runs().await;
        let opened = (runs.len() > before).then(|| runs[0].state);
        assert_eq!(opened, state, "{line}: {runs:#?}");
        let (ending, answers, _) = place.says("sizes --env staging").await;
        assert_eq!(ending, Completion::Answered, "after {line}: {}", words(&answers));
    }
    place.fault("token");
    let (ending, answers, _) =
        place.does(ChatEventKind::Button { token: "x".to_owned(), message: "1".to_owned() }).await;
    assert_eq!((ending, words(&answers).contains(INTERNAL)), (Completion::Failed, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_log_that_cannot_be_read_is_told_with_a_next_step() {
    let place = Place::set().await;
    for (method, line) in [
        ("get", "show 1"),
        ("get", "stop 1"),
        ("get", "withdraw 1"),
        ("list", "history"),
        ("list", "jobs"),
        ("frozen", "freeze --dry-run"),
        ("frozen", "unfreeze"),
    ] {
        place.failure(method);
        let (_, answers, _) = place.says(line).await;
        place.failure("");
        let text = words(&answers);
        for words in [
            "The audit log can't be read (the audit log's store can't be used: its disk is gone).",
            "Tell Countersign's operators if it can't be read then.",
        ] {
            assert!(text.contains(words), "{line}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_faulty_whoever_types_any_command_is_answered() {
    let place = Place::set().await;
    let (_victim, pid) = place.scene.session("asset-worker-7").await;
    place.says("use staging").await;
    let catalog = Catalog::built_in().unwrap_or_else(|why| panic!("{why:?}"));
    let (reads, acts): (Vec<&Command>, Vec<&Command>) =
        catalog.iter().partition(|command| command.header.risk == Risk::Read);
    let example = |command: &&Command| command.header.example.clone();
    let reads: Vec<String> = reads.iter().map(example).collect();
    let acts: Vec<String> = acts.iter().map(example).chain([format!("kill {pid}")]).collect();
    // No command calls these.
    let unused = ["events", "erase", "remove_old_cards", "verify"];
    for method in METHODS.iter().filter(|method| !unused.contains(method)) {
        // Without a record nothing acts, and what would act is planned.
        let acts = if *method == "open" { acts.as_slice() } else { &[] };
        for line in reads.iter().chain(acts) {
            place.fault(method);
            let (_, answers, posted) = place.says(line).await;
            place.fault("");
            assert!(answers.len() + posted > 0, "{method}: {line} was not answered");
        }
    }
    assert!(place.scene.is_there(pid).await);
    let (ending, answers, _) = place.says("health").await;
    assert_eq!(ending, Completion::Answered, "{}", words(&answers));
}
