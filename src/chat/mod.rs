//! The chat platforms, one module each: verify, parse, render, send; and the terminal, for when chat is down. Each knows its own
//! wire format and the neutral values of [`crate::model`], decides nothing, and never imports another.

use crate::app::App;
use crate::config::Config;
use crate::ephemeral::TtlCache;
use crate::metrics::Metrics;
use crate::platform::{Freshness, Platform, SendError};
use crate::preflight::{CheckStatus, Finding};
use crate::shared_state::SharedState;
use crate::store::Store;
use anyhow::Context;
use async_trait::async_trait;
use axum::Router;
use futures::future::BoxFuture;
use ingress::Ingress;
use std::sync::Arc;
use std::time::Duration;

pub mod ingress;

/// What the chat platforms share of rendering.
mod render {
    pub mod budget;
    pub mod part;
    pub mod rows;
    pub mod text;
}
pub mod payload;
pub mod slack;
pub mod teams;
pub mod terminal;
mod typed_text;

/// Age of a cached report on an account or a conversation at most.
const REPORT_LIFETIME: Duration = Duration::from_secs(300);
/// The same where the bot or the account is absent: the next thing that a person does is add it.
const ABSENT_LIFETIME: Duration = Duration::from_secs(10);
/// A direct conversation's id never changes; it is cached to spare a call.
const DIRECT_LIFETIME: Duration = Duration::from_secs(3_600);
const CACHE_CAPACITY: usize = 10_000;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one attempt of a call, from connecting to the last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after a 429 without a `Retry-After` that can be read, and the shortest: none at all would be a loop.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest wait that is taken at its word. A longer one is a mistake of the platform, and would silence the bot.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// The wait after a 429 that asked for this one.
fn rate_limit_wait(asked: Option<Duration>) -> Duration {
    asked.unwrap_or(RETRY_AFTER).clamp(RETRY_AFTER, LONGEST_WAIT)
}

/// The wait that a `Retry-After` asks for, in seconds or as a date.
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#field.retry-after>.
fn retry_after(header: &str, now: jiff::Timestamp) -> Option<Duration> {
    let seconds = header.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite());
    let date = || jiff::fmt::rfc2822::parse(header.trim()).ok();
    match seconds {
        Some(seconds) => Duration::try_from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())).ok(),
        None => Duration::try_from(date()?.timestamp().duration_since(now)).ok(),
    }
}

/// A chat platform as the process runs it: [`Platform`] sends, this brings the events in, and is checked.
#[async_trait]
pub trait ChatPlatform: Platform {
    /// The routes of its requests. Each is verified, parsed and handed over, and only then acknowledged: at once, whatever
    /// PostgreSQL, the store or the platform's API do. Fails when the system has no certificates to trust.
    fn routes(self: Arc<Self>, ingress: Arc<Ingress>) -> anyhow::Result<Router>;

    /// Connections that bring events in besides the routes. Each is dropped as soon as the process is told to stop: the platform
    /// delivers new events to another process, or holds them until the next one connects. Fails as [`ChatPlatform::routes`].
    fn connections(&self, _ingress: Arc<Ingress>) -> anyhow::Result<Vec<BoxFuture<'static, ()>>> {
        Ok(Vec::new())
    }

    /// Makes what the first call needs, beside the first requests. Fails when the system has no certificates to trust.
    async fn prepare(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Counts the messages that other replicas send in the pace of each conversation.
    fn pace_with(&self, shared: &Arc<dyn SharedState>);

    /// Counts its acknowledgements and the failures of its calls there.
    fn measure_in(&self, metrics: &Arc<Metrics>);

    /// Keeps the waits that the platform asks for in the store, for the process that follows.
    fn keep_limits_in(&self, store: &Arc<dyn Store>);

    /// Checks that the platform knows the bot.
    async fn check(&self) -> Finding;
}

type Named = (&'static str, anyhow::Result<Arc<dyn ChatPlatform>>);

/// The register of chat platforms: those of the configuration, by name. Each fails when the system has no certificates to trust.
fn register(config: &Config) -> Vec<Named> {
    let chat = &config.chat;
    let named = [
        named("Slack", chat.slack.as_ref(), slack::SlackPlatform::new),
        named("Teams", chat.teams.as_ref(), teams::TeamsPlatform::new),
    ];
    named.into_iter().flatten().collect()
}

fn named<S, P: ChatPlatform + 'static>(
    name: &'static str,
    settings: Option<&S>,
    new: fn(&S) -> anyhow::Result<P>,
) -> Option<Named> {
    let platform = new(settings?).map(|platform| Arc::new(platform) as Arc<dyn ChatPlatform>);
    Some((name, platform))
}

/// The chat platforms of the configuration, which keep their rate limits in the store, and their pace with other replicas. Fails when
/// the system has no certificates to trust.
pub fn platforms(app: &App) -> anyhow::Result<Vec<Arc<dyn ChatPlatform>>> {
    let set_up = |(name, platform): Named| {
        let platform = platform.with_context(|| format!("setting up {name}"))?;
        platform.keep_limits_in(&app.audit.store);
        platform.pace_with(&app.shared);
        platform.measure_in(&app.metrics);
        Ok(platform)
    };
    register(&app.config).into_iter().map(set_up).collect()
}

/// The platforms, to send to.
pub fn senders(platforms: &[Arc<dyn ChatPlatform>]) -> Vec<Arc<dyn Platform>> {
    platforms.iter().map(|platform| Arc::clone(platform) as Arc<dyn Platform>).collect()
}

/// Checks that each platform of the configuration knows the bot, and that the bot is in the channel for requests from terminals.
pub async fn check(config: &Config) -> Vec<Finding> {
    let checks = register(config).into_iter().map(|(name, platform)| async move {
        let ready = async {
            let platform = platform?;
            platform.prepare().await?;
            anyhow::Ok(platform)
        };
        match ready.await {
            Ok(platform) => {
                let finding = platform.check().await;
                let is_known = finding.status == CheckStatus::Works;
                let channel = if is_known { terminal_channel(name, &*platform).await } else { None };
                std::iter::once(finding).chain(channel).collect()
            }
            Err(error) => {
                let problem = format!("can't be asked: {error:#}");
                vec![Finding::missing(name, problem, "Install the system's certificates.")]
            }
        }
    });
    futures::future::join_all(checks).await.into_iter().flatten().collect()
}

/// The finding about a platform's channel for requests from terminals; `None` where the configuration names none.
async fn terminal_channel(name: &str, platform: &dyn ChatPlatform) -> Option<Finding> {
    let conversation = platform.terminal_conversation()?;
    let subject = format!("{name}: terminal_channel");
    let id = &conversation.id;
    Some(match platform.conversation(&conversation).await {
        Ok(info) if info.is_bot_member => Finding::works(subject, format!("the bot is in {id}")),
        Ok(_) | Err(SendError::ConversationRefused(_)) => Finding::missing(
            subject,
            format!(
                "the bot isn't in {id}, or there is no such channel: requests from terminals can't be posted"
            ),
            "Add the bot to that channel, or set the id of another one.",
        ),
        Err(error) => Finding::missing(
            subject,
            format!("{id} can't be looked up: {error}"),
            "Check the platform's status, then check again.",
        ),
    })
}

/// A report of the platform, as fresh as it has to be.
async fn report<V: Clone, E>(
    cache: &TtlCache<V>,
    key: &str,
    freshness: Freshness,
    fetch: impl Future<Output = Result<(V, Duration), E>>,
) -> Result<V, E> {
    match freshness {
        Freshness::Recent => cache.get_or_fetch(key, fetch).await,
        Freshness::Current => cache.refresh(key, fetch).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_as_a_date() {
        let now: jiff::Timestamp = "2026-11-30T06:54:16Z".parse().unwrap();
        for (header, seconds) in [
            ("90", 90.0),
            (" 90 ", 90.0),
            ("4.2", 4.2),
            ("Mon, 30 Nov 2026 06:55:46 GMT", 90.0),
            ("Mon, 30 Nov 2026 06:54:15 GMT", 1.0),
            ("0", 1.0),
            ("0.01", 1.0),
            ("-5", 1.0),
            ("", 1.0),
            ("soon", 1.0),
            ("nan", 1.0),
            ("31536000", 86_400.0),
            ("18446744073709551615", 86_400.0),
        ] {
            let wait = rate_limit_wait(retry_after(header, now));
            assert_eq!(wait, Duration::from_secs_f64(seconds), "{header}");
        }
    }
}
