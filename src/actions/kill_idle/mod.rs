//! `kill-idle`: ends the sessions of a server, or of one service's database, that have been idle for long. The card lists each
//! session; each is ended in a statement of its own, and only if it has done nothing since it was shown.

use super::support::blocks::{count, table};
use super::support::session_info::{ensure_sees_sessions, query_error, reader};
use super::support::signal::{
    CurrentSession, LiveSession, ServerTarget, SessionId, SignalKind, SignalResult, Signaller, observe,
};
use super::{Action, Call, Execution, Outcome};
use crate::clock::duration_seconds;
use crate::error::{Error, Result};
use crate::model::{Block, Cell, EventKind, Plan, Severity, Shape, Table, from_identity, to_identity};
use crate::sql::{QueryRequest, duration, scope_targets};
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeMap;
use tokio_postgres::Row;

pub struct KillIdle;

/// An approver can't read a longer list on a card.
const MAX_SESSIONS: usize = 50;

#[async_trait]
impl Action for KillIdle {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment.unwrap_or_default();
        let server = only_server(call, environment)?;
        let database = match call.values.get("service").filter(|service| *service != "all") {
            Some(service) => Some(call.app.environments.service(service)?.database.clone()),
            None => None,
        };
        let seconds = call.values.get("older-than").and_then(|value| duration_seconds(value));
        let seconds = seconds.ok_or_else(|| Error::user("`--older-than` is missing."))? as f64;
        let own_roles = call.app.environments.own_roles(call.app.environments.environment(environment)?);
        let client = reader(call, environment, &server).await?;
        let rows = client.ask(include_str!("idle.sql"), &[&seconds, &database, &own_roles]).await;
        let rows = rows.map_err(|err| query_error(&server, &err))?;
        ensure_sees_sessions(rows.first().ok_or_else(|| Error::user(format!("{server} gave no answer.")))?)?;
        let (spared, listed) = rows
            .iter()
            .filter(|row| row.get::<_, Option<i32>>("pid").is_some())
            .partition(|row| row.get::<_, bool>("privileged") || row.get::<_, bool>("own"));
        let place = database.unwrap_or_else(|| server.clone());
        let idle = IdleSessions { listed, spared, seconds, place };
        idle.check(call)?;
        let mut plan = idle.plan(environment);
        plan.set_target(&ServerTarget { server });
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let targets = &execution.plan.targets;
        let sessions: Vec<SessionId> = targets.iter().filter_map(from_identity).collect();
        if sessions.is_empty() || sessions.len() != targets.len() {
            return Outcome::invalidated("The plan names no sessions.");
        }
        let signaller = match Signaller::connect(execution).await {
            Ok(signaller) => signaller,
            Err(outcome) => return outcome,
        };
        let results = signaller.signal(&sessions, SignalKind::Idle).await;
        outcome(targets, &results)
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        observe(execution, SignalKind::Idle).await
    }
}

/// Picks the server that the call names, or the environment's only one.
fn only_server(call: &Call<'_>, environment: &str) -> Result<String> {
    let question =
        QueryRequest { command: call.command, environment, values: call.values, asker: &call.asker };
    let targets = scope_targets(&call.app.environments, &question, call.command.header.scope)?;
    match targets.as_slice() {
        [only] => Ok(only.server.clone()),
        several => Err(Error::instead(
            format!("{environment} has {} servers.", several.len()),
            format!(
                "Say which: `kill-idle --server {}`.",
                several.first().map_or("<name>", |first| first.server.as_str())
            ),
        )),
    }
}

/// The rows of `idle.sql`.
struct IdleSessions<'a> {
    /// Those that may be ended.
    listed: Vec<&'a Row>,
    /// Those of superusers, replication and Countersign itself.
    spared: Vec<&'a Row>,
    seconds: f64,
    /// The database or server, by name.
    place: String,
}

impl IdleSessions<'_> {
    fn check(&self, call: &Call<'_>) -> Result<()> {
        let (place, idle_time) = (&self.place, duration(self.seconds));
        match self.listed.len() {
            0 => Err(Error::instead(
                format!(
                    "No session on {place} has been idle for {idle_time} or longer, except those that are never ended."
                ),
                "`connections` shows who holds connections; `idle` shows sessions that are idle in a transaction.",
            )),
            many if many > MAX_SESSIONS => Err(Error::instead(
                format!(
                    "{many} sessions on {place} have been idle for {idle_time} or longer: too many to list on one card."
                ),
                format!("Ask for fewer: `{} <service> --older-than 2h`.", call.command.name),
            )),
            _ => Ok(()),
        }
    }

    fn plan(&self, environment: &str) -> Plan {
        let listed = &self.listed;
        let number = count(listed.len(), "session", "sessions");
        let have = if listed.len() == 1 { "has" } else { "have" };
        let mut plan = Plan::of(format!(
            "Ends {number} on {} of {environment} that {have} been idle for {} or longer.",
            self.place,
            duration(self.seconds)
        ));
        plan.targets = listed.iter().map(|row| identity(row)).collect();
        plan.guards.insert(
            "idle".to_owned(),
            "the session is still the same one, and has done nothing since it was shown".to_owned(),
        );
        if let Some(first) = listed.first() {
            let (connections, most): (i64, i64) = (first.get("connections"), first.get("most"));
            plan.context.push(("connections".to_owned(), format!("{connections} of {most} are in use")));
        }
        if !self.spared.is_empty() {
            let spared = count(self.spared.len(), "idle session", "idle sessions");
            plan.context.push((
                "left alone".to_owned(),
                format!("{spared} of superusers, replication or Countersign itself"),
            ));
        }
        plan.tables.push(sessions(listed));
        plan.impact = format!(
            "{}: each connection is closed. None is in a transaction, so nothing is lost.",
            applications(listed)
        );
        plan.rollback = "Not needed: a pool opens new connections. If they pile up again, its limit is too high or it leaks connections."
            .to_owned();
        plan
    }
}

fn identity(row: &Row) -> BTreeMap<String, String> {
    let mut identity = to_identity(&SessionId {
        pid: row.get("pid"),
        backend_start: row.get("backend_start"),
        query_start: None,
        state_change: Some(row.get("state_change")),
        role: row.get("role"),
        database: row.get("database"),
    });
    identity.insert("app".to_owned(), row.get("app"));
    identity
}

/// Lists the applications, each once.
fn applications(listed: &[&Row]) -> String {
    let mut apps: Vec<String> = listed.iter().map(|row| row.get("app")).collect();
    apps.sort();
    apps.dedup();
    match apps.len() {
        0..=3 => apps.join(", "),
        more => format!("{} and {} more", apps[..2].join(", "), more - 2),
    }
}

fn sessions(listed: &[&Row]) -> Table {
    let columns = [
        ("pid", Shape::Right),
        ("app", Shape::Left),
        ("role", Shape::Left),
        ("from", Shape::Left),
        ("idle for", Shape::Right),
    ];
    let rows = listed.iter().map(|row| {
        vec![
            Cell::from(row.get::<_, i32>("pid").to_string()),
            Cell::from(row.get::<_, String>("app")),
            Cell::from(row.get::<_, String>("role")),
            Cell::from(row.get::<_, String>("client")),
            Cell::from(duration(row.get::<_, Option<f64>>("idle_s").unwrap_or_default())),
        ]
    });
    Table { title: Some("Sessions to end".to_owned()), ..table(&columns, rows.collect()) }
}

/// Builds the outcome: how many sessions ended, and the result for each, those first that have not ended.
fn outcome(targets: &[BTreeMap<String, String>], results: &[SignalResult]) -> Outcome {
    let ended = results.iter().filter(|result| is_ended(result)).count();
    let any = |matches: fn(&SignalResult) -> bool| results.iter().any(matches);
    let unknown = any(|result| matches!(result, SignalResult::Unknown(_) | SignalResult::Signalled(Err(_))));
    let signalled = any(|result| matches!(result, SignalResult::Signalled(_)));
    let refused = any(|result| matches!(result, SignalResult::Refused(_)));
    let all = results.len();
    let mut outcome = if unknown {
        Outcome::unknown(format!(
            "{ended} of {all} sessions are gone; the state of others can't be read: look with `connections`."
        ))
    } else if ended == all && all > 0 {
        Outcome::done(format!("{}.", count(all, "session is gone", "sessions are gone")))
    } else if ended > 0 {
        Outcome::partial(format!("{ended} of {all} sessions are gone; the others are below."))
    } else if signalled {
        Outcome::new(
            EventKind::Failed,
            "All sessions were signalled; none has ended yet: look with `connections`.",
        )
    } else if refused {
        Outcome::failed("PostgreSQL refused it.")
    } else {
        Outcome::invalidated("None of the sessions is as it was shown.")
    };
    let columns = [("pid", Shape::Right), ("app", Shape::Left), ("result", Shape::Left)];
    let (gone, rest): (Vec<_>, Vec<_>) =
        targets.iter().zip(results).partition(|(_, result)| is_ended(result));
    let rows = rest.iter().chain(&gone).map(|(target, result)| {
        let get = |name: &str| target.get(name).cloned().unwrap_or_default();
        vec![get("pid").into(), get("app").into(), cell(result)]
    });
    let pids: Vec<&String> = gone.iter().filter_map(|(target, _)| target.get("pid")).collect();
    outcome.facts = json!({ "shown": all, "ended": ended, "pids": pids });
    outcome.blocks.push(Block::Table(table(&columns, rows.collect())));
    outcome
}

fn is_ended(result: &SignalResult) -> bool {
    matches!(result, SignalResult::Signalled(Ok(CurrentSession::Gone | CurrentSession::OtherSession)))
}

/// Names the guard that refused.
fn guard(session: &LiveSession) -> String {
    match (&session.spared, session.state.as_str()) {
        (Some(owner), _) => format!("is {owner} now"),
        (None, "idle") if session.used => "was used in between".to_owned(),
        (None, "idle") => "no longer matches what was shown".to_owned(),
        (None, state) => format!("is {state} now"),
    }
}

fn cell(result: &SignalResult) -> Cell {
    let (text, tone) = match result {
        SignalResult::LeftAlone(Ok(CurrentSession::Gone)) => {
            ("was gone already".to_owned(), Severity::Neutral)
        }
        SignalResult::LeftAlone(Ok(CurrentSession::OtherSession)) => {
            ("was gone already; its pid belongs to another session, left alone".to_owned(), Severity::Neutral)
        }
        SignalResult::LeftAlone(Ok(
            CurrentSession::SameStatement(session) | CurrentSession::SameSession(session),
        )) => (format!("{}, left alone", guard(session)), Severity::Neutral),
        SignalResult::LeftAlone(Err(err)) => {
            (format!("left alone; its state can't be read: {err}"), Severity::Warning)
        }
        SignalResult::Signalled(Ok(CurrentSession::Gone | CurrentSession::OtherSession)) => {
            ("ended".to_owned(), Severity::Ok)
        }
        SignalResult::Signalled(Ok(_)) => ("signalled, has not ended yet".to_owned(), Severity::Critical),
        SignalResult::Signalled(Err(err)) => {
            (format!("signalled; its state can't be read: {err}"), Severity::Critical)
        }
        SignalResult::Refused(err) => (format!("PostgreSQL refused: {err}"), Severity::Critical),
        SignalResult::Unknown(err) => (format!("unknown: the server {err}"), Severity::Critical),
    };
    Cell { text, tone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::QueryError;

    fn gone() -> SignalResult {
        SignalResult::Signalled(Ok(CurrentSession::Gone))
    }

    fn still() -> CurrentSession {
        CurrentSession::SameSession(LiveSession { state: "idle".to_owned(), used: true, spared: None })
    }

    fn stuck() -> SignalResult {
        SignalResult::Signalled(Ok(still()))
    }

    fn used() -> SignalResult {
        SignalResult::LeftAlone(Ok(still()))
    }

    #[test]
    fn the_verdict_never_says_less_was_done_than_was() {
        let lost = || SignalResult::Unknown(QueryError::Lost);
        for (results, kind, words) in [
            (vec![gone(), gone()], EventKind::Succeeded, "2 sessions are gone."),
            (vec![gone(), used()], EventKind::Partial, "1 of 2 sessions are gone"),
            (vec![gone(), stuck()], EventKind::Partial, "1 of 2 sessions are gone"),
            (vec![stuck(), used()], EventKind::Failed, "All sessions were signalled; none has ended yet"),
            (vec![used(), used()], EventKind::Invalidated, "Nothing was done."),
            (vec![gone(), lost()], EventKind::Interrupted, "the state of others can't be read"),
            (vec![SignalResult::Signalled(Err(QueryError::Lost))], EventKind::Interrupted, "can't be read"),
        ] {
            let targets = vec![BTreeMap::new(); results.len()];
            let outcome = outcome(&targets, &results);
            let verdict = outcome.verdict.words();
            assert_eq!(outcome.kind, kind, "{verdict}");
            assert!(verdict.contains(words), "{verdict}");
            let nothing = verdict.contains("Nothing was done");
            assert!(
                !nothing || results.iter().all(|result| matches!(result, SignalResult::LeftAlone(_))),
                "{verdict}"
            );
        }
    }
}
