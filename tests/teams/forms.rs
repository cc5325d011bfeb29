//! Commands without their arguments: a card with inputs asks for them, and what is submitted is the command as if it had been typed.

use crate::bot_process::{Bot, INCIDENT, Twist, found};
use crate::fake_teams::Message;
use crate::fake_teams::client::Ack;
use countersign::catalog::Catalog;
use countersign::model::{Risk, RunState};
use serde_json::{Value, json};

const RULES: &str =
    "\n[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"kill\"]\nreason = \"required\"\n";
/// Choices that a client shows of a search.
const MOST_FOUND: usize = 15;

/// The end of an input's id behind its prefix.
fn name(input: &Value) -> &str {
    input["id"].as_str().and_then(|id| id.strip_prefix("field:")).expect("the id of a field")
}

fn inputs_of(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().flat_map(inputs_of).collect(),
        Value::Object(_) if value["type"].as_str().is_some_and(|kind| kind.starts_with("Input.")) => {
            vec![value]
        }
        Value::Object(fields) => fields.values().flat_map(inputs_of).collect(),
        _ => Vec::new(),
    }
}

fn inputs(form: &Message) -> Vec<&Value> {
    inputs_of(&form.cards[0]["body"])
}

fn fields(form: &Message) -> Vec<&str> {
    inputs(form).into_iter().map(name).collect()
}

/// The button that submits a form, with the values that its client sends; an error for one that the client requires.
fn action(form: &Message, values: &[(&str, &str)]) -> Result<Value, String> {
    let mut action = form.buttons().pop().expect("a button").action;
    for input in inputs(form) {
        let off = input["valueOff"].as_str().unwrap_or_default();
        let default = input["value"].as_str().unwrap_or(off);
        let value =
            values.iter().find(|(field, _)| *field == name(input)).map_or(default, |(_, value)| value);
        if value.is_empty() && input["isRequired"] == true {
            return Err(format!("{} is required", name(input)));
        }
        // A client leaves out an empty input.
        if !value.is_empty() {
            action["data"][input["id"].as_str().expect("an id")] = json!(value);
        }
    }
    Ok(action)
}

impl Bot {
    /// Types a line, and waits for the form that it opens, which nobody else sees.
    async fn opens(&self, who: &str, line: &str) -> Message {
        let form = self.asks(who, line).await;
        assert_eq!(form.only_to.as_deref(), Some(who), "{}", form.plain());
        assert!(!inputs(&form).is_empty(), "{line}: {}", form.plain());
        form
    }

    /// Submits a form.
    async fn submits(&self, who: &str, form: &Message, values: &[(&str, &str)]) -> Ack {
        let action = action(form, values).unwrap_or_else(|why| panic!("{why}: {}", form.plain()));
        let ack = self.teams.executes((who, form), &action, "manual").await;
        assert!(ack.ok(), "{values:?}: {ack:?}");
        ack
    }

    /// Submits a form, and waits for the message that answers it.
    async fn submits_for_answer(&self, who: &str, form: &Message, values: &[(&str, &str)]) -> Message {
        let before = self.answers(who, INCIDENT).len();
        let ack = self.submits(who, form, values).await;
        assert!(ack.body.to_string().contains("Submitted."), "{ack:?}");
        self.next((who, INCIDENT), before, "the answer to a form").await
    }

    /// What a field offers for a text: values and titles.
    async fn offers(&self, who: &str, form: &Message, field: &str, text: &str) -> Vec<(String, String)> {
        let input = inputs(form).into_iter().find(|input| name(input) == field).expect("the field");
        let mut activity = self.teams.activity_of(who, form);
        activity["type"] = json!("invoke");
        activity["name"] = json!("application/search");
        activity["value"] = json!({
            "queryText": text, "queryOptions": { "skip": 0, "top": MOST_FOUND },
            "dataset": input["choices.data"]["dataset"],
        });
        let ack = self.teams.deliver(activity).await;
        assert_eq!(ack.status, 200, "{ack:?}");
        assert_eq!(ack.body["type"], "application/vnd.microsoft.search.searchResponse", "{ack:?}");
        let results = ack.body["value"]["results"].as_array().expect("results");
        assert!(results.len() <= MOST_FOUND, "{} results", results.len());
        let text = |result: &Value, key: &str| result[key].as_str().expect("a text").to_owned();
        results.iter().map(|result| (text(result, "value"), text(result, "title"))).collect()
    }
}

/// The message beside a refused form.
fn mistake(ack: &Ack) -> &str {
    assert_eq!(ack.body["type"], "application/vnd.microsoft.activity.message", "{ack:?}");
    ack.body["value"].as_str().expect("a text")
}

/// A bot with a reviewed file.
async fn start() -> (Bot, tempfile::TempDir) {
    let sql = tempfile::tempdir().expect("a directory");
    let file = "/* summary = \"Tidies\" */\nCOMMENT ON TABLE public.assets IS 'tidied';";
    std::fs::write(sql.path().join("tidy.sql"), file).expect("a file");
    let more = format!("{RULES}\n[sql]\ndirectory = \"{}\"\n", sql.path().display());
    (Bot::start(Twist { more: &more, ..Twist::default() }).await, sql)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_one_persons_and_counts_once() {
    let (bot, _sql) = start().await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let pid = pid.to_string();
    let first = bot.opens("ana", "kill").await;
    assert_eq!(fields(&first), ["env"], "its sessions are those of an environment");
    bot.submits("ana", &first, &[("env", "production")]).await;
    let form = bot.teams.seen("ana", &first.at()).expect("the next form");
    assert_eq!(fields(&form), ["pid", "reason"], "{}", form.plain());
    assert!(form.plain().contains("PRODUCTION"), "{}", form.plain());
    let offered = bot.offers("ana", &form, "pid", "asset-worker-7").await;
    let (_, label) = offered.iter().find(|(value, _)| *value == pid).expect("the session");
    assert!(label.starts_with(&format!("{pid} · asset-worker-7 · idle")), "{label}");
    assert!(
        bot.offers("ben", &form, "pid", "").await.is_empty(),
        "what the server has is for the form's person"
    );
    assert_eq!(action(&form, &[("pid", &pid)]), Err("reason is required".to_owned()));

    // Another person, values that aren't offered, and what a client doesn't check.
    let good = [("pid", pid.as_str()), ("reason", "blocks the deploy")];
    let forged = |more: &[(&str, Value)]| {
        let mut forged = action(&form, &good).expect("an action");
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
    ] {
        let ack = bot.teams.executes((who, &form), &forged(&more), "manual").await;
        assert!(mistake(&ack).contains(words), "{who} {more:?}: {ack:?}");
    }
    // A client never submits by itself.
    let ack = bot.teams.executes(("ana", &form), &forged(&[]), "automatic").await;
    assert!(ack.body.to_string().contains("no longer known"), "{ack:?}");
    assert!(bot.runs(Some("kill")).await.is_empty());

    // Twice at once, and once more: with it a field that isn't asked for, which counts for nothing.
    let before = bot.answers("ana", INCIDENT).len();
    let twice = forged(&[("field:backend_start", json!("x")), ("field:env", json!("staging"))]);
    let submit = || bot.teams.executes(("ana", &form), &twice, "manual");
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
    let ack = bot.teams.executes(("ana", &form), &forged(&[]), "manual").await;
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
    let (bot, _sql) = start().await;
    let (_victim, pid) = bot.session("asset-worker-7").await;
    let form = bot.opens("ana", "kill --env staging").await;
    let submit = action(&form, &[("pid", &pid.to_string())]).expect("an action");
    let before = bot.answers("ana", INCIDENT).len();
    let fallback = json!({ "type": "Action.Submit", "data": submit["data"] });
    assert!(bot.teams.submits(("ana", &form), &fallback).await.ok());
    let card = bot.next(("ana", INCIDENT), before, "the card").await;
    bot.sees("ben", &card.at(), "[Approve]").await;
    // Again, and with a mistake: told beside the conversation, as a refusal of a line.
    assert!(bot.teams.submits(("ana", &form), &fallback).await.ok());
    let told = bot.next(("ana", INCIDENT), before + 1, "the refusal").await;
    assert!(told.plain().contains("submitted already"), "{}", told.plain());
    assert_eq!(told.only_to.as_deref(), Some("ana"));
    assert_eq!(bot.runs(Some("kill")).await.len(), 1);
    // Its person alone with the bot has the form as well.
    let alone = bot.teams.personal("ana");
    let form = bot.asks_in("ana", &alone, "kill --env staging").await;
    assert_eq!(fields(&form), ["pid", "reason"]);
}

/// The end of each acting command that is requested with these values of its fields: the words of its answer.
const ENDS: [(&str, &str); 18] = [
    ("analyze", "countersign_act"),
    ("backup", "Dumps asset_service_db"),
    ("cancel", "There is no session"),
    ("deny", "There is no run"),
    ("enable-stats", "already has pg_stat_statements"),
    ("kill", "There is no session"),
    ("migrate", "No deploy command"),
    ("migrate-resolve", "No deploy command"),
    ("purge", "countersign_act"),
    ("reindex", "countersign_act"),
    ("reset-stats", "Needs approval"),
    ("review", "There is no run"),
    ("run-sql", "Runs tidy on asset-service"),
    ("stop", "There is no run"),
    ("use", "staging"),
    ("vacuum", "countersign_act"),
    ("vacuum-full", "countersign_act"),
    ("withdraw", "There is no run"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_acting_command_goes_from_an_empty_line_to_its_end_by_submits_alone() {
    let (bot, _sql) = start().await;
    let catalog = Catalog::built_in().expect("the catalogue");
    let values = [
        ("env", "staging"),
        ("service", "asset-service"),
        ("table", "assets"),
        ("name", "assets"),
        ("column", "created_at"),
        ("older-than", "3650d"),
        ("file", "tidy"),
        ("pid", "999999"),
        ("run", "999999"),
        ("migration", "20250915140000_email_unique"),
        ("as", "applied"),
        ("environment", "staging"),
        ("reason", "a drill"),
    ];
    let acting = catalog.iter().filter(|command| command.header.risk != Risk::Read);
    let incomplete =
        acting.filter(|command| command.header.args.iter().any(|spec| spec.is_missing(&Default::default())));
    let mut wrong = Vec::new();
    for command in incomplete {
        let line = command.name.as_str();
        let mut form = bot.opens("ana", line).await;
        if form.button("Next").is_some() {
            let ack = bot.submits("ana", &form, &values).await;
            assert!(ack.body["type"].as_str().is_some_and(|kind| kind.contains("card")), "{line}: {ack:?}");
            form = bot.teams.seen("ana", &form.at()).expect("the next form");
        }
        for input in inputs(&form).into_iter().filter(|input| !input["choices.data"].is_null()) {
            let field = name(input);
            let (_, value) = values.iter().find(|(name, _)| *name == field).unwrap_or(&("", "main"));
            let offered = bot.offers("ana", &form, field, value).await;
            assert!(offered.iter().any(|(offer, _)| offer == value), "{line} {field}: {offered:?}");
        }
        let told = bot.submits_for_answer("ana", &form, &values).await;
        let end = ENDS.iter().find(|(name, _)| *name == line).map_or("an end in the table", |(_, end)| end);
        if !told.plain().contains(end) {
            wrong.push(format!("{line}: {end} is missing: {}", told.plain()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
