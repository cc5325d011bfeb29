//! The routes: the Bot Framework's keys, the managed identity, the Connector.

use super::faults::{called, connector_error, plain_error};
use super::{Tenant, keys, split};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as AxumState};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::Value;
use std::collections::HashMap;

/// A call of the Connector, whose token has been checked.
pub(super) struct ConnectorCall {
    /// The id in the path, decoded: it may name a thread.
    pub conversation: String,
    /// The activity of the path.
    pub activity: Option<String>,
    pub targeted: bool,
    pub body: Value,
    pub bytes: usize,
}

impl ConnectorCall {
    /// Without the thread.
    pub fn base(&self) -> &str {
        split(&self.conversation).0
    }
}

type QueryParameters = HashMap<String, String>;

pub(super) fn routes() -> Router<Tenant> {
    Router::new()
        .route("/v1/.well-known/openidconfiguration", get(keys::metadata))
        .route("/v1/.well-known/keys", get(keys::keys))
        .route("/msi/token", get(keys::managed_identity))
        .route("/{directory}/oauth2/v2.0/token", post(keys::application))
        .route("/teams/v3/conversations", post(create))
        .route("/teams/v3/conversations/{id}/activities", post(send))
        .route("/teams/v3/conversations/{id}/activities/{activity}", any(on_activity))
        .route("/teams/v3/conversations/{id}/members/{member}", get(member))
        .route("/teams/v3/conversations/{id}/pagedmembers", get(members))
        .route("/connector/{*rest}", any(forward))
        .fallback(unknown_route)
}

/// Forwards a call to another Connector: the bot's token goes to this address only.
async fn forward(AxumState(tenant): AxumState<Tenant>, method: Method, uri: Uri, body: Bytes) -> Response {
    let Some(connector) = tenant.state().connector.clone() else {
        return plain_error(StatusCode::NOT_FOUND, "there is no other Connector");
    };
    let request = tenant.inner.http.request(method, format!("{connector}{uri}")).body(body);
    let Ok(answer) = request.send().await else {
        return plain_error(StatusCode::BAD_GATEWAY, "the other Connector does not answer");
    };
    let status = answer.status();
    (status, answer.bytes().await.unwrap_or_default()).into_response()
}

async fn unknown_route(AxumState(tenant): AxumState<Tenant>, method: Method, uri: Uri) -> Response {
    tenant.change(|state| state.unknown_requests.push(format!("there is no {method} {uri}")));
    plain_error(StatusCode::NOT_FOUND, "No HTTP resource was found that matches the request URI.")
}

/// Checks the token, and does the work.
async fn authorised(
    tenant: &Tenant,
    method: &str,
    headers: &HeaderMap,
    work: impl AsyncFnOnce() -> Response,
) -> Response {
    called(tenant, method, async || match tenant.check_token(headers) {
        Ok(()) => work().await,
        Err(refused) => *refused,
    })
    .await
}

fn call(id: String, activity: Option<String>, query: &QueryParameters, body: &Bytes) -> ConnectorCall {
    let targeted = query.get("isTargetedActivity").is_some_and(|value| value == "true");
    let parsed = serde_json::from_slice(body).unwrap_or(Value::Null);
    ConnectorCall { conversation: id, activity, targeted, body: parsed, bytes: body.len() }
}

async fn create(AxumState(tenant): AxumState<Tenant>, headers: HeaderMap, body: Bytes) -> Response {
    authorised(&tenant, "create", &headers, async || {
        let call = call(String::new(), None, &QueryParameters::new(), &body);
        tenant.create_personal(&call)
    })
    .await
}

async fn send(
    AxumState(tenant): AxumState<Tenant>,
    Path(id): Path<String>,
    Query(query): Query<QueryParameters>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let is_targeted = query.contains_key("isTargetedActivity");
    let name = match split(&id).1 {
        _ if is_targeted && tenant.has_fault("targeted") => "targeted",
        Some(_) if tenant.has_fault("thread") => "thread",
        _ => "post",
    };
    authorised(&tenant, name, &headers, async || {
        let call = call(id, None, &query, &body);
        let response = tenant.post(&call);
        tenant.refresh_views(&call);
        response
    })
    .await
}

async fn on_activity(
    AxumState(tenant): AxumState<Tenant>,
    Path((id, activity)): Path<(String, String)>,
    Query(query): Query<QueryParameters>,
    (method, headers): (Method, HeaderMap),
    body: Bytes,
) -> Response {
    let name = match method {
        Method::POST => "post",
        Method::PUT => "put",
        Method::DELETE => "delete",
        _ => return connector_error(StatusCode::METHOD_NOT_ALLOWED, "BadArgument", "no such method"),
    };
    authorised(&tenant, name, &headers, async || {
        let call = call(id, Some(activity), &query, &body);
        match name {
            "delete" => tenant.delete(&call),
            _ => {
                let response = if name == "put" { tenant.put(&call) } else { tenant.post(&call) };
                tenant.refresh_views(&call);
                response
            }
        }
    })
    .await
}

async fn member(
    AxumState(tenant): AxumState<Tenant>,
    Path((id, member)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    authorised(&tenant, "member", &headers, async || tenant.member(split(&id).0, &member)).await
}

async fn members(
    AxumState(tenant): AxumState<Tenant>,
    Path(id): Path<String>,
    Query(query): Query<QueryParameters>,
    headers: HeaderMap,
) -> Response {
    authorised(&tenant, "members", &headers, async || tenant.paged_members(split(&id).0, &query)).await
}
