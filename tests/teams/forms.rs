//! Commands without their arguments: a card with inputs asks for them, and what is submitted is the command as if it had been typed.

use crate::bot_process::{Bot, INCIDENT, Twist, found};
use countersign::demo::fake_teams::{ActivityAck, TeamsMessage, field_name};
use countersign::model::{RunState, TokenPurpose};
use countersign::store::Store;
use jiff::SignedDuration;
use serde_json::{Value, json};

const RULES: &str =
    "\n[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"kill\"]\nreason = \"required\"\n";
fn fields(form: &TeamsMessage) -> Vec<&str> {
    form.inputs().into_iter().map(field_name).collect()
}

impl Bot {
    /// Types a line, and waits for the form that it opens, which nobody else sees.
    async fn opens(&self, who: &str, line: &str) -> TeamsMessage {
        let form = self.asks(who, line).await;
        assert_eq!(form.only_to.as_deref(), Some(who), "{}", form.plain());
        assert!(!form.inputs().is_empty(), "{line}: {}", form.plain());
        form
    }

    /// Submits a form.
    async fn submits(&self, who: &str, form: &TeamsMessage, values: &[(&str, &str)]) -> ActivityAck {
        let action = form.submission(values).unwrap_or_else(|why| panic!("{why}: {}", form.plain()));
        let ack = self.teams.execute(who, form, &action, "manual").await;
        assert!(ack.ok(), "{values:?}: {ack:?}");
        ack
    }

    /// What a field offers for a text: values and titles.
    async fn offers(&self, who: &str, form: &TeamsMessage, field: &str, text: &str) -> Vec<(String, String)> {
        self.teams.search_choices(who, form, field, text).await.unwrap_or_else(|why| panic!("{why}"))
    }
}

/// The message beside a refused form.
fn mistake(ack: &ActivityAck) -> &str {
    assert_eq!(ack.body["type"], "application/vnd.microsoft.activity.message", "{ack:?}");
    ack.body["value"].as_str().expect("a text")
}

async fn start() -> Bot {
    Bot::start(Twist { more: RULES, ..Twist::default() }).await
}

/// The token of a form that was opened 31 minutes ago, and is otherwise like this one.
async fn late(bot: &Bot, form: &TeamsMessage) -> Value {
    let submission = form.submission(&[("pid", "1"), ("reason", "late")]).expect("an action");
    let token = submission["data"]["form"].as_str().expect("a token");
    let mut stored = bot.store().token(token).await.expect("the record").expect("the form");
    let TokenPurpose::Form { opened_at, .. } = &mut stored.purpose else { panic!("no form: {stored:?}") };
    *opened_at -= SignedDuration::from_mins(31);
    "1a7e".clone_into(&mut stored.token);
    bot.store().put_tokens(vec![stored]).await.expect("the record");
    json!("1a7e")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_one_persons_and_counts_once() {
    let bot = start().await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let pid = pid.to_string();
    let first = bot.opens("ana", "kill").await;
    assert_eq!(fields(&first), ["env"], "its sessions are those of an environment");
    bot.submits("ana", &first, &[("env", "production")]).await;
    let form = bot.teams.visible_message("ana", &first.at()).expect("the next form");
    assert_eq!(fields(&form), ["pid", "reason"], "{}", form.plain());
    assert!(form.plain().contains("PRODUCTION"), "{}", form.plain());
    let offered = bot.offers("ana", &form, "pid", "asset-worker-7").await;
    let (_, label) = offered.iter().find(|(value, _)| *value == pid).expect("the session");
    assert!(label.starts_with(&format!("{pid} · asset-worker-7 · idle")), "{label}");
    assert!(
        bot.offers("ben", &form, "pid", "").await.is_empty(),
        "what the server has is for the form's person"
    );
    assert_eq!(form.submission(&[("pid", &pid)]), Err("reason is required".to_owned()));

    // Another person, values that aren't offered, and what a client doesn't check.
    let good = [("pid", pid.as_str()), ("reason", "blocks the deploy")];
    let forged = |more: &[(&str, Value)]| {
        let mut forged = form.submission(&good).expect("an action");
        for (key, value) in more {
            forged["data"][*key] = value.clone();
        }
        forged
    };
    for (who, more, words) in [
        ("ben", vec![], "somebody else's"),
        ("nora", vec![], "somebody else's"),
        ("ana", vec![("field:pid", json!("abc"))], "is not a process id"),
        ("ana", vec![("field:pid", json!(4711))], "Missing"),
        ("ana", vec![("field:reason", json!(" "))], "reason is required"),
        ("ana", vec![("form", json!("0123"))], "no longer known"),
        ("ana", vec![("form", json!(7))], "no longer known"),
        ("ana", vec![("form", late(&bot, &form).await)], "older than 30 min"),
    ] {
        let ack = bot.teams.execute(who, &form, &forged(&more), "manual").await;
        assert!(mistake(&ack).contains(words), "{who} {more:?}: {ack:?}");
    }
    // A client never submits by itself.
    let ack = bot.teams.execute("ana", &form, &forged(&[]), "automatic").await;
    assert!(ack.body.to_string().contains("no longer known"), "{ack:?}");
    assert!(bot.runs(Some("kill")).await.is_empty());

    // Twice at once, and once more: with it a field that isn't asked for, which counts for nothing.
    let before = bot.answers("ana", INCIDENT).len();
    let twice = forged(&[("field:backend_start", json!("x")), ("field:env", json!("staging"))]);
    let submit = || bot.teams.execute("ana", &form, &twice, "manual");
    let (one, other) = tokio::join!(submit(), submit());
    assert!(one.ok() && other.ok(), "{one:?} {other:?}");
    let card = found("the card", async || {
        let seen = bot.answers("ana", INCIDENT).into_iter().skip(before);
        seen.into_iter().find(|message| message.plain().contains("asset-worker-7"))
    });
    let card = card.await;
    let shown = bot.sees("ben", &card.at(), "[Approve]").await;
    for words in ["PRODUCTION", "blocks the deploy"] {
        assert!(shown.plain().contains(words), "{words} is missing: {}", shown.plain());
    }
    let ack = bot.teams.execute("ana", &form, &forged(&[]), "manual").await;
    assert!(mistake(&ack).contains("submitted already"), "{ack:?}");
    assert!(bot.teams.click_button("ben", &card.at(), "Approve").await.ok());
    bot.sees("ana", &card.at(), &format!("Session {pid} ended")).await;
    let runs = bot.runs(Some("kill")).await;
    assert_eq!(runs.len(), 1, "nothing is recorded twice");
    assert_eq!((runs[0].state, runs[0].text("reason")), (RunState::Succeeded, Some("blocks the deploy")));
    bot.teams.take_refusals();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_submits_by_a_message() {
    let bot = start().await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let form = bot.opens("ana", "kill --env staging").await;
    let submit = form.submission(&[("pid", &pid.to_string())]).expect("an action");
    let before = bot.answers("ana", INCIDENT).len();
    let fallback = json!({ "type": "Action.Submit", "data": submit["data"] });
    assert!(bot.teams.submit("ana", &form, &fallback).await.ok());
    let card = bot.next(("ana", INCIDENT), before, "the card").await;
    bot.sees("ben", &card.at(), "[Approve]").await;
    // Again, and with a mistake: told beside the conversation, as a refusal of a line.
    assert!(bot.teams.submit("ana", &form, &fallback).await.ok());
    let told = bot.next(("ana", INCIDENT), before + 1, "the refusal").await;
    assert!(told.plain().contains("submitted already"), "{}", told.plain());
    assert_eq!(told.only_to.as_deref(), Some("ana"));
    assert_eq!(bot.runs(Some("kill")).await.len(), 1);
    // Its person alone with the bot has the form as well.
    let alone = bot.teams.personal("ana");
    let form = bot.asks_in("ana", &alone, "kill --env staging").await;
    assert_eq!(fields(&form), ["pid", "reason"]);
}
