//! Between an approval and the start: time runs out, or somebody takes it back. Then nothing was done, and the card says by whom and why.

use crate::backup::locked;
use crate::harness::{ANA, BEN, CARA, Scene, Servers, Twist};
use crate::notifications::direct;
use crate::process::{becomes, kinds};
use countersign::actions::{Call, Execution, Implementation, find};
use countersign::audit::EventDetails;
use countersign::demo::fake_slack::{Fault, Message};
use countersign::model::{EventKind, Person, RunState};
use countersign::store::{AppendOutcome, Store};
use std::collections::BTreeMap;

/// Approved by ben, and kept from its start: Slack doesn't say whether the requester still counts.
async fn approved(scene: &Scene, pid: i32) -> Message {
    let card = scene.kill_card(pid).await;
    scene.workspace().fault("users.info U0ANA", Fault::Held);
    scene.click_button(BEN, &card.at(), "Approve").await;
    card
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_is_not_used_in_time_is_none_any_more() {
    let rule =
        "[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"kill\"]\nstart_within = \"1s\"\n";
    let scene = Scene::with(Twist { more: rule, ..Twist::default() }).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = approved(&scene, pid).await;
    scene.until_state("kill", RunState::Expired).await;
    scene.workspace().fault("users.info U0ANA", Fault::Clear);
    let shown = scene.until(&card.at(), "Expired: the run was approved but did not start in time").await;
    assert!(
        shown.button("Approve").is_none() && shown.plain().contains("Nothing was done"),
        "{}",
        shown.plain()
    );
    direct(&scene, ANA, "did not start in time").await;
    assert_eq!(kinds(&scene.only_run("kill").await), ["requested", "approved", "expired"]);
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_taken_back_by_a_person_before_the_start() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = approved(&scene, pid).await;
    scene.until_state("kill", RunState::Approved).await;
    let told = scene.asks(CARA, "stop 1 --reason \"wrong pid\"").await.plain();
    assert!(told.contains("Run #1 has ended: revoked"), "{told}");
    scene.workspace().fault("users.info U0ANA", Fault::Clear);

    let words = "The approval was taken back by cara: wrong pid. Nothing was done.";
    let shown = scene.until(&card.at(), words).await.plain();
    assert!(shown.contains("Reason: blocks the deploy"), "the request's own reason stays: {shown}");
    let heard = direct(&scene, ANA, words).await.plain();
    assert!(heard.contains("approved by ben"), "{heard}");
    let story = scene.asks(BEN, "show 1").await.plain();
    assert!(story.contains("blocks the deploy") && story.contains("wrong pid"), "{story}");
    let run = scene.only_run("kill").await;
    assert_eq!((run.state, kinds(&run)), (RunState::Revoked, vec!["requested", "approved", "revoked"]));
    assert_eq!(run.text("reason"), Some("blocks the deploy"));
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_stopped_with_a_reason_and_keeps_its_own() {
    let scene = Scene::with(Twist { servers: Some(Servers::alone(60).await), ..Twist::default() }).await;
    let _blocker = locked(&scene).await;
    let line = "backup asset-service --env staging --reason \"before the release\"";
    let card = scene.asks(ANA, line).await;
    becomes(&scene.store(), "backup", RunState::Running).await;
    scene.asks(BEN, "stop 1 --reason \"it holds up the deploy\"").await;
    let shown = scene.until(&card.at(), "Stopped: no backup was made").await.plain();
    for words in ["Reason: before the release", "stop requested by ben", "it holds up the deploy"] {
        assert!(shown.contains(words), "{words} is missing: {shown}");
    }
    let story = scene.asks(BEN, "show 1").await.plain();
    assert!(story.contains("before the release") && story.contains("it holds up the deploy"), "{story}");
}

/// The plan to take an approval back is made, and the run starts before that is done.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_was_used_meanwhile_is_told_to_have_been() {
    let mut scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.kill_card(pid).await;
    drop(scene.bot.take());
    let app = countersign::bootstrap::assemble(scene.stage.checked().unwrap()).await.unwrap();
    let person = |name: &str| Person { id: name.to_owned(), account: None };
    let happens = async |happening, told| {
        let run = scene.only_run("kill").await;
        let AppendOutcome::Done(run) = app.audit.append(&run, happening, told).await.unwrap() else {
            panic!("{happening:?}: {run:?}")
        };
        *run
    };
    let run = happens(EventKind::Approved, EventDetails::by_person(&person("ben"))).await;

    let command = app.catalog.find("stop").unwrap();
    let Some(Implementation::Action(stop)) = find(command) else { panic!("`stop` acts") };
    let values = BTreeMap::from([("run".to_owned(), run.id.to_string())]);
    let (cara, conversation) = (person("cara"), run.request.conversation.clone());
    let call = Call {
        app: &app,
        command,
        person: &cara,
        conversation: &conversation,
        environment: None,
        values: &values,
        asker: "countersign cara".to_owned(),
        run: None,
    };
    let plan = stop.plan(&call).await.unwrap_or_else(|why| panic!("{why:?}"));
    assert!(plan.effect.starts_with("Revokes the approval of #1"), "{}", plan.effect);
    happens(EventKind::Started, EventDetails::default()).await;

    let token = tokio_util::sync::CancellationToken::new();
    let asker = "countersign #2 cara".to_owned();
    let doing = Execution { app: &app, command, run: &run, plan: &plan, asker, stop: &token, part: None };
    let ends = async {
        becomes_told(&scene).await;
        happens(EventKind::Succeeded, EventDetails::default().with_text("verdict", "It is gone.")).await
    };
    let (outcome, _) = tokio::join!(stop.execute(&doing), ends);
    let words =
        "Run #1 had started before its approval could be revoked. Run #1 has ended: succeeded. It is gone.";
    assert_eq!(outcome.verdict.words(), words);
}

/// Waits until the run is told to stop.
async fn becomes_told(scene: &Scene) {
    crate::harness::found("the word to stop", async || {
        scene.store().get(1).await.unwrap().unwrap().event(EventKind::StopRequested).map(|_| ())
    })
    .await;
}
