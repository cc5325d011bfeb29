//! A person's home: what waits for them, their requests, the health of each environment, the last changes; for them alone.

use crate::harness::{ANA, BEN, DAN, Scene, found};
use crate::notifications::direct;
use countersign::demo::fake_slack::Message;
use countersign::store::{Filter, Store};

/// The home, once it says these words.
async fn home(scene: &Scene, who: &str, words: &str) -> Message {
    let published = scene
        .workspace()
        .wait_for(words, |workspace| workspace.home(who).filter(|home| home.plain().contains(words)));
    published.await.unwrap_or_else(|why| panic!("{who}: {why}"))
}

async fn opens(scene: &Scene, who: &str, words: &str) -> String {
    let ack = scene.workspace().open_home(who).await;
    assert!(ack.ok(), "{ack:?}");
    home(scene, who, words).await.plain()
}

fn published_for(scene: &Scene, who: &str) -> usize {
    let published = scene.workspace().payloads().into_iter().filter(|sent| sent.method == "views.publish");
    published.filter(|sent| sent.body["user_id"] == who).count()
}

async fn recorded(scene: &Scene, who: &str) -> usize {
    let (command, include_reads) = (Some("home".to_owned()), true);
    let requester = Some(who.to_owned());
    let filter = Filter { command, include_reads, requester, ..Filter::default() };
    scene.store().list(filter).await.expect("the audit log").total
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_shows_what_concerns_its_person_and_leads_there() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let card = scene.kill_card(pid).await;
    let kill = format!("kill {pid}");

    // Whoever can approve it, and twice at once is once.
    let waiting = opens(&scene, BEN, "1 request is waiting for you.").await;
    assert!(scene.workspace().open_home(BEN).await.ok());
    for words in
        ["Waiting for you", &kill, "requested by ana", "production: ", "staging: ", "[Show #1]", "/db show 1"]
    {
        assert!(waiting.contains(words), "{words} is missing:\n{waiting}");
    }
    assert!(!waiting.contains("Your requests"), "{waiting}");
    assert!(scene.workspace().click_home(BEN, "Show #1").await.ok());
    direct(&scene, BEN, "Needs approval from").await;
    assert!(scene.workspace().click_home(BEN, "Health of staging").await.ok());
    direct(&scene, BEN, "requested health on").await;

    // Somebody who only reads has nothing to decide, and sees that it waits for others.
    let reader = opens(&scene, DAN, "No requests are waiting for you.").await;
    assert!(!reader.contains("Waiting for you") && !reader.contains("[Show #"), "{reader}");

    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), " ended.").await;
    let after = opens(&scene, ANA, "Last changes").await;
    let change = after.lines().find(|line| line.contains(&kill)).unwrap_or_default();
    assert!(change.contains("on production: succeeded, by ana"), "{after}");
    assert!(!after.contains("Your requests"), "{after}");

    // Without a place in the list there is a page that says so, and no other word.
    let stranger = opens(&scene, "U0NOBODY", "You are not in Countersign's list of people").await;
    assert!(!stranger.contains("production") && !stranger.contains(&kill), "{stranger}");

    // A reading for each refresh, and none for what was fresh.
    found("the reads to be recorded", async || (recorded(&scene, "ana").await == 1).then_some(())).await;
    assert_eq!((recorded(&scene, "ben").await, published_for(&scene, BEN)), (1, 1));
    assert_eq!(recorded(&scene, "nora").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_types_home_is_answered_alone() {
    let scene = Scene::usual().await;
    let answer = scene.asks(ANA, "/db home").await;
    let plain = answer.plain();
    assert_eq!(answer.ephemeral_to.as_deref(), Some(ANA), "{plain}");
    assert!(plain.contains("No requests are waiting for you."), "{plain}");
    assert!(plain.contains("staging: ") && answer.button("Health of staging").is_some(), "{plain}");
}
