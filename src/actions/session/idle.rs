//! `kill-idle`: the sessions of a server, or of one service's database, that have done nothing for long. The card names each;
//! each is ended by itself, and only if it has done nothing since it was shown.

use super::signal::{CurrentSession, LiveSession, SessionId, SignalKind, SignalResult, Signaller, observe};
use super::{lease, told};
use crate::actions::support::blocks::{count, table};
use crate::actions::{Action, Call, Execution, Outcome};
use crate::command_line::duration_seconds;
use crate::error::{Error, Result};
use crate::model::{Block, Cell, EventKind, Plan, Severity, Shape, Table};
use crate::sql::{QueryRequest, duration, scope_targets};
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeMap;
use tokio_postgres::Row;

pub struct KillIdle;

/// More than this nobody reads on a card before they approve it.
const MOST: usize = 50;

#[async_trait]
impl Action for KillIdle {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment.unwrap_or_default();
        let server = the_server(call, environment)?;
        let database = match call.values.get("service").filter(|service| *service != "all") {
            Some(service) => Some(call.app.environments.service(service)?.database.clone()),
            None => None,
        };
        let seconds = call.values.get("older-than").and_then(|value| duration_seconds(value));
        let seconds = seconds.ok_or_else(|| Error::user("For how long must they have done nothing?"))? as f64;
        let own = call.app.environments.own_roles(call.app.environments.environment(environment)?);
        let lease = lease(call, environment, &server).await?;
        let rows = lease.ask(include_str!("idle.sql"), &[&seconds, &database, &own]).await;
        let rows = rows.map_err(|why| told(&server, &why))?;
        if !rows.first().is_some_and(|row| row.get("may_see")) {
            return Err(Error::user(
                "Countersign may not see other sessions: grant pg_monitor to its roles.",
            ));
        }
        let found = IdleSessions { rows: &rows, seconds };
        let place = database.unwrap_or_else(|| server.clone());
        found.check(call, &place)?;
        let mut plan = found.plan(&place, environment);
        plan.identity.insert("server".to_owned(), server);
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let aims: Vec<SessionId> = doing.plan.targets.iter().filter_map(SessionId::of).collect();
        if aims.is_empty() || aims.len() != doing.plan.targets.len() {
            return Outcome::new(EventKind::Invalidated, "The plan names no sessions. Nothing was done.");
        }
        let signaller = match Signaller::of(doing).await {
            Ok(signaller) => signaller,
            Err(outcome) => return outcome,
        };
        let fates = signaller.signal(&aims, SignalKind::Idle).await;
        outcome(&doing.plan.targets, &fates)
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        observe(doing, SignalKind::Idle).await
    }
}

/// The one server that is meant.
fn the_server(call: &Call<'_>, environment: &str) -> Result<String> {
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

/// What `idle.sql` found.
struct IdleSessions<'a> {
    rows: &'a [Row],
    seconds: f64,
}

impl IdleSessions<'_> {
    fn sessions(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.get::<_, Option<i32>>("pid").is_some())
    }

    /// Those that may be ended.
    fn listed(&self) -> Vec<&Row> {
        let spared = |row: &&Row| row.get::<_, bool>("privileged") || row.get::<_, bool>("own");
        self.sessions().filter(|row| !spared(row)).collect()
    }

    fn check(&self, call: &Call<'_>, place: &str) -> Result<()> {
        let long = duration(self.seconds);
        match self.listed().len() {
            0 => Err(Error::instead(
                format!(
                    "No session on {place} has done nothing for {long}, but for those that are never ended."
                ),
                "`connections` shows who holds them; `idle` shows who sits in a transaction.",
            )),
            many if many > MOST => Err(Error::instead(
                format!(
                    "{many} sessions on {place} have done nothing for {long}: too many to show on one card, which names each."
                ),
                format!("Ask for fewer: `{} <service> --older-than 2h`.", call.command.name),
            )),
            _ => Ok(()),
        }
    }

    fn plan(&self, place: &str, environment: &str) -> Plan {
        let listed = self.listed();
        let number = count(listed.len(), "session", "sessions");
        let which = if listed.len() == 1 { "has" } else { "have" };
        let mut plan = Plan::of(format!(
            "Ends {number} on {place} of {environment} that {which} done nothing for {} or longer.",
            duration(self.seconds)
        ));
        plan.targets = listed.iter().map(|row| identity(row)).collect();
        plan.guards.insert(
            "idle".to_owned(),
            "the session is still this very one, and has done nothing since it was shown".to_owned(),
        );
        let first = listed[0];
        let (connections, most): (i64, i64) = (first.get("connections"), first.get("most"));
        plan.context.push(("connections".to_owned(), format!("{connections} of {most} are taken")));
        let spared = self.sessions().count() - listed.len();
        if spared > 0 {
            let spared = count(spared, "idle session", "idle sessions");
            let whose = "of superusers, replication or Countersign itself";
            plan.context.push(("left alone".to_owned(), format!("{spared} {whose}")));
        }
        plan.tables.push(sessions(&listed));
        plan.impact = format!(
            "{}: the connection is cut. None is in a transaction, so nothing is lost.",
            whom(&listed)
        );
        plan.rollback = "None is needed: a pool opens new ones. If they fill up again, its limit is too high, or it leaks."
            .to_owned();
        plan
    }
}

fn identity(row: &Row) -> BTreeMap<String, String> {
    let text = |name: &str| (name.to_owned(), row.get::<_, String>(name));
    let mut identity: BTreeMap<String, String> =
        ["backend_start", "state_change", "database", "role"].map(text).into();
    identity.insert("pid".to_owned(), row.get::<_, i32>("pid").to_string());
    identity.insert("app".to_owned(), row.get("app"));
    identity
}

/// The applications, each once.
fn whom(listed: &[&Row]) -> String {
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
    Table { title: Some("They end".to_owned()), ..table(&columns, rows.collect()) }
}

/// All, some or none of them, and what became of each, those first that are not gone.
fn outcome(targets: &[BTreeMap<String, String>], fates: &[SignalResult]) -> Outcome {
    let ended = fates.iter().filter(|fate| is_ended(fate)).count();
    let any = |which: fn(&SignalResult) -> bool| fates.iter().any(which);
    let unknown = any(|fate| matches!(fate, SignalResult::Unknown(_) | SignalResult::Signalled(Err(_))));
    let signalled = any(|fate| matches!(fate, SignalResult::Signalled(_)));
    let refused = any(|fate| matches!(fate, SignalResult::Refused(_)));
    let all = fates.len();
    let (happening, verdict) = match ended {
        _ if unknown => (
            EventKind::Interrupted,
            format!(
                "{ended} of {all} sessions are gone; what became of others can't be seen: look with `connections`."
            ),
        ),
        0 if signalled => (
            EventKind::Failed,
            "They were signalled, and none is gone yet: look with `connections`.".to_owned(),
        ),
        0 if refused => (EventKind::Failed, "PostgreSQL refused it. Nothing was done.".to_owned()),
        0 => (EventKind::Invalidated, "None of them was still as it was shown. Nothing was done.".to_owned()),
        _ if ended == all => {
            (EventKind::Succeeded, format!("{}.", count(all, "session is gone", "sessions are gone")))
        }
        _ => (EventKind::Partial, format!("{ended} of {all} sessions are gone; the others are below.")),
    };
    let columns = [("pid", Shape::Right), ("app", Shape::Left), ("what became of it", Shape::Left)];
    let told = |which: bool| targets.iter().zip(fates).filter(move |(_, fate)| is_ended(fate) == which);
    let row = |(target, fate): (&BTreeMap<String, String>, &SignalResult)| {
        let get = |name: &str| target.get(name).cloned().unwrap_or_default();
        vec![get("pid").into(), get("app").into(), cell(fate)]
    };
    let rows: Vec<Vec<Cell>> = told(false).chain(told(true)).map(row).collect();
    let gone: Vec<&String> = told(true).filter_map(|(target, _)| target.get("pid")).collect();
    let mut outcome = Outcome::new(happening, verdict);
    outcome.facts = json!({ "shown": all, "ended": ended, "pids": gone });
    outcome.blocks.push(Block::Table(table(&columns, rows)));
    outcome
}

fn is_ended(fate: &SignalResult) -> bool {
    matches!(fate, SignalResult::Signalled(Ok(CurrentSession::Gone | CurrentSession::SomebodyElse)))
}

/// Which guard it was.
fn why(still: &LiveSession) -> String {
    match (&still.spared, still.state.as_str()) {
        (Some(whose), _) => format!("is {whose} now"),
        (None, "idle") if still.used => "was used in between".to_owned(),
        (None, "idle") => "no longer fits what was shown".to_owned(),
        (None, state) => format!("is {state} now"),
    }
}

fn cell(fate: &SignalResult) -> Cell {
    let (text, tone) = match fate {
        SignalResult::LeftAlone(Ok(CurrentSession::Gone)) => {
            ("was gone already".to_owned(), Severity::Neutral)
        }
        SignalResult::LeftAlone(Ok(CurrentSession::SomebodyElse)) => {
            ("was gone already; its pid is another session's, left alone".to_owned(), Severity::Neutral)
        }
        SignalResult::LeftAlone(Ok(
            CurrentSession::SameStatement(still) | CurrentSession::SameSession(still),
        )) => (format!("{}, left alone", why(still)), Severity::Neutral),
        SignalResult::LeftAlone(Err(why)) => {
            (format!("left alone; it can't be seen: {why}"), Severity::Warning)
        }
        SignalResult::Signalled(Ok(CurrentSession::Gone | CurrentSession::SomebodyElse)) => {
            ("ended".to_owned(), Severity::Ok)
        }
        SignalResult::Signalled(Ok(_)) => ("signalled, and still there".to_owned(), Severity::Critical),
        SignalResult::Signalled(Err(why)) => {
            (format!("signalled; it can't be seen: {why}"), Severity::Critical)
        }
        SignalResult::Refused(why) => (format!("PostgreSQL refused: {why}"), Severity::Critical),
        SignalResult::Unknown(why) => (format!("unknown: the server {why}"), Severity::Critical),
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
        for (fates, happening, words) in [
            (vec![gone(), gone()], EventKind::Succeeded, "2 sessions are gone."),
            (vec![gone(), used()], EventKind::Partial, "1 of 2 sessions are gone"),
            (vec![gone(), stuck()], EventKind::Partial, "1 of 2 sessions are gone"),
            (vec![stuck(), used()], EventKind::Failed, "They were signalled, and none is gone yet"),
            (vec![used(), used()], EventKind::Invalidated, "Nothing was done."),
            (vec![gone(), lost()], EventKind::Interrupted, "what became of others can't be seen"),
            (vec![SignalResult::Signalled(Err(QueryError::Lost))], EventKind::Interrupted, "can't be seen"),
        ] {
            let targets = vec![BTreeMap::new(); fates.len()];
            let outcome = outcome(&targets, &fates);
            let verdict = outcome.verdict.words();
            assert_eq!(outcome.kind, happening, "{verdict}");
            assert!(verdict.contains(words), "{verdict}");
            let nothing = verdict.contains("Nothing was done");
            assert!(
                !nothing || fates.iter().all(|fate| matches!(fate, SignalResult::LeftAlone(_))),
                "{verdict}"
            );
        }
    }
}
