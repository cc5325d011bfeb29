//! Slack refuses what the bot isn't set up for: the asker reads that its operators can fix it, and the log names method and code.

use crate::bot_process::{Bot, Twist};
use crate::chat_driver::Chat;
use crate::harness::{Platform, asks, is_refused, kill_card, sees};
use crate::slack::Slack;
use countersign::demo::fake_slack::Fault;

const FIX: &str = "Countersign's operators can fix it";

async fn bot(instead: &[(&str, &str)]) -> Bot {
    Bot::start(Twist { slack: true, teams: false, more: "", instead }).await
}

fn names(bot: &Bot, call: &str) {
    let log = bot.log();
    let named = log.lines().any(|line| line.contains(call) && line.contains("\"level\":\"ERROR\""));
    assert!(named, "{call} is not in the log:\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope() {
    for (scope, words, call) in [
        ("users:read", "isn't set up to look up accounts", "users.info: missing_scope"),
        ("channels:read", "isn't set up to look up conversations", "conversations.info: missing_scope"),
    ] {
        let bot = bot(&[]).await;
        let (_victim, pid) = bot.session("asset-worker-7").await;
        bot.stage.workspace.revoke_scope(scope);
        let told = asks(&Slack(&bot), "ana", &format!("kill {pid} --env staging")).await;
        assert!(told.words.contains(words) && told.words.contains(FIX) && told.alone, "{}", told.words);
        names(&bot, call);
        assert!(bot.runs(Some("kill")).await.is_empty() && bot.is_there(pid).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_group_that_was_disabled_or_renamed_or_a_scope_for_it_that_is_missing() {
    let groups = "groups = { approver = \"S0APP\" }\nsigning_secrets = [{ env";
    for code in ["no_such_subteam", "subteam_disabled", "missing_scope"] {
        let bot = bot(&[("signing_secrets = [{ env", groups)]).await;
        let workspace = &bot.stage.workspace;
        workspace.set_group("S0APP", &["U0BEN", "U0CARA"]);
        let (_victim, pid) = bot.session("asset-worker-7").await;
        let chat: &dyn Chat = &Slack(&bot);
        let card = kill_card(chat, pid).await;
        workspace.fault("usergroups.", Fault::Error(code));
        is_refused(chat, ("ben", &card), ("Approve", FIX)).await;
        names(&bot, &format!("usergroups.users.list: {code}"));
        assert_eq!(bot.events_of("kill").await, ["requested"]);
        assert!(bot.is_there(pid).await);
        workspace.fault("usergroups.", Fault::Clear);
        chat.click_button("ben", &card, "Approve").await;
        sees(chat, "ana", &[&format!("Session {pid} ended")]).await;
    }
    let bot = bot(&[("signing_secrets = [{ env", groups)]).await;
    bot.stage.workspace.fault("usergroups.", Fault::Error("no_such_subteam"));
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let told = asks(&Slack(&bot), "ana", &format!("kill {pid} --env staging")).await;
    assert!(told.words.contains("can't be read from the chat platform"), "{}", told.words);
    assert!(told.words.contains(FIX), "{}", told.words);
    assert!(bot.runs(Some("kill")).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn approvers_who_can_not_be_looked_up_are_not_taken_for_absent() {
    // Who sits at a terminal needs no account in the chat.
    let bot = Platform::Terminal.bot("", &[]).await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    bot.stage.workspace.revoke_scope("users:read");
    let chat = Platform::Terminal.chat(&bot);
    let told = asks(&*chat, "ana", &format!("kill {pid} --env staging")).await;
    assert!(told.words.contains("can't be read from the chat platform"), "{}", told.words);
    assert!(bot.runs(Some("kill")).await.is_empty() && bot.is_there(pid).await);
}
