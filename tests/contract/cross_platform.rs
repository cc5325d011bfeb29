//! One request, two platforms: whoever decides is another person than whoever asked, wherever either of them speaks.

use crate::bot_process::{Bot, INCIDENT, Twist};
use crate::chat_driver::{Chat, Seen};
use crate::harness::{asks, is_refused, sees};
use crate::slack::{Slack, account};
use crate::teams::Teams;
use crate::terminal::{SITS, prints, program_prints};
use countersign::config::login_name;
use countersign::demo::fake_slack;

/// Ben is known in one of them alone, and told there.
async fn with_ben_only_in(platform: &str) -> Bot {
    let teams = format!("teams = [\"{}\"]\n", countersign::demo::fake_teams::object_id("ben"));
    let elsewhere = match platform {
        "teams" => "slack = [\"U0BEN\"]\n",
        _ => teams.as_str(),
    };
    // Cara could be asked as well; here it is ben alone.
    let roles = ("roles = [\"on-call\", \"approver\"]", "roles = [\"on-call\"]");
    Bot::start(Twist { slack: true, teams: true, more: "", instead: &[(elsewhere, ""), roles] }).await
}

/// Waits for the card in a conversation of two.
async fn told_alone(look: impl Fn() -> Vec<Seen>, pid: i32) -> Seen {
    crate::bot_process::found("ben to be told", async || {
        let pid = pid.to_string();
        look().into_iter().find(|seen| seen.words.contains(&pid) && seen.words.contains("[Approve]"))
    })
    .await
}

fn kill(pid: i32) -> String {
    format!("kill {pid} --env production --reason \"blocks the deploy\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_in_slack_and_approved_in_teams_by_another_and_by_nobody_else() {
    let bot = with_ben_only_in("teams").await;
    let (slack, teams) = (Slack(&bot), Teams(&bot));
    let (_victim, pid) = bot.session("asset-worker-7").await;
    asks(&slack, "ana", &kill(pid)).await;
    let card = told_alone(|| teams.sees_in("ben", &bot.teams.personal("ben")), pid).await;
    assert!(card.words.contains("ana") && card.words.contains("blocks the deploy"), "{}", card.words);
    // Another copy, for everyone in Teams.
    let run = bot.runs(Some("kill")).await[0].id;
    asks(&teams, "ana", &format!("show {run}")).await;
    let shown = sees(&teams, "ben", &["blocks the deploy", "[Approve]"]).await;
    is_refused(&teams, ("ana", &shown), ("Approve", "somebody else has to decide")).await;
    is_refused(&teams, ("nora", &shown), ("Approve", "not in Countersign's list")).await;
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.is_there(pid).await);
    teams.click_button("ben", &card, "Approve").await;
    let gone = format!("Session {pid} ended");
    sees(&slack, "ana", &[&gone, "approved by ben"]).await;
    sees(&teams, "dan", &[&gone, "approved by ben"]).await;
    crate::bot_process::found("both copies", async || {
        let seen = teams.sees_in("ben", &bot.teams.personal("ben"));
        seen.iter().any(|seen| seen.words.contains(&gone)).then_some(())
    })
    .await;
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "started", "succeeded"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_in_teams_and_approved_in_slack_by_another_and_by_nobody_else() {
    let bot = with_ben_only_in("slack").await;
    let (slack, teams) = (Slack(&bot), Teams(&bot));
    let (_victim, pid) = bot.session("asset-worker-7").await;
    asks(&teams, "ana", &kill(pid)).await;
    let dm = bot.stage.workspace.dm_channel("U0BEN");
    let card = told_alone(|| slack.sees_in("ben", &dm), pid).await;
    // What Slack's page would not let them send.
    for (who, words) in [("ana", "somebody else has to decide"), ("nora", "not in Countersign's list")] {
        forged_click(&bot, &account(who), &card).await;
        let told = |sent: countersign::demo::fake_slack::Payload| sent.body.to_string().contains(words);
        crate::bot_process::found(words, async || {
            bot.stage.workspace.payloads().into_iter().any(told).then_some(())
        })
        .await;
    }
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.is_there(pid).await);
    slack.click_button("ben", &card, "Approve").await;
    sees(&teams, "ana", &[&format!("Session {pid} ended"), "approved by ben"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_in_a_terminal_and_decided_in_teams_by_another_alone() {
    let name = format!("name = \"{SITS}\"\n");
    let sits = format!("{name}terminal = [\"{}\"]\n", login_name());
    let channel = format!("[teams]\nterminal_channel = \"{INCIDENT}\"\n");
    let instead = [(name.as_str(), sits.as_str()), ("[teams]\n", channel.as_str())];
    let bot = Bot::start(Twist { slack: false, teams: true, more: "", instead: &instead }).await;
    let teams = Teams(&bot);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let printed = prints(&bot, &kill(pid)).await;
    assert!(printed.contains("Needs approval from"), "{printed}");
    let card = sees(&teams, "ben", &["blocks the deploy", "[Approve]"]).await;
    is_refused(&teams, ("ana", &card), ("Approve", "somebody else has to decide")).await;
    is_refused(&teams, ("nora", &card), ("Approve", "not in Countersign's list")).await;
    assert!(bot.is_there(pid).await);
    teams.click_button("ben", &card, "Approve").await;
    sees(&teams, "ana", &[&format!("Session {pid} ended"), "approved by ben"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_chat_narrows_its_role_in_the_other_too() {
    let secrets = "signing_secrets = [{ env";
    let narrowed = format!("groups = {{ approver = \"S0APPROVERS\" }}\n{secrets}");
    let bot =
        Bot::start(Twist { slack: true, teams: true, more: "", instead: &[(secrets, &narrowed)] }).await;
    bot.stage.workspace.set_group("S0APPROVERS", &["U0CARA"]);
    let teams = Teams(&bot);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    asks(&teams, "ana", &kill(pid)).await;
    let card = sees(&teams, "cara", &["blocks the deploy", "[Approve]"]).await;
    is_refused(&teams, ("ben", &card), ("Approve", "requires membership in its chat group")).await;
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.is_there(pid).await);
    teams.click_button("cara", &card, "Approve").await;
    sees(&teams, "ana", &[&format!("Session {pid} ended"), "approved by cara"]).await;
}

/// A click on a card in a conversation that the clicker isn't in.
async fn forged_click(bot: &Bot, who: &str, card: &Seen) {
    let crate::chat_driver::Message::Slack(card) = &card.message else { panic!("no message of Slack's") };
    let workspace = &bot.stage.workspace;
    let token = card.button("Approve").and_then(|button| button.value).expect("a token");
    let (team, secret) = (fake_slack::TEAM, fake_slack::SIGNING_SECRET);
    let payload = serde_json::json!({
        "type": "block_actions", "trigger_id": format!("forged-{who}"), "team": { "id": team, "domain": "d" },
        "user": { "id": who, "name": who, "team_id": team },
        "channel": { "id": card.channel, "name": "c" },
        "container": { "type": "message", "message_ts": card.ts, "channel_id": card.channel },
        "message": { "ts": card.ts }, "response_url": null,
        "actions": [{ "type": "button", "action_id": "cs:0", "value": token, "action_ts": "1.1" }],
    });
    let body = serde_urlencoded::to_string([("payload", payload.to_string())]).expect("a form");
    let now = jiff::Timestamp::now().as_second();
    let headers = vec![
        ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
        ("x-slack-request-timestamp".to_owned(), now.to_string()),
        ("x-slack-signature".to_owned(), workspace.sign(secret, now, body.as_bytes())),
    ];
    let ack = workspace.post_raw("/slack/interactions", headers, body.into_bytes()).await;
    assert!(ack.ok(), "{ack:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_if_the_bot_is_in_the_channel_for_terminals_in_teams() {
    for (channel, words) in [
        (INCIDENT, "Teams: terminal_channel works the bot is in"),
        ("19:elsewhere@thread.tacv2", "Teams: terminal_channel !! missing the bot isn't in"),
    ] {
        let section = format!("[teams]\nterminal_channel = \"{channel}\"\n");
        let bot = Bot::start(Twist { instead: &[("[teams]\n", &section)], ..Twist::default() }).await;
        let printed = program_prints(&bot, &["check", "--only", "chat"]).await;
        assert!(printed.contains(&format!("{words} {channel}")), "{printed}");
    }
}
