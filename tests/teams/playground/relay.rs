//! Between the Playground and the bot: signs what the Playground sends as the Bot Framework does, and adds what it leaves out and
//! Teams sends. The Connector's answers go through here, too.

use crate::bot_process::{Bot, CHAT};
use crate::fake_teams::people::{Settings, object_of};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) struct Relay {
    bot: Arc<Bot>,
    service_url: String,
    /// The Playground's Connector.
    connector: String,
    http: reqwest::Client,
}

impl Relay {
    /// Serves from then on; the address.
    pub(super) async fn start(bot: Arc<Bot>, playground: u16) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = listener.local_addr().expect("an address");
        let connector = format!("http://localhost:{playground}/_connector");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let router = Router::new()
            .route("/api/messages", post(to_the_bot).head(async || StatusCode::OK))
            .route("/connector/{*rest}", any(to_the_client))
            .with_state(Arc::new(Relay {
                service_url: bot.teams.forward_to(format!("http://{here}")),
                bot,
                connector,
                http,
            }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        here
    }
}

/// An activity of the Playground's.
async fn to_the_bot(State(relay): State<Arc<Relay>>, body: Bytes) -> Response {
    let Ok(mut activity) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let tenant = Settings::default().tenant;
    // The Playground is the service; its Connector's answers lack something, too.
    activity["serviceUrl"] = json!(relay.service_url);
    // It names the tenant in some activities only.
    activity["channelData"]["tenant"] = json!({ "id": tenant });
    activity["conversation"]["tenantId"] = json!(tenant);
    let mut token = relay.bot.teams.token();
    // It signs nothing without an account in Entra.
    token.claims["serviceurl"] = json!(relay.service_url);
    let ack = relay.bot.teams.deliver_with(relay.bot.teams.sign(&token), activity).await;
    let status = StatusCode::from_u16(ack.status).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, axum::Json(ack.body)).into_response()
}

/// A call of the bot's.
async fn to_the_client(
    State(relay): State<Arc<Relay>>,
    method: Method,
    Path(rest): Path<String>,
    (RawQuery(query), body): (RawQuery, Bytes),
) -> Response {
    // It knows no targeted messages: what is for one alone would be shown to all.
    if query.as_deref().is_some_and(|query| query.contains("isTargetedActivity")) {
        return StatusCode::NOT_IMPLEMENTED.into_response();
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let rest = rest.replace(';', "%3B");
    let url = match rest.rsplit_once("/members/") {
        // It finds a member by its own id alone, not by the object id.
        Some((there, _)) => format!("{}/{there}/pagedmembers", relay.connector),
        None => format!("{}/{rest}{query}", relay.connector),
    };
    let wanted = rest.rsplit_once("/members/").map(|(_, id)| id);
    let request = relay.http.request(method, url).header("content-type", "application/json").body(body);
    let Ok(answer) = request.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let status = answer.status();
    let mut value: Value = answer.json().await.unwrap_or_default();
    if let Some(members) = value["members"].as_array_mut() {
        for member in members.iter_mut() {
            // It leaves these two out.
            member["tenantId"] = json!(Settings::default().tenant);
            member["userRole"] = json!("user");
        }
        if let Some(id) = wanted {
            let found = members.iter().find(|member| member["aadObjectId"] == id || member["id"] == id);
            return match found {
                Some(member) => axum::Json(member.clone()).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            };
        }
    }
    (status, axum::Json(value)).into_response()
}

/// The Playground's world, with the people of the sample.
pub(super) fn world(people: &[&str]) -> String {
    let Settings { app, tenant, .. } = Settings::default();
    let person = |name: &&str| {
        json!({
            "id": format!("29:{name}"), "name": name, "aadObjectId": object_of(name),
            "userPrincipleName": format!("{name}@contoso.example"), "givenName": name, "surname": "Sample",
            "email": format!("{name}@contoso.example"),
        })
    };
    let others: Vec<Value> = people[1..].iter().map(person).collect();
    json!({
        "version": "0.1.1", "tenantId": tenant, "bot": { "id": format!("28:{app}"), "name": "Countersign" },
        "currentUser": person(&people[0]), "users": others,
        "personalChat": { "id": "a:1ana" },
        "groupChat": { "id": CHAT, "name": "Incident 42" },
        "team": {
            "id": "19:the-team@thread.tacv2", "name": "Team", "aadGroupId": object_of("the team"),
            "channels": [{ "id": "19:incident@thread.tacv2", "name": "Incident" }],
        },
    })
    .to_string()
}
