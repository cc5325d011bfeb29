//! `countersign check`: everything that can be wrong before an incident. Mistakes in the configuration and in the commands
//! are reported as `serve` reports them; the servers are examined by `preflight`.

use super::{Variables, configured, show};
use crate::chat::slack::api::SlackApiError;
use crate::chat::slack::send::SlackPlatform;
use crate::chat::teams::TeamsPlatform;
use crate::chat::terminal::ButtonLines;
use crate::config;
use crate::model::{Heading, Reply};
use crate::postgres::Environments;
use crate::preflight::{CheckContext, Finding, examine};
use std::path::Path;

/// Exit statuses.
const WELL: u8 = 0;
pub const MISSING: u8 = 1;

/// Runs the checks, prints the report, and returns the exit status.
/// The error lists every mistake in the configuration or in the commands.
pub async fn check(path: &Path, json: bool, variables: &Variables<'_>) -> anyhow::Result<u8> {
    let config = configured(path, variables)?;
    crate::bootstrap::rules(&config)?;
    let targets = Environments::new(&config)?;
    let names: Vec<&str> = targets.names().iter().map(String::as_str).collect();
    let mut report = examine(&CheckContext { config: &config, targets: &targets }, &names).await;
    if let Some(app) = &config.slack {
        report.add_here(slack(app).await);
    }
    if let Some(app) = &config.teams {
        report.add_here(teams(app).await);
    }
    let asked = format!("check of {}", path.display());
    let mut reply = Reply::new(Heading { who: None, asked, environment: None, run: None });
    reply.blocks = report.blocks();
    show(&reply, &ButtonLines::new(), json, variables)?;
    Ok(if report.missing() == 0 { WELL } else { MISSING })
}

/// Checks that Slack knows the bot's token, in a workspace that is listened to.
async fn slack(app: &config::SlackSettings) -> Finding {
    let at = "Slack";
    let workspace = match SlackPlatform::new(app) {
        Ok(platform) => platform.workspace().await,
        Err(error) => {
            let problem = format!("can't be asked: {error:#}");
            return Finding::missing(at, problem, "Install the system's certificates.");
        }
    };
    match workspace {
        Ok(team) if app.workspaces.contains(&team) => {
            Finding::works(at, format!("knows the bot, in workspace {team}"))
        }
        Ok(team) => Finding::missing(
            at,
            format!("knows the bot in workspace {team}, which isn't listened to"),
            "Add it to `workspaces` of `[slack]`, or take the token of the app in one of those.",
        ),
        Err(SlackApiError::Code(code)) => Finding::missing(
            at,
            format!("refuses the bot's token ({code})"),
            "Put the app's Bot User OAuth Token (OAuth & Permissions, xoxb-…) where `bot_token` of `[slack]` points.",
        ),
        Err(error) => Finding::missing(
            at,
            format!("isn't reached: {error}"),
            format!("Let Countersign connect to {}.", app.api_url),
        ),
    }
}

/// Checks that Entra gives the bot tokens.
async fn teams(app: &config::TeamsSettings) -> Finding {
    let at = "Teams";
    let identity = async { TeamsPlatform::new(app)?.identity().await };
    let Err(error) = identity.await else { return Finding::works(at, "gives the bot tokens".to_owned()) };
    let fix = if app.client_secret.is_some() {
        "Check `app_id`, the first of `tenants` and `client_secret` of `[teams]`, and that Countersign reaches login.microsoftonline.com."
    } else {
        "Give Countersign's machine the managed identity whose client id is `app_id` of `[teams]`, or set `client_secret`."
    };
    Finding::missing(at, format!("gives the bot no token: {error:#}"), fix)
}
