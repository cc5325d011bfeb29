//! Calls of Slack's Web API: timeouts, `Retry-After`, repeats and error codes. Errors of the client, slack-morphism, hold
//! whole bodies: they become codes here, and are never shown or logged. Its hyper can distinguish a refused connection from a lost answer.

use super::errors;
use crate::chat::{CALL_TIMEOUT, CONNECT_TIMEOUT, rate_limit_wait};
use crate::http_client;
use crate::metrics::Metrics;
use crate::model::PlatformKind;
use crate::rate_limits::RateLimits;
use crate::retry::{self, RetryPolicy, retry};
use crate::tls;
use anyhow::Context;
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
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OnceCell;
use url::{Origin, Url};

/// After a minute of waiting the person should see an error.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    backoff: &[Duration::from_millis(200), Duration::from_millis(800), Duration::from_millis(2_000)],
    max_waits: 8,
    max_wait: Duration::from_secs(60),
};

/// Hosts of a `response_url`, and of an upload, in the commercial and the government cloud.
/// Sources: <https://docs.slack.dev/interactivity/handling-user-interaction>, <https://docs.slack.dev/govslack>.
const RESPONSE_HOSTS: [&str; 2] = ["hooks.slack.com", "hooks.slack-gov.com"];
const UPLOAD_HOSTS: [&str; 2] = ["files.slack.com", "files.slack-gov.com"];

/// Failure of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlackApiError {
    /// Slack's error code: "channel_not_found".
    #[error("{0}")]
    Code(String),
    /// A `response_url` that is used up or too old.
    #[error("the response URL is used up")]
    ResponseUrlExpired,
    /// A `response_url` or an upload URL of another host. Nothing was sent there.
    #[error("the URL is not Slack's")]
    ForeignUrl,
    /// Slack asks not to call the method for so long.
    #[error("ratelimited")]
    RateLimited(Duration),
    /// Slack can't be reached, or is down.
    #[error("{0}")]
    Unavailable(String),
}

enum Call<'a> {
    Get(&'a str, &'a [(&'a str, &'a str)]),
    Post(&'a str, &'a Value),
    /// To a URL that Slack gave us. The URL is a secret: it is never logged, and our token is never sent to it.
    PostTo(&'a Url, &'a Value),
    Upload(&'a Url, &'a [u8]),
}

impl Call<'_> {
    /// `true` if a second call changes nothing; then it is repeated even if the first may have arrived.
    fn is_idempotent(&self) -> bool {
        match self {
            Call::Get(..) | Call::Upload(..) => true,
            Call::Post(method, _) => {
                matches!(
                    *method,
                    "chat.update" | "conversations.open" | "apps.connections.open" | "views.publish"
                )
            }
            Call::PostTo(..) => false,
        }
    }

    /// The name that rate limits are kept by.
    fn method(&self) -> &str {
        match self {
            Call::Get(method, _) | Call::Post(method, _) => method,
            Call::PostTo(..) => "response",
            Call::Upload(..) => "upload",
        }
    }

    /// Tells if it is answered with JSON that says "ok".
    fn is_method(&self) -> bool {
        matches!(self, Call::Get(..) | Call::Post(..))
    }

    /// A call that was not delivered, or whose repetition is better than its loss.
    fn not_delivered(reason: &str) -> Attempt {
        Attempt::Retry(SlackApiError::Unavailable(reason.to_owned()))
    }

    /// A call that may have arrived, although Slack's answer didn't.
    fn maybe_delivered(&self, reason: &str) -> Attempt {
        let error = SlackApiError::Unavailable(reason.to_owned());
        if self.is_idempotent() { Attempt::Retry(error) } else { Attempt::Failed(error) }
    }
}

type Attempt = retry::Attempt<Value, SlackApiError>;

fn rate_limited(asked: Option<Duration>) -> Attempt {
    let wait = rate_limit_wait(asked);
    Attempt::RateLimited(wait, SlackApiError::RateLimited(wait))
}

type Connector = SlackClientHyperConnector<HttpsConnector<HttpConnector>>;

/// Slack's Web API, with one token.
pub struct SlackApi {
    /// Made by [`SlackApi::prepare`], or at the first call.
    connector: OnceCell<Connector>,
    token: SlackApiToken,
    /// Of the Web API, without a slash at the end.
    url: String,
    /// Of the Web API: addresses there are Slack's, too.
    origin: Origin,
    pub limits: Arc<RateLimits>,
    /// Where failures are counted.
    pub metrics: OnceLock<Arc<Metrics>>,
}

impl SlackApi {
    /// `url` is `https://slack.com/api`, except in tests. Fails if it isn't a URL.
    pub fn new(url: &str, token: &SecretString, limits: Arc<RateLimits>) -> anyhow::Result<Self> {
        let origin = Url::parse(url)?.origin();
        let token = SlackApiToken::new(SlackApiTokenValue(token.expose_secret().to_owned()));
        let (connector, metrics) = Default::default();
        Ok(SlackApi { connector, token, url: url.to_owned(), origin, limits, metrics })
    }

    /// Makes the client that the calls use. Fails when the system has no certificates to trust.
    pub async fn prepare(&self) -> anyhow::Result<()> {
        self.connector().await.map(drop)
    }

    async fn connector(&self) -> anyhow::Result<&Connector> {
        let make = async || {
            let roots = tokio::task::spawn_blocking(tls::system_roots).await;
            let config = tls::client_config(roots.context("reading the system's certificates")??)?;
            anyhow::Ok(connector(&self.url, config))
        };
        self.connector.get_or_try_init(make).await
    }

    /// Calls a method that reads. Its arguments go into the query string, as Slack requires for reads.
    pub async fn get(&self, method: &str, arguments: &[(&str, &str)]) -> Result<Value, SlackApiError> {
        self.call(Call::Get(method, arguments)).await
    }

    /// Calls a method that takes JSON.
    pub async fn post(&self, method: &str, body: &Value) -> Result<Value, SlackApiError> {
        self.call(Call::Post(method, body)).await
    }

    /// The scopes of the token, with commas, as a header of every answer lists them: slack-morphism keeps no header.
    /// Source: <https://docs.slack.dev/authentication/installing-with-oauth>.
    pub async fn scopes(&self) -> Result<String, SlackApiError> {
        let unreachable = |_: reqwest::Error| SlackApiError::Unavailable("connection".to_owned());
        let client =
            http_client::builder(CONNECT_TIMEOUT).timeout(CALL_TIMEOUT).build().map_err(unreachable)?;
        let request = client.post(format!("{}/auth.test", self.url)).bearer_auth(&self.token.token_value.0);
        let answer = request.send().await.map_err(unreachable)?;
        let scopes = answer.headers().get("x-oauth-scopes").and_then(|scopes| scopes.to_str().ok());
        Ok(scopes.unwrap_or_default().to_owned())
    }

    /// Sends a message to a `response_url`, without our token.
    pub async fn respond(&self, url: &Url, body: &Value) -> Result<(), SlackApiError> {
        self.require_slack_url(url, &RESPONSE_HOSTS)?;
        self.call(Call::PostTo(url, body)).await.map(drop)
    }

    /// Uploads a file into a conversation, below a message if `thread` names one.
    /// Source: <https://api.slack.com/messaging/files#uploading_files>.
    pub async fn upload(
        &self,
        channel: &str,
        thread: Option<&str>,
        file: &super::render::Attachment,
    ) -> Result<(), SlackApiError> {
        let length = file.bytes.len().to_string();
        let arguments = [("filename", file.name.as_str()), ("length", length.as_str())];
        let answer = self.get("files.getUploadURLExternal", &arguments).await?;
        let url = answer["upload_url"].as_str().and_then(|url| Url::parse(url).ok());
        let (Some(url), Some(id)) = (url, answer["file_id"].as_str()) else {
            return Err(SlackApiError::Unavailable("no upload URL".to_owned()));
        };
        self.require_slack_url(&url, &UPLOAD_HOSTS)?;
        self.call(Call::Upload(&url, &file.bytes)).await?;
        let mut body = json!({ "files": [{ "id": id, "title": file.name }], "channel_id": channel });
        if let Some(thread) = thread {
            body["thread_ts"] = json!(thread);
        }
        self.post("files.completeUploadExternal", &body).await.map(drop)
    }

    /// Passes if the URL is of the Web API's own origin, or encrypted and of one of the hosts.
    fn require_slack_url(&self, url: &Url, hosts: &[&str]) -> Result<(), SlackApiError> {
        let is_host =
            |host: &&str| url.scheme() == "https" && url.host_str() == Some(host) && url.port().is_none();
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_slacks = !has_user && (url.origin() == self.origin || hosts.iter().any(is_host));
        if is_slacks { Ok(()) } else { Err(SlackApiError::ForeignUrl) }
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, SlackApiError> {
        retry(&RETRY_POLICY, || self.attempt(&call)).await
    }

    async fn attempt(&self, call: &Call<'_>) -> Attempt {
        let remaining = self.limits.remaining(call.method()).await;
        if !remaining.is_zero() {
            return Attempt::RateLimited(remaining, SlackApiError::RateLimited(remaining));
        }
        let attempt = self.send(call).await;
        if let (Some(error), Some(metrics)) = (attempt.error(), self.metrics.get()) {
            metrics.platform_failed(PlatformKind::Slack.word(), call.method(), errors::label(error));
        }
        if let Attempt::RateLimited(wait, _) = &attempt {
            self.limits.note(call.method(), *wait);
        }
        attempt
    }

    async fn send(&self, call: &Call<'_>) -> Attempt {
        let span = tracing::Span::none();
        let context = |token| SlackClientApiCallContext {
            rate_control_params: None,
            token,
            tracing_span: &span,
            is_sensitive_url: token.is_none(),
        };
        let Ok(connector) = self.connector().await else { return Call::not_delivered("certificates") };
        let request = async {
            match call {
                Call::Get(method, arguments) => {
                    let arguments: Vec<_> =
                        arguments.iter().map(|(name, value)| (*name, Some(*value))).collect();
                    connector.http_get(method, &arguments, context(Some(&self.token))).await
                }
                Call::Post(method, body) => {
                    connector.http_post(method, body, context(Some(&self.token))).await
                }
                Call::PostTo(url, body) => connector.http_post_uri((*url).clone(), body, context(None)).await,
                Call::Upload(url, bytes) => {
                    let content_type = "application/octet-stream".to_owned();
                    connector.http_post_uri_binary((*url).clone(), content_type, bytes, context(None)).await
                }
            }
        };
        let answer: Result<Result<Value, SlackClientError>, _> =
            tokio::time::timeout(CALL_TIMEOUT, request).await;
        match answer {
            Err(_) => call.maybe_delivered("timeout"),
            Ok(Ok(answer)) if call.is_method() && answer["ok"] != true => {
                Attempt::Failed(SlackApiError::Unavailable("unreadable_answer".to_owned()))
            }
            Ok(Ok(answer)) => Attempt::Done(answer),
            Ok(Err(error)) => classify(call, error),
        }
    }
}

fn connector(url: &str, config: rustls::ClientConfig) -> Connector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http);
    SlackClientHyperConnector::from(https).with_slack_api_url(url)
}

/// Classifies an error of the client, without using its text.
fn classify(call: &Call<'_>, error: SlackClientError) -> Attempt {
    let is_to_url = matches!(call, Call::PostTo(..) | Call::Upload(..));
    match error {
        SlackClientError::ApiError(error) => classify_code(call, &error.code),
        SlackClientError::RateLimitError(error) => rate_limited(error.retry_after),
        // A message may have gone out all the same: one too many is better than none.
        SlackClientError::HttpError(error) if error.status_code.is_server_error() => {
            Call::not_delivered("server_error")
        }
        SlackClientError::HttpError(error) => {
            let body = error.http_response_body.unwrap_or_default();
            let json: Option<Value> = serde_json::from_str(&body).ok();
            let code = json.as_ref().and_then(|json| json["error"].as_str()).unwrap_or(&body);
            match (error.status_code.as_u16(), call) {
                (404 | 410, Call::PostTo(..)) => Attempt::Failed(SlackApiError::ResponseUrlExpired),
                (status, _) if code.is_empty() || !is_code(code) => {
                    Attempt::Failed(SlackApiError::Code(format!("http_{status}")))
                }
                _ => classify_code(call, code),
            }
        }
        // Slack answered 200 with a text that isn't JSON ("ok").
        SlackClientError::ProtocolError(_) if is_to_url => Attempt::Done(Value::Null),
        SlackClientError::ProtocolError(_) => {
            Attempt::Failed(SlackApiError::Unavailable("unreadable_answer".to_owned()))
        }
        SlackClientError::HttpProtocolError(error) => {
            let client_error = error.cause.as_ref().and_then(|cause| cause.downcast_ref::<legacy::Error>());
            if client_error.is_some_and(legacy::Error::is_connect) {
                Call::not_delivered("connection")
            } else {
                call.maybe_delivered("connection")
            }
        }
        _ => call.maybe_delivered("connection"),
    }
}

fn classify_code(call: &Call<'_>, code: &str) -> Attempt {
    match code {
        "used_url" | "expired_url" => Attempt::Failed(SlackApiError::ResponseUrlExpired),
        "ratelimited" | "rate_limited" => rate_limited(None),
        "internal_error" | "service_unavailable" | "request_timeout" => Call::not_delivered("server_error"),
        "fatal_error" => call.maybe_delivered("server_error"),
        code if is_code(code) => Attempt::Failed(SlackApiError::Code(code.to_owned())),
        _ => Attempt::Failed(SlackApiError::Code("unknown_error".to_owned())),
    }
}

/// Codes are short words; anything else could be a body.
fn is_code(text: &str) -> bool {
    text.len() <= 60 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_slacks_by_scheme_host_and_port() {
        let api = |url| {
            let limits = RateLimits::new("slack".to_owned());
            SlackApi::new(url, &SecretString::from("xoxb"), limits).unwrap()
        };
        let (slack, fake) = (api("https://slack.com/api"), api("http://127.0.0.1:4711/api"));
        let is_good = |api: &SlackApi, url: &str| {
            api.require_slack_url(&Url::parse(url).unwrap(), &RESPONSE_HOSTS).is_ok()
        };
        for (url, for_slack, for_fake) in [
            ("https://hooks.slack.com/commands/1", true, true),
            ("https://hooks.slack-gov.com/commands/1", true, true),
            ("https://HOOKS.slack.com:443/commands/1", true, true),
            ("https://slack.com/commands/1", true, false),
            ("http://127.0.0.1:4711/response/1", false, true),
            ("http://127.0.0.1:4712/response/1", false, false),
            ("https://127.0.0.1:4711/response/1", false, false),
            ("http://localhost:4711/response/1", false, false),
            ("http://ana:b@127.0.0.1:4711/response/1", false, false),
            ("http://hooks.slack.com/commands/1", false, false),
            ("https://hooks.slack.com:8443/commands/1", false, false),
            ("https://hooks.slack.com@evil.example/", false, false),
            ("https://ana@hooks.slack.com/", false, false),
            ("https://ana:b@hooks.slack.com/", false, false),
            ("https://hooks.slack.com.evil.example/", false, false),
            ("https://evil-hooks.slack.com/", false, false),
            ("https://hooks.slack.com./", false, false),
            ("https://files.slack.com/upload/1", false, false),
            ("https://169.254.169.254/metadata", false, false),
            ("ftp://hooks.slack.com/", false, false),
            ("data:text/plain,x", false, false),
        ] {
            assert_eq!(is_good(&slack, url), for_slack, "{url}");
            assert_eq!(is_good(&fake, url), for_fake, "{url}");
        }
        let upload = Url::parse("https://files.slack.com/upload/v1/x").unwrap();
        assert!(slack.require_slack_url(&upload, &UPLOAD_HOSTS).is_ok());
    }
}
