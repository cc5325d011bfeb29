//! The scenes. None of them knows where it is played.

pub use crate::client_texts::no_secret_of_a_clients_text_is_shown;
use crate::harness::{Platform, asks, is_refused, kill_card, sees};
use countersign::model::RunState;
use countersign::store::Store;

pub async fn health_is_answered_for_all_to_see(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    let told = asks(&*chat, "cara", "health --env production").await;
    assert!(told.words.contains("cara") && told.words.contains("PRODUCTION"), "{}", told.words);
    assert!(!told.alone);
    sees(&*chat, "dan", &["cara requested health"]).await;
    let told = asks(&*chat, "ana", "health --env production").await;
    assert!(told.words.contains("ana requested health"), "{}", told.words);
    assert_eq!(bot.runs(Some("health")).await.len(), 2);
}

pub async fn a_wrong_command_is_answered_alone_and_says_what_to_type(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    for who in ["ana", "cara"] {
        let told = asks(&*chat, who, "bloked --env production").await;
        assert!(told.words.contains("Did you mean") && told.words.contains("blocked"), "{}", told.words);
        assert!(told.alone, "{}", told.words);
    }
    assert!(bot.runs(None).await.is_empty());
}

pub async fn nobody_decides_their_own_request_and_another_does(on: Platform) {
    // Whatever her roles.
    let roles = ("roles = [\"on-call\"]", "roles = [\"on-call\", \"approver\"]");
    let bot = on.bot("", &[roles]).await;
    let chat = on.chat(&bot);
    let (victim, pid) = bot.session("asset-worker-7").await;
    let (_bystander, other) = bot.session("asset-worker-8").await;
    let card = kill_card(&*chat, pid).await;
    for words in ["PRODUCTION", "ana", "asset-worker-7", "Impact"] {
        assert!(card.words.contains(words), "{words} is missing:\n{}", card.words);
    }
    for button in ["Approve", "Deny"] {
        is_refused(&*chat, ("ana", &card), (button, "somebody else has to decide")).await;
    }
    is_refused(&*chat, ("dan", &card), ("Approve", "no role that approves")).await;
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.is_there(pid).await, "nothing may happen before the approval");

    chat.click_button("ben", &card, "Approve").await;
    let gone = format!("Session {pid} ended");
    for who in ["ben", "cara", "dan"] {
        let done = sees(&*chat, who, &[&gone, "approved by ben"]).await;
        assert!(!done.words.contains("[Approve]"), "{}", done.words);
    }
    assert!(!bot.is_there(pid).await && bot.is_there(other).await);
    assert!(victim.simple_query("SELECT 1").await.is_err());
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "started", "succeeded"]);
    assert_eq!(bot.store().verify().await.expect("the record").first_error, None);
}

pub async fn a_request_is_denied_with_a_reason(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    kill_card(&*chat, pid).await;
    let run = bot.runs(Some("kill")).await[0].id;
    asks(&*chat, "ben", &format!("deny {run} --reason \"wait for the deploy\"")).await;
    sees(&*chat, "cara", &["Denied by ben", "wait for the deploy"]).await;
    assert_eq!(bot.events_of("kill").await, ["requested", "denied"]);
    assert!(bot.is_there(pid).await);
}

pub async fn the_requester_withdraws_and_nobody_else(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    kill_card(&*chat, pid).await;
    let run = bot.runs(Some("kill")).await[0].id;
    let told = asks(&*chat, "cara", &format!("withdraw {run}")).await;
    assert!(told.words.contains("is ana's") && told.alone, "{}", told.words);
    asks(&*chat, "ana", &format!("withdraw {run}")).await;
    let done = sees(&*chat, "ben", &["Withdrawn by ana"]).await;
    assert!(!done.words.contains("[Approve]"), "{}", done.words);
    assert_eq!(bot.events_of("kill").await, ["requested", "withdrawn"]);
    assert!(bot.is_there(pid).await);
}

pub async fn a_request_expires(on: Platform) {
    let bot = on.bot("", &[("wait = \"30m\"", "wait = \"5s\"")]).await;
    let chat = on.chat(&bot);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = kill_card(&*chat, pid).await;
    let done = sees(&*chat, "ben", &["Expired: the request was not decided in time"]).await;
    assert!(!done.words.contains("[Approve]"), "{}", done.words);
    is_refused(&*chat, ("ben", &card), ("Approve", "already decided: expired")).await;
    assert_eq!(bot.events_of("kill").await, ["requested", "expired"]);
    assert!(bot.is_there(pid).await);
}

pub async fn a_button_of_a_decided_request_says_who_decided(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = kill_card(&*chat, pid).await;
    let caras = sees(&*chat, "cara", &["[Approve]"]).await;
    chat.click_button("ben", &card, "Deny").await;
    sees(&*chat, "cara", &["Denied by ben"]).await;
    is_refused(&*chat, ("cara", &caras), ("Approve", "already decided: denied by ben")).await;
    assert_eq!(bot.events_of("kill").await, ["requested", "denied"]);
    assert!(bot.is_there(pid).await);
}

pub async fn whoever_is_not_listed_or_a_guest_decides_nothing(on: Platform) {
    let account = match on {
        Platform::Teams => format!("teams = [\"{}\"]", countersign::demo::fake_teams::object_id("gil")),
        Platform::Slack | Platform::Terminal => "slack = [\"U0GIL\"]".to_owned(),
    };
    let gil = format!("[[people]]\nname = \"gil\"\n{account}\nroles = [\"on-call\", \"approver\"]\n\n");
    let bot = on.bot(&gil, &[]).await;
    let chat = on.chat(&bot);
    chat.admits_a_guest("gil");
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = kill_card(&*chat, pid).await;
    for (who, words) in [("nora", "not in Countersign's list"), ("gil", "guest accounts")] {
        let told = asks(&*chat, who, "health --env production").await;
        assert!(told.words.contains(words) && told.alone, "{who}: {}", told.words);
        for button in ["Approve", "Deny"] {
            is_refused(&*chat, (who, &card), (button, words)).await;
        }
    }
    assert!(bot.runs(Some("health")).await.is_empty());
    assert_eq!(bot.events_of("kill").await, ["requested"]);
    assert!(bot.is_there(pid).await);
}

pub async fn private_answers_are_the_askers_alone(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    for who in ["ana", "cara"] {
        let told = asks(&*chat, who, "health --env production --private").await;
        assert!(told.alone && told.words.contains(&format!("{who} requested health")), "{}", told.words);
    }
    assert!(chat.sees("dan").is_empty(), "{}", chat.transcript());
}

pub async fn while_frozen_nothing_is_approved(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = kill_card(&*chat, pid).await;
    let told = asks(&*chat, "cara", "freeze --reason \"incident 42\"").await;
    assert!(told.words.contains("All changes are frozen"), "{}", told.words);
    is_refused(&*chat, ("ben", &card), ("Approve", "cara froze all changes")).await;
    let told = asks(&*chat, "ana", &format!("kill {pid} --env staging")).await;
    assert!(told.words.contains("cara froze all changes"), "{}", told.words);
    assert_eq!(bot.events_of("kill").await, ["requested"]);

    asks(&*chat, "ana", "unfreeze").await;
    let lift = sees(&*chat, "ben", &["Lifts the freeze", "[Approve]"]).await;
    is_refused(&*chat, ("ana", &lift), ("Approve", "somebody else has to decide")).await;
    assert!(bot.store().frozen().await.expect("the record").is_some());
    chat.click_button("ben", &lift, "Approve").await;
    sees(&*chat, "cara", &["The freeze is lifted"]).await;
    let card = sees(&*chat, "ben", &["blocks the deploy", "[Approve]"]).await;
    chat.click_button("ben", &card, "Approve").await;
    sees(&*chat, "cara", &[&format!("Session {pid} ended")]).await;
}

pub async fn the_history_tells_what_was_done(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let card = kill_card(&*chat, pid).await;
    chat.click_button("ben", &card, "Approve").await;
    sees(&*chat, "cara", &[&format!("Session {pid} ended")]).await;
    assert_eq!(bot.runs(Some("kill")).await[0].state, RunState::Succeeded);
    for who in ["ana", "cara"] {
        let told = asks(&*chat, who, "history").await;
        for words in [&format!("kill {pid}"), "ana", "succeeded"] {
            assert!(told.words.contains(words), "{who}: {words} is missing:\n{}", told.words);
        }
    }
    let run = bot.runs(Some("kill")).await[0].id;
    let told = asks(&*chat, "ana", &format!("show {run}")).await;
    assert!(told.words.contains("blocks the deploy") && told.words.contains("ben"), "{}", told.words);
}

pub async fn long_work_shows_how_far_it_is_and_is_stopped(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    let table = format!("old_{on:?}").to_lowercase();
    let superuser = bot.servers.cluster.connect("asset_service_db").await.expect("the superuser");
    let sql = format!(
        "CREATE TABLE {table} (id bigint PRIMARY KEY, at timestamptz);
         INSERT INTO {table} SELECT n, now() - interval '200 days' FROM generate_series(1, 30000) n;
         GRANT SELECT, DELETE ON {table} TO countersign_act"
    );
    superuser.batch_execute(&sql).await.expect("a table");
    // The third batch waits for a row.
    let holder = bot.servers.cluster.connect("asset_service_db").await.expect("another");
    let held = format!("BEGIN; SELECT 1 FROM {table} WHERE id = 25000 FOR UPDATE");
    holder.batch_execute(&held).await.expect("a lock");
    let line = format!(
        "purge asset-service {table} --column at --older-than 90d --env production --reason \"too old\""
    );
    asks(&*chat, "ana", &line).await;
    let card = sees(&*chat, "ben", &["Deletes 30,000 rows of", &table, "[Approve]"]).await;
    let messages = chat.sees("cara").len();
    chat.click_button("ben", &card, "Approve").await;
    sees(&*chat, "cara", &["20,000 of 30,000 rows deleted"]).await;
    assert_eq!(chat.sees("cara").len(), messages, "it is one message that moves:\n{}", chat.transcript());
    let run = bot.runs(Some("purge")).await[0].id;
    asks(&*chat, "cara", &format!("stop {run}")).await;
    sees(&*chat, "dan", &["Stopped, as asked.", "20,000 rows of 30,000 were deleted"]).await;
    let left = format!("SELECT count(*) FROM {table}");
    assert_eq!(superuser.query_one(&left, &[]).await.expect("a count").get::<_, i64>(0), 10_000);
    assert_eq!(bot.runs(Some("purge")).await[0].state, RunState::Stopped);
}
