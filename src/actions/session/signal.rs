//! The acting half of `kill`, `cancel` and `kill-idle`: one guarded statement a session, and then what became of each.

use crate::actions::{Execution, Outcome};
use crate::model::EventKind;
use crate::postgres::{Address, PooledClient, QueryError};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Row;

/// A backend ends within milliseconds unless it is stuck in the kernel; then waiting longer tells nothing more.
const WATCH: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is done to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalKind {
    Cancel,
    Terminate,
    /// Terminates it if it has done nothing since it was shown.
    Idle,
}

impl SignalKind {
    fn word(self) -> &'static str {
        match self {
            SignalKind::Cancel => "cancel",
            SignalKind::Terminate => "terminate",
            SignalKind::Idle => "idle",
        }
    }
}

/// A session of a plan, as the acting statement compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionId {
    pub pid: i32,
    backend_start: String,
    query_start: Option<String>,
    state_change: Option<String>,
    role: String,
    database: String,
}

impl SessionId {
    /// From a plan's identity, or one of its targets.
    pub fn of(identity: &BTreeMap<String, String>) -> Option<SessionId> {
        let get = |name: &str| identity.get(name).cloned();
        Some(SessionId {
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
pub(super) enum CurrentSession {
    Gone,
    SameStatement(LiveSession),
    SameSession(LiveSession),
    SomebodyElse,
}

/// A session that is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveSession {
    /// "idle", "active".
    pub state: String,
    /// Whether it has done anything since it was shown.
    pub used: bool,
    /// Whose it is now, if it may not be signalled any more: "a superuser's".
    pub spared: Option<String>,
}

impl LiveSession {
    fn of(row: &Row) -> LiveSession {
        LiveSession {
            state: row.get("state"),
            used: row.get::<_, Option<bool>>("used").unwrap_or(true),
            spared: row.get("spared"),
        }
    }
}

/// What became of a session.
#[derive(Debug)]
pub(super) enum SignalResult {
    /// No guard let the statement through: nothing was signalled.
    LeftAlone(Result<CurrentSession, QueryError>),
    /// Signalled, and seen afterwards.
    Signalled(Result<CurrentSession, QueryError>),
    /// PostgreSQL said no: nothing was signalled.
    Refused(QueryError),
    /// Nobody knows whether the signal went out.
    Unknown(QueryError),
}

/// The connection that signals, and whose sessions are never signalled.
pub(super) struct Signaller {
    pub lease: PooledClient,
    own: Vec<String>,
}

impl Signaller {
    /// # Errors
    /// An outcome that says that nothing was done.
    pub async fn of(doing: &Execution<'_>) -> Result<Signaller, Outcome> {
        let name = doing.environment().unwrap_or_default();
        let voided = |why: &str| Outcome::new(EventKind::Invalidated, format!("{why} Nothing was done."));
        let server = doing.plan.identity.get("server").ok_or_else(|| voided("The plan names no server."))?;
        let environment = doing.app.environments.environment(name);
        let environment = environment.map_err(|_| voided("The environment left the configuration."))?;
        let address = Address {
            environment: name.to_owned(),
            server: server.clone(),
            database: None,
            login: doing.command.header.login.clone(),
        };
        let own = doing.app.environments.own_roles(environment);
        match doing.app.environments.lease(&address, &doing.asker).await {
            Ok(lease) => Ok(Signaller { lease, own }),
            Err(why) => Err(Outcome::new(EventKind::Failed, format!("{server} {why}. Nothing was done."))),
        }
    }

    /// Signals each session in a statement of its own, so that none stands in another's way; then waits and tells what became of
    /// each, in their order.
    pub async fn signal(&self, aims: &[SessionId], how: SignalKind) -> Vec<SignalResult> {
        let mut fates = Vec::new();
        for aim in aims {
            fates.push(self.send(aim, how).await);
        }
        let until = tokio::time::Instant::now() + WATCH;
        loop {
            let mut there = false;
            for (aim, fate) in aims.iter().zip(&mut fates) {
                if let SignalResult::Signalled(Ok(now)) = fate
                    && is_there(now, how)
                {
                    *now = match self.now(aim).await {
                        Ok(now) => now,
                        Err(why) => {
                            *fate = SignalResult::Signalled(Err(why));
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

    async fn send(&self, aim: &SessionId, how: SignalKind) -> SignalResult {
        let sql = include_str!("signal.sql");
        let SessionId { pid, backend_start, query_start, state_change, role, database } = aim;
        let word = how.word();
        let rows = self
            .lease
            .ask(sql, &[pid, backend_start, &word, query_start, &self.own, role, database, state_change])
            .await;
        match rows {
            Ok(rows) if rows.is_empty() => SignalResult::LeftAlone(self.now(aim).await),
            // To be looked at.
            Ok(_) => SignalResult::Signalled(Ok(CurrentSession::SameStatement(LiveSession {
                state: String::new(),
                used: false,
                spared: None,
            }))),
            Err(why @ QueryError::Refused { .. }) => SignalResult::Refused(why),
            Err(why) => SignalResult::Unknown(why),
        }
    }

    async fn now(&self, aim: &SessionId) -> Result<CurrentSession, QueryError> {
        let sql = include_str!("now.sql");
        let SessionId { pid, backend_start, query_start, state_change, role, database } = aim;
        let rows = self
            .lease
            .ask(sql, &[pid, backend_start, query_start, &self.own, role, database, state_change])
            .await?;
        let Some(row) = rows.first() else { return Ok(CurrentSession::Gone) };
        let is = |name: &str| row.get::<_, Option<bool>>(name) == Some(true);
        Ok(match (is("same_statement"), is("same_session")) {
            (true, _) => CurrentSession::SameStatement(LiveSession::of(row)),
            (false, true) => CurrentSession::SameSession(LiveSession::of(row)),
            (false, false) => CurrentSession::SomebodyElse,
        })
    }
}

/// Whether what was signalled goes on: the statement for `cancel`, else the session.
fn is_there(now: &CurrentSession, how: SignalKind) -> bool {
    match now {
        CurrentSession::SameStatement(_) => true,
        CurrentSession::SameSession(_) => how != SignalKind::Cancel,
        CurrentSession::Gone | CurrentSession::SomebodyElse => false,
    }
}

/// `kill` and `cancel`: one session, and its fate in words.
pub(super) async fn signal(doing: &Execution<'_>, how: SignalKind) -> Outcome {
    let Some(aim) = SessionId::of(&doing.plan.identity) else {
        return Outcome::new(EventKind::Invalidated, "The plan names no session. Nothing was done.");
    };
    let signaller = match Signaller::of(doing).await {
        Ok(signaller) => signaller,
        Err(outcome) => return outcome,
    };
    let fates = signaller.signal(std::slice::from_ref(&aim), how).await;
    let Some(fate) = fates.into_iter().next() else {
        return Outcome::new(EventKind::Invalidated, "Nothing was done.");
    };
    let facts = match fate {
        SignalResult::LeftAlone(_) => json!({ "signalled": false }),
        SignalResult::Signalled(_) => json!({ "signalled": true }),
        SignalResult::Refused(_) | SignalResult::Unknown(_) => json!(null),
    };
    let (happening, verdict) = words(fate, aim.pid, how);
    Outcome { facts, ..Outcome::new(happening, verdict) }
}

/// What stands where an interrupted run may have signalled: `None` while a server can't be asked.
pub(super) async fn observe(doing: &Execution<'_>, how: SignalKind) -> Option<Outcome> {
    let signaller = Signaller::of(doing).await.ok()?;
    let targets = &doing.plan.targets;
    let identities = if targets.is_empty() { std::slice::from_ref(&doing.plan.identity) } else { targets };
    let mut there = Vec::new();
    for identity in identities {
        let aim = SessionId::of(identity)?;
        if is_there(&signaller.now(&aim).await.ok()?, how) {
            there.push(aim.pid.to_string());
        }
    }
    let (what, gone) = match how {
        SignalKind::Cancel => ("statement", "over"),
        SignalKind::Terminate | SignalKind::Idle => ("session", "gone"),
    };
    let (happening, seen) = match (there.len(), identities.len()) {
        (0, 1) => (EventKind::Succeeded, format!("The {what} is {gone}")),
        (0, all) => (EventKind::Succeeded, format!("All {all} {what}s are {gone}")),
        (_, 1) => (EventKind::Failed, format!("The {what} is still there")),
        (some, all) if some < all => {
            (EventKind::Partial, format!("Of {all} {what}s there are still {}", there.join(", ")))
        }
        (_, all) => (EventKind::Failed, format!("All {all} {what}s are still there")),
    };
    let why = "Countersign was interrupted and can't tell whether that is its work.";
    Some(Outcome::new(happening, format!("{seen}. {why}")))
}

fn words(fate: SignalResult, pid: i32, how: SignalKind) -> (EventKind, String) {
    match fate {
        SignalResult::LeftAlone(now) => {
            (EventKind::Invalidated, format!("{} Nothing was done.", left_alone(now, pid, how)))
        }
        SignalResult::Signalled(now) => ended(now, pid, how),
        SignalResult::Refused(why) => (
            EventKind::Failed,
            format!("PostgreSQL refused to signal session {pid}: {why}. Nothing was done."),
        ),
        SignalResult::Unknown(why) => (
            EventKind::Interrupted,
            format!(
                "The server {why} while session {pid} was being signalled: look with `long` what became of it."
            ),
        ),
    }
}

fn left_alone(now: Result<CurrentSession, QueryError>, pid: i32, how: SignalKind) -> String {
    match now {
        Ok(CurrentSession::Gone) => format!("The session that was shown is gone: pid {pid} is nobody's now."),
        Ok(CurrentSession::SomebodyElse) => format!(
            "The session that was shown is gone: pid {pid} belongs to another session now, which was left alone."
        ),
        Ok(
            CurrentSession::SameStatement(LiveSession { spared: Some(whose), .. })
            | CurrentSession::SameSession(LiveSession { spared: Some(whose), .. }),
        ) => {
            format!("Session {pid} is {whose} now, and was left alone.")
        }
        Ok(CurrentSession::SameSession(still)) if how == SignalKind::Cancel => {
            format!("The statement that was shown is over: session {pid} is {} now.", still.state)
        }
        Ok(_) => format!("Session {pid} no longer fits what was shown: a guard failed."),
        Err(why) => format!("Session {pid} was not signalled; what became of it can't be seen: {why}."),
    }
}

fn ended(now: Result<CurrentSession, QueryError>, pid: i32, how: SignalKind) -> (EventKind, String) {
    match (how, now) {
        (SignalKind::Cancel, Ok(CurrentSession::SameSession(still))) => (
            EventKind::Succeeded,
            format!("The statement of session {pid} is cancelled; the session is {}.", still.state),
        ),
        (SignalKind::Cancel, Ok(CurrentSession::Gone)) => {
            (EventKind::Succeeded, format!("The statement of session {pid} is over, and so is the session."))
        }
        (_, Ok(CurrentSession::Gone)) => (EventKind::Succeeded, format!("Session {pid} is gone.")),
        (_, Ok(CurrentSession::SomebodyElse)) => (
            EventKind::Succeeded,
            format!("Session {pid} is gone; its pid belongs to another session already."),
        ),
        (_, Ok(CurrentSession::SameStatement(_) | CurrentSession::SameSession(_))) => (
            EventKind::Failed,
            format!(
                "Session {pid} was signalled and is still there after {} s: it is stuck where a signal doesn't reach it yet.",
                WATCH.as_secs()
            ),
        ),
        (_, Err(why)) => (
            EventKind::Interrupted,
            format!("Session {pid} was signalled; what became of it can't be seen: {why}."),
        ),
    }
}
