//! A team's own webhook, which is told in JSON of what waits for people. Its address may be a secret: it is neither logged nor shown.

use anyhow::Context;
use axum::body::Body;
use axum::http::{Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::time::Duration;

/// For one attempt.
const WITHIN: Duration = Duration::from_secs(10);

/// Before the repeats of one that did not get through.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// Tells the webhook.
pub struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    url: SecretString,
}

impl Webhook {
    /// # Errors
    /// When the system has no certificates to trust.
    pub fn new(url: &SecretString) -> anyhow::Result<Webhook> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(WITHIN));
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .context("finding the system's certificates")?
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(http);
        Ok(Webhook { client: Client::builder(TokioExecutor::new()).build(https), url: url.clone() })
    }

    /// Sends it, and again if it doesn't get through; what never does is logged, and lost: what waits stands in the chat as well.
    pub async fn tell(&self, what: &Value) {
        let mut pauses = PAUSES.iter();
        loop {
            match self.send(what).await {
                Ok(()) => return,
                Err(why) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return tracing::error!(why, "the webhook was not told of what waits"),
                },
            }
        }
    }

    async fn send(&self, what: &Value) -> Result<(), String> {
        let request = Request::post(self.url.expose_secret())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(what.to_string()));
        let request = request.map_err(|_| "its address is none".to_owned())?;
        // The client's errors name the address.
        let answer = tokio::time::timeout(WITHIN, self.client.request(request)).await;
        let answer = answer.map_err(|_| "it gave no answer in time".to_owned())?;
        let status = answer.map_err(|_| "it can't be reached".to_owned())?.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }
}
