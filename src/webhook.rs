//! A team's own webhook, notified in JSON of pending requests. Its address may be a secret: it is neither logged nor shown.

use crate::http_client;
use crate::retry::{Attempt, RetryPolicy, retry};
use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::time::Duration;

/// For one attempt.
const TIMEOUT: Duration = Duration::from_secs(10);

const POLICY: RetryPolicy = RetryPolicy {
    backoff: &[Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)],
    max_waits: 0,
    max_wait: Duration::ZERO,
};

/// The webhook's address, and the client for it.
#[derive(Clone)]
pub struct Webhook {
    client: reqwest::Client,
    url: SecretString,
}

impl Webhook {
    /// Fails when the system has no certificates to trust.
    pub fn new(url: &SecretString) -> anyhow::Result<Webhook> {
        let client = http_client::builder(TIMEOUT).timeout(TIMEOUT).no_proxy().build();
        Ok(Webhook { client: client.context("setting up the webhook's client")?, url: url.clone() })
    }

    /// Sends a notification, repeatedly if it doesn't get through. One that never does is logged and dropped: the chat shows
    /// the pending request as well.
    pub async fn notify(&self, notification: &Value) {
        if let Err(error) = retry(&POLICY, || self.attempt(notification)).await {
            tracing::error!(error, "notifying the webhook failed; notification dropped");
        }
    }

    /// Checks that a server answers at the address, whatever it answers: a HEAD request notifies nobody.
    ///
    /// # Errors
    /// The problem, as it follows "the webhook".
    pub async fn check(&self) -> Result<(), &'static str> {
        let answer = self.client.head(self.url.expose_secret()).send().await;
        answer.map(drop).map_err(|error| problem(&error))
    }

    async fn attempt(&self, notification: &Value) -> Attempt<(), String> {
        let problem = match self.client.post(self.url.expose_secret()).json(notification).send().await {
            Ok(response) if response.status().is_success() => return Attempt::Done(()),
            Ok(response) => format!("the webhook answered {}", response.status()),
            Err(error) => format!("the webhook {}", problem(&error)),
        };
        Attempt::Retry(problem)
    }
}

/// The problem in our own words: an error's text names the address.
fn problem(error: &reqwest::Error) -> &'static str {
    if error.is_builder() {
        "has an invalid address"
    } else if error.is_timeout() {
        "didn't answer in time"
    } else {
        "can't be reached"
    }
}
