//! Microsoft Teams: the only module that knows Adaptive Cards and the Bot Framework. In: `routes` through [`verify`] and
//! [`parse`]. Out: [`render`], [`send`] through [`connector`].

use crate::chat::ChatPlatform;
use crate::chat::ingress::Ingress;
use crate::metrics::Metrics;
use crate::preflight::Finding;
use crate::shared_state::SharedState;
use crate::store::Store;
use async_trait::async_trait;
use axum::Router;
use std::sync::Arc;

pub mod connector;
mod deep_link;
mod errors;
pub mod form;
mod markup;
pub mod parse;
pub mod render;
mod routes;
pub mod send;
mod text_run;
pub mod verify;

pub use parse::{ParsedActivity, TeamsParser};
pub use send::TeamsPlatform;
pub use verify::TokenVerifier;

#[async_trait]
impl ChatPlatform for TeamsPlatform {
    fn routes(self: Arc<Self>, ingress: Arc<Ingress>) -> anyhow::Result<Router> {
        routes::router(self, ingress)
    }

    fn pace_with(&self, shared: &Arc<dyn SharedState>) {
        self.limiter.share(shared);
    }

    fn measure_in(&self, metrics: &Arc<Metrics>) {
        self.connector.metrics.get_or_init(|| Arc::clone(metrics));
    }

    fn keep_limits_in(&self, store: &Arc<dyn Store>) {
        self.connector.limits.keep_in(store);
    }

    /// Checks that Entra gives the bot tokens.
    async fn check(&self) -> Finding {
        let subject = "Teams";
        let Err(error) = self.identity().await else {
            return Finding::works(subject, "gives the bot tokens");
        };
        let fix = if self.config.client_secret.is_some() {
            "Check `app_id`, the first of `tenants` and `client_secret` of `[teams]`, and that Countersign reaches Entra, `login_url`."
        } else {
            "Give Countersign's machine the managed identity with the client id that `app_id` of `[teams]` names, or set `client_secret`."
        };
        Finding::missing(subject, format!("gives the bot no token: {error:#}"), fix)
    }
}
