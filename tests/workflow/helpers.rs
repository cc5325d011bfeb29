//! What the tests of the rules do beyond speaking: forging requests, changing the record behind the bot's back, starting the
//! bot again, and looking at what a person was told.

use crate::harness::{ANA, Scene};
use countersign::demo::fake_slack::{self, Ack, Kind, Message, MessageRef};
use countersign::demo::harness::INCIDENT;
use countersign::demo::postgres::ConnectionParameters;
use countersign::model::{Run, RunState};
use countersign::store::{Filter, Store};
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Whoever waits this long has failed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Accounts whose owners have every role: nothing but what kind of account they have speaks against them.
pub const OUTSIDERS: [(&str, &str, Kind, &str); 3] = [
    ("U0GIL", "gil", Kind::Guest, "guest accounts"),
    ("U0EVE", "eve", Kind::External, "accounts of other organisations"),
    ("U0DEX", "dex", Kind::Deactivated, "deactivated accounts"),
];

/// The people of [`OUTSIDERS`], for the configuration.
pub fn outsiders() -> String {
    let entry = |(id, name, ..): &(&str, &str, Kind, &str)| {
        format!("[[people]]\nname = \"{name}\"\nslack = [\"{id}\"]\nroles = [\"on-call\", \"approver\"]\n\n")
    };
    OUTSIDERS.iter().map(entry).collect()
}

/// A request as Slack would sign it now.
pub fn headers(scene: &Scene, body: &str, form: bool) -> Vec<(String, String)> {
    let now = jiff::Timestamp::now().as_second();
    let secret = fake_slack::SIGNING_SECRET;
    let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
    vec![
        ("content-type".to_owned(), kind.to_owned()),
        ("x-slack-request-timestamp".to_owned(), now.to_string()),
        ("x-slack-signature".to_owned(), scene.workspace().sign(secret, now, body.as_bytes())),
    ]
}

/// A click that no page of Slack's would send.
pub struct Click<'a> {
    pub who: &'a str,
    /// The clicker's own workspace.
    pub home: Option<&'a str>,
    pub token: &'a str,
    pub on: &'a MessageRef,
}

impl Scene {
    /// The card of a kill that ana asked for.
    pub async fn kill_card(&self, pid: i32) -> Message {
        self.card(ANA, &format!("kill {pid} --env production --reason \"blocks the deploy\"")).await
    }

    pub async fn card(&self, who: &str, line: &str) -> Message {
        let card = self.asks(who, line).await;
        assert!(card.button("Approve").is_some(), "{line}: {}", card.plain());
        self.until_noted(&card).await;
        card
    }

    /// Waits until the bot knows of the card that Slack shows: earlier, its buttons are told to wait.
    pub async fn until_noted(&self, card: &Message) {
        let record = rusqlite::Connection::open(self.directory.path().join("record.db")).expect("the record");
        record.busy_timeout(PATIENCE).expect("a time-out");
        let noted = || -> bool {
            let sql = "SELECT EXISTS (SELECT 1 FROM cards WHERE message = ?1)";
            record.query_row(sql, [&card.ts], |row| row.get(0)).expect("an answer")
        };
        let until = std::time::Instant::now() + PATIENCE;
        while !noted() {
            assert!(std::time::Instant::now() < until, "the card was never noted");
            tokio::task::yield_now().await;
        }
    }

    /// The token behind a button.
    pub fn token(message: &Message, button: &str) -> String {
        let found = message.button(button).and_then(|button| button.value);
        found.unwrap_or_else(|| panic!("no button {button}: {}", message.plain()))
    }

    /// Types a line and returns what came of it, for the asker's eyes alone or not.
    pub async fn refused(&self, who: &str, line: &str, words: &str) {
        let told = self.asks(who, line).await;
        assert!(told.plain().contains(words), "{line}: {words} is missing:\n{}", told.plain());
        assert_eq!(told.ephemeral_to.as_deref(), Some(who), "{line}: a refusal is the asker's alone");
    }

    pub async fn is_refused(&self, who: &str, message: &MessageRef, (button, words): (&str, &str)) {
        let told = self.is_told(who, message, button).await;
        assert!(told.plain().contains(words), "{button}: {words} is missing:\n{}", told.plain());
        assert_eq!(told.ephemeral_to.as_deref(), Some(who), "{button}: a refusal is the clicker's alone");
    }

    /// Sends any body to the bot, signed as Slack would.
    pub async fn sends(&self, path: &str, body: String) -> Ack {
        let form = !body.starts_with('{');
        self.workspace().post_raw(path, headers(self, &body, form), body.into_bytes()).await
    }

    /// Clicks by hand; returns what the clicker is told, which comes by the Web API, as there is no response URL.
    pub async fn forged_click(&self, click: Click<'_>) -> String {
        let team = fake_slack::TEAM;
        let payload = json!({
            "type": "block_actions", "trigger_id": unique(), "team": {"id": team, "domain": "d"},
            "user": {"id": click.who, "name": click.who, "team_id": click.home.unwrap_or(team)},
            "channel": {"id": click.on.channel, "name": "c"},
            "container": {"type": "message", "message_ts": click.on.ts, "channel_id": click.on.channel},
            "message": {"ts": click.on.ts}, "response_url": null,
            "actions": [{"type": "button", "action_id": "cs:0", "value": click.token, "action_ts": "1.1"}],
        });
        let body = serde_urlencoded::to_string([("payload", payload.to_string())]).expect("a form");
        self.is_answered(click.who, "/slack/interactions", body).await
    }

    /// Types a command without Slack's page, as an account that Slack would not let type it.
    pub async fn forged_command(&self, who: &str, line: &str) -> String {
        let team = fake_slack::TEAM;
        let unique = unique();
        let fields = [
            ("team_id", team),
            ("channel_id", INCIDENT),
            ("user_id", who),
            ("text", line),
            ("trigger_id", &unique),
        ];
        let body = serde_urlencoded::to_string(fields).expect("a form");
        self.is_answered(who, "/slack/commands", body).await
    }

    /// The words of the ephemeral answer that the bot tries to give, whether or not Slack shows it to such an account.
    async fn is_answered(&self, who: &str, path: &str, body: String) -> String {
        let answers = |workspace: &countersign::demo::fake_slack::Workspace| -> Vec<String> {
            let sent = workspace.payloads().into_iter().filter(|sent| sent.method == "chat.postEphemeral");
            sent.filter(|sent| sent.body["user"] == who).map(|sent| sent.body["text"].to_string()).collect()
        };
        let before = answers(self.workspace()).len();
        let ack = self.sends(path, body).await;
        assert!(ack.ok(), "{ack:?}");
        let found =
            self.workspace().wait_for("an answer", |workspace| answers(workspace).into_iter().nth(before));
        found.await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// The bot ends and starts again, with the configuration as it is now: what it only remembered is forgotten.
    pub async fn restart(&mut self) {
        drop(self.bot.take());
        self.bot = Some(self.stage.bot().await.expect("a bot"));
    }

    /// Changes the configuration for the next start.
    pub fn edit_config(&mut self, old: &str, new: &str) {
        assert!(self.stage.config.contains(old), "the configuration doesn't have {old}");
        self.stage.config = self.stage.config.replace(old, new);
    }

    /// The one run of a command.
    pub async fn only_run(&self, command: &str) -> Run {
        let mut runs = self.runs_of(command).await;
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// Waits until the one run of a command stands so.
    pub async fn until_state(&self, command: &str, state: RunState) -> Run {
        let store = self.store();
        let filter = Filter { command: Some(command.to_owned()), ..Filter::default() };
        let looking = async {
            loop {
                let runs = store.list(filter.clone()).await.expect("the runs").runs;
                if let Some(run) = runs.into_iter().find(|run| run.state == state) {
                    return run;
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("no {command} is {state:?}:\n{}", self.workspace().transcript()))
    }

    /// What is wrong with the record's chain.
    pub async fn store_verified(&self) -> Option<String> {
        self.store().verify().await.expect("the record").first_error
    }

    /// How many runs there are, reads included.
    pub async fn runs_in_all(&self) -> usize {
        let filter = Filter { include_reads: true, ..Filter::default() };
        self.store().list(filter).await.expect("the runs").total
    }

    /// SQL of somebody who has the record's file, its fences taken down.
    pub fn tampers(&self, sql: &str) -> usize {
        let hand = rusqlite::Connection::open(self.directory.path().join("record.db")).expect("the record");
        hand.busy_timeout(PATIENCE).expect("a time-out");
        hand.execute_batch("DROP TRIGGER IF EXISTS event_texts_are_not_changed").expect("no fence");
        hand.execute(sql, []).expect("the tampering")
    }

    /// A login of its own, so that no other scene's sessions change with it.
    pub async fn role(&self, name: &str, options: &str) -> Client {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let superuser = self.superuser().await;
        let make =
            format!("DROP ROLE IF EXISTS {quoted}; CREATE ROLE {quoted} LOGIN PASSWORD 'sample' {options}");
        superuser.batch_execute(&make).await.expect("a role");
        superuser
    }

    /// A session of that role, and its pid.
    pub async fn session_of(&self, user: &str, application_name: &str) -> (Client, i32) {
        self.session_by(ConnectionParameters {
            user,
            password: "sample",
            database: "postgres",
            application_name,
        })
        .await
    }

    /// A session of the bot's reading role.
    pub async fn reader_session(&self) -> (Client, i32) {
        self.session_by(self.servers.team.reader.login("postgres", "countersign")).await
    }

    pub async fn session_by(&self, login: ConnectionParameters<'_>) -> (Client, i32) {
        let client = self.servers.cluster.connect_as(login).await.expect("a session");
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
        (client, pid)
    }

    /// What was posted to somebody, or to all, through that method.
    pub fn sent(&self, method: &str) -> Vec<Value> {
        let payloads = self.workspace().payloads();
        payloads
            .into_iter()
            .filter(|sent| sent.error.is_none() && sent.method == method)
            .map(|sent| sent.body)
            .collect()
    }
}

/// A message in the incident's channel.
pub fn elsewhere(message: &Message, channel: &str) -> MessageRef {
    MessageRef { channel: channel.to_owned(), ts: message.ts.clone() }
}

/// The incident's channel, shared with another organisation from now on.
pub fn share(scene: &Scene) {
    scene.workspace().add_channel(countersign::demo::fake_slack::Channel {
        id: INCIDENT.to_owned(),
        name: "incident-42".to_owned(),
        is_bot_member: true,
        shared_externally: true,
        private: false,
    });
}

fn unique() -> String {
    countersign::model::random_token().expect("randomness")
}
