//! Calls of the Bot Framework's Connector: one place for tokens, time-outs, `Retry-After`, repeats and error codes. Answers are
//! turned into codes here and never shown or logged as they are.
//! Source: <https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference>.

use crate::azure::identity::{CredentialKind, Tokens};
use crate::config;
use crate::platform::SendError;
use anyhow::Context;
use reqwest::{Method, StatusCode, header};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one attempt, from connecting to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What all waits for `Retry-After` of one call may come to.
const PATIENCE: Duration = Duration::from_secs(60);
/// What to wait where Teams says 429 without `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Before the repeats of a call that Teams asks to repeat: 412, 502, 504.
/// Source: <https://learn.microsoft.com/microsoftteams/platform/bots/how-to/rate-limit>.
const BACKOFF: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(1_000), Duration::from_millis(2_500)];
/// Members of one page, the most that Teams gives.
const PAGE: &str = "500";
/// A conversation with more members than this isn't read to its end.
const MOST_PAGES: usize = 20;

/// Why a call did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Teams' status and error code: "BotNotInConversationRoster".
    #[error("{1} ({0})")]
    Code(u16, String),
    /// Teams can't be reached, is down, or wants us to wait for too long.
    #[error("{0}")]
    Unavailable(String),
}

/// A member of a conversation.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// `29:…`, of the bot's own making.
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

#[derive(Deserialize)]
struct CreatedActivity {
    id: String,
}

/// A conversation, and the service that it lives at.
#[derive(Debug, Clone, Copy)]
pub struct Located<'a> {
    pub service: &'a str,
    /// With its `;messageid=`, where it is a thread.
    pub conversation: &'a str,
}

/// The Connector, with the bot's own tokens.
pub struct Connector {
    client: reqwest::Client,
    tokens: Tokens,
    app_id: String,
}

/// What one attempt came to.
enum Attempt {
    Done(Value),
    Failed(CallError),
    /// Teams asks to wait.
    Limited(Duration),
    /// It may have arrived (`true`) or certainly didn't.
    Lost(&'static str, bool),
}

/// One call.
struct Call<'a> {
    method: Method,
    url: Url,
    body: Option<&'a Value>,
}

impl Connector {
    /// # Errors
    /// When the system has no certificates to trust, or the identity can't be set up.
    pub fn new(config: &config::Teams) -> anyhow::Result<Self> {
        let tenant = config.tenants.first().map(String::as_str).unwrap_or_default();
        let who = match &config.client_secret {
            Some(secret) => CredentialKind::Application { tenant, client_id: &config.app_id, secret },
            None => CredentialKind::ManagedIdentity { client_id: &config.app_id },
        };
        // A redirect would carry the token elsewhere.
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("setting up the client of Teams")?;
        let tokens = Tokens::new(&who, &config.scope).context("setting up the bot's identity")?;
        Ok(Connector { client, tokens, app_id: config.app_id.clone() })
    }

    /// Whether the bot's own identity is given tokens.
    ///
    /// # Errors
    /// As [`Tokens::token`].
    pub async fn identity(&self) -> anyhow::Result<()> {
        self.tokens.token().await.map(drop)
    }

    /// Sends an activity; its id. To one person alone where it names a recipient.
    pub async fn send(&self, there: Located<'_>, activity: &Value) -> Result<String, CallError> {
        let mut url = address(there, &["activities"])?;
        if activity.get("recipient").is_some() {
            url.query_pairs_mut().append_pair("isTargetedActivity", "true");
        }
        let answer = self.call(&Call { method: Method::POST, url, body: Some(activity) }).await?;
        // The client that shows it has to answer for it: an id may be missing, and then it can't be edited.
        Ok(answer["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Replaces an activity.
    pub async fn update(&self, there: Located<'_>, id: &str, activity: &Value) -> Result<(), CallError> {
        let url = address(there, &["activities", id])?;
        self.call(&Call { method: Method::PUT, url, body: Some(activity) }).await.map(drop)
    }

    /// One member, by the Entra object id.
    pub async fn member(&self, there: Located<'_>, account: &str) -> Result<Member, CallError> {
        let url = address(there, &["members", account])?;
        read(self.call(&Call { method: Method::GET, url, body: None }).await?)
    }

    /// All members; `None` if there are too many to be read.
    pub async fn members(&self, there: Located<'_>) -> Result<Option<Vec<Member>>, CallError> {
        let mut members = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut url = address(there, &["pagedmembers"])?;
            url.query_pairs_mut().append_pair("pageSize", PAGE);
            if let Some(token) = &next {
                url.query_pairs_mut().append_pair("continuationToken", token);
            }
            let page: Page = read(self.call(&Call { method: Method::GET, url, body: None }).await?)?;
            members.extend(page.members);
            next = page.continuation_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(Some(members));
            }
        }
        Ok(None)
    }

    /// The conversation with one account alone; it is made if there is none.
    pub async fn direct(&self, service: &str, (tenant, account): (&str, &str)) -> Result<String, CallError> {
        let mut url = base(service)?;
        url.path_segments_mut()
            .map_err(|()| CallError::Unavailable("bad_address".to_owned()))?
            .extend(["v3", "conversations"]);
        let body = json!({
            "bot": { "id": format!("28:{}", self.app_id) },
            "members": [{ "id": account }],
            "channelData": { "tenant": { "id": tenant } },
            "tenantId": tenant,
            "isGroup": false,
        });
        let made: CreatedActivity =
            read(self.call(&Call { method: Method::POST, url, body: Some(&body) }).await?)?;
        Ok(made.id)
    }

    async fn call(&self, call: &Call<'_>) -> Result<Value, CallError> {
        let mut waited = Duration::ZERO;
        let mut repeats = BACKOFF.iter();
        loop {
            let (reason, wait) = match self.attempt(call).await {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Failed(error) => return Err(error),
                Attempt::Limited(wait) => {
                    waited += wait;
                    ("ratelimited", Some(wait).filter(|_| waited <= PATIENCE))
                }
                // A message is sent twice rather than not at all only where Teams itself asks for it.
                Attempt::Lost(reason, arrived) => {
                    let again = !arrived || call.method != Method::POST;
                    (reason, Some(()).filter(|()| again).and(repeats.next().copied()))
                }
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(CallError::Unavailable(reason.to_owned())),
            }
        }
    }

    async fn attempt(&self, call: &Call<'_>) -> Attempt {
        let token = match self.tokens.token().await {
            Ok(token) => token,
            Err(why) => {
                tracing::warn!(%why, "Teams can't be spoken to");
                return Attempt::Failed(CallError::Unavailable("no_token".to_owned()));
            }
        };
        let mut request = self.client.request(call.method.clone(), call.url.clone());
        request = request.bearer_auth(token.expose_secret());
        if let Some(body) = call.body {
            request = request.json(body);
        }
        match request.send().await {
            Err(error) if error.is_connect() => Attempt::Lost("connection", false),
            Err(error) if error.is_timeout() => Attempt::Lost("timeout", true),
            Err(_) => Attempt::Lost("connection", true),
            Ok(answer) => judge(answer).await,
        }
    }
}

/// What an answer means, without anything of its text.
async fn judge(answer: reqwest::Response) -> Attempt {
    let status = answer.status();
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            let after = answer.headers().get(header::RETRY_AFTER).and_then(|after| after.to_str().ok());
            let seconds = after.and_then(|after| after.trim().parse().ok());
            Attempt::Limited(seconds.map_or(RETRY_AFTER, Duration::from_secs))
        }
        StatusCode::PRECONDITION_FAILED | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Attempt::Lost("server_error", false)
        }
        _ if status.is_server_error() => Attempt::Lost("server_error", true),
        _ if status.is_success() => Attempt::Done(answer.json().await.unwrap_or_default()),
        _ => {
            let told: Value = answer.json().await.unwrap_or_default();
            let code = told["error"]["code"].as_str().filter(|code| is_code(code)).unwrap_or("unknown_error");
            Attempt::Failed(CallError::Code(status.as_u16(), code.to_owned()))
        }
    }
}

/// What a failed call means for whoever sends.
pub(super) fn send_error(error: CallError) -> SendError {
    match error {
        CallError::Unavailable(why) => SendError::Unavailable(why),
        CallError::Code(status, code) => match (status, code.as_str()) {
            // What the bot itself is refused, which its operators can mend.
            (401, _) => SendError::Unavailable(code),
            (403, _) | (404, "ConversationNotFound") => SendError::NotThere,
            (404, _) => SendError::Gone,
            _ => SendError::Refused(code),
        },
    }
}

fn base(service: &str) -> Result<Url, CallError> {
    let mut url = Url::parse(service).map_err(|_| CallError::Unavailable("bad_address".to_owned()))?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
    }
    Ok(url)
}

/// Below `v3/conversations/{id}`, each part escaped.
fn address(there: Located<'_>, rest: &[&str]) -> Result<Url, CallError> {
    let mut url = base(there.service)?;
    url.path_segments_mut()
        .map_err(|()| CallError::Unavailable("bad_address".to_owned()))?
        .extend(["v3", "conversations", there.conversation])
        .extend(rest);
    Ok(url)
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, CallError> {
    serde_json::from_value(answer).map_err(|_| CallError::Unavailable("unreadable_answer".to_owned()))
}

/// Codes are short words; anything else could be a body.
fn is_code(text: &str) -> bool {
    text.len() <= 60 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
