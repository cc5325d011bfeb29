//! Break-glass: one person alone, in need, and another who looks at it afterwards.

use crate::process::kinds;
use crate::scene::{ANA, BEN, CARA, Scene, Twist};
use countersign::store::State;

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
    let done = scene.until(&card.at(), "is gone").await;
    assert!(!scene.is_there(pid).await && scene.is_there(spared).await);
    let run = scene.only_run("kill").await;
    for words in [
        "PRODUCTION",
        "break-glass kill",
        "nobody else is awake",
        "without a second person",
        "U0BEN",
        &format!("review {}", run.id),
    ] {
        assert!(done.plain().contains(words), "{words} is missing: {}", done.plain());
    }
    assert_eq!((run.state, kinds(&run)), (State::Succeeded, vec!["started", "succeeded"]));
    assert!(run.request.alone);
    let told = scene.workspace().wait_for("ben to be told", |workspace| {
        workspace
            .visible(BEN, &workspace.dm(BEN))
            .into_iter()
            .find(|message| message.plain().contains("without a second person"))
    });
    told.await.unwrap_or_else(|why| panic!("{why}"));

    for list in ["pending", "history"] {
        let listed = scene.asks(BEN, list).await.plain();
        let (first, _) = listed.split_once("done alone, and nobody has reviewed it").expect(&listed);
        assert!(!first.contains("requests wait"), "it stands on top: {listed}");
    }
    scene.refused(ANA, &format!("review {}", run.id), "somebody else has to look at it").await;
    scene.refused("U0DAN", &format!("review {}", run.id), "You may not run").await;
    let told = scene.asks(BEN, &format!("review {} --reason \"right so\"", run.id)).await.plain();
    assert!(told.contains(&format!("Run #{} is reviewed", run.id)), "{told}");
    let shown = scene.until(&card.at(), "reviewed by ben").await.plain();
    assert!(!shown.contains("has to look at it"), "{shown}");
    let listed = scene.asks(BEN, "pending").await.plain();
    assert!(listed.contains("Nothing waits for anyone"), "{listed}");
    scene.refused(CARA, &format!("review {}", run.id), "has reviewed run").await;
    assert_eq!(scene.store_verified().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_in_an_hour_and_only_so() {
    let scene = with_glass().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let kill = format!("kill {pid} --env production --reason \"nobody is awake\"");
    for (who, line, words) in [
        (CARA, format!("break-glass {kill}"), "You lack the role last-resort"),
        (BEN, format!("break-glass {kill}"), "You may not run `kill`"),
        (ANA, format!("break-glass kill {pid} --reason why"), "Which environment?"),
        (
            ANA,
            format!("break-glass kill {pid} --env production"),
            "types the environment's name and a reason",
        ),
        (ANA, "break-glass unfreeze --env production --reason why".to_owned(), "is never done alone"),
        (
            ANA,
            format!("break-glass cancel {pid} --env production --reason why"),
            "needs no second person here",
        ),
        (ANA, format!("break-glass {kill} --private"), "everyone here can read"),
        (ANA, format!("break-glass shoot {pid} --env production --reason why"), "There is no command"),
    ] {
        scene.refused(who, &line, words).await;
        assert!(scene.is_there(pid).await, "{line}");
    }
    // A conversation that is bound to an environment doesn't name it.
    scene.asks(ANA, "use production").await;
    scene.refused(ANA, &format!("break-glass kill {pid} --reason why"), "types the environment's name").await;
    assert!(scene.runs_of("kill").await.is_empty());

    let dry = scene.asks(ANA, &format!("break-glass {kill} --dry-run")).await.plain();
    assert!(dry.contains("nothing was done"), "{dry}");
    assert!(scene.is_there(pid).await && scene.runs_of("kill").await.is_empty());

    let card = scene.asks(ANA, &format!("break-glass {kill}")).await;
    scene.until(&card.at(), "is gone").await;
    let (_second, pid) = scene.session("asset-worker-8").await;
    let again = format!("break-glass kill {pid} --env production --reason again");
    scene.refused(ANA, &again, "ana acted alone at").await;
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_section_nobody_acts_alone() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("break-glass kill {pid} --env production --reason \"nobody is awake\"");
    scene.refused(ANA, &line, "Nobody may act alone here").await;
    let how = scene.asks(ANA, "break-glass").await.plain();
    assert!(how.contains("Nobody may act alone"), "{how}");
    assert!(scene.is_there(pid).await);
}
