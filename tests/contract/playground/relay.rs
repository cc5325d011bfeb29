//! Between the Playground and the bot: signs what the Playground sends as the Bot Framework does, and adds what it leaves out and
//! Teams sends. The Connector's answers go through here, too.

use crate::bot_process::{Bot, CHAT};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use countersign::demo::fake_teams::{ActivityAck, TenantSettings, object_id};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

pub(super) struct Relay {
    pub(super) address: SocketAddr,
    bot: Arc<Bot>,
    service_url: String,
    /// The Playground's Connector.
    connector: String,
    http: reqwest::Client,
    /// The Playground says of every message that its one user wrote it: whoever did.
    author: Mutex<String>,
    /// What each account sent last.
    last_activities: Mutex<HashMap<String, Value>>,
}

impl Relay {
    /// Serves from then on.
    pub(super) async fn start(bot: Arc<Bot>, playground: u16) -> Arc<Relay> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = listener.local_addr().expect("an address");
        let connector = format!("http://localhost:{playground}/_connector");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let relay = Arc::new(Relay {
            address: here,
            service_url: bot.teams.forward_to(format!("http://{here}")),
            bot,
            connector,
            http,
            author: Mutex::default(),
            last_activities: Mutex::default(),
        });
        let router = Router::new()
            .route("/api/messages", post(to_the_bot).head(async || StatusCode::OK))
            .route("/connector/{*rest}", any(to_the_client))
            .with_state(Arc::clone(&relay));
        tokio::spawn(async move { axum::serve(listener, router).await });
        relay
    }
}

/// An activity of the Playground's.
async fn to_the_bot(State(relay): State<Arc<Relay>>, body: Bytes) -> Response {
    let Ok(mut activity) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let tenant = TenantSettings::default().tenant;
    // The Playground is the service; its Connector's answers lack something, too.
    activity["serviceUrl"] = json!(relay.service_url);
    // It names the tenant in some activities only.
    activity["channelData"]["tenant"] = json!({ "id": tenant });
    activity["conversation"]["tenantId"] = json!(tenant);
    if activity["type"] == "message" && activity["text"].is_string() {
        let author = relay.author.lock().expect("no panic").clone();
        activity["from"] =
            json!({ "id": format!("29:{author}"), "name": author, "aadObjectId": object_id(&author) });
    }
    let from = activity["from"]["id"].as_str().unwrap_or_default().to_owned();
    relay.last_activities.lock().expect("no panic").insert(from.clone(), activity.clone());
    let mut ack = relay.deliver(activity).await;
    relay.add_choices(&from, &mut ack.body).await;
    let status = StatusCode::from_u16(ack.status).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, axum::Json(ack.body)).into_response()
}

impl Relay {
    /// Lets a person write the next message.
    pub(super) fn set_author(&self, who: &str) {
        who.clone_into(&mut self.author.lock().expect("no panic"));
    }

    /// It signs nothing without an account in Entra.
    async fn deliver(&self, activity: Value) -> ActivityAck {
        let teams = &self.bot.teams;
        let mut token = teams.token();
        token.claims["serviceurl"] = json!(self.service_url);
        teams.deliver_with(teams.sign(&token), activity).await
    }

    /// An activity of the bot's with the choices of its form.
    async fn with_choices(&self, body: Bytes) -> Bytes {
        let Ok(mut activity) = serde_json::from_slice::<Value>(&body) else { return body };
        let to = activity["recipient"]["id"].as_str().unwrap_or_default().to_owned();
        self.add_choices(&to, &mut activity).await;
        activity.to_string().into()
    }

    /// It searches nothing, as Teams does while somebody types: a form gets what the bot offers to them.
    async fn add_choices(&self, who: &str, value: &mut Value) {
        let search = self.last_activities.lock().expect("no panic").get(who).cloned();
        let Some(mut search) = search else { return };
        for input in searched_inputs(value) {
            let query = input.remove("choices.data").unwrap_or_default();
            // Other tests have many sessions.
            let text = if input["id"] == "field:pid" { "shop-" } else { "" };
            search["type"] = json!("invoke");
            search["name"] = json!("application/search");
            search["value"] = json!({
                "queryText": text, "queryOptions": { "skip": 0, "top": 15 }, "dataset": query["dataset"],
            });
            let ack = self.deliver(search.clone()).await;
            assert_eq!(ack.body["type"], "application/vnd.microsoft.search.searchResponse", "{ack:?}");
            let choices = ack.body["value"]["results"].clone();
            if choices.as_array().is_some_and(Vec::is_empty) {
                // It opens no list without choices; in Teams, what somebody types is one.
                input.insert("type".to_owned(), json!("Input.Text"));
                continue;
            }
            input.insert("choices".to_owned(), choices);
        }
    }
}

/// The inputs whose choices are searched.
fn searched_inputs(value: &mut Value) -> Vec<&mut Map<String, Value>> {
    match value {
        Value::Array(items) => items.iter_mut().flat_map(searched_inputs).collect(),
        Value::Object(fields) => {
            if fields.contains_key("choices.data") {
                return vec![fields];
            }
            fields.values_mut().flat_map(searched_inputs).collect()
        }
        _ => Vec::new(),
    }
}

/// A call of the bot's.
async fn to_the_client(
    State(relay): State<Arc<Relay>>,
    method: Method,
    Path(rest): Path<String>,
    (RawQuery(query), body): (RawQuery, Bytes),
) -> Response {
    // It knows no targeted messages: what is for one alone is shown to all.
    let query = query.filter(|query| !query.contains("isTargetedActivity"));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let body = relay.with_choices(body).await;
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
            member["tenantId"] = json!(TenantSettings::default().tenant);
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
    let TenantSettings { app, tenant, .. } = TenantSettings::default();
    let person = |name: &&str| {
        json!({
            "id": format!("29:{name}"), "name": name, "aadObjectId": object_id(name),
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
            "id": "19:the-team@thread.tacv2", "name": "Team", "aadGroupId": object_id("the team"),
            "channels": [{ "id": "19:incident@thread.tacv2", "name": "Incident" }],
        },
    })
    .to_string()
}
