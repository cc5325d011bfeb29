//! The notifications of the team's webhook: what waits for approval, and what somebody did without.

use super::card::heading;
use super::eligibility::pending_approvers;
use crate::app::App;
use crate::incident::IncidentMessage;
use crate::model::Run;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

/// The webhook's names of events.
pub(super) const WAITING: &str = "waiting";
pub(super) const STILL_WAITING: &str = "still_waiting";
pub(super) const BREAK_GLASS_USED: &str = "acted_alone";
const CRITICAL: &str = "critical";

/// Notifies the team's webhook, if it has one, in the background.
pub(super) fn notify(app: &App, background: &TaskTracker, run: &Run, event: &'static str) {
    let Some(webhook) = app.webhook.clone() else { return };
    let payload = payload(app, run, event);
    background.spawn(async move { webhook.notify(&payload).await });
}

/// Notifies the team's webhook, if it has one, of findings that are critical, in the background.
pub(super) fn notify_of_incident(app: &App, background: &TaskTracker, run: &Run, message: &IncidentMessage) {
    let Some(webhook) = app.webhook.clone() else { return };
    let environment = run.request.environment.as_deref().and_then(|name| app.environments.tag(name));
    let critical = message.critical_findings().map(ToString::to_string);
    let critical: Vec<String> = critical.collect();
    let place = environment.as_ref().map_or(String::new(), |environment| format!(" in {}", environment.name));
    let payload = json!({
        "event": CRITICAL,
        "run": run.id,
        "environment": environment.as_ref().map(|environment| &environment.name),
        "production": environment.as_ref().is_some_and(|environment| environment.production),
        "findings": critical,
        "text": format!("Critical{place}: {} (#{}).", critical.join("; "), run.id),
    });
    background.spawn(async move { webhook.notify(&payload).await });
}

/// The webhook's message: who requested what in which environment, and who can decide. No query and no row.
fn payload(app: &App, run: &Run, event: &str) -> Value {
    let heading = heading(app, run);
    let environment = heading.environment.as_ref();
    let approvers = pending_approvers(app, run);
    let people: Vec<&str> = approvers.iter().map(|person| person.id.as_str()).collect();
    let (requester, command, id) = (&run.request.requester.id, &heading.command, run.id);
    let scope = environment.map_or(String::new(), |environment| format!(" on {}", environment.name));
    let text = match event {
        BREAK_GLASS_USED => format!("{requester} ran {command}{scope} without approval (#{id})."),
        _ => {
            format!("{requester} requested {command}{scope} (#{id}): {} can approve it.", people.join(", "))
        }
    };
    json!({
        "event": event,
        "run": id,
        "asked": command,
        "environment": environment.map(|environment| &environment.name),
        "production": environment.is_some_and(|environment| environment.production),
        "requester": requester,
        "reason": run.text("reason"),
        "people": people,
        "until": run.deadline.map(|deadline| deadline.to_string()),
        "text": text,
    })
}
