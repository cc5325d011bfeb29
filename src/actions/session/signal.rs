//! The acting half of `kill` and `cancel`: one guarded statement, and then what became of the session.

use crate::actions::{Doing, Outcome};
use crate::message::Text;
use crate::plan::Plan;
use crate::runs::Happening;
use crate::targets::{Address, Lease, QueryError};
use serde_json::json;
use std::time::Duration;

/// A backend ends within milliseconds unless it is stuck in the kernel; then waiting longer tells nothing more.
const WATCH: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The session of a plan, as the acting statement compares it.
struct Aim {
    pid: i32,
    backend_start: String,
    query_start: Option<String>,
    role: String,
    database: String,
    server: String,
}

impl Aim {
    fn of(plan: &Plan) -> Option<Aim> {
        let get = |name: &str| plan.identity.get(name).cloned();
        Some(Aim {
            pid: get("pid")?.parse().ok()?,
            backend_start: get("backend_start")?,
            query_start: get("query_start"),
            role: get("role")?,
            database: get("database")?,
            server: get("server")?,
        })
    }
}

pub(super) async fn signal(doing: &Doing<'_>, how: &str) -> Outcome {
    let Some(aim) = Aim::of(doing.plan) else {
        return Outcome::new(Happening::Voided, "The plan names no session. Nothing was done.");
    };
    let name = doing.environment().unwrap_or_default();
    let Ok(environment) = doing.app.targets.environment(name) else {
        return Outcome::new(Happening::Voided, "The environment left the configuration. Nothing was done.");
    };
    let own = doing.app.targets.own_roles(environment);
    let address = Address {
        environment: name.to_owned(),
        server: aim.server.clone(),
        database: None,
        login: doing.command.header.login.clone(),
    };
    let lease = match doing.app.targets.lease(&address, &doing.asker).await {
        Ok(lease) => lease,
        Err(why) => {
            return Outcome::new(Happening::Failed, format!("{} {why}. Nothing was done.", aim.server));
        }
    };
    let sql = include_str!("signal.sql");
    let rows = lease
        .ask(sql, &[&aim.pid, &aim.backend_start, &how, &aim.query_start, &own, &aim.role, &aim.database])
        .await;
    match rows {
        Ok(rows) if rows.is_empty() => not_there(&lease, &aim, how).await,
        Ok(_) => watch(&lease, &aim, how).await,
        Err(QueryError::Refused { code, message }) => Outcome::new(
            Happening::Failed,
            format!(
                "PostgreSQL refused to signal session {}: {message} (SQLSTATE {code}). Nothing was done.",
                aim.pid
            ),
        ),
        Err(why) => Outcome::new(
            Happening::Lost,
            format!(
                "{} {why} while session {} was being signalled: look with `long` what became of it.",
                aim.server, aim.pid
            ),
        ),
    }
}

/// What stands behind the pid now: nothing, the session that was shown, or somebody else.
enum Now {
    Gone,
    SameStatement,
    SameSession(String),
    SomebodyElse,
}

async fn now(lease: &Lease, aim: &Aim) -> Result<Now, QueryError> {
    let sql = include_str!("now.sql");
    let rows = lease.ask(sql, &[&aim.pid, &aim.backend_start, &aim.query_start]).await?;
    Ok(match rows.first() {
        None => Now::Gone,
        Some(row) if row.get::<_, Option<bool>>("same_statement") == Some(true) => Now::SameStatement,
        Some(row) if row.get::<_, Option<bool>>("same_session") == Some(true) => {
            Now::SameSession(row.get("state"))
        }
        Some(_) => Now::SomebodyElse,
    })
}

/// Nothing was signalled: tells why.
async fn not_there(lease: &Lease, aim: &Aim, how: &str) -> Outcome {
    let pid = aim.pid;
    let text = match now(lease, aim).await {
        Ok(Now::Gone) => format!("The session that was shown is gone: pid {pid} is nobody's now."),
        Ok(Now::SomebodyElse) => {
            format!(
                "The session that was shown is gone: pid {pid} belongs to another session now, which was left alone."
            )
        }
        Ok(Now::SameSession(state)) if how == "cancel" => {
            format!("The statement that was shown is over: session {pid} is {state} now.")
        }
        Ok(_) => format!("Session {pid} no longer fits what was shown: a guard failed."),
        Err(why) => format!("Session {pid} was not signalled; what became of it can't be seen: {why}."),
    };
    let mut outcome = Outcome::new(Happening::Voided, format!("{text} Nothing was done."));
    outcome.facts = json!({ "signalled": false });
    outcome
}

/// The signal went out: waits and tells what became of the session.
async fn watch(lease: &Lease, aim: &Aim, how: &str) -> Outcome {
    let pid = aim.pid;
    let until = tokio::time::Instant::now() + WATCH;
    let mut last = now(lease, aim).await;
    while let Ok(Now::SameStatement | Now::SameSession(_)) = &last {
        let cancelled = how == "cancel" && matches!(last, Ok(Now::SameSession(_)));
        if cancelled || tokio::time::Instant::now() >= until {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        last = now(lease, aim).await;
    }
    let (happening, verdict) = match (how, last) {
        ("cancel", Ok(Now::SameSession(state))) => (
            Happening::Succeeded,
            format!("The statement of session {pid} is cancelled; the session is {state}."),
        ),
        ("cancel", Ok(Now::Gone)) => {
            (Happening::Succeeded, format!("The statement of session {pid} is over, and so is the session."))
        }
        (_, Ok(Now::Gone)) => (Happening::Succeeded, format!("Session {pid} is gone.")),
        (_, Ok(Now::SomebodyElse)) => (
            Happening::Succeeded,
            format!("Session {pid} is gone; its pid belongs to another session already."),
        ),
        (_, Ok(_)) => (
            Happening::Failed,
            format!(
                "Session {pid} was signalled and is still there after {} s: it is stuck where a signal doesn't reach it yet.",
                WATCH.as_secs()
            ),
        ),
        (_, Err(why)) => {
            (Happening::Lost, format!("Session {pid} was signalled; what became of it can't be seen: {why}."))
        }
    };
    let mut outcome = Outcome::new(happening, Text::from(verdict));
    outcome.facts = json!({ "signalled": true });
    outcome
}
