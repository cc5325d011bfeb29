//! Commands without their arguments: a form asks for them, and a submitted form is the command as if it had been typed.

use crate::harness::{ANA, BEN, Scene, Twist, found};
use countersign::catalog::Catalog;
use countersign::demo::fake_slack::{Ack, Fault, Modal};
use countersign::demo::harness::INCIDENT;
use countersign::model::{ButtonToken, Conversation, FormDraft, PlatformKind, Risk, RunState, TokenPurpose};
use countersign::store::Store;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const REASON: &str =
    "\n[[approval.rules]]\nenvironments = [\"production\"]\ncommands = [\"kill\"]\nreason = \"required\"\n";

impl Scene {
    /// Types a line, and waits for the form that it opens.
    pub async fn opens(&self, who: &str, line: &str) -> Modal {
        let before = self.workspace().modal(who).map(|modal| modal.id);
        self.say(who, line).await;
        self.opened(who, before, line).await
    }

    pub async fn opened(&self, who: &str, before: Option<String>, what: &str) -> Modal {
        let modal = self.workspace().wait_for(what, |workspace| {
            workspace.modal(who).filter(|modal| Some(&modal.id) != before.as_ref())
        });
        modal.await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// Submits a form; it must be acknowledged.
    pub async fn submits(&self, who: &str, modal: &Modal, values: &[(&str, &str)]) -> Value {
        let ack = self.workspace().submit_modal(who, modal, values).await;
        assert!(ack.ok() && ack.problem.is_none(), "{values:?}: {ack:?}");
        serde_json::from_str(&ack.body).unwrap_or_default()
    }

    pub async fn offers(&self, who: &str, modal: &Modal, field: &str, typed: &str) -> Vec<(String, String)> {
        self.workspace()
            .suggest(who, modal, field, typed)
            .await
            .unwrap_or_else(|why| panic!("{field}: {why}"))
    }
}

pub fn fields(modal: &Modal) -> Vec<&str> {
    modal.inputs().map(|input| input["block_id"].as_str().unwrap()).collect()
}

/// The one mistake of a refused submission.
fn mistake<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer["errors"][field].as_str().unwrap_or_else(|| panic!("no mistake of {field} in {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_is_requested_by_choices_alone() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let pid = pid.to_string();
    let first = scene.opens(ANA, "kill").await;
    assert_eq!(fields(&first), ["env"], "its sessions are those of an environment");
    scene.submits(ANA, &first, &[("env", "production")]).await;
    let second = scene.workspace().modal(ANA).unwrap();
    assert_eq!((fields(&second), &second.id), (vec!["pid", "reason"], &first.id));
    assert!(second.view.to_string().contains("PRODUCTION"), "{}", second.view);
    assert_eq!(second.view["submit"]["text"], "Request approval");
    let offered = scene.offers(ANA, &second, "pid", "asset-worker-7").await;
    let (_, label) = offered.iter().find(|(value, _)| *value == pid).expect("the session");
    assert!(label.starts_with(&format!("{pid} · asset-worker-7 · idle")), "{label}");
    assert!(offered.iter().all(|(_, label)| label.contains("asset-worker-7")), "{offered:?}");

    let before = scene.count(ANA);
    let values = [("pid", pid.as_str()), ("reason", "blocks\nthe deploy")];
    assert_eq!(scene.submits(ANA, &second, &values).await, Value::Null);
    let card = scene.next(ANA, before, "the card").await;
    for words in [format!("kill {pid}"), "PRODUCTION".into(), "blocks the deploy".into()] {
        assert!(card.plain().contains(&words), "{words} is missing: {}", card.plain());
    }
    assert!(scene.workspace().modal(ANA).is_none(), "the form is closed");
    // Once more, as it was shown.
    let again = scene.submits(ANA, &second, &values).await;
    assert!(again["errors"].to_string().contains("submitted already"), "{again}");
    scene.click_button(BEN, &card.at(), "Approve").await;
    scene.until(&card.at(), &format!("Session {pid} ended")).await;
    assert!(!scene.is_there(pid.parse().unwrap()).await);
    let runs = scene.runs_of("kill").await;
    assert_eq!(runs.len(), 1, "nothing is recorded twice");
    assert_eq!((runs[0].state, runs[0].text("reason")), (RunState::Succeeded, Some("blocks the deploy")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_one_persons_once_and_for_half_an_hour() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let pid = pid.to_string();
    let modal = scene.opens(ANA, "kill --env production").await;
    for (who, field, value, words) in [
        (BEN, "pid", pid.as_str(), "somebody else's"),
        ("U0NOBODY", "pid", &pid, "somebody else's"),
        (ANA, "pid", "abc", "is not a process id"),
        (ANA, "pid", "0", "0 is no session"),
        (ANA, "pid", "4711\u{0}", "invisible character"),
    ] {
        let answer = scene.submits(who, &modal, &[(field, value)]).await;
        assert!(mistake(&answer, field).contains(words), "{who} {value}: {answer}");
    }
    let asked = scene.workspace().suggest(BEN, &modal, "pid", "").await.unwrap();
    assert!(asked.is_empty(), "what the server has is for the form's person: {asked:?}");

    // Another token, an old one, and one of a button.
    let conversation = Conversation::new(PlatformKind::Slack, "T0DEMO001", INCIDENT.to_owned());
    let draft =
        FormDraft { command: "kill".into(), environment: Some("production".into()), ..FormDraft::default() };
    let opened_at = Timestamp::now() - SignedDuration::from_mins(31);
    let late = TokenPurpose::Form { draft: draft.clone(), person: "ana".into(), opened_at };
    let button = TokenPurpose::OpenForm { draft };
    let stored = [("aa", late), ("bb", button)].map(|(token, purpose)| ButtonToken {
        token: token.into(),
        purpose,
        conversation: conversation.clone(),
    });
    scene.store().put_tokens(stored.to_vec()).await.unwrap();
    for (token, words) in
        [("aa", "older than 30 min"), ("bb", "no longer known"), ("cc", "no longer known"), ("", "no longer")]
    {
        let mut forged = modal.clone();
        forged.view["private_metadata"] = json!(token);
        let answer = scene.submits(ANA, &forged, &[("pid", &pid)]).await;
        assert!(mistake(&answer, "pid").contains(words), "{token}: {answer}");
        assert!(scene.workspace().suggest(ANA, &forged, "pid", "").await.unwrap().is_empty(), "{token}");
    }

    // A value that isn't offered is checked by the command itself; a field that isn't asked for counts for nothing.
    let before = scene.count(ANA);
    scene.submits(ANA, &modal, &[("pid", "999999")]).await;
    let told = scene.next(ANA, before, "the refusal").await;
    assert!(told.plain().contains("There is no session 999999"), "{}", told.plain());
    assert_eq!(told.ephemeral_to.as_deref(), Some(ANA));
    let mut forged = scene.opens(ANA, "kill --env staging").await;
    let blocks = forged.view["blocks"].as_array_mut().unwrap();
    let mut smuggled = blocks.iter().find(|block| block["block_id"] == "reason").unwrap().clone();
    smuggled["block_id"] = json!("backend_start");
    let mut environment = smuggled.clone();
    environment["block_id"] = json!("env");
    blocks.extend([smuggled, environment]);
    let before = scene.count(ANA);
    let values = [("pid", pid.as_str()), ("backend_start", "x"), ("env", "production")];
    scene.submits(ANA, &forged, &values).await;
    let card = scene.next(ANA, before, "the card").await;
    assert!(card.plain().contains("staging") && !card.plain().contains("PRODUCTION"), "{}", card.plain());
    let runs = scene.runs_of("kill").await;
    assert_eq!(runs.len(), 1);
    assert!(scene.is_there(pid.parse().unwrap()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_submissions_at_once_are_one_request() {
    let scene = Scene::usual().await;
    let (_victim, pid) = scene.session("asset-worker-7").await;
    let pid = pid.to_string();
    let modal = scene.opens(ANA, "kill --env production").await;
    let values = [("pid", pid.as_str())];
    let submit = || scene.workspace().submit_modal(ANA, &modal, &values);
    let (first, second): (Ack, Ack) = tokio::join!(submit(), submit());
    assert!(first.ok() && second.ok(), "{first:?} {second:?}");
    let card = found("the card", async || {
        let seen = scene.workspace().visible_messages(BEN, INCIDENT);
        seen.into_iter().find(|message| message.button("Approve").is_some())
    });
    card.await;
    assert_eq!(scene.runs_of("kill").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_trigger_a_button_opens_the_form() {
    let scene = Scene::usual().await;
    let before = scene.count(ANA);
    let ack = scene.workspace().mention_bot(ANA, INCIDENT, None, "kill --env production").await;
    assert!(ack.ok(), "{ack:?}");
    // The mention itself is a message.
    let told = scene.next(ANA, before + 1, "the refusal").await;
    assert!(told.plain().contains("Missing <pid>"), "{}", told.plain());
    scene.click_button(ANA, &told.at(), "Fill in…").await;
    let modal = scene.opened(ANA, None, "the form").await;
    assert_eq!(fields(&modal), ["pid", "reason"]);
    // As when Slack doesn't take the trigger any more.
    scene.workspace().fault("views.open", Fault::Error("expired_trigger_id"));
    let told = scene.asks(ANA, "cancel --env production").await;
    assert!(told.button("Fill in…").is_some(), "{}", told.plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_asks_for_the_reason() {
    let scene = Scene::with(Twist { more: REASON, ..Twist::default() }).await;
    let (victim, pid) = scene.session("asset-worker-7").await;
    let pid = pid.to_string();
    victim.batch_execute("BEGIN").await.unwrap();
    // A line, and the button of a row, which names the very session.
    let line = scene.opens(ANA, &format!("kill {pid} --server main --env production")).await;
    assert_eq!(fields(&line), ["pid", "server", "reason"], "the only server, since it is typed");
    let servers = scene.offers(ANA, &line, "server", "").await;
    assert_eq!(servers, [("main".to_owned(), "main".to_owned())]);
    assert!(line.view.to_string().contains(&format!("\"value\":\"{pid}\"")), "filled in: {}", line.view);
    let unfilled = scene.workspace().submit_modal(ANA, &line, &[]).await;
    assert!(unfilled.problem.unwrap().contains("required"));
    scene.workspace().close_modal(&line.id);
    let listed = found("the row", async || {
        let listed = scene.asks(ANA, "idle --over 1s --env production").await;
        let button = listed.buttons().into_iter().find(|button| button.label.contains(&pid));
        button.map(|button| (listed, button.action_id))
    });
    let (listed, button) = listed.await;
    scene.click_button(ANA, &listed.at(), &button).await;
    let modal = scene.opened(ANA, None, "the form of the button").await;
    assert_eq!(fields(&modal), ["reason"], "the session stays the one of the row");
    let blank = scene.submits(ANA, &modal, &[("reason", " ")]).await;
    assert!(mistake(&blank, "reason").contains("required"), "{blank}");
    let before = scene.count(ANA);
    scene.submits(ANA, &modal, &[("reason", "it blocks the deploy")]).await;
    let card = scene.next(ANA, before, "the card").await;
    assert!(card.plain().contains("it blocks the deploy"), "{}", card.plain());
    // Elsewhere nothing is asked.
    let card = scene.asks(ANA, &format!("kill {pid} --env staging")).await;
    assert!(card.button("Approve").is_some(), "{}", card.plain());
    scene.workspace().fault("views.open", Fault::Error("expired_trigger_id"));
    let told = scene.asks(ANA, &format!("kill {pid} --env production")).await;
    for words in ["needs a reason in production", "--reason"] {
        assert!(told.plain().contains(words), "{words}: {}", told.plain());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_messages_shortcut_asks_about_the_session_in_it() {
    let scene = Scene::usual().await;
    let (_session, pid) = scene.session("asset-worker-7").await;
    scene.asks(ANA, "use production").await;
    let said = async |text: &str| {
        let before = scene.count(ANA);
        scene.workspace().say(BEN, INCIDENT, text).await;
        scene.next(ANA, before, text).await.at()
    };
    let before = scene.count(ANA) + 1;
    let message = said(&format!("users see time-outs, pid {pid} is suspicious")).await;
    assert!(scene.workspace().use_shortcut(ANA, &message, "cs:session").await.ok());
    let told = scene.next(ANA, before, "the answer").await;
    assert!(told.plain().contains(&format!("requested locks {pid}")), "{}", told.plain());
    let message = said("users see time-outs").await;
    assert!(scene.workspace().use_shortcut(ANA, &message, "cs:session").await.ok());
    let modal = scene.opened(ANA, None, "the form").await;
    assert_eq!(fields(&modal), ["pid"]);
    assert!(scene.workspace().use_shortcut(ANA, &message, "another").await.ok(), "another app's is ignored");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_with_arguments_has_a_form_and_its_choices_are_live() {
    let scene = Scene::usual().await;
    let catalog = Catalog::built_in().unwrap();
    let (_session, pid) = scene.session("asset-worker-7").await;
    let (pid, mut planned) = (pid.to_string(), 0);
    let incomplete = |name: &&str| {
        let command = catalog.find(name).unwrap();
        command.header.args.iter().any(|spec| spec.is_missing(&Default::default()))
    };
    let names: Vec<&str> = catalog.iter().map(|command| command.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().filter(incomplete).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let header = &catalog.find(name).unwrap().header;
        let is_read = header.risk == Risk::Read;
        let line = if is_read { name.to_owned() } else { format!("{name} --dry-run") };
        let mut modal = scene.opens(ANA, &line).await;
        let mut seen: Vec<String> = fields(&modal).into_iter().map(str::to_owned).collect();
        if modal.view["submit"]["text"] == "Next" {
            let values = [("env", "staging"), ("service", "asset-service")];
            let values: Vec<_> =
                values.into_iter().filter(|(field, _)| fields(&modal).contains(field)).collect();
            scene.submits(ANA, &modal, &values).await;
            modal = scene.workspace().modal(ANA).unwrap();
            seen.extend(fields(&modal).into_iter().map(str::to_owned));
        }
        // The environment has one server: there is nothing to choose.
        for spec in header.args.iter().filter(|spec| !spec.hidden && spec.name != "server") {
            assert!(seen.contains(&spec.name), "{name} doesn't ask for {}: {seen:?}", spec.name);
        }
        assert_eq!(seen.contains(&"reason".to_owned()), header.risk != Risk::Read, "{name}");
        for input in modal.inputs().filter(|input| input["element"]["type"] == "external_select") {
            let field = input["block_id"].as_str().unwrap();
            let offered = scene.offers(ANA, &modal, field, "").await;
            let expected = match field {
                "table" | "name" => "assets",
                "column" => "created_at",
                _ => continue,
            };
            assert!(offered.iter().any(|(value, _)| value == expected), "{name} {field}: {offered:?}");
            // What can't be found can be typed all the same.
            let typed = scene.offers(ANA, &modal, field, "no such").await;
            assert_eq!(typed, [("no such".to_owned(), "no such".to_owned())], "{name} {field}");
        }
        if is_read {
            scene.workspace().close_modal(&modal.id);
            continue;
        }
        // Filled in with what is offered first, it is the command: planned, or refused for what it finds.
        let mut values = Vec::new();
        for input in modal.inputs() {
            let field = input["block_id"].as_str().unwrap();
            let value = match (field, input["element"]["type"].as_str().unwrap()) {
                ("pid", _) => Some(pid.clone()),
                ("older-than", _) => Some("3000d".to_owned()),
                ("continue" | "server" | "most-lag" | "reason" | "time" | "within", _) => None,
                (_, "static_select") => input["element"]["options"][0]["value"].as_str().map(str::to_owned),
                _ => scene.offers(ANA, &modal, field, "").await.first().map(|(value, _)| value.clone()),
            };
            let is_required = input["optional"] != true;
            values.extend(value.or(is_required.then(|| "1".to_owned())).map(|value| (field, value)));
        }
        let before = scene.count(ANA);
        let given: Vec<(&str, &str)> = values.iter().map(|(field, value)| (*field, value.as_str())).collect();
        assert_eq!(scene.submits(ANA, &modal, &given).await, Value::Null, "{name}: {given:?}");
        let told = scene.next(ANA, before, name).await.plain();
        assert!(told.contains(&format!("requested {name} ")), "{name}: {told}");
        assert!(!told.contains("Missing") && !told.contains("internal error"), "{name}: {told}");
        planned += usize::from(told.contains("Dry run"));
    }
    assert!(planned >= 4, "{planned} of them have a plan");
    assert!(scene.runs_of("kill").await.is_empty(), "a dry run is recorded nowhere");
}
