//! The routes: the Bot Framework's keys, the managed identity, the Connector.

use super::faults::{called, connector_error, plain_error};
use super::{World, keys, split};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as AxumState};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// A call, its token apart.
pub(super) struct Call {
    /// As it stands in the path, decoded: perhaps with a thread.
    pub conversation: String,
    /// The activity of the path.
    pub activity: Option<String>,
    pub targeted: bool,
    pub body: Value,
    pub bytes: usize,
}

impl Call {
    /// Without the thread.
    pub fn base(&self) -> &str {
        split(&self.conversation).0
    }
}

type Ask = HashMap<String, String>;

pub(super) fn routes() -> Router<Arc<World>> {
    Router::new()
        .route("/v1/.well-known/openidconfiguration", get(keys::metadata))
        .route("/v1/.well-known/keys", get(keys::keys))
        .route("/msi/token", get(keys::managed_identity))
        .route("/teams/v3/conversations", post(create))
        .route("/teams/v3/conversations/{id}/activities", post(send))
        .route("/teams/v3/conversations/{id}/activities/{activity}", any(on_activity))
        .route("/teams/v3/conversations/{id}/members/{member}", get(member))
        .route("/teams/v3/conversations/{id}/pagedmembers", get(members))
        .route("/connector/{*rest}", any(forward))
        .fallback(nowhere)
}

/// Forwards a call to another Connector: the bot's token goes to this address only.
async fn forward(AxumState(world): AxumState<Arc<World>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let Some(connector) = world.state().connector.clone() else {
        return plain_error(StatusCode::NOT_FOUND, "there is no other Connector");
    };
    let request = world.http.request(method, format!("{connector}{uri}")).body(body);
    let Ok(answer) = request.send().await else {
        return plain_error(StatusCode::BAD_GATEWAY, "the other Connector does not answer");
    };
    let status = answer.status();
    (status, answer.bytes().await.unwrap_or_default()).into_response()
}

async fn nowhere(AxumState(world): AxumState<Arc<World>>, method: Method, uri: Uri) -> Response {
    world.change(|state| state.wrong.push(format!("there is no {method} {uri}")));
    plain_error(StatusCode::NOT_FOUND, "No HTTP resource was found that matches the request URI.")
}

/// The token, then the body, then the work.
async fn with(
    world: &World,
    method: &str,
    headers: &HeaderMap,
    work: impl AsyncFnOnce() -> Response,
) -> Response {
    called(world, method, async || match world.authorised(headers) {
        Ok(()) => work().await,
        Err(refused) => *refused,
    })
    .await
}

fn call(id: String, activity: Option<String>, (asked, body): (&Ask, &Bytes)) -> Call {
    let targeted = asked.get("isTargetedActivity").is_some_and(|value| value == "true");
    let parsed = serde_json::from_slice(body).unwrap_or(Value::Null);
    Call { conversation: id, activity, targeted, body: parsed, bytes: body.len() }
}

async fn create(AxumState(world): AxumState<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    with(&world, "create", &headers, async || {
        let call = call(String::new(), None, (&Ask::new(), &body));
        world.create_personal(&call)
    })
    .await
}

async fn send(
    AxumState(world): AxumState<Arc<World>>,
    Path(id): Path<String>,
    Query(asked): Query<Ask>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let is_targeted = asked.contains_key("isTargetedActivity");
    let name = match split(&id).1 {
        _ if is_targeted && world.has_fault("targeted") => "targeted",
        Some(_) if world.has_fault("thread") => "thread",
        _ => "post",
    };
    with(&world, name, &headers, async || {
        let call = call(id, None, (&asked, &body));
        let response = world.post(&call);
        world.refresh_views(&call);
        response
    })
    .await
}

async fn on_activity(
    AxumState(world): AxumState<Arc<World>>,
    Path((id, activity)): Path<(String, String)>,
    Query(asked): Query<Ask>,
    (method, headers): (Method, HeaderMap),
    body: Bytes,
) -> Response {
    let name = match method {
        Method::POST => "post",
        Method::PUT => "put",
        Method::DELETE => "delete",
        _ => return connector_error(StatusCode::METHOD_NOT_ALLOWED, ("BadArgument", "no such method")),
    };
    with(&world, name, &headers, async || {
        let call = call(id, Some(activity), (&asked, &body));
        match name {
            "delete" => world.delete(&call),
            _ => {
                let response = if name == "put" { world.put(&call) } else { world.post(&call) };
                world.refresh_views(&call);
                response
            }
        }
    })
    .await
}

async fn member(
    AxumState(world): AxumState<Arc<World>>,
    Path((id, member)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    with(&world, "member", &headers, async || world.member(split(&id).0, &member)).await
}

async fn members(
    AxumState(world): AxumState<Arc<World>>,
    Path(id): Path<String>,
    Query(asked): Query<Ask>,
    headers: HeaderMap,
) -> Response {
    with(&world, "members", &headers, async || world.paged_members(split(&id).0, &asked)).await
}
