//! Texts that a client or an owner chose, in every command that can show one: no secret in them reaches a chat, the log or the record,
//! and nothing in them acts.

use crate::bot_process::Bot;
use crate::chat_driver::Chat;
use crate::harness::{Platform, asks, sees};
use countersign::catalog::Catalog;
use countersign::model::Risk;
use tokio_postgres::Client;

/// Each has a secret with LEAK in it, or what would act in a chat.
const NAMES: [&str; 12] = [
    "postgres://u:LEAK1@h/d",
    "app password=LEAK2 x",
    "eyJhbGciOiJIUzI1NiJ9.LEAK3.c2ln",
    "jane.LEAK4@example.com",
    "Bearer LEAK5",
    "w;pass=LEAK6",
    "ghp_LEAK7abcdefghijklmnop",
    "token: LEAK8",
    "id/AKIALEAK9LEAK9LEAK9X",
    "run --password LEAK10",
    "card 4111-1111-1111-1111 of LEAKLESS",
    "<!channel> <@U0DAN> **b** [x](https://evil.example) `c`",
];

/// Lines of a person, each with a secret.
const LINES: [&str; 5] = [
    "history --find \"password=LEAK11\"",
    "history --find \"postgres://u:LEAK12@h/d\" --reads",
    "connect asset-service --password LEAK13 --env production",
    "helth token=LEAK14",
    "show jane.LEAK15@example.com",
];

pub async fn no_secret_of_a_clients_text_is_shown(on: Platform) {
    let bot = on.bot("", &[]).await;
    let chat = on.chat(&bot);
    let mut sessions: Vec<(Client, i32)> = Vec::new();
    for name in NAMES {
        let session = bot.session(name).await;
        session.0.batch_execute("BEGIN; SELECT pg_advisory_xact_lock_shared(8207)").await.expect("a lock");
        sessions.push(session);
    }
    let superuser = bot.servers.cluster.connect("postgres").await.expect("the superuser");
    let role = format!("token=LEAK16{}", std::process::id());
    let roles = format!("CREATE ROLE \"{role}{on:?}\"");
    superuser.batch_execute(&roles).await.expect("roles");

    let pid = sessions[1].1;
    let catalog = Catalog::built_in().unwrap_or_else(|wrong| panic!("{wrong:?}"));
    let mut lines: Vec<String> = catalog
        .iter()
        .filter(|command| command.header.risk == Risk::Read && command.name != "show")
        .map(|command| command.header.example.replace("4711", &pid.to_string()))
        .map(|line| if line.contains("--env") { line } else { format!("{line} --env production") })
        .collect();
    lines.extend(["idle --over 1s", "long --over 1s"].map(|line| format!("{line} --env production")));
    lines.extend(LINES.map(str::to_owned));
    lines.push("history --reads".to_owned());
    let mut shown = String::new();
    for line in &lines {
        let told = asks(&*chat, "ana", line).await;
        assert!(!has_leak(&told.words), "{line}: {}", told.words);
        shown.push_str(&told.words);
    }
    // What isn't secret stays.
    for words in ["postgres://?@h/…", "app password=? x", "--find password=?", "--password"] {
        assert!(shown.contains(words), "{words} is missing: {shown}");
    }
    asks(&*chat, "ana", &format!("kill {pid} --env production --reason \"password=LEAK18\"")).await;
    let card = sees(&*chat, "ben", &[&pid.to_string(), "[Approve]"]).await;
    assert!(card.words.contains("app password=?"), "{}", card.words);
    chat.click_button("ben", &card, "Approve").await;
    sees(&*chat, "ben", &["ended"]).await;
    superuser.batch_execute(&roles.replace("CREATE", "DROP")).await.expect("no roles");
    assert_nowhere(&bot, &*chat);
}

/// True for a secret of ours; what isn't one may be shown.
fn has_leak(text: &str) -> bool {
    text.replace("LEAKLESS", "").contains("LEAK") || text.contains("4111-1111")
}

/// Checks everything that left the process, and everything that it kept.
fn assert_nowhere(bot: &Bot, chat: &dyn Chat) {
    let said_by_people = |line: &str| LINES.iter().any(|typed| line.contains(typed));
    let mut found = Vec::new();
    for payload in bot.stage.workspace.payloads() {
        found.extend(Some(payload.body.to_string()).filter(|body| has_leak(body)));
    }
    for who in ["ana", "ben", "cara", "dan"] {
        let seen = chat.sees(who).into_iter().map(|seen| seen.words);
        found.extend(seen.filter(|words| has_leak(words) && !said_by_people(words)));
    }
    found.extend(bot.log().lines().filter(|line| has_leak(line)).map(str::to_owned));
    for file in std::fs::read_dir(bot.directory.path()).expect("the directory").flatten() {
        let bytes = std::fs::read(file.path()).unwrap_or_default();
        if has_leak(&String::from_utf8_lossy(&bytes)) {
            found.push(format!("{:?}", file.path()));
        }
    }
    assert!(found.is_empty(), "{} places: {}", found.len(), found.join("\n"));
}
