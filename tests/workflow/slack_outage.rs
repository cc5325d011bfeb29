//! Slack's API is down, slow, hanging or overrun: receiving goes on, what is recorded stays, and the answers come later.

use crate::harness::{ANA, BEN, CARA, Scene, Twist, found};
use crate::process::{Counter, PATIENT, becomes, kinds, the_run};
use countersign::demo::fake_slack::{Channel, Fault, Message};
use countersign::demo::harness::INCIDENT;
use countersign::model::RunState;

/// A question whose answer does not depend on what the other scenes do to the server that all share.
const LOOK: &str = "sizes --env production";
const ANSWERED: &str = "databases take";

async fn counting(counter: &Counter) -> Scene {
    let (acts, looks) = (counter.acts(), counter.looks());
    let commands = vec![("count.sql", acts.as_str()), ("counted.sql", looks.as_str())];
    Scene::with(Twist { commands, instead: vec![PATIENT], ..Twist::default() }).await
}

/// Refused calls of that kind.
fn refused(scene: &Scene, method: &str) -> usize {
    scene.workspace().payloads().iter().filter(|sent| sent.method == method && sent.error.is_some()).count()
}

async fn tries_in_vain(scene: &Scene, method: &str, times: usize) {
    let tried = scene.workspace().wait_for(method, |_| (refused(scene, method) >= times).then_some(()));
    tried.await.unwrap_or_else(|why| panic!("{why}"));
}

/// What the bot said in the channel that this person sees, after that many.
fn since(scene: &Scene, who: &str, before: usize) -> Vec<Message> {
    scene.workspace().visible_messages(who, INCIDENT).split_off(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_answers_with_errors_answers_and_cards_wait() {
    let counter = Counter::new("errors").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    scene.asks(ANA, LOOK).await;
    let before = scene.count(ANA);
    scene.workspace().fault("", Fault::Status(503));
    scene.say(ANA, LOOK).await;
    scene.say(ANA, "count --env production").await;
    // One call is four attempts: a fifth is another call.
    tries_in_vain(&scene, "response", 5).await;
    tries_in_vain(&scene, "chat.postMessage", 5).await;
    let run = becomes(&record, "count", RunState::Pending).await;
    assert_eq!(scene.count(ANA), before, "{}", scene.workspace().transcript());

    scene.workspace().fault("", Fault::Clear);
    scene.next(ANA, before + 1, "the answer and the card").await;
    let came = since(&scene, ANA, before);
    assert_eq!(came.iter().filter(|message| message.plain().contains(ANSWERED)).count(), 1);
    let card = came.iter().find(|message| message.button("Approve").is_some()).expect("the card");
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ran on ").await;
    assert_eq!(scene.count(ANA), before + 2);
    assert_eq!(the_run(&record, "count").await.expect("a run").id, run.id);
    assert_eq!(counter.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_hangs_it_is_acknowledged_and_recorded_and_carried_out_afterwards() {
    let counter = Counter::new("hangs").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    let card = scene.asks(ANA, "count --env production").await;
    scene.asks(BEN, LOOK).await;
    let before = scene.count(ANA);
    scene.workspace().fault("", Fault::Hang);
    // `says` and `clicks` return with the acknowledgement; nothing else can return now.
    scene.say(ANA, LOOK).await;
    scene.click_button(BEN, &card.at(), "Approve").await;
    found("the read's record", async || {
        let runs = scene.runs_of("sizes").await;
        (runs.len() == 2 && runs.iter().all(|run| run.state == RunState::Succeeded)).then_some(())
    })
    .await;
    // The approval counts when Slack has confirmed that ben's account still does.
    assert_eq!(kinds(&the_run(&record, "count").await.expect("a run")), ["requested"]);
    assert_eq!(counter.rows().await, 0);
    assert_eq!(scene.count(ANA), before);
    let shown = scene.workspace().message(&card.at()).expect("the card");
    assert!(shown.plain().contains("Needs approval from"), "{}", shown.plain());

    scene.workspace().fault("", Fault::Clear);
    let answer = scene.next(ANA, before, "the answer").await;
    assert!(answer.plain().contains(ANSWERED), "{}", answer.plain());
    let done = scene.until(&card.at(), " ran on ").await;
    assert!(done.button("Approve").is_none(), "{}", done.plain());
    assert_eq!(counter.rows().await, 1);
    assert_eq!(kinds(&the_run(&record, "count").await.expect("a run")).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_api_holds_up_no_acknowledgement() {
    let scene = Scene::usual().await;
    let before = scene.count(ANA);
    scene.workspace().fault("", Fault::Held);
    scene.say(ANA, LOOK).await;
    assert_eq!(scene.count(ANA), before);
    scene.workspace().fault("", Fault::Clear);
    let answer = scene.next(ANA, before, "the answer").await;
    assert!(answer.plain().contains(ANSWERED), "{}", answer.plain());
    assert_eq!(scene.runs_of("sizes").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cannot_be_confirmed_starts_nothing() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.workspace().fault("users.info", Fault::Error("token_expired"));
    for line in [format!("kill {pid} --env production"), LOOK.to_owned()] {
        let told = scene.asks(ANA, &line).await;
        let words = "isn't set up to look up accounts in this chat, so nothing was executed";
        assert!(told.plain().contains(words), "{}", told.plain());
        assert!(told.plain().contains("operators can fix it"), "it names who: {}", told.plain());
    }
    assert!(scene.runs_of("kill").await.is_empty() && scene.runs_of("sizes").await.is_empty());
    scene.workspace().fault("users.info", Fault::Clear);
    let card = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_calls_is_waited_out() {
    let counter = Counter::new("limited").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    for method in ["chat.postMessage", "chat.update", "response"] {
        scene.workspace().fault(method, Fault::RateLimited { retry_after: 1, times: 2 });
    }
    let card = scene.asks(ANA, "count --env production").await;
    assert_eq!(refused(&scene, "chat.postMessage"), 2);
    let told = scene.is_told(ANA, &card.at(), "Approve").await;
    assert!(told.plain().contains("somebody else has to decide"), "{}", told.plain());
    assert_eq!(refused(&scene, "response"), 2);
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ran on ").await;
    assert_eq!(refused(&scene, "chat.update"), 2);
    assert_eq!(kinds(&the_run(&record, "count").await.expect("a run")).len(), 4);
    assert_eq!(counter.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_cannot_be_edited_is_mended_afterwards() {
    let counter = Counter::new("fixed").await;
    let scene = counting(&counter).await;
    let record = scene.store();
    let card = scene.asks(ANA, "count --env production").await;
    scene.workspace().fault("chat.update", Fault::Status(500));
    scene.click_button(BEN, &card.at(), "Approve").await;
    becomes(&record, "count", RunState::Succeeded).await;
    // The card still has its buttons; they tell what was decided, and change nothing.
    let told = scene.is_told(CARA, &card.at(), "Deny").await;
    assert!(told.plain().contains("already decided: approved by ben"), "{}", told.plain());
    // One call is four attempts, and two calls may have been for what happened: a third is for the card's sake.
    tries_in_vain(&scene, "chat.update", 9).await;
    let shown = scene.workspace().message(&card.at()).expect("the card");
    assert!(shown.button("Approve").is_some(), "{}", shown.plain());
    assert_eq!(counter.rows().await, 1);

    scene.workspace().fault("chat.update", Fault::Clear);
    let done = scene.until(&card.at(), " ran on ").await;
    assert!(done.button("Approve").is_none() && done.plain().contains("approved by ben"), "{}", done.plain());
    assert_eq!(kinds(&the_run(&record, "count").await.expect("a run")).len(), 4);
    assert_eq!(counter.rows().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_hangs_holds_up_no_expiry() {
    let counter = Counter::new("expiring").await;
    let acts = counter.acts();
    let twist = Twist {
        commands: vec![("count.sql", &acts)],
        instead: vec![("wait = \"30m\"", "wait = \"4s\"")],
        ..Twist::default()
    };
    let scene = Scene::with(twist).await;
    let record = scene.store();
    scene.workspace().fault("chat.update", Fault::Hang);
    let first = scene.asks(ANA, "count --env staging").await;
    found("the first card's edit to hang", async || (edits(&scene) > 0).then_some(())).await;
    let second = scene.asks(ANA, "count --env production").await;
    found("both to expire", async || {
        let runs = crate::process::all_runs(&record, "count").await;
        (runs.len() == 2 && runs.iter().all(|run| run.state == RunState::Expired)).then_some(())
    })
    .await;
    // An attempt takes ten seconds, there are four, and a request has a card and two direct copies.
    assert!(edits(&scene) < 3 * 4, "the first card's edit must still be under way");
    scene.workspace().fault("chat.update", Fault::Clear);
    for card in [first, second] {
        scene.until(&card.at(), "Expired: the request was not decided in time").await;
    }
    assert_eq!(counter.rows().await, 0);
}

fn edits(scene: &Scene) -> usize {
    scene.workspace().calls("chat.update")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_whose_delivery_was_not_confirmed_decides_through_one_copy_only() {
    let counter = Counter::new("unconfirmed").await;
    let scene = counting(&counter).await;
    let before = scene.count(ANA);
    scene.workspace().fault("chat.postMessage", Fault::AnswerLost);
    scene.say(ANA, "count --env production").await;
    let stray = scene.next(ANA, before, "the card").await;
    scene.workspace().fault("chat.postMessage", Fault::Clear);
    let known = found("a copy that is confirmed", async || {
        let card = since(&scene, ANA, before).pop()?;
        (card.ts != stray.ts && scene.workspace().payloads().iter().any(|sent| sent.error.is_none()))
            .then_some(card)
    })
    .await;
    let told = scene.is_told(BEN, &stray.at(), "Approve").await;
    assert!(told.plain().contains("Use the other one"), "{}", told.plain());
    assert_eq!(counter.rows().await, 0);
    scene.click_button(BEN, &known.at(), "Approve").await;
    scene.until(&known.at(), " ran on ").await;
    assert_eq!(counter.rows().await, 1);
}

/// Asks, and lets the address for the answer become useless while the answer is held up.
async fn without_its_address(scene: &Scene, counter: &Counter, spoil: impl AsyncFn()) {
    let holder = counter.held().await;
    scene.say(ANA, "counted --env production").await;
    counter.is_waited_for().await;
    spoil().await;
    holder.batch_execute("COMMIT").await.unwrap();
}

/// Uses up the address of the newest request, as five answers would.
async fn uses_up(scene: &Scene) {
    let body = scene.workspace().deliveries().pop().expect("a request").body;
    let fields: Vec<(String, String)> = serde_urlencoded::from_str(&body).unwrap();
    let url = &fields.iter().find(|(name, _)| name == "response_url").expect("an address").1;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    loop {
        let answer = client.post(url).json(&serde_json::json!({ "text": "used" })).send().await.unwrap();
        match answer.status().as_u16() {
            200 => {}
            429 => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            404 => return,
            other => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_expired_or_is_used_up_gives_way_to_the_web_api() {
    let counter = Counter::new("addresses").await;
    let scene = counting(&counter).await;
    let before = scene.count(BEN);
    without_its_address(&scene, &counter, async || scene.workspace().expire_response_urls()).await;
    let answer = scene.next(BEN, before, "the answer for everyone").await;
    assert!(answer.plain().contains("Counted 0."), "{}", answer.plain());

    without_its_address(&scene, &counter, async || uses_up(&scene).await).await;
    let answer = scene.next(BEN, before + 1, "the answer for everyone").await;
    assert!(answer.plain().contains("Counted 0."), "{}", answer.plain());
    assert_eq!(scene.workspace().calls("chat.postMessage"), 2);
    assert_eq!(scene.runs_of("counted").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_bot_is_no_member_reads_are_answered_and_requests_refused() {
    let counter = Counter::new("outside").await;
    let scene = counting(&counter).await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    for (id, private) in [("C0OUTSIDE", false), ("C0PRIVATE", true)] {
        scene.workspace().add_channel(Channel {
            id: id.into(),
            name: "outside".into(),
            private,
            ..Channel::default()
        });
        let seen =
            |workspace: &countersign::demo::fake_slack::Workspace| workspace.visible_messages(ANA, id).pop();
        scene.says_in(ANA, id, LOOK).await;
        let answer = scene.workspace().wait_for("the answer", seen).await.unwrap();
        assert!(answer.plain().contains(ANSWERED), "{}", answer.plain());

        scene.workspace().clear_messages();
        scene.says_in(ANA, id, &format!("kill {pid} --env production")).await;
        let told = scene.workspace().wait_for("a refusal", seen).await.unwrap();
        assert!(told.plain().contains("Invite it, then request again"), "{id}: {}", told.plain());
        assert_eq!(told.ephemeral_to.as_deref(), Some(ANA));
        scene.workspace().clear_messages();

        // Without an address for the answer the bot can't speak there: it goes to the asker.
        let holder = counter.held().await;
        scene.says_in(ANA, id, "counted --env production").await;
        counter.is_waited_for().await;
        scene.workspace().expire_response_urls();
        holder.batch_execute("COMMIT").await.unwrap();
        let direct = scene.workspace().dm_channel(ANA);
        let seen = |workspace: &countersign::demo::fake_slack::Workspace| {
            workspace.visible_messages(ANA, &direct).pop()
        };
        let answer = scene.workspace().wait_for("a direct answer", seen).await.unwrap();
        assert!(answer.plain().contains("Counted 0."), "{}", answer.plain());
        assert!(scene.workspace().visible_messages(BEN, id).is_empty());
        scene.workspace().clear_messages();
    }
    assert!(scene.runs_of("kill").await.is_empty());
    assert!(scene.is_there(pid).await);
}
