//! Calls of Slack's Web API: one place for time-outs, `Retry-After`, repeats and error codes. Errors of the HTTP client hold
//! whole bodies, so they are turned into codes here and never shown or logged as they are.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use slack_morphism::errors::SlackClientError;
use slack_morphism::hyper_tokio::SlackClientHyperConnector;
use slack_morphism::{
    SlackApiToken, SlackApiTokenValue, SlackClientApiCallContext, SlackClientHttpConnector,
};
use std::time::Duration;
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one attempt, from connecting to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What all waits for `Retry-After` of one call may come to: longer, and the person should hear of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// And so many waits at most, however short.
const WAITS: usize = 8;
/// What to wait where Slack says 429 without `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Before the repeats of a call that did not get through.
const BACKOFF: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_millis(2_000)];

/// Why a call did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Slack's error code: "channel_not_found".
    #[error("{0}")]
    Code(String),
    /// A `response_url` that is used up or too old.
    #[error("the response address is used up")]
    UsedUp,
    /// Slack can't be reached, is down, or wants us to wait for too long.
    #[error("{0}")]
    Unavailable(String),
}

/// How to send a call.
enum Call<'a> {
    Get(&'a str, &'a [(&'a str, &'a str)]),
    Post(&'a str, &'a Value),
    /// To an address that Slack gave us. It is a secret of its own: never logged, and never sent our token.
    PostTo(&'a Url, &'a Value),
    Upload(&'a Url, &'a [u8]),
}

impl Call<'_> {
    /// Whether doing it twice is as good as once: then it is repeated even if the first may have arrived.
    fn idempotent(&self) -> bool {
        match self {
            Call::Get(..) | Call::Upload(..) => true,
            Call::Post(method, _) => {
                matches!(*method, "chat.update" | "conversations.open" | "apps.connections.open")
            }
            Call::PostTo(..) => false,
        }
    }
}

/// What one attempt came to.
enum Attempt {
    Done(Value),
    Failed(CallError),
    /// Slack asks to wait.
    Limited(Duration),
    /// It may have arrived (`true`) or certainly didn't.
    Lost(&'static str, bool),
}

/// Slack's Web API, with one token.
pub struct Api {
    connector: SlackClientHyperConnector<HttpsConnector<HttpConnector>>,
    token: SlackApiToken,
}

impl Api {
    /// `url` is `https://slack.com/api` but for tests. Fails if the system has no certificates.
    pub fn new(url: &str, token: &SecretString) -> anyhow::Result<Self> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        let connector = SlackClientHyperConnector::from(https).with_slack_api_url(url);
        let token = SlackApiToken::new(SlackApiTokenValue(token.expose_secret().to_owned()));
        Ok(Api { connector, token })
    }

    /// A method that reads: its arguments go into the address, as Slack wants it for these.
    pub async fn get(&self, method: &str, arguments: &[(&str, &str)]) -> Result<Value, CallError> {
        self.call(Call::Get(method, arguments)).await
    }

    /// A method that takes JSON.
    pub async fn post(&self, method: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Call::Post(method, body)).await
    }

    /// A message to a `response_url`, without our token.
    pub async fn respond(&self, url: &Url, body: &Value) -> Result<(), CallError> {
        self.call(Call::PostTo(url, body)).await.map(drop)
    }

    /// A file into a conversation, below a message if `thread` names one.
    /// Source: <https://api.slack.com/messaging/files#uploading_files>.
    pub async fn upload(
        &self,
        channel: &str,
        thread: Option<&str>,
        file: &super::render::File,
    ) -> Result<(), CallError> {
        let length = file.bytes.len().to_string();
        let arguments = [("filename", file.name.as_str()), ("length", length.as_str())];
        let place = self.get("files.getUploadURLExternal", &arguments).await?;
        let address = place["upload_url"].as_str().and_then(|url| Url::parse(url).ok());
        let (Some(url), Some(id)) = (address, place["file_id"].as_str()) else {
            return Err(CallError::Unavailable("no upload address".to_owned()));
        };
        self.call(Call::Upload(&url, &file.bytes)).await?;
        let mut body = json!({ "files": [{ "id": id, "title": file.name }], "channel_id": channel });
        if let Some(thread) = thread {
            body["thread_ts"] = json!(thread);
        }
        self.post("files.completeUploadExternal", &body).await.map(drop)
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, CallError> {
        let (mut waits, mut waited) = (0, Duration::ZERO);
        let mut repeats = BACKOFF.iter();
        loop {
            let (reason, wait) = match self.attempt(&call).await {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Failed(error) => return Err(error),
                Attempt::Limited(wait) => {
                    waits += 1;
                    waited += wait;
                    ("ratelimited", Some(wait).filter(|_| waits <= WAITS && waited <= PATIENCE))
                }
                Attempt::Lost(reason, arrived) => {
                    (reason, Some(()).filter(|_| !arrived || call.idempotent()).and(repeats.next().copied()))
                }
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(CallError::Unavailable(reason.to_owned())),
            }
        }
    }

    async fn attempt(&self, call: &Call<'_>) -> Attempt {
        let span = tracing::Span::none();
        let ours = |token| SlackClientApiCallContext {
            rate_control_params: None,
            token,
            tracing_span: &span,
            is_sensitive_url: token.is_none(),
        };
        let connector = &self.connector;
        let sent = async {
            match call {
                Call::Get(method, arguments) => {
                    let arguments: Vec<_> =
                        arguments.iter().map(|(name, value)| (*name, Some(*value))).collect();
                    connector.http_get(method, &arguments, ours(Some(&self.token))).await
                }
                Call::Post(method, body) => connector.http_post(method, body, ours(Some(&self.token))).await,
                Call::PostTo(url, body) => connector.http_post_uri((*url).clone(), body, ours(None)).await,
                Call::Upload(url, bytes) => {
                    let kind = "application/octet-stream".to_owned();
                    connector.http_post_uri_binary((*url).clone(), kind, bytes, ours(None)).await
                }
            }
        };
        match tokio::time::timeout(CALL_TIMEOUT, sent).await {
            Err(_) => Attempt::Lost("timeout", true),
            Ok(Ok(answer)) => Attempt::Done(answer),
            Ok(Err(error)) => judge(call, error),
        }
    }
}

/// What an error of the client means, without anything of its text.
fn judge(call: &Call<'_>, error: SlackClientError) -> Attempt {
    let to_address = matches!(call, Call::PostTo(..) | Call::Upload(..));
    match error {
        SlackClientError::ApiError(error) => by_code(&error.code),
        SlackClientError::RateLimitError(error) => Attempt::Limited(error.retry_after.unwrap_or(RETRY_AFTER)),
        // A message may have gone out all the same: one too many is better than none.
        SlackClientError::HttpError(error) if error.status_code.is_server_error() => {
            Attempt::Lost("server_error", false)
        }
        SlackClientError::HttpError(error) => {
            let body = error.http_response_body.unwrap_or_default();
            let told: Option<Value> = serde_json::from_str(&body).ok();
            let code = told.as_ref().and_then(|told| told["error"].as_str()).unwrap_or(&body);
            match (error.status_code.as_u16(), call) {
                (404 | 410, Call::PostTo(..)) => Attempt::Failed(CallError::UsedUp),
                (status, _) if code.is_empty() || !is_code(code) => {
                    Attempt::Failed(CallError::Code(format!("http_{status}")))
                }
                _ => by_code(code),
            }
        }
        // Slack said 200 to it, in words that aren't JSON ("ok").
        SlackClientError::ProtocolError(_) if to_address => Attempt::Done(Value::Null),
        SlackClientError::ProtocolError(_) => {
            Attempt::Failed(CallError::Unavailable("unreadable_answer".to_owned()))
        }
        SlackClientError::HttpProtocolError(error) => {
            let client = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<legacy::Error>());
            Attempt::Lost("connection", !client.is_some_and(legacy::Error::is_connect))
        }
        _ => Attempt::Lost("connection", true),
    }
}

fn by_code(code: &str) -> Attempt {
    match code {
        "used_url" | "expired_url" => Attempt::Failed(CallError::UsedUp),
        "ratelimited" | "rate_limited" => Attempt::Limited(RETRY_AFTER),
        "internal_error" | "service_unavailable" | "request_timeout" => Attempt::Lost("server_error", false),
        "fatal_error" => Attempt::Lost("server_error", true),
        code if is_code(code) => Attempt::Failed(CallError::Code(code.to_owned())),
        _ => Attempt::Failed(CallError::Code("unknown_error".to_owned())),
    }
}

/// Codes are short words; anything else could be a body.
fn is_code(text: &str) -> bool {
    text.len() <= 60 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
