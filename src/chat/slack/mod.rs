//! Slack: the only module that knows its Web API and Block Kit. In: `routes` through [`verify`] and [`parse`], or
//! [`socket`]. Out: [`render`], [`send`] through [`api`].

use crate::chat::ChatPlatform;
use crate::chat::ingress::Ingress;
use crate::metrics::Metrics;
use crate::preflight::Finding;
use crate::shared_state::SharedState;
use crate::store::Store;
use anyhow::Context;
use api::SlackApiError;
use async_trait::async_trait;
use axum::Router;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;

pub mod api;
mod directory;
mod errors;
pub mod form;
mod markup;
pub mod parse;
mod parse_form;
pub mod render;
mod routes;
mod scopes;
pub mod send;
mod shortcut;
pub mod socket;
mod table;
pub mod verify;

pub use parse::{ParsedRequest, SlackParser};
pub use send::SlackPlatform;
pub use verify::SignatureVerifier;

#[async_trait]
impl ChatPlatform for SlackPlatform {
    fn routes(self: Arc<Self>, ingress: Arc<Ingress>) -> anyhow::Result<Router> {
        Ok(routes::router(&self.config, ingress))
    }

    async fn prepare(&self) -> anyhow::Result<()> {
        self.api.prepare().await.context("setting up Slack")
    }

    fn pace_with(&self, shared: &Arc<dyn SharedState>) {
        self.limiter.share(shared);
    }

    fn measure_in(&self, metrics: &Arc<Metrics>) {
        self.api.metrics.get_or_init(|| Arc::clone(metrics));
    }

    fn keep_limits_in(&self, store: &Arc<dyn Store>) {
        self.api.limits.keep_in(store);
    }

    /// Socket Mode, where the configuration has an app-level token.
    fn connections(&self, ingress: Arc<Ingress>) -> anyhow::Result<Vec<BoxFuture<'static, ()>>> {
        let Some(app_token) = &self.config.app_token else { return Ok(Vec::new()) };
        let socket = socket::Socket::new(&self.config, app_token, &self.api.limits)
            .context("setting up Socket Mode")?;
        if let Some(metrics) = self.api.metrics.get() {
            socket.measure_in(metrics);
        }
        let connection = async move {
            let deliver = |request| -> Option<BoxFuture<'static, Option<Value>>> {
                match request {
                    ParsedRequest::Deliver(incoming) => ingress.deliver_or_decline(*incoming),
                    ParsedRequest::Form(incoming) => {
                        return Some(routes::form_answer(Arc::clone(&ingress), *incoming).boxed());
                    }
                    ParsedRequest::Foreign => drop(ingress.ignore_foreign()),
                    ParsedRequest::Challenge(_) | ParsedRequest::Ignore | ParsedRequest::Unreadable(_) => {}
                }
                None
            };
            socket.run(deliver).await;
        };
        Ok(vec![connection.boxed()])
    }

    /// Checks that Slack knows the bot's token, in a workspace that is listened to, and with every scope.
    async fn check(&self) -> Finding {
        let subject = "Slack";
        let identity = match self.workspace().await {
            Ok(team) => self.api.scopes().await.map(|scopes| (team, scopes)),
            Err(error) => Err(error),
        };
        match identity {
            Ok((team, scopes)) if self.config.workspaces.contains(&team) => {
                let missing = scopes::missing(&scopes, !self.config.groups.is_empty());
                if missing.is_empty() {
                    return Finding::works(subject, format!("knows the bot, in workspace {team}"));
                }
                let fix = "Add them to the app's bot token scopes (OAuth & Permissions), as manifest/slack.yaml lists them, and reinstall the app.";
                Finding::missing(subject, format!("doesn't grant the bot {}", missing.join(", ")), fix)
            }
            Ok((team, _)) => Finding::missing(
                subject,
                format!("knows the bot in workspace {team}, which isn't listened to"),
                "Add it to `workspaces` of `[slack]`, or take the token of the app in one of those.",
            ),
            Err(SlackApiError::Code(code)) => Finding::missing(
                subject,
                format!("refuses the bot's token ({code})"),
                "Put the app's Bot User OAuth Token (OAuth & Permissions, xoxb-…) where `bot_token` of `[slack]` points.",
            ),
            Err(error) => Finding::missing(
                subject,
                format!("isn't reached: {error}"),
                format!("Let Countersign connect to {}.", self.config.api_url),
            ),
        }
    }
}
