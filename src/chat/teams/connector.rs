//! Calls of the Bot Framework's Connector: one place for tokens, timeouts, `Retry-After`, repeats and error codes. Answers are
//! turned into codes here and never shown or logged as they are.
//! Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference>.

use super::errors;
use crate::azure::{CredentialKind, Tokens};
use crate::chat::payload;
use crate::chat::{CALL_TIMEOUT, CONNECT_TIMEOUT, rate_limit_wait, retry_after};
use crate::config;
use crate::http_client;
use crate::metrics::Metrics;
use crate::model::PlatformKind;
use crate::rate_limits::RateLimits;
use crate::retry::{self, RetryPolicy, retry};
use anyhow::Context;
use percent_encoding::percent_decode_str;
use reqwest::{Method, StatusCode, header};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use url::Url;

/// Teams asks to repeat a call after 412, 502 and 504.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/rate-limit>.
const POLICY: RetryPolicy = RetryPolicy {
    backoff: &[Duration::from_millis(300), Duration::from_millis(1_000), Duration::from_millis(2_500)],
    max_waits: 60,
    max_wait: Duration::from_secs(60),
};

/// Members of one page, the most that Teams gives.
const PAGE_SIZE: &str = "500";
/// A conversation with more members than this isn't read to its end.
const MAX_PAGES: usize = 20;

/// Failure of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectorError {
    /// Teams' status and error code: "BotNotInConversationRoster".
    #[error("{1} ({0})")]
    Code(u16, String),
    /// Teams asks not to make such a call for so long.
    #[error("ratelimited")]
    RateLimited(Duration),
    /// Teams can't be reached, or is down.
    #[error("{0}")]
    Unavailable(String),
}

/// A member of a conversation.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// `29:…`, which counts for this bot only.
    pub id: String,
    pub aad_object_id: Option<String>,
    /// The same, by its older name.
    pub object_id: Option<String>,
    pub tenant_id: Option<String>,
    pub user_role: Option<String>,
    pub user_principal_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    members: Vec<Member>,
    continuation_token: Option<String>,
}

/// Address of a conversation, at the service that Teams named for it.
#[derive(Debug, Clone)]
pub struct ConversationReference {
    pub service_url: String,
    /// With its `;messageid=`, where it is a thread.
    pub conversation: String,
}

impl ConversationReference {
    /// A path below `v3/conversations/{id}`, each part escaped.
    fn url(&self, rest: &[&str]) -> Result<Url, ConnectorError> {
        conversations_url(&self.service_url, &[&[self.conversation.as_str()], rest].concat())
    }
}

/// The Connector, with the bot's own tokens.
pub struct ConnectorClient {
    client: reqwest::Client,
    pub(super) tokens: Tokens,
    app_id: String,
    pub(super) limits: Arc<RateLimits>,
    /// Where failures are counted.
    pub(super) metrics: OnceLock<Arc<Metrics>>,
}

type Attempt = retry::Attempt<Value, ConnectorError>;

/// A call that Teams didn't get, or asks to repeat.
fn lost(reason: &str) -> Attempt {
    Attempt::Retry(unavailable(reason))
}

/// A call that may have arrived, although Teams' answer didn't: a message is not sent twice.
fn unanswered(method: &Method, reason: &str) -> Attempt {
    let error = unavailable(reason);
    if *method == Method::POST { Attempt::Failed(error) } else { Attempt::Retry(error) }
}

fn unavailable(reason: &str) -> ConnectorError {
    ConnectorError::Unavailable(reason.to_owned())
}

impl ConnectorClient {
    /// Fails when the system has no certificates to trust, or the identity can't be set up.
    pub fn new(config: &config::TeamsSettings) -> anyhow::Result<Self> {
        let tenant = config.tenants.first().map(String::as_str).unwrap_or_default();
        let kind = match &config.client_secret {
            Some(secret) => CredentialKind::Application {
                tenant,
                client_id: &config.app_id,
                secret,
                login_url: &config.login_url,
            },
            None => CredentialKind::ManagedIdentity { client_id: &config.app_id },
        };
        let client = http_client::builder(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT).build();
        let client = client.context("setting up the client of Teams")?;
        let tokens = Tokens::new(&kind, &config.scope).context("setting up the bot's identity")?;
        let limits = RateLimits::new(format!("teams/{}", config.tenants.join(",")));
        Ok(ConnectorClient {
            client,
            tokens,
            app_id: config.app_id.clone(),
            limits,
            metrics: OnceLock::new(),
        })
    }

    /// Sends an activity, and returns its id. Only the recipient sees it, where it names one.
    pub async fn send(&self, at: &ConversationReference, activity: &Value) -> Result<String, ConnectorError> {
        let mut url = at.url(&["activities"])?;
        if activity.get("recipient").is_some() {
            url.query_pairs_mut().append_pair("isTargetedActivity", "true");
        }
        let answer = self.call(Method::POST, &url, Some(activity)).await?;
        // An id may be missing, and then the message can't be edited.
        Ok(answer["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Replaces an activity.
    pub async fn update(
        &self,
        at: &ConversationReference,
        id: &str,
        activity: &Value,
    ) -> Result<(), ConnectorError> {
        let url = at.url(&["activities", id])?;
        self.call(Method::PUT, &url, Some(activity)).await.map(drop)
    }

    /// One member, by the Entra object id.
    pub async fn member(&self, at: &ConversationReference, account: &str) -> Result<Member, ConnectorError> {
        let url = at.url(&["members", account])?;
        read(self.call(Method::GET, &url, None).await?)
    }

    /// All members; `None` if there are too many to be read.
    pub async fn members(&self, at: &ConversationReference) -> Result<Option<Vec<Member>>, ConnectorError> {
        let mut members = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut url = at.url(&["pagedmembers"])?;
            url.query_pairs_mut().append_pair("pageSize", PAGE_SIZE);
            if let Some(token) = &next {
                url.query_pairs_mut().append_pair("continuationToken", token);
            }
            let page: Page = read(self.call(Method::GET, &url, None).await?)?;
            members.extend(page.members);
            next = page.continuation_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(Some(members));
            }
        }
        Ok(None)
    }

    /// Opens the conversation with one account, and returns its id.
    pub async fn direct(&self, service: &str, tenant: &str, account: &str) -> Result<String, ConnectorError> {
        let url = conversations_url(service, &[])?;
        let body = json!({
            "bot": { "id": format!("28:{}", self.app_id) },
            "members": [{ "id": account }],
            "channelData": { "tenant": { "id": tenant } },
            "tenantId": tenant,
            "isGroup": false,
        });
        read(self.call(Method::POST, &url, Some(&body)).await?["id"].clone())
    }

    async fn call(&self, method: Method, url: &Url, body: Option<&Value>) -> Result<Value, ConnectorError> {
        retry(&POLICY, || self.attempt(&method, url, body)).await
    }

    async fn attempt(&self, method: &Method, url: &Url, body: Option<&Value>) -> Attempt {
        let (place, limit) = (conversation_of(url), limit_name(method, url));
        let remaining = self.limits.remaining_in(&place, &limit).await;
        if !remaining.is_zero() {
            return Attempt::RateLimited(remaining, ConnectorError::RateLimited(remaining));
        }
        let attempt = self.send_request(method, url, body).await;
        if let (Some(error), Some(metrics)) = (attempt.error(), self.metrics.get()) {
            metrics.platform_failed(PlatformKind::Teams.word(), &limit, errors::label(error));
        }
        if let Attempt::RateLimited(wait, _) = &attempt {
            self.limits.note_in(&place, &limit, *wait);
        }
        attempt
    }

    async fn send_request(&self, method: &Method, url: &Url, body: Option<&Value>) -> Attempt {
        let token = match self.tokens.token().await {
            Ok(token) => token,
            Err(error) => {
                tracing::warn!(%error, "getting a token for Teams failed");
                return Attempt::Failed(unavailable("no_token"));
            }
        };
        let mut request = self.client.request(method.clone(), url.clone()).bearer_auth(token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        match request.send().await {
            Err(error) if error.is_connect() => lost("connection"),
            Err(error) if error.is_timeout() => unanswered(method, "timeout"),
            Err(_) => unanswered(method, "connection"),
            Ok(answer) => classify(method, answer).await,
        }
    }
}

/// The conversation of a call, whose threads share its limits; empty for a new one. Teams limits a bot in each conversation, and in a
/// tenant. Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/rate-limit>.
fn conversation_of(url: &Url) -> String {
    let mut parts = url.path_segments().into_iter().flatten().skip_while(|part| *part != "conversations");
    let id = percent_decode_str(parts.nth(1).unwrap_or_default()).decode_utf8_lossy().into_owned();
    id.split_once(";messageid=").map_or(id.clone(), |(conversation, _)| conversation.to_owned())
}

/// The name that the rate limits of such calls are kept by: "POST activities".
fn limit_name(method: &Method, url: &Url) -> String {
    let mut parts = url.path_segments().into_iter().flatten();
    let kind = parts.find(|part| ["activities", "members", "pagedmembers"].contains(part));
    format!("{method} {}", kind.unwrap_or("conversations"))
}

/// Classifies an answer, without anything of its text.
async fn classify(method: &Method, answer: reqwest::Response) -> Attempt {
    let status = answer.status();
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            let asked = answer.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
            let asked = asked.and_then(|after| retry_after(after, jiff::Timestamp::now()));
            let wait = rate_limit_wait(asked);
            Attempt::RateLimited(wait, ConnectorError::RateLimited(wait))
        }
        StatusCode::PRECONDITION_FAILED | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            lost("server_error")
        }
        _ if status.is_server_error() => unanswered(method, "server_error"),
        _ if status.is_success() => Attempt::Done(answer.json().await.unwrap_or_default()),
        _ => {
            let body: Value = answer.json().await.unwrap_or_default();
            let code = body["error"]["code"].as_str().filter(|code| is_code(code)).unwrap_or("unknown_error");
            Attempt::Failed(ConnectorError::Code(status.as_u16(), code.to_owned()))
        }
    }
}

fn conversations_url(service_url: &str, rest: &[&str]) -> Result<Url, ConnectorError> {
    let mut url = Url::parse(service_url).map_err(|_| unavailable("bad_address"))?;
    let mut path = url.path_segments_mut().map_err(|()| unavailable("bad_address"))?;
    path.pop_if_empty().extend(["v3", "conversations"]).extend(rest);
    drop(path);
    Ok(url)
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, ConnectorError> {
    payload::read(answer).map_err(|shape| {
        tracing::warn!(%shape, "an answer of Teams can't be read");
        unavailable("unreadable_answer")
    })
}

/// Codes are short words; anything else could be a body.
fn is_code(text: &str) -> bool {
    text.len() <= 60 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
