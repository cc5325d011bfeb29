//! Updates of a card: only under its claim, in order, one at a time; and as large as was measured before it was posted.

use crate::fake_chat::{Room, Shown, incident};
use crate::harness::{ANA, BEN, CARA, Scene, Twist, found};
use crate::notifications::direct;
use crate::process::{Counter, PATIENT, kinds};
use countersign::demo::fake_slack::{Account, Kind};
use countersign::model::{
    Card, CardKind, ChatAccount, ChatEvent, ChatEventKind, PlatformKind, RunId, RunState,
};
use countersign::store::Store;
use countersign::workflow::Workflow;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_has_claimed_is_not_edited() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let run = scene.only_run("kill").await;
    let other = scene.store();
    let cards = other.run_cards(run.id).await.unwrap();
    let primary = cards.into_iter().find(|card| card.kind == CardKind::Primary).expect("the card");
    let period = Duration::from_secs(600);
    found("the claim", async || other.claim_card(primary.id, period).await.unwrap().then_some(())).await;
    let claimed = other.card(primary.id).await.unwrap().expect("the card");

    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until_state("kill", RunState::Succeeded).await;
    // The copies that nobody else has, and the message to the requester.
    for who in [BEN, CARA, ANA] {
        direct(&scene, who, &format!("Session {pid} ended")).await;
    }
    let told = scene.is_told(CARA, &card.at(), "Approve").await;
    assert!(told.plain().contains("already decided"), "{}", told.plain());
    let shown = scene.workspace().message(&card.at()).expect("the card");
    assert_eq!(shown.edited, 0, "{}", shown.plain());
    // The other process has shown nothing new of it.
    assert!(other.update_card(claimed).await.unwrap());
    let shown = scene.until(&card.at(), &format!("Session {pid} ended")).await;
    assert!(shown.button("Approve").is_none(), "{}", shown.plain());
}

/// A bot that is spoken to directly.
struct Place {
    room: Arc<Room>,
    flow: Arc<Workflow>,
}

impl Place {
    fn event(who: &str, event: ChatEventKind) -> ChatEvent {
        let sender = ChatAccount::new(PlatformKind::Slack, "T0SAMPLE", who.to_owned(), None);
        let delivery = format!("{who} {event:?}");
        ChatEvent { delivery, sender, conversation: incident(), handle: None, event }
    }

    /// Ana requests it: the button to approve.
    async fn asks(&self, command: &str) -> Shown {
        let seen = self.room.shown.lock().unwrap().len();
        let line = format!("{command} --env production");
        self.flow.handle(Place::event(ANA, ChatEventKind::Command(line.as_str().into()))).await;
        let shown = self.room.shown.lock().unwrap().clone().split_off(seen);
        let is_card = |shown: &&Shown| shown.label == "Approve" && shown.conversation.id == incident().id;
        shown.iter().find(is_card).unwrap_or_else(|| panic!("no card of {command}: {shown:?}")).clone()
    }

    /// Ben approves it: the run.
    async fn approves(&self, command: &str, button: &Shown) -> RunId {
        let click = ChatEventKind::Button { token: button.token.clone(), message: button.message.clone() };
        let flow = Arc::clone(&self.flow);
        tokio::spawn(async move { flow.handle(Place::event(BEN, click)).await });
        let filter = countersign::store::Filter { command: Some(command.to_owned()), ..Default::default() };
        let run = found("the run", async || {
            let runs = self.flow.app.audit.store.list(filter.clone()).await.unwrap().runs;
            runs.into_iter().find(|run| run.state == RunState::Running)
        });
        run.await.id
    }

    fn shows(&self, run: RunId, label: &str) {
        self.flow.app.progress.set(run, None, label.to_owned());
    }

    /// The words of a message's edits that were done.
    fn edits(&self, message: &str) -> Vec<String> {
        let edits = self.room.edits.lock().unwrap();
        edits.iter().filter(|(of, _)| of == message).map(|(_, words)| words.clone()).collect()
    }

    fn begun(&self, message: &str) -> usize {
        self.room.edits_begun.lock().unwrap().iter().filter(|(of, _)| of == message).count()
    }

    async fn until(&self, message: &str, words: &str) {
        let is_shown = || self.edits(message).iter().any(|edit| edit.contains(words));
        found(words, async || is_shown().then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_copies_follow_the_card_of_the_channel() {
    let crowd: Vec<String> = (0..12).map(|n| format!("U0CROWD{n}")).collect();
    let people = crowd.iter().enumerate().map(|(n, account)| {
        format!("[[people]]\nname = \"crowd-{n}\"\nslack = [\"{account}\"]\nroles = [\"approver\"]\n\n")
    });
    let people: String = people.collect();
    let counter = Counter::new("followed").await;
    let acts = counter.acts();
    let twist = Twist { more: &people, commands: vec![("count.sql", &acts)], ..Twist::default() };
    let scene = Scene::without_bot(twist).await;
    let room = Arc::new(Room::default());
    let app = countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap();
    let place = Place { flow: Workflow::new(app, vec![room.clone()]), room };
    let card = place.asks("count").await;
    let copies = || {
        let shown = place.room.shown.lock().unwrap();
        let of = |account: &String| {
            shown.iter().find(|copy| copy.conversation.id == format!("D{account}")).cloned()
        };
        crowd.iter().map(of).collect::<Option<Vec<Shown>>>()
    };
    let copies = found("a copy for each", async || copies()).await;

    place.room.hang(Some(&card.message));
    place.approves("count", &card).await;
    found("the edit of the card", async || (place.begun(&card.message) > 0).then_some(())).await;
    let early = copies.iter().filter(|copy| place.begun(&copy.message) > 0).count();
    assert_eq!(early, 0, "an edit that hangs may be one that Slack lets wait for its turn");
    place.room.hang(None);
    for message in copies.iter().map(|copy| &copy.message).chain([&card.message]) {
        place.until(message, " ran on ").await;
    }
    assert_eq!(counter.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_does_not_pile_up_while_an_edit_hangs_and_never_follows_the_outcome() {
    let (counter, other) = (Counter::new("hanging").await, Counter::new("moving").await);
    let (acts, moves) = (counter.acts(), other.acts().replace("example = \"count\"", "example = \"move\""));
    let commands = vec![("count.sql", acts.as_str()), ("move.sql", moves.as_str())];
    let scene = Scene::without_bot(Twist { commands, instead: vec![PATIENT], ..Twist::default() }).await;
    let room = Arc::new(Room::default());
    let app = countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap();
    let place = Place { flow: Workflow::new(app, vec![room.clone()]), room };
    let (card, other_card) = (place.asks("count").await, place.asks("move").await);
    let holders = [counter.held().await, other.held().await];
    let run = place.approves("count", &card).await;
    let moving = place.approves("move", &other_card).await;
    let (message, clock) = (card.message, other_card.message);
    place.shows(run, "step 1");
    place.until(&message, "step 1").await;

    place.room.hang(Some(&message));
    let before = (place.begun(&message), place.edits(&message).len());
    place.shows(run, "step 2");
    found("an edit that hangs", async || (place.begun(&message) > before.0).then_some(())).await;
    // Another card of the same platform shows how often progress was looked at.
    for step in 1..=3 {
        place.shows(run, &format!("late {step}"));
        place.shows(moving, &format!("tick {step}"));
        place.until(&clock, &format!("tick {step}")).await;
    }
    assert_eq!(place.begun(&message), before.0 + 1, "one edit hangs, and none is behind it");
    for holder in holders {
        holder.batch_execute("COMMIT").await.unwrap();
    }
    found("the end of both", async || {
        let runs = [run, moving].map(|run| place.flow.app.audit.store.get(run));
        let runs = futures::future::join_all(runs).await;
        let is_over = |run: &RunState| *run == RunState::Succeeded;
        runs.into_iter().all(|run| is_over(&run.unwrap().unwrap().state)).then_some(())
    })
    .await;
    place.until(&clock, " ran on ").await;
    place.room.hang(None);
    place.until(&message, " ran on ").await;
    let edits = place.edits(&message).split_off(before.1);
    assert!(edits.len() == 2 && edits[0].contains("step 2") && edits[1].contains(" ran on "), "{edits:#?}");
    assert_eq!((counter.rows().await, other.rows().await), (1, 1));
}

/// A process that was paused may edit a card when another has claimed and edited it meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_ends_after_its_claim_is_corrected() {
    let counter = Counter::new("corrected").await;
    let acts = counter.acts();
    let commands = vec![("count.sql", acts.as_str())];
    let scene = Scene::without_bot(Twist { commands, instead: vec![PATIENT], ..Twist::default() }).await;
    let room = Arc::new(Room::default());
    let app = countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap();
    let place = Place { flow: Workflow::new(app, vec![room.clone()]), room };
    let card = place.asks("count").await;
    let holder = counter.held().await;
    place.room.hang(Some(&card.message));
    let run = place.approves("count", &card).await;
    found("an edit that hangs", async || (place.begun(&card.message) > 0).then_some(())).await;
    holder.batch_execute("COMMIT").await.unwrap();
    let other = scene.store();
    let ended = found("the end of the run", async || {
        other.get(run).await.unwrap().filter(|run| run.state == RunState::Succeeded)
    })
    .await;

    let hand = rusqlite::Connection::open(scene.directory.path().join("record.db")).unwrap();
    hand.busy_timeout(Duration::from_secs(10)).unwrap();
    hand.execute("UPDATE cards SET claimed_until = 0 WHERE run = ?1", [run]).unwrap();
    let cards = other.run_cards(run).await.unwrap();
    let primary = cards.into_iter().find(|card| card.kind == CardKind::Primary).expect("the card");
    assert!(other.claim_card(primary.id, Duration::from_secs(600)).await.unwrap());
    assert!(other.update_card(Card { shown_version: ended.version, ..primary }).await.unwrap());
    place.room.hang(None);
    place.until(&card.message, " ran on ").await;
    let edits = place.edits(&card.message);
    assert!(edits[0].contains("Running: ") && edits.len() == 2, "{edits:#?}");
    assert_eq!(counter.rows().await, 1);
}

/// Approvers whose names differ in length, the shortest first.
const LONG: &str = "Maximiliana-Theodora von und zu Hohenstein-Wallersdorf the Third";

const TWO: &str =
    "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"tidy\"]\napprovers = 2\n\n";

const TIDY: &str = "/*\nsummary = \"Tidies up\"\ngroup = \"act\"\nrisk = \"danger\"\nscope = \"database\"\nlogin = \"operator\"\n\
    args = [{ name = \"service\", type = \"service\", positional = true, required = true, help = \"whose\" }]\n\
    example = \"tidy asset-service\"\n*/\nSELECT count(*) FROM pg_class WHERE relname <> '";

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_just_fits_is_posted_whole_and_stays_so_with_the_longest_names_approval() {
    let more = format!(
        "{TWO}[[people]]\nname = \"{LONG}\"\nslack = [\"U0MAX\"]\nroles = [\"approver\"]\n\n\
         [[people]]\nname = \"eve\"\nslack = [\"U0EVE\"]\nroles = [\"approver\"]\n\n"
    );
    let tidy = format!("{TIDY}{}'", "x".repeat(8_600));
    let commands = vec![("tidy.sql", tidy.as_str())];
    let scene = Scene::with(Twist { more: &more, commands, ..Twist::default() }).await;
    for (id, name) in [("U0MAX", "max"), ("U0EVE", "eve")] {
        scene.workspace().add_person(Account::new(id, name, Kind::Member));
    }
    // The longest reason that is taken.
    let (mut fits, mut too_long) = (0, 3_800);
    while fits + 1 < too_long {
        let length = (fits + too_long) / 2;
        let reason = "y".repeat(length);
        let told = scene.asks(ANA, &format!("tidy asset --env production --reason {reason}")).await;
        if told.button("Approve").is_some() {
            fits = length;
            scene.until_noted(&told).await;
            let ack = scene.workspace().click_button(ANA, &told.at(), "Withdraw").await;
            assert!(ack.ok(), "{ack:?}");
            scene.until(&told.at(), "Withdrawn by ana").await;
        } else {
            assert!(told.plain().contains("The plan doesn't fit into one message"), "{}", told.plain());
            too_long = length;
        }
    }
    assert!(fits > 100 && fits < 3_799, "the limit lies in between: {fits}");
    let reason = "y".repeat(fits);
    let card = scene.card(ANA, &format!("tidy asset --env production --reason {reason}")).await;
    scene.click_button("U0MAX", &card.at(), "Approve").await;
    let shown = scene.until(&card.at(), "1 of 2 approvals given").await;
    assert!(shown.plain().contains(&format!("approved by {LONG}")), "{}", shown.plain());
    assert!(shown.plain().contains(&reason) && shown.button("Approve").is_some(), "{}", shown.plain());
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ran on ").await;
    let runs = scene.runs_of("tidy").await;
    assert_eq!(kinds(&runs[0]), ["requested", "approval_added", "approved", "started", "succeeded"]);
    assert!(runs[1..].iter().all(|run| run.state == RunState::Withdrawn), "{runs:#?}");
}
