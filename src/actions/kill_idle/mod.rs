//! `kill-idle`: ends the sessions of a server, or of one service's database, that have been idle for long. The card lists each
//! session, or sums up more than a card can list; the plan names them all, and each is judged by itself: it is ended only if it has
//! done nothing since it was shown.

use super::support::blocks::{count, table};
use super::support::session_info::{ensure_sees_sessions, query_error, reader, session_loss};
use super::support::signal::{
    CurrentSession, ServerTarget, SessionId, SignalKind, SignalResult, observe_outcome, signal_all,
};
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::clock::duration_seconds;
use crate::error::{Error, Result};
use crate::model::ColumnKind::{Left, Right};
use crate::model::{Block, Cell, EventKind, Plan, Severity, Table, from_identity, to_identity};
use crate::postgres::{ColumnError, PgRow};
use crate::redact;
use crate::sql::duration;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

pub struct KillIdle;

/// An approver can't read a longer list on a card: more sessions are summed up by application and role.
const MAX_LISTED: usize = 50;

/// Lines of a summary.
const MAX_GROUPS: usize = 20;

#[derive(Default, Serialize, Deserialize)]
struct IdleTarget {
    #[serde(flatten)]
    session: SessionId,
    app: String,
}

#[async_trait]
impl Action for KillIdle {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let server = only_server(call)?;
        let database = match call.value("service").filter(|service| *service != "all") {
            Some(service) => Some(call.app.environments.service(service)?.database.clone()),
            None => None,
        };
        let seconds = call.value("older-than").and_then(duration_seconds);
        let seconds = seconds.ok_or_else(|| Error::user("`--older-than` is missing."))? as f64;
        let environment = call.app.environments.environment(call.environment_name())?;
        let own_roles = call.app.environments.own_roles(environment);
        let client = reader(call, &server).await?;
        let rows = client.query(include_str!("idle.sql"), &[&seconds, &database, &own_roles]).await;
        let rows = rows.map_err(|err| query_error(&server, &err))?;
        ensure_sees_sessions(rows.first().ok_or_else(|| Error::user(format!("{server} gave no answer.")))?)?;
        let (spared, listed) = rows
            .iter()
            .filter(|row| row.value::<i32>("pid").is_some())
            .partition(|row| row.value("privileged") != Some(false) || row.value("own") != Some(false));
        let place = database.unwrap_or_else(|| server.clone());
        let hidden = rows.first().and_then(|row| row.value("hidden")).unwrap_or(0);
        let idle = IdleSessions { listed, spared, hidden, seconds, place };
        idle.ensure_any()?;
        let mut plan = idle.plan(&environment.name)?;
        plan.set_target(&ServerTarget { server });
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let targets: Vec<IdleTarget> =
            execution.plan.target_identities.iter().filter_map(from_identity).collect();
        match signal_all(execution, SignalKind::TerminateIdle).await {
            Ok(results) => outcome(&targets, &results),
            Err(outcome) => outcome,
        }
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock, EffectGuard::PlannedTarget]
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        observe_outcome(execution, SignalKind::TerminateIdle).await
    }
}

fn only_server(call: &Call<'_>) -> Result<String> {
    match call.targets(call.command.header.scope)?.as_slice() {
        [only] => Ok(only.server.clone()),
        several => {
            let first = several.first().map_or("<name>", |first| first.server.as_str());
            Err(Error::instead(
                format!("{} has {} servers.", call.environment_name(), several.len()),
                format!("Say which: `kill-idle --server {first}`."),
            ))
        }
    }
}

/// The rows of `idle.sql`.
struct IdleSessions<'a> {
    /// Those that may be ended.
    listed: Vec<&'a PgRow>,
    /// Those of superusers, replication and Countersign itself.
    spared: Vec<&'a PgRow>,
    /// The number of sessions that hide their state.
    hidden: i64,
    seconds: f64,
    place: String,
}

impl IdleSessions<'_> {
    fn ensure_any(&self) -> Result<()> {
        if !self.listed.is_empty() {
            return Ok(());
        }
        let (place, idle_time) = (&self.place, duration(self.seconds));
        let hidden = self.hidden_sessions().map_or(String::new(), |hidden| format!(" {hidden}."));
        Err(Error::instead(
            format!(
                "No session on {place} has been idle for {idle_time} or longer, except those that are never ended.{hidden}"
            ),
            "`connections` shows who holds connections; `idle` shows sessions that are idle in a transaction.",
        ))
    }

    /// The sessions of which nothing is known.
    fn hidden_sessions(&self) -> Option<String> {
        match self.hidden {
            0 => None,
            1 => Some("1 session hides what it does (track_activities is off for it)".to_owned()),
            many => Some(format!("{many} sessions hide what they do (track_activities is off for them)")),
        }
    }

    fn plan(&self, environment: &str) -> Result<Plan, ColumnError> {
        let listed = &self.listed;
        let target = |row: &&PgRow| {
            let session = SessionId {
                pid: row.get("pid")?,
                backend_start: row.get("backend_start")?,
                query_start: None,
                state_change: Some(row.get("state_change")?),
                role: row.get("role")?,
                database: row.get("database")?,
            };
            let app: String = row.get("app")?;
            Ok(to_identity(&IdleTarget { session, app: redact::name(&app) }))
        };
        let number = count(listed.len(), "session", "sessions");
        let have = if listed.len() == 1 { "has" } else { "have" };
        let mut plan = Plan::of(format!(
            "Ends {number} on {} of {environment} that {have} been idle for {} or longer.",
            self.place,
            duration(self.seconds)
        ));
        plan.target_identities = listed.iter().map(target).collect::<Result<_, ColumnError>>()?;
        plan.add_guard("idle", "the session is still the same one, and has done nothing since it was shown");
        if let Some(first) = listed.first() {
            let (connections, most): (i64, i64) = (first.get("connections")?, first.get("most")?);
            plan.add_context("connections", format!("{connections} of {most} are in use"));
        }
        if !self.spared.is_empty() {
            let spared = count(self.spared.len(), "idle session", "idle sessions");
            let spared = format!("{spared} of superusers, replication or Countersign itself");
            plan.add_context("left alone", spared);
        }
        if let Some(hidden) = self.hidden_sessions() {
            plan.add_context("not seen", hidden);
        }
        plan.tables.push(if listed.len() > MAX_LISTED { summary(listed) } else { sessions(listed) });
        let (apps, advisory_locks) =
            (applications(listed), listed.iter().filter_map(|row| row.value::<i64>("advisory_locks")).sum());
        plan.impact = format!(
            "{apps}: each connection is closed. None is in a transaction. {}",
            session_loss(advisory_locks)
        );
        plan.rollback = "Not possible, and seldom needed: a pool opens new connections. If they pile up again, its limit is too high or it leaks connections."
            .to_owned();
        Ok(plan)
    }
}

fn applications(listed: &[&PgRow]) -> String {
    let mut apps: Vec<String> = listed.iter().filter_map(|row| row.value("app")).collect();
    apps.sort();
    apps.dedup();
    match apps.len() {
        0..=3 => apps.join(", "),
        more => format!("{} and {} more", apps[..2].join(", "), more - 2),
    }
}

fn sessions(listed: &[&PgRow]) -> Table {
    let columns = [("pid", Right), ("app", Left), ("role", Left), ("from", Left), ("idle for", Right)];
    let rows = listed.iter().map(|row| {
        let [app, role, client] =
            ["app", "role", "client"].map(|name| row.value::<String>(name).unwrap_or_default().into());
        let idle_for = duration(row.value("idle_s").unwrap_or_default());
        vec![
            row.value::<i32>("pid").unwrap_or_default().to_string().into(),
            app,
            role,
            client,
            idle_for.into(),
        ]
    });
    Table { title: Some("Sessions to end".to_owned()), ..table(&columns, rows.collect()) }
}

/// Sessions of one application and role.
struct IdleGroup {
    sessions: usize,
    app: String,
    role: String,
    shortest_s: f64,
    longest_s: f64,
}

/// Sums sessions up by application and role, the most first.
fn summary(listed: &[&PgRow]) -> Table {
    let mut groups = BTreeMap::<(String, String), IdleGroup>::new();
    for row in listed {
        let name = |column: &str| row.value::<String>(column).unwrap_or_default();
        let (app, role) = (name("app"), name("role"));
        let idle_s = row.value("idle_s").unwrap_or_default();
        let session = IdleGroup {
            sessions: 1,
            app: app.clone(),
            role: role.clone(),
            shortest_s: idle_s,
            longest_s: idle_s,
        };
        groups.entry((app, role)).and_modify(|group| group.add(&session)).or_insert(session);
    }
    let mut groups: Vec<IdleGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.sessions));
    if groups.len() > MAX_GROUPS {
        let mut others = groups.split_off(MAX_GROUPS - 1).into_iter();
        if let Some(mut all) = others.next() {
            let number = others.len() + 1;
            for other in others {
                all.add(&other);
            }
            (all.app, all.role) = (format!("{number} other applications"), "-".to_owned());
            groups.push(all);
        }
    }
    let columns = [("sessions", Right), ("app", Left), ("role", Left), ("idle for", Right)];
    let rows = groups.into_iter().map(|IdleGroup { sessions, app, role, shortest_s, longest_s }| {
        let idle_for = format!("{} to {}", duration(shortest_s), duration(longest_s));
        vec![sessions.to_string().into(), app.into(), role.into(), idle_for.into()]
    });
    let title =
        format!("{} sessions to end, by application; the plan holds the identity of each", listed.len());
    Table { title: Some(title), ..table(&columns, rows.collect()) }
}

impl IdleGroup {
    fn add(&mut self, other: &IdleGroup) {
        self.sessions += other.sessions;
        self.shortest_s = self.shortest_s.min(other.shortest_s);
        self.longest_s = self.longest_s.max(other.longest_s);
    }
}

/// Lists those sessions first that have not ended.
fn outcome(targets: &[IdleTarget], results: &[SignalResult]) -> Outcome {
    use CurrentSession::{Gone, OtherSession};
    let (ended, others): (Vec<_>, Vec<_>) = targets
        .iter()
        .zip(results)
        .partition(|(_, result)| matches!(result, SignalResult::Signalled(Ok(Gone | OtherSession))));
    let (number, all) = (ended.len(), results.len());
    let any = |matches: fn(&SignalResult) -> bool| results.iter().any(matches);
    let mut outcome = if any(|r| matches!(r, SignalResult::Unknown(_) | SignalResult::Signalled(Err(_)))) {
        Outcome::unknown(format!(
            "{number} of {all} sessions ended; the state of others can't be read: look with `connections`."
        ))
    } else if number == all && all > 0 {
        Outcome::done(format!("{}.", count(all, "session ended", "sessions ended")))
    } else if number > 0 {
        Outcome::partial(format!("{number} of {all} sessions ended; the others are below."))
    } else if any(|result| matches!(result, SignalResult::Signalled(_))) {
        let text = "All sessions were signalled; none has ended yet: look with `connections`.";
        Outcome::new(EventKind::Failed, text)
    } else if any(|result| matches!(result, SignalResult::Refused(_))) {
        Outcome::failed("PostgreSQL refused it.")
    } else {
        Outcome::invalidated("None of the sessions is as it was shown.")
    };
    // Of many, those that have not ended are what is left to look at.
    let shown = if all > MAX_LISTED { others.iter().chain(&[]) } else { others.iter().chain(&ended) };
    let rows = shown.take(MAX_LISTED).map(|(target, result)| {
        vec![target.session.pid.to_string().into(), target.app.as_str().into(), cell(result)]
    });
    let mut table = table(&[("pid", Right), ("app", Left), ("result", Left)], rows.collect());
    table.total = table.total.max(if all > MAX_LISTED { others.len() } else { all });
    if table.total > 0 {
        outcome.blocks.push(Block::Table(table));
    }
    let pids: Vec<String> = ended.iter().map(|(target, _)| target.session.pid.to_string()).collect();
    outcome.facts = json!({ "shown": all, "ended": number, "pids": pids });
    outcome
}

fn cell(result: &SignalResult) -> Cell {
    use CurrentSession::{Gone, OtherSession, Same};
    use Severity::{Critical, Neutral, Warning};
    use SignalResult::{NotSignalled, Refused, Signalled, Unknown};
    let (text, severity) = match result {
        NotSignalled(Ok(Gone)) => ("had ended already".to_owned(), Neutral),
        NotSignalled(Ok(OtherSession)) => {
            ("had ended already; its pid belongs to another session, left alone".to_owned(), Neutral)
        }
        NotSignalled(Ok(Same(session))) => {
            let guard = match (&session.protected_owner, session.state.as_str()) {
                (Some(owner), _) => format!("is {owner} now"),
                (None, "idle") if session.was_active_since_shown => "was used in between".to_owned(),
                (None, "idle") => "no longer matches what was shown".to_owned(),
                (None, state) => format!("is {state} now"),
            };
            (format!("{guard}, left alone"), Neutral)
        }
        NotSignalled(Err(err)) => (format!("left alone; its state can't be read: {err}"), Warning),
        Signalled(Ok(Gone | OtherSession)) => ("ended".to_owned(), Severity::Ok),
        Signalled(Ok(Same(_))) => ("signalled, has not ended yet".to_owned(), Critical),
        Signalled(Err(err)) => (format!("signalled; its state can't be read: {err}"), Critical),
        Refused(err) => (format!("PostgreSQL refused: {err}"), Critical),
        Unknown(err) => (format!("unknown: the server {err}"), Critical),
    };
    Cell { text, severity }
}

#[cfg(test)]
mod tests {
    use super::super::support::signal::LiveSession;
    use super::*;
    use crate::postgres::QueryError;

    #[test]
    fn the_verdict_never_says_less_was_done_than_was() {
        let live = || LiveSession {
            state: "idle".to_owned(),
            was_active_since_shown: true,
            ..LiveSession::default()
        };
        let gone = || SignalResult::Signalled(Ok(CurrentSession::Gone));
        let stuck = || SignalResult::Signalled(Ok(CurrentSession::Same(live())));
        let used = || SignalResult::NotSignalled(Ok(CurrentSession::Same(live())));
        let lost = || SignalResult::Unknown(QueryError::Lost);
        for (results, kind, words) in [
            (vec![gone(), gone()], EventKind::Succeeded, "2 sessions ended."),
            (vec![gone(), used()], EventKind::Partial, "1 of 2 sessions ended"),
            (vec![gone(), stuck()], EventKind::Partial, "1 of 2 sessions ended"),
            (vec![stuck(), used()], EventKind::Failed, "All sessions were signalled; none has ended yet"),
            (vec![used(), used()], EventKind::Invalidated, "Nothing was done."),
            (vec![gone(), lost()], EventKind::Interrupted, "the state of others can't be read"),
            (vec![SignalResult::Signalled(Err(QueryError::Lost))], EventKind::Interrupted, "can't be read"),
        ] {
            let targets: Vec<IdleTarget> = results.iter().map(|_| IdleTarget::default()).collect();
            let outcome = outcome(&targets, &results);
            let verdict = outcome.verdict.words();
            assert_eq!(outcome.kind, kind, "{verdict}");
            assert!(verdict.contains(words), "{verdict}");
            let left_alone = |result: &SignalResult| matches!(result, SignalResult::NotSignalled(_));
            assert!(!verdict.contains("Nothing was done") || results.iter().all(left_alone), "{verdict}");
        }
    }
}
