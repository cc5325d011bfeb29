//! The acting half of `kill`, `cancel` and `kill-idle`: one guarded statement a session, and then what became of each.

use crate::actions::{Doing, Outcome};
use crate::audit::Happening;
use crate::postgres::{Address, Lease, QueryError};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Row;

/// A backend ends within milliseconds unless it is stuck in the kernel; then waiting longer tells nothing more.
const WATCH: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is done to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Cancel,
    Terminate,
    /// Terminates it if it has done nothing since it was shown.
    Idle,
}

impl How {
    fn word(self) -> &'static str {
        match self {
            How::Cancel => "cancel",
            How::Terminate => "terminate",
            How::Idle => "idle",
        }
    }
}

/// A session of a plan, as the acting statement compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aim {
    pub pid: i32,
    backend_start: String,
    query_start: Option<String>,
    state_change: Option<String>,
    role: String,
    database: String,
}

impl Aim {
    /// From a plan's identity, or one of its targets.
    pub fn of(identity: &BTreeMap<String, String>) -> Option<Aim> {
        let get = |name: &str| identity.get(name).cloned();
        Some(Aim {
            pid: get("pid")?.parse().ok()?,
            backend_start: get("backend_start")?,
            query_start: get("query_start"),
            state_change: get("state_change"),
            role: get("role")?,
            database: get("database")?,
        })
    }
}

/// What stands behind the pid now: nothing, the session that was shown, or somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Now {
    Gone,
    SameStatement(Still),
    SameSession(Still),
    SomebodyElse,
}

/// A session that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Still {
    /// "idle", "active".
    pub state: String,
    /// Whether it has done anything since it was shown.
    pub used: bool,
    /// Whose it is now, if it may not be signalled any more: "a superuser's".
    pub spared: Option<String>,
}

impl Still {
    fn of(row: &Row) -> Still {
        Still {
            state: row.get("state"),
            used: row.get::<_, Option<bool>>("used").unwrap_or(true),
            spared: row.get("spared"),
        }
    }
}

/// What became of a session.
#[derive(Debug)]
pub(super) enum Fate {
    /// No guard let the statement through: nothing was signalled.
    LeftAlone(Result<Now, QueryError>),
    /// Signalled, and seen afterwards.
    Signalled(Result<Now, QueryError>),
    /// PostgreSQL said no: nothing was signalled.
    Refused(QueryError),
    /// Nobody knows whether the signal went out.
    Unknown(QueryError),
}

/// The connection that signals, and whose sessions are never signalled.
pub(super) struct Signaller {
    pub lease: Lease,
    own: Vec<String>,
}

impl Signaller {
    /// # Errors
    /// An outcome that says that nothing was done.
    pub async fn of(doing: &Doing<'_>) -> Result<Signaller, Outcome> {
        let name = doing.environment().unwrap_or_default();
        let voided = |why: &str| Outcome::new(Happening::Voided, format!("{why} Nothing was done."));
        let server = doing.plan.identity.get("server").ok_or_else(|| voided("The plan names no server."))?;
        let environment = doing.app.targets.environment(name);
        let environment = environment.map_err(|_| voided("The environment left the configuration."))?;
        let address = Address {
            environment: name.to_owned(),
            server: server.clone(),
            database: None,
            login: doing.command.header.login.clone(),
        };
        let own = doing.app.targets.own_roles(environment);
        match doing.app.targets.lease(&address, &doing.asker).await {
            Ok(lease) => Ok(Signaller { lease, own }),
            Err(why) => Err(Outcome::new(Happening::Failed, format!("{server} {why}. Nothing was done."))),
        }
    }

    /// Signals each session in a statement of its own, so that none stands in another's way; then waits and tells what became of
    /// each, in their order.
    pub async fn signal(&self, aims: &[Aim], how: How) -> Vec<Fate> {
        let mut fates = Vec::new();
        for aim in aims {
            fates.push(self.send(aim, how).await);
        }
        let until = tokio::time::Instant::now() + WATCH;
        loop {
            let mut there = false;
            for (aim, fate) in aims.iter().zip(&mut fates) {
                if let Fate::Signalled(Ok(now)) = fate
                    && is_there(now, how)
                {
                    *now = match self.now(aim).await {
                        Ok(now) => now,
                        Err(why) => {
                            *fate = Fate::Signalled(Err(why));
                            continue;
                        }
                    };
                    there |= is_there(now, how);
                }
            }
            if !there || tokio::time::Instant::now() >= until {
                return fates;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn send(&self, aim: &Aim, how: How) -> Fate {
        let sql = include_str!("signal.sql");
        let Aim { pid, backend_start, query_start, state_change, role, database } = aim;
        let word = how.word();
        let rows = self
            .lease
            .ask(sql, &[pid, backend_start, &word, query_start, &self.own, role, database, state_change])
            .await;
        match rows {
            Ok(rows) if rows.is_empty() => Fate::LeftAlone(self.now(aim).await),
            // To be looked at.
            Ok(_) => Fate::Signalled(Ok(Now::SameStatement(Still {
                state: String::new(),
                used: false,
                spared: None,
            }))),
            Err(why @ QueryError::Refused { .. }) => Fate::Refused(why),
            Err(why) => Fate::Unknown(why),
        }
    }

    async fn now(&self, aim: &Aim) -> Result<Now, QueryError> {
        let sql = include_str!("now.sql");
        let Aim { pid, backend_start, query_start, state_change, role, database } = aim;
        let rows = self
            .lease
            .ask(sql, &[pid, backend_start, query_start, &self.own, role, database, state_change])
            .await?;
        let Some(row) = rows.first() else { return Ok(Now::Gone) };
        let is = |name: &str| row.get::<_, Option<bool>>(name) == Some(true);
        Ok(match (is("same_statement"), is("same_session")) {
            (true, _) => Now::SameStatement(Still::of(row)),
            (false, true) => Now::SameSession(Still::of(row)),
            (false, false) => Now::SomebodyElse,
        })
    }
}

/// Whether what was signalled goes on: the statement for `cancel`, else the session.
fn is_there(now: &Now, how: How) -> bool {
    match now {
        Now::SameStatement(_) => true,
        Now::SameSession(_) => how != How::Cancel,
        Now::Gone | Now::SomebodyElse => false,
    }
}

/// `kill` and `cancel`: one session, and its fate in words.
pub(super) async fn signal(doing: &Doing<'_>, how: How) -> Outcome {
    let Some(aim) = Aim::of(&doing.plan.identity) else {
        return Outcome::new(Happening::Voided, "The plan names no session. Nothing was done.");
    };
    let signaller = match Signaller::of(doing).await {
        Ok(signaller) => signaller,
        Err(outcome) => return outcome,
    };
    let fates = signaller.signal(std::slice::from_ref(&aim), how).await;
    let Some(fate) = fates.into_iter().next() else {
        return Outcome::new(Happening::Voided, "Nothing was done.");
    };
    let facts = match fate {
        Fate::LeftAlone(_) => json!({ "signalled": false }),
        Fate::Signalled(_) => json!({ "signalled": true }),
        Fate::Refused(_) | Fate::Unknown(_) => json!(null),
    };
    let (happening, verdict) = words(fate, aim.pid, how);
    Outcome { facts, ..Outcome::new(happening, verdict) }
}

/// What stands where an interrupted run may have signalled: `None` while a server can't be asked.
pub(super) async fn observe(doing: &Doing<'_>, how: How) -> Option<Outcome> {
    let signaller = Signaller::of(doing).await.ok()?;
    let targets = &doing.plan.targets;
    let identities = if targets.is_empty() { std::slice::from_ref(&doing.plan.identity) } else { targets };
    let mut there = Vec::new();
    for identity in identities {
        let aim = Aim::of(identity)?;
        if is_there(&signaller.now(&aim).await.ok()?, how) {
            there.push(aim.pid.to_string());
        }
    }
    let (what, gone) = match how {
        How::Cancel => ("statement", "over"),
        How::Terminate | How::Idle => ("session", "gone"),
    };
    let (happening, seen) = match (there.len(), identities.len()) {
        (0, 1) => (Happening::Succeeded, format!("The {what} is {gone}")),
        (0, all) => (Happening::Succeeded, format!("All {all} {what}s are {gone}")),
        (_, 1) => (Happening::Failed, format!("The {what} is still there")),
        (some, all) if some < all => {
            (Happening::Partial, format!("Of {all} {what}s there are still {}", there.join(", ")))
        }
        (_, all) => (Happening::Failed, format!("All {all} {what}s are still there")),
    };
    let why = "Countersign was interrupted and can't tell whether that is its work.";
    Some(Outcome::new(happening, format!("{seen}. {why}")))
}

fn words(fate: Fate, pid: i32, how: How) -> (Happening, String) {
    match fate {
        Fate::LeftAlone(now) => {
            (Happening::Voided, format!("{} Nothing was done.", left_alone(now, pid, how)))
        }
        Fate::Signalled(now) => ended(now, pid, how),
        Fate::Refused(why) => (
            Happening::Failed,
            format!("PostgreSQL refused to signal session {pid}: {why}. Nothing was done."),
        ),
        Fate::Unknown(why) => (
            Happening::Lost,
            format!(
                "The server {why} while session {pid} was being signalled: look with `long` what became of it."
            ),
        ),
    }
}

fn left_alone(now: Result<Now, QueryError>, pid: i32, how: How) -> String {
    match now {
        Ok(Now::Gone) => format!("The session that was shown is gone: pid {pid} is nobody's now."),
        Ok(Now::SomebodyElse) => format!(
            "The session that was shown is gone: pid {pid} belongs to another session now, which was left alone."
        ),
        Ok(
            Now::SameStatement(Still { spared: Some(whose), .. })
            | Now::SameSession(Still { spared: Some(whose), .. }),
        ) => {
            format!("Session {pid} is {whose} now, and was left alone.")
        }
        Ok(Now::SameSession(still)) if how == How::Cancel => {
            format!("The statement that was shown is over: session {pid} is {} now.", still.state)
        }
        Ok(_) => format!("Session {pid} no longer fits what was shown: a guard failed."),
        Err(why) => format!("Session {pid} was not signalled; what became of it can't be seen: {why}."),
    }
}

fn ended(now: Result<Now, QueryError>, pid: i32, how: How) -> (Happening, String) {
    match (how, now) {
        (How::Cancel, Ok(Now::SameSession(still))) => (
            Happening::Succeeded,
            format!("The statement of session {pid} is cancelled; the session is {}.", still.state),
        ),
        (How::Cancel, Ok(Now::Gone)) => {
            (Happening::Succeeded, format!("The statement of session {pid} is over, and so is the session."))
        }
        (_, Ok(Now::Gone)) => (Happening::Succeeded, format!("Session {pid} is gone.")),
        (_, Ok(Now::SomebodyElse)) => (
            Happening::Succeeded,
            format!("Session {pid} is gone; its pid belongs to another session already."),
        ),
        (_, Ok(Now::SameStatement(_) | Now::SameSession(_))) => (
            Happening::Failed,
            format!(
                "Session {pid} was signalled and is still there after {} s: it is stuck where a signal doesn't reach it yet.",
                WATCH.as_secs()
            ),
        ),
        (_, Err(why)) => {
            (Happening::Lost, format!("Session {pid} was signalled; what became of it can't be seen: {why}."))
        }
    }
}
