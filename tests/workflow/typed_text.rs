//! Lines as people, phones and other chats' habits write them. Each is answered as the plain line would be, or told what is in the way.

use crate::harness::{ANA, BEN, DAN, Scene};
use countersign::demo::fake_slack::{self, Fault, Workspace};
use countersign::demo::harness::INCIDENT;

/// Types a line behind the slash command; the answer's heading is that of `plain`.
async fn asks_as(scene: &Scene, typed: &str, plain: &str) {
    let answer = scene.asks(ANA, typed).await;
    let told = answer.plain();
    assert!(told.contains(&format!("ana requested {plain} on ")), "{typed:?}: {told}");
    assert_eq!(answer.ephemeral_to, None, "{typed:?} is refused: {told}");
}

/// Mentions the bot with this text; the answer's heading is that of `plain`.
async fn mentions_as(scene: &Scene, text: &str, plain: &str) {
    let text = text.replace("BOT", &format!("<@{}>", fake_slack::BOT_USER));
    let before = scene.count(ANA);
    assert!(scene.workspace().mention_bot(ANA, INCIDENT, None, &text).await.ok(), "{text}");
    let told = scene.next(ANA, before + 1, &text).await.plain();
    assert!(told.contains(&format!("ana requested {plain} on ")), "{text:?}: {told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn decorated_commands_are_the_plain_ones() {
    let scene = Scene::usual().await;
    scene.asks(ANA, "use staging").await;
    for typed in [
        // Characters that can't be seen.
        "\u{200b}health",
        "health \u{200b}--env staging",
        "health\u{2060}",
        "health\u{feff} \u{200e}--env staging",
        // Marks of formatting.
        "`health`",
        "`health --env staging`",
        "*health* --env *staging*",
        // Dashes.
        "health －－env staging",
        "health ‑‑env staging",
        "health -env staging",
        "health —env staging",
        // Habits.
        "/db health",
        "/DB health",
        "Db Health",
        "/health",
    ] {
        asks_as(&scene, typed, "health").await;
    }
    for typed in ["sizes *asset-service*", "sizes asset‑service", "sizes asset\u{ad}-service"] {
        asks_as(&scene, typed, "sizes asset-service").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mention_may_stand_anywhere() {
    let scene = Scene::usual().await;
    scene.asks(ANA, "use staging").await;
    for text in [
        "BOT: health",
        "BOT, health",
        "BOT BOT health",
        "health BOT",
        "health BOT --env staging",
        "BOT /db health",
        "BOT /DB Health",
        "BOT `health --env staging`",
        "*BOT health*",
        "&gt; somebody wrote this\nBOT health",
    ] {
        mentions_as(&scene, text, "health").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reasons_in_the_quotes_of_any_keyboard_are_read_and_links_stay_open() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    for (typed, reason) in [
        ("«blocks the deploy»", "blocks the deploy"),
        ("« bloque\u{a0}le déploiement\u{a0}»", "bloque le déploiement"),
        ("＂stuck report＂", "stuck report"),
        ("‘ana’s report’", "ana’s report"),
        ("\"asked by <@U0BEN|ben>\"", "asked by ben"),
        ("\"asked by <@U0NOBODY|ben>\"", "asked by @U0NOBODY"),
        ("\"see https://jira.example/browse/OPS-12\"", "see https://jira.example/browse/OPS-12"),
        (
            "\"see <https://ana:pw@jira.example/browse/OPS-12?token=x#y|the ticket>\"",
            "see the ticket (https://jira.example/browse/OPS-12",
        ),
    ] {
        let card = scene.asks(ANA, &format!("kill {pid} --env staging --reason {typed}")).await;
        let words = card.plain();
        assert!(words.contains(reason) && card.button("Approve").is_some(), "{typed}: {words}");
        assert!(!words.contains("pw@") && !words.contains("token=x"), "{words}");
        scene.until_noted(&card).await;
        scene.click_button(ANA, &card.at(), "Withdraw").await;
        scene.until(&card.at(), "ithdr").await;
    }
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_who_the_chat_means() {
    let scene = Scene::usual().await;
    scene.asks(BEN, "freeze").await;
    scene.asks(ANA, "unfreeze").await;
    for typed in ["<@U0BEN|ben>", "<@U0BEN>", "@ben", "ben"] {
        let told = scene.asks(ANA, &format!("history --who {typed}")).await.plain();
        assert!(told.contains("freeze") && !told.contains("unfreeze"), "{typed}: {told}");
        assert!(told.contains("requested history --who"), "{typed}: {told}");
    }
    // A name that the chat shows is no identity.
    scene.refused(ANA, "history --who <@U0NOBODY|ben>", "has no person “@U0NOBODY”").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_told_with_its_place() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let line = format!("kill {pid} --env staging --reason blocks the deploy");
    scene.refused(ANA, &line, "quotes: --reason \"blocks the deploy\"").await;
    scene
        .refused(
            ANA,
            "health --env staging --reason blocks the deploy",
            "quotes: --reason \"blocks the deploy\"",
        )
        .await;
    scene.refused(ANA, "analyze asset-service --env staging --reason blocks the", "needs quotes").await;
    scene
        .refused(ANA, "sizes \"asset\u{7}service\"", "“asset” is followed by an invisible character (U+0007)")
        .await;
    scene.refused(ANA, "sizes “asset", "isn't closed").await;
    let told = scene.asks(ANA, &format!("kill {pid}\nkill 4712")).await.plain();
    assert!(
        told.contains(&format!("requested kill {pid} kill 4712:"))
            || told.contains(&format!("kill {pid} kill 4712")),
        "{told}"
    );
    assert!(!told.contains('…'), "{told}");
    let find = |workspace: &Workspace| Some(workspace.visible_messages(BEN, INCIDENT).len());
    assert_eq!(find(scene.workspace()), Some(0), "a refusal is the asker's alone");
    assert!(scene.is_there(pid).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_no_fault_of_the_persons() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    scene.workspace().fault("conversations.info", Fault::Error("missing_scope"));
    let line = format!("kill {pid} --env staging");
    scene.refused(ANA, &line, "isn't set up to look up conversations").await;
    scene.workspace().fault("users.info", Fault::Error("missing_scope"));
    scene.refused(DAN, "health --env staging", "isn't set up to look up accounts").await;
    assert!(scene.is_there(pid).await);
}
