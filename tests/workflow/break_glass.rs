//! Break-glass: one person alone, in need, and another who looks at it afterwards.

use crate::harness::{ANA, BEN, CARA, Scene, Twist, found};
use crate::process::kinds;
use countersign::demo::fake_slack::Fault;
use countersign::demo::harness::INCIDENT;
use countersign::model::RunState;

const GLASS: &str = "[break_glass]\nrole = \"last-resort\"\n";

async fn with_glass() -> Scene {
    let role = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"last-resort\"]");
    Scene::with(Twist { more: GLASS, instead: vec![role], ..Twist::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_acts_alone_everyone_is_told_and_another_reviews_it() {
    let scene = with_glass().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let (_other, spared) = scene.session("asset-worker-8").await;
    let line = format!("break-glass kill {pid} --env production --reason \"nobody else is awake\"");
    let card = scene.asks(ANA, &line).await;
    let done = scene.until(&card.at(), " ended.").await;
    assert!(!scene.is_there(pid).await && scene.is_there(spared).await);
    let run = scene.only_run("kill").await;
    for words in [
        "PRODUCTION",
        "break-glass kill",
        "nobody else is awake",
        "without approval",
        "U0BEN",
        &format!("review {}", run.id),
    ] {
        assert!(done.plain().contains(words), "{words} is missing: {}", done.plain());
    }
    assert_eq!((run.state, kinds(&run)), (RunState::Succeeded, vec!["started", "succeeded"]));
    assert!(run.request.break_glass);
    let told = scene.workspace().wait_for("ben to be told", |workspace| {
        workspace
            .visible_messages(BEN, &workspace.dm_channel(BEN))
            .into_iter()
            .find(|message| message.plain().contains("without approval"))
    });
    told.await.unwrap_or_else(|why| panic!("{why}"));

    scene.refused(ANA, &format!("review {}", run.id), "another person has to review it").await;
    scene.refused("U0DAN", &format!("review {}", run.id), "You may not run").await;
    let told = scene.asks(BEN, &format!("review {} --reason \"right so\"", run.id)).await.plain();
    assert!(told.contains(&format!("Run #{} is reviewed", run.id)), "{told}");
    let shown = scene.until(&card.at(), "reviewed by ben").await.plain();
    assert!(!shown.contains("must review it"), "{shown}");
    let listed = scene.asks(BEN, "pending").await.plain();
    assert!(listed.contains("No requests are waiting"), "{listed}");
    scene.refused(CARA, &format!("review {}", run.id), "has already reviewed run").await;
    assert_eq!(scene.store_verified().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_alone_does_not_wait_for_the_chat() {
    let scene = with_glass().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.workspace().fault("chat.postMessage", Fault::Held);
    scene.say(ANA, &format!("break-glass kill {pid} --env production --reason \"alone\"")).await;
    found("the session to be gone", async || (!scene.is_there(pid).await).then_some(())).await;
    scene.until_state("kill", RunState::Succeeded).await;
    scene.workspace().fault("chat.postMessage", Fault::Clear);
    let card = scene.next(BEN, 0, "its card").await;
    let told = scene.until(&card.at(), " ended.").await.plain();
    assert!(told.contains("without approval"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_in_an_hour_and_only_so() {
    let scene = with_glass().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let kill = format!("kill {pid} --env production --reason \"nobody is awake\"");
    for (who, line, words) in [
        (CARA, format!("break-glass {kill}"), "Break-glass needs the role last-resort"),
        (BEN, format!("break-glass {kill}"), "You may not run `kill`"),
        (ANA, format!("break-glass kill {pid} --reason why"), "Which environment?"),
        (
            ANA,
            format!("break-glass kill {pid} --env production"),
            "needs the environment's name and a reason",
        ),
        (
            ANA,
            "break-glass unfreeze --env production --reason why".to_owned(),
            "can't be run with break-glass",
        ),
        (ANA, format!("break-glass cancel {pid} --env production --reason why"), "needs no approval here"),
        (ANA, format!("break-glass {kill} --private"), "everyone here can read"),
        // Options may come before the command; without one it is the question who may.
        (
            ANA,
            "break-glass --env production --reason \"it burns\" unfreeze".to_owned(),
            "`unfreeze` can't be run with break-glass",
        ),
        (
            ANA,
            format!("break-glass --env=production kill {pid}"),
            "needs the environment's name and a reason",
        ),
        (ANA, "break-glass --dry-run".to_owned(), "`break-glass` only reads: it has no dry run"),
        (ANA, "break-glass --env nowhere".to_owned(), "nowhere"),
        (ANA, format!("break-glass shoot {pid} --env production --reason why"), "There is no command"),
    ] {
        scene.refused(who, &line, words).await;
        assert!(scene.is_there(pid).await, "{line}");
    }
    // A conversation that is bound to an environment doesn't name it.
    scene.asks(ANA, "use production").await;
    scene.refused(ANA, &format!("break-glass kill {pid} --reason why"), "needs the environment's name").await;
    assert!(scene.runs_of("kill").await.is_empty());

    let first = format!("break-glass --dry-run --env production kill {pid}");
    for line in [&format!("break-glass {kill} --dry-run"), &first] {
        let dry = scene.asks(ANA, line).await.plain();
        assert!(dry.contains("nothing was executed"), "{line}: {dry}");
    }
    let how = scene.asks(ANA, "break-glass --env production").await.plain();
    assert!(how.contains("One emergency action in 1 h 0 min is allowed"), "{how}");
    // The commands of the default that there are.
    assert!(how.contains("cancel, kill, kill-idle") && !how.contains("kill-idle,"), "{how}");

    let card = scene.asks(ANA, &format!("break-glass {kill}")).await;
    scene.until(&card.at(), " ended.").await;
    let (_second, pid) = scene.session("asset-worker-8").await;
    let again = format!("break-glass kill {pid} --env production --reason again");
    scene.refused(ANA, &again, "ana used break-glass at").await;
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_section_nobody_acts_alone() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("break-glass kill {pid} --env production --reason \"nobody is awake\"");
    scene.refused(ANA, &line, "Break-glass is not set up").await;
    let how = scene.asks(ANA, "break-glass").await.plain();
    assert!(how.contains("Break-glass is not configured"), "{how}");
    assert!(scene.is_there(pid).await);
}

const OWED: &str = "1 break-glass run needs a review.";

/// Fails unless the answer has all of these, in this order.
#[track_caller]
fn in_order(told: &str, words: &[&str]) {
    let places: Vec<_> = words.iter().map(|words| told.find(words)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{words:?}, {places:?}: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_alone_stands_on_top_until_it_is_reviewed() {
    let scene = with_glass().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let (_other, waiting) = scene.session("asset-worker-8").await;
    let line = format!("break-glass kill {pid} --env production --reason \"nobody else is awake\"");
    let card = scene.asks(ANA, &line).await;
    scene.until(&card.at(), " ended.").await;
    scene.until_state("kill", RunState::Succeeded).await;
    // Newer than it, and of another person.
    scene.card(CARA, &format!("kill {waiting} --env staging")).await;

    let pending = scene.asks(BEN, "pending").await.plain();
    in_order(
        &pending,
        &[
            OWED,
            &format!("break-glass kill {pid}"),
            "1 request is waiting for approval.",
            &format!("kill {waiting}"),
        ],
    );
    let history = scene.asks(BEN, "history").await.plain();
    assert!(history.contains("no one (break-glass, not reviewed)"), "{history}");
    in_order(&history, &[OWED, &format!("break-glass kill {pid}"), "2 runs.", &format!("kill {waiting}")]);
    for (narrowed, rest) in [("history --who dan", "No run matches."), ("history --env staging", "1 run.")] {
        let history = scene.asks(BEN, narrowed).await.plain();
        in_order(&history, &[OWED, &format!("break-glass kill {pid}"), rest]);
    }

    scene.asks(BEN, "review 1").await;
    let history = scene.asks(BEN, "history").await.plain();
    assert!(history.contains("no one (break-glass, reviewed by ben)"), "{history}");
    for list in ["pending", "history", "history --who dan", "history --env staging"] {
        let listed = scene.asks(BEN, list).await.plain();
        assert!(!listed.contains("needs a review"), "{list}: {listed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_same_moment_in_two_environments_one_of_two_acts() {
    let scene = with_glass().await;
    let (_first, production) = scene.session("asset-worker-7").await;
    let (_second, staging) = scene.session("asset-worker-8").await;
    let line = |pid: i32, place: &str| format!("break-glass kill {pid} --env {place} --reason \"it burns\"");
    let (here, there) = (line(production, "production"), line(staging, "staging"));
    tokio::join!(scene.say(ANA, &here), scene.say(ANA, &there));
    let told = found("what becomes of both", async || {
        let told = scene.workspace().visible_messages(ANA, INCIDENT);
        let one = |words: &str| told.iter().any(|message| message.plain().contains(words));
        (one(" ended.") && one("ana used break-glass at")).then_some(told)
    })
    .await;
    assert_eq!(told.len(), 2, "{told:?}");
    let left = (scene.is_there(production).await, scene.is_there(staging).await);
    assert!(left.0 != left.1, "one of two, not both or none: {left:?}");
    let run = scene.only_run("kill").await;
    assert_eq!((run.state, kinds(&run)), (RunState::Succeeded, vec!["started", "succeeded"]));
    // The hour is everybody's and everywhere's.
    let other = if left.0 { here } else { there };
    scene.refused(ANA, &other, &format!("(#{}). One emergency action per 1 h", run.id)).await;
    assert_eq!(scene.runs_of("kill").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_slack_cannot_be_reached_nobody_acts_alone_in_chat_and_the_terminal_is_named() {
    let scene = with_glass().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("break-glass kill {pid} --env production --reason \"nobody else is awake\"");
    for method in ["conversations.", "chat."] {
        scene.workspace().fault(method, Fault::Status(503));
    }
    let told = scene.asks(ANA, &line).await.plain();
    assert!(told.contains("The chat platform can't be reached"), "{told}");
    assert!(told.contains("Nothing was done") && told.contains("countersign run"), "{told}");
    assert!(scene.runs_of("kill").await.is_empty() && scene.is_there(pid).await);
    for method in ["conversations.", "chat."] {
        scene.workspace().fault(method, Fault::Clear);
    }
    let card = scene.asks(ANA, &line).await;
    scene.until(&card.at(), " ended.").await;
}
