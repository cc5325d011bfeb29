//! A client of Microsoft's own, its Agents Playground, in Chromium: no line of what shows the cards and the forms is ours.

mod relay;

use crate::bot_process::{Bot, PEOPLE, found};
use crate::chat_driver::{Chat, FieldChoices, FormField, Forms, Message, OpenForm, Seen, ShownForm};
use crate::harness::{Platform, asks, sees};
use async_trait::async_trait;
use countersign::demo::free_port;
use countersign::demo::sample::SampleIncident;
use countersign::model::{ENVIRONMENT_FIELD, RunState};
use countersign::store::Store;
use relay::Relay;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::block_in_place;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_scene_is_played_in_microsofts_own_client() {
    let bot = Arc::new(Platform::Teams.bot("", &[]).await);
    let incident = SampleIncident::start(&bot.servers.cluster, &bot.servers.team).await.expect("an incident");
    let pid = incident.pids().head;
    let (_bystander, other) = bot.session("asset-worker-8").await;
    let chat = Playground::start(Arc::clone(&bot)).await;
    asks(&chat, "ana", "health --env production").await;
    sees(&chat, "ana", &["ana requested health"]).await;
    asks(&chat, "ana", "blocked --env production").await;
    sees(&chat, "ana", &["ana requested blocked"]).await;
    asks(&chat, "ana", &format!("kill {pid} --env production --reason \"blocks the deploy\"")).await;
    sees(&chat, "ana", &["Needs approval from", "[Withdraw]"]).await;
    // Ana clicks on what was shown to cara, whose client shows the answer.
    let card = sees(&chat, "cara", &["Needs approval from", "[Approve]"]).await;
    chat.click_button("ana", &card, "Approve").await;
    sees(&chat, "cara", &["somebody else has to decide"]).await;
    assert!(bot.is_there(pid).await, "nothing may happen before the approval");
    assert_eq!(bot.events_of("kill").await, ["requested"]);

    let card = sees(&chat, "ben", &["Needs approval from", "[Approve]"]).await;
    chat.click_button("ben", &card, "Approve").await;
    for who in ["ana", "ben"] {
        let ended = format!("Session {pid} ended");
        let decided = sees(&chat, who, &["ana requested kill", &ended, "approved by ben"]).await;
        assert!(!decided.words.contains("[Approve]") && !decided.words.contains("[Withdraw]"), "{decided:?}");
    }
    asks(&chat, "ana", "history").await;
    sees(&chat, "ana", &["ana requested history"]).await;
    assert!(!bot.is_there(pid).await && bot.is_there(other).await);
    assert_eq!(bot.events_of("kill").await, ["requested", "approved", "started", "succeeded"]);
    let run = &bot.runs(Some("kill")).await[0];
    assert_eq!((run.state, run.text("reason")), (RunState::Succeeded, Some("blocks the deploy")));
    assert_eq!(bot.store().verify().await.expect("the record").first_error, None);
}

/// The Playground's program, which `make tools` installs.
fn program() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/node/node_modules");
    let program = tools.join("@microsoft/m365agentsplayground/cli.js");
    assert!(program.is_file(), "no Playground is installed: run `make tools`");
    program
}

/// The chat of the incident in the Playground, which runs as a program of its own. People sit before its pages in a browser.
pub struct Playground {
    seats: Mutex<Seats>,
    relay: Arc<Relay>,
    _world: tempfile::TempDir,
    _child: Child,
}

/// The program that drives the browser.
struct Seats {
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

/// A form in a page.
#[derive(Deserialize)]
struct PageForm {
    /// Number of its card in the chat.
    at: usize,
    fields: Vec<PageField>,
}

#[derive(Deserialize)]
struct PageField {
    label: String,
    required: bool,
    choices: Option<Vec<String>>,
}

impl Playground {
    pub async fn start(bot: Arc<Bot>) -> Playground {
        let world = tempfile::tempdir().expect("a directory");
        // It wants six people.
        let people = relay::world(&[&PEOPLE[..], &["otto"]].concat());
        std::fs::write(world.path().join(".m365agentsplayground.yml"), people).expect("a world");
        let port = free_port().expect("a port");
        let relay = Relay::start(bot, port).await;
        let log = world.path().join("log");
        let mut child = Command::new("node")
            .arg(program())
            .args([
                "--app-endpoint",
                &format!("http://{}/api/messages", relay.address),
                "--channel-id",
                "msteams",
            ])
            .args(["--port", &port.to_string(), "--disable-telemetry"])
            // It opens a browser of its own otherwise, and ends where there is none.
            .env("TEAMSAPPTESTER_BROWSER", "none")
            .env("M365_AGENTS_PLAYGROUND_LOGFILE", &log)
            .current_dir(world.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the Playground");
        // It says that it listens before it has looked at its world.
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let ready = format!("http://localhost:{port}/_internal/v1/config");
        found("the Playground", async || {
            let ended = child.try_wait().expect("a child");
            let why = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "the Playground ended: {why}");
            http.get(&ready).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        Playground { seats: Mutex::new(Seats::start(port)), relay, _world: world, _child: child }
    }

    /// Lets somebody do something before their page.
    async fn does(&self, who: &str, what: &str, with: Value) -> Value {
        let mut request = json!({ "who": who, "do": what });
        let fields = with.as_object().cloned().unwrap_or_default();
        request.as_object_mut().expect("an object").extend(fields);
        let mut seats = self.seats.lock().await;
        let sent = seats.requests.write_all(format!("{request}\n").as_bytes()).await;
        sent.expect("the browser is there");
        let line = seats.answers.next_line().await.expect("an answer").expect("the browser is there");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert!(answer["error"].is_null(), "{request}: {}", answer["error"].as_str().unwrap_or_default());
        answer["value"].clone()
    }

    /// As [`Playground::does`], for what a chat tells at once.
    fn tells(&self, who: &str, what: &str) -> Value {
        block_in_place(|| Handle::current().block_on(self.does(who, what, Value::Null)))
    }
}

impl Seats {
    fn start(port: u16) -> Seats {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract/playground/seats.mjs");
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../pictures");
        std::fs::create_dir_all(&pictures).expect("a place for pictures");
        let mut child = Command::new("node")
            .arg(program)
            .arg(format!("http://localhost:{port}/"))
            .arg(pictures)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node");
        let answers = BufReader::new(child.stdout.take().expect("its answers")).lines();
        Seats { requests: child.stdin.take().expect("its requests"), answers, _child: child }
    }
}

#[async_trait]
impl Chat for Playground {
    async fn say(&self, who: &str, line: &str) {
        self.relay.set_author(who);
        self.does(who, "say", json!({ "line": line })).await;
    }

    fn sees(&self, who: &str) -> Vec<Seen> {
        let cards: Vec<String> = serde_json::from_value(self.tells(who, "sees")).expect("the cards");
        let seen = |(at, words)| {
            // It has no messages that one person alone sees.
            Seen { words, alone: false, message: Message::Page { seat: who.to_owned(), at } }
        };
        cards.into_iter().enumerate().map(seen).collect()
    }

    async fn click_button(&self, who: &str, on: &Seen, button: &str) {
        let Message::Page { seat, at } = &on.message else { panic!("no message of a page's: {on:?}") };
        self.does(seat, "clicks", json!({ "as": who, "at": at, "button": button })).await;
    }

    fn transcript(&self) -> String {
        self.sees("ana").into_iter().map(|seen| seen.words + "\n\n").collect()
    }

    fn admits_a_guest(&self, who: &str) {
        panic!("{who}: the Playground has no guests");
    }
}

#[async_trait]
impl Forms for Playground {
    fn form(&self, who: &str) -> Option<OpenForm> {
        let form: Option<PageForm> = serde_json::from_value(self.tells(who, "form")).expect("a form");
        let PageForm { at, fields } = form?;
        Some(OpenForm {
            fields: fields.into_iter().map(PageField::read).collect(),
            shown: ShownForm::Page(at),
        })
    }

    async fn offers(&self, _who: &str, _form: &OpenForm, field: &str, _text: &str) -> Vec<String> {
        panic!("{field}: the Playground searches nothing; the relay has put the choices into the form");
    }

    async fn submits(&self, who: &str, form: &OpenForm, values: &[(&str, &str)]) -> Option<OpenForm> {
        let ShownForm::Page(at) = form.shown else { panic!("no form of a page's: {form:?}") };
        let values: Value = values.iter().map(|(name, value)| (label_of(name), json!(value))).collect();
        let has_next = self.does(who, "submits", json!({ "at": at, "values": values })).await;
        (has_next == true).then(|| self.form(who)).flatten()
    }
}

impl PageField {
    fn read(self) -> FormField {
        // An option begins with its value: "4711 · asset-worker-7 · idle", "#12 · kill 4711".
        let value = |title: String| {
            let first = title.split(" · ").next().unwrap_or_default();
            first.trim_start_matches('#').to_owned()
        };
        let choices = self.choices.map_or(FieldChoices::Typed, |choices| {
            FieldChoices::Listed(choices.into_iter().map(value).collect())
        });
        FormField { name: name_of(&self.label), is_required: self.required, choices }
    }
}

/// The label of a field: "Older than".
fn label_of(name: &str) -> String {
    let name = if name == ENVIRONMENT_FIELD { "environment" } else { name };
    name[..1].to_uppercase() + &name[1..].replace('-', " ")
}

/// The name of the field with a label.
fn name_of(label: &str) -> String {
    let name = label.to_lowercase().replace(' ', "-");
    if name == "environment" { ENVIRONMENT_FIELD.to_owned() } else { name }
}
