//! The fake Teams refuses what the real one does. Nothing here knows the bot: a stand-in answers in its place.

mod client;
mod connector;
mod look;
mod page;
mod tokens;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use countersign::demo::fake_teams::{ConversationKind, Tenant, TenantSettings, TenantUser};
use serde_json::{Value, json};
use std::ops::Deref;
use std::sync::{Arc, Mutex};

const CHANNEL: &str = "19:incident@thread.tacv2";
const CHAT: &str = "19:chat@thread.v2";

/// What the stand-in for the bot heard.
type Heard = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

/// A fake Teams that fails the test if it refused something that the test doesn't know of.
struct Teams(Tenant);

impl Deref for Teams {
    type Target = Tenant;

    fn deref(&self) -> &Tenant {
        &self.0
    }
}

impl Drop for Teams {
    fn drop(&mut self) {
        let refused = self.take_refusals();
        assert!(refused.is_empty() || std::thread::panicking(), "Teams refused: {refused:#?}");
    }
}

/// Two people in a channel and a chat.
async fn teams(settings: TenantSettings) -> Teams {
    let teams = Teams(Tenant::start(settings).await.expect("a fake Teams"));
    teams.add_person(TenantUser::new("ana"));
    teams.add_person(TenantUser::new("ben"));
    teams.add_person(TenantUser::new("eve"));
    teams.add_conversation(ConversationKind::Channel, CHANNEL, &["ana", "ben"]);
    teams.add_conversation(ConversationKind::GroupChat, CHAT, &["ana", "ben"]);
    teams
}

/// As [`teams`], without a pace.
async fn quick() -> Teams {
    teams(TenantSettings { rate_limits: false, ..TenantSettings::default() }).await
}

/// A bot that answers every activity with that.
async fn bot(teams: &Teams, answer: Value) -> Heard {
    let heard = Heard::default();
    let log = Arc::clone(&heard);
    let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
        log.lock().expect("the log").push((headers, serde_json::from_slice(&body).unwrap_or(Value::Null)));
        let answer = answer.to_string();
        async move { answer }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    teams.connect_bot(&format!("http://{}/", listener.local_addr().expect("an address")));
    tokio::spawn(async move { axum::serve(listener, router).await });
    heard
}

/// A token of the managed identity.
async fn bearer(teams: &Teams) -> String {
    let [(_, endpoint), (_, header)] = teams.identity();
    let app = teams.settings().app;
    let url =
        format!("{endpoint}?api-version=2019-08-01&resource=https://api.botframework.com&client_id={app}");
    let request = reqwest::Client::new().get(url).header("x-identity-header", header);
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    answer["access_token"].as_str().expect("a token").to_owned()
}

/// A call of the Connector: what came back.
async fn call(teams: &Teams, (method, path): (&str, &str), body: Value) -> (u16, Value) {
    let token = bearer(teams).await;
    call_as(teams, &token, (method, path), body).await
}

async fn call_as(teams: &Teams, token: &str, (method, path): (&str, &str), body: Value) -> (u16, Value) {
    let url = format!("{}{path}", teams.service_url());
    let method = method.parse().expect("a method");
    let request = reqwest::Client::new().request(method, url).bearer_auth(token).json(&body);
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or(Value::Null))
}

fn activities(conversation: &str) -> String {
    format!("v3/conversations/{}/activities", conversation.replace(':', "%3A").replace(';', "%3B"))
}

fn hello() -> Value {
    json!({ "type": "message", "text": "hello" })
}

fn card() -> Value {
    json!({ "type": "AdaptiveCard", "version": "1.5", "body": [{ "type": "TextBlock", "text": "hello" }] })
}

fn with_card(card: Value) -> Value {
    json!({ "type": "message", "attachments": [
        { "contentType": "application/vnd.microsoft.card.adaptive", "content": card }] })
}
