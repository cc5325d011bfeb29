//! People who are mentioned in a line to the bot are who the chat means, whatever it calls them.

use crate::bot_process::{Bot, INCIDENT, Twist};
use countersign::demo::fake_teams::{TeamsMessage, TenantUser};
use serde_json::{Value, json};

fn entity(id: &str, name: &str) -> Value {
    json!({ "type": "mention", "text": format!("<at>{name}</at>"), "mentioned": { "id": id, "name": name } })
}

/// Types a line to the bot, which mentions others; the answer, as somebody sees it.
async fn asks(bot: &Bot, who: &str, (line, mentioned): (&str, &[(&str, &str)])) -> TeamsMessage {
    let before = bot.answers(who, INCIDENT).len();
    let mut activity = bot.teams.activity(who, INCIDENT);
    activity["id"] = json!(format!("mention-{}", bot.teams.deliveries().len()));
    activity["text"] = json!(format!("<at>Countersign</at> {line}"));
    let own = entity(activity["recipient"]["id"].as_str().expect("an id"), "Countersign");
    let others = mentioned.iter().map(|(id, name)| entity(id, name));
    activity["entities"] = others.chain([own]).collect();
    assert!(bot.teams.deliver(activity).await.ok());
    bot.next((who, INCIDENT), before, line).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mentioned_person_is_an_argument() {
    let bot = Bot::start(Twist::default()).await;
    bot.asks("cara", "freeze").await;
    bot.asks("ana", "use staging").await;
    for (line, mentioned) in [
        ("history --who <at>ben</at>", ("29:ben", "ben")),
        ("history --who <at>Ben Brown</at>", ("29:ben", "Ben Brown")),
        ("history --who <at>ana</at>", ("29:ben", "ana")),
        ("history --who=<at>Cara &amp; Co</at>", ("29:cara", "Cara & Co")),
    ] {
        let told = asks(&bot, "dan", (line, &[mentioned])).await.plain();
        let is_caras = mentioned.0 == "29:cara";
        assert_eq!(told.contains("freeze"), is_caras, "{line}: {told}");
        assert!(!told.contains("use staging"), "{line}: {told}");
        let name = mentioned.0.trim_start_matches("29:");
        assert!(told.contains(&format!("dan requested history --who {name}")), "{line}: {told}");
    }
    // A name that the chat shows is no identity.
    bot.teams.add_person(TenantUser::new("eve"));
    for id in ["29:eve", "29:nora", "29:somebody"] {
        let told = asks(&bot, "dan", ("history --who <at>ben</at>", &[(id, "ben")])).await;
        assert!(told.plain().contains("has no person"), "{id}: {}", told.plain());
        assert_eq!(told.only_to.as_deref(), Some("dan"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mentioned_person_is_named_in_a_reason() {
    let bot = Bot::start(Twist::default()).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let line =
        format!("kill {pid} --env staging --reason \"asked by <at>Ben Brown</at>, not by <at>Nora</at>\"");
    let card = asks(&bot, "ana", (&line, &[("29:ben", "Ben Brown"), ("29:nora", "Nora")])).await;
    let shown = bot.sees("cara", &card.at(), "[Approve]").await.plain();
    assert!(shown.contains("asked by ben, not by @Nora (not listed)"), "{shown}");
    assert!(!shown.contains("<at>"), "{shown}");
    assert_eq!(
        bot.runs(Some("kill")).await[0].text("reason"),
        Some("asked by ben, not by @Nora (not listed)")
    );
    assert!(bot.is_there(pid).await);
}
