//! `freeze` stops approvals and starts in every process at once; lifting it takes two.

use crate::harness::{ANA, BEN, CARA, DAN, Scene, Twist};
use crate::process::{Counter, Process, all_runs, becomes, kinds, the_run};
use countersign::demo::fake_slack::Fault;
use countersign::model::RunState;

#[tokio::test(flavor = "multi_thread")]
async fn stops_what_waits_in_both_processes_until_two_lift_it() {
    let counter = Counter::new("frozen").await;
    let acts = counter.acts();
    let scene = Scene::without_bot(Twist { commands: vec![("count.sql", &acts)], ..Twist::default() }).await;
    let (first, second) = (Process::start(&scene).await, Process::start(&scene).await);
    let record = scene.store();
    let card = scene.asks(ANA, "count --env production").await;

    let told = scene.asks(DAN, "freeze").await;
    assert!(told.plain().contains("may not run `freeze`"), "{}", told.plain());
    scene.workspace().connect_bot(&first.url);
    let frozen = scene.asks(CARA, "freeze --reason \"incident 42\"").await;
    assert!(frozen.plain().contains("All changes are frozen"), "{}", frozen.plain());

    for process in [&first, &second] {
        scene.workspace().connect_bot(&process.url);
        let told = scene.is_told(BEN, &card.at(), "Approve").await;
        assert!(told.plain().contains("cara froze all changes"), "{}", told.plain());
        assert!(told.plain().contains("(incident 42). Nothing was done."), "{}", told.plain());
        let told = scene.asks(ANA, "count --env staging").await;
        assert!(told.plain().contains("cara froze all changes"), "{}", told.plain());
    }
    let run = the_run(&record, "count").await.expect("the run");
    assert_eq!((run.state, run.version), (RunState::Pending, 1));
    assert_eq!(counter.rows().await, 0);

    let lift = scene.asks(ANA, "unfreeze").await;
    assert!(lift.plain().contains("incident 42"), "{}", lift.plain());
    let told = scene.is_told(ANA, &lift.at(), "Approve").await;
    assert!(told.plain().contains("somebody else has to decide"), "{}", told.plain());
    let told = scene.is_told(BEN, &card.at(), "Approve").await;
    assert!(told.plain().contains("cara froze all changes"), "still: {}", told.plain());
    scene.workspace().connect_bot(&first.url);
    scene.click_button(BEN, &lift.at(), "Approve").await;
    scene.until(&lift.at(), "The freeze is lifted").await;

    assert!(second.of(&scene).click_button(BEN, &card.at(), "Approve").await.ok());
    scene.until(&card.at(), " ran on ").await;
    assert_eq!(counter.rows().await, 1);
    assert_eq!(
        all_runs(&record, "count").await.len(),
        1,
        "what was refused while frozen left nothing behind"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_what_is_approved_and_has_not_started() {
    let counter = Counter::new("frozen_late").await;
    let acts = counter.acts();
    let scene = Scene::without_bot(Twist { commands: vec![("count.sql", &acts)], ..Twist::default() }).await;
    let record = scene.store();
    let first = Process::start(&scene).await;
    let card = scene.asks(ANA, "count --env production").await;
    scene.asks(CARA, "blocked --env production").await;
    let second = Process::start(&scene).await;
    scene.asks(BEN, "blocked --env production").await;
    // The second process has yet to ask Slack about the requester.
    scene.workspace().fault("users.info U0ANA", Fault::Held);
    assert!(second.of(&scene).click_button(BEN, &card.at(), "Approve").await.ok());
    becomes(&record, "count", RunState::Approved).await;
    scene.workspace().connect_bot(&first.url);
    let frozen = scene.asks(CARA, "freeze").await;
    assert!(frozen.plain().contains("All changes are frozen"), "{}", frozen.plain());
    scene.workspace().fault("users.info U0ANA", Fault::Clear);

    let words = "The approval was revoked: cara froze all changes before it started. Nothing was done.";
    scene.until(&card.at(), words).await;
    let run = becomes(&record, "count", RunState::Revoked).await;
    assert_eq!(kinds(&run), ["requested", "approved", "revoked"]);
    assert_eq!(counter.rows().await, 0);
}
