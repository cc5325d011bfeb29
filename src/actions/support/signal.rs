//! Signals to sessions, for `kill`, `cancel` and `kill-idle`: one guarded statement (`signal.sql`), which judges each session by
//! itself, then a check of each session's state.

use super::recovery::INTERRUPTED;
use super::unblocked::{add_unblocked, sessions_behind};
use crate::actions::{Execution, Outcome, TargetLockError};
use crate::model::{EventKind, Plan, as_text, from_identity};
use crate::postgres::{Address, PgRow, PooledClient, QueryError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// A backend ends within milliseconds unless it is stuck in the kernel; waiting longer would show nothing new.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Sessions that one statement signals.
const BATCH: usize = 1_000;

/// The signal that a session gets, as `signal.sql` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum SignalKind {
    Cancel,
    Terminate,
    /// Terminates a session that has done nothing since it was shown.
    #[strum(serialize = "idle")]
    TerminateIdle,
}

/// A session of a plan, as `signal.sql` compares it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionId {
    #[serde(with = "as_text")]
    pub pid: i32,
    /// With microseconds.
    pub backend_start: String,
    /// Set for `cancel`: the start of the only statement that may be cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_start: Option<String>,
    /// Set for `kill-idle`: the session must have done nothing since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_change: Option<String>,
    pub role: String,
    pub database: String,
}

/// The server that a plan's sessions are on.
#[derive(Serialize, Deserialize)]
pub struct ServerTarget {
    pub server: String,
}

/// The session behind a pid now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CurrentSession {
    Gone,
    OtherSession,
    Same(LiveSession),
}

/// A session that has not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveSession {
    /// Runs the statement that was shown; for signals that don't depend on a statement, any.
    pub runs_statement: bool,
    /// "idle", "active".
    pub state: String,
    pub was_active_since_shown: bool,
    /// The owner that protects it from a signal now: "a superuser's".
    pub protected_owner: Option<String>,
}

impl CurrentSession {
    fn from_row(row: &PgRow) -> Result<CurrentSession, QueryError> {
        let flag = |name: &str| row.value::<bool>(name);
        let runs_statement = flag("same_statement") == Some(true);
        if !runs_statement && flag("same_session") != Some(true) {
            return Ok(CurrentSession::OtherSession);
        }
        Ok(CurrentSession::Same(LiveSession {
            runs_statement,
            state: row.get("state")?,
            was_active_since_shown: flag("was_active_since_shown").unwrap_or(true),
            protected_owner: row.get("protected_owner")?,
        }))
    }

    /// Tells whether the signalled statement (for `cancel`) or session is still running.
    fn is_running(&self, kind: SignalKind) -> bool {
        matches!(self, CurrentSession::Same(session) if session.runs_statement || kind != SignalKind::Cancel)
    }
}

/// The effect of a signal on one session.
#[derive(Debug)]
pub enum SignalResult {
    /// A guard refused: nothing was signalled.
    NotSignalled(Result<CurrentSession, QueryError>),
    /// Signalled, and looked at afterwards.
    Signalled(Result<CurrentSession, QueryError>),
    /// PostgreSQL refused: nothing was signalled.
    Refused(QueryError),
    /// The connection broke: the signal may have been sent.
    Unknown(QueryError),
}

/// The connection that signals, and Countersign's own roles, whose sessions are never signalled.
struct Signaller {
    client: PooledClient,
    own_roles: Vec<String>,
    kind: SignalKind,
}

impl Signaller {
    async fn connect(execution: &Execution<'_>, kind: SignalKind) -> Result<Signaller, Outcome> {
        let name = execution.environment().unwrap_or_default();
        let Some(ServerTarget { server }) = execution.plan.target() else {
            return Err(Outcome::invalidated("The plan names no server."));
        };
        let Ok(environment) = execution.app.environments.environment(name) else {
            return Err(Outcome::invalidated("The environment left the configuration."));
        };
        let own_roles = execution.app.environments.own_roles(environment);
        let address = Address::new(name, &server, execution.command.header.login);
        match execution.connect(&address).await {
            Ok(client) => Ok(Signaller { client, own_roles, kind }),
            Err(err) => Err(Outcome::failed(format!("{server} {err}"))),
        }
    }

    /// Signals sessions, then waits for them to end. The results are in the sessions' order. Meanwhile the connection has a lock that
    /// only this run takes: whoever takes the run over sees it, and judges nothing before it is gone.
    async fn signal_and_wait(
        &self,
        execution: &Execution<'_>,
        sessions: &[SessionId],
    ) -> Result<Vec<SignalResult>, Outcome> {
        let resource = format!("signals of run #{} of {}", execution.run.id, execution.run.opened_at);
        execution.lock_target(&self.client, &resource).await.map_err(|error| match error {
            TargetLockError::RunLost(lost) => lost.into(),
            error => Outcome::failed(error.to_string()),
        })?;
        let mut results = Vec::new();
        for (index, batch) in sessions.chunks(BATCH).enumerate() {
            if index > 0
                && let Err(lost) = execution.ensure_current().await
            {
                return Err(Outcome::unknown(format!("{lost}.")));
            }
            results.extend(self.signal(batch).await);
        }
        self.wait_for_ends(sessions, &mut results).await;
        if let Err(error) = self.client.advisory_unlock(&resource).await {
            tracing::debug!(%error, "a signalling session's advisory lock could not be released; it ends with the session");
        }
        Ok(results)
    }

    /// Looks at the signalled sessions until none of them is running, or it takes too long.
    async fn wait_for_ends(&self, sessions: &[SessionId], results: &mut [SignalResult]) {
        let deadline = tokio::time::Instant::now() + END_TIMEOUT;
        loop {
            let is_running = |result: &SignalResult| matches!(result, SignalResult::Signalled(Ok(current)) if current.is_running(self.kind));
            let running: Vec<usize> = (0..results.len()).filter(|at| is_running(&results[*at])).collect();
            if running.is_empty() {
                return;
            }
            let asked: Vec<SessionId> = running.iter().map(|at| sessions[*at].clone()).collect();
            let current = self.current(&asked).await;
            for (place, at) in running.into_iter().enumerate() {
                let current = current.as_ref().map(|current| current[place].clone()).map_err(Clone::clone);
                results[at] = SignalResult::Signalled(current);
            }
            if tokio::time::Instant::now() >= deadline {
                return;
            }
            if results.iter().any(is_running) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Signals sessions in one statement; if PostgreSQL refuses it, each in a statement of its own, so that no session stops the others.
    async fn signal(&self, sessions: &[SessionId]) -> Vec<SignalResult> {
        match self.signal_at_once(sessions).await {
            Err(QueryError::Refused { .. }) if sessions.len() > 1 => {
                let mut results = Vec::new();
                for session in sessions {
                    let result = self.signal_at_once(std::slice::from_ref(session)).await;
                    results.extend(self.results(std::slice::from_ref(session), result).await);
                }
                // The refused statement may have ended it.
                let had_ended = |result: &&mut SignalResult| {
                    matches!(result, SignalResult::NotSignalled(Ok(CurrentSession::Gone)))
                };
                for result in results.iter_mut().filter(had_ended) {
                    *result = SignalResult::Signalled(Ok(CurrentSession::Gone));
                }
                results
            }
            result => self.results(sessions, result).await,
        }
    }

    /// Pids of the sessions that passed the guards and were signalled.
    async fn signal_at_once(&self, sessions: &[SessionId]) -> Result<Vec<i32>, QueryError> {
        let (sql, signal_name) = (include_str!("signal.sql"), <&str>::from(self.kind));
        let columns = SessionColumns::of(sessions);
        let SessionColumns { pids, backend_starts, query_starts, roles, databases, state_changes } = &columns;
        let values: [&(dyn ToSql + Sync); 8] = [
            pids,
            backend_starts,
            &signal_name,
            query_starts,
            &self.own_roles,
            roles,
            databases,
            state_changes,
        ];
        let rows = self.client.query(sql, &values).await?;
        Ok(rows.iter().map(|row| row.get("pid")).collect::<Result<_, _>>()?)
    }

    /// The result for each session of a statement.
    async fn results(
        &self,
        sessions: &[SessionId],
        signalled: Result<Vec<i32>, QueryError>,
    ) -> Vec<SignalResult> {
        let signalled = match signalled {
            Ok(signalled) => signalled,
            Err(err @ QueryError::Refused { .. }) => {
                return sessions.iter().map(|_| SignalResult::Refused(err.clone())).collect();
            }
            Err(err) => return sessions.iter().map(|_| SignalResult::Unknown(err.clone())).collect(),
        };
        // Placeholder until the session is read for the first time.
        let running = || CurrentSession::Same(LiveSession { runs_statement: true, ..LiveSession::default() });
        let is_signalled = |session: &SessionId| signalled.contains(&session.pid);
        let current =
            if sessions.iter().all(is_signalled) { Ok(Vec::new()) } else { self.current(sessions).await };
        let result = |(at, session): (usize, &SessionId)| match &current {
            _ if is_signalled(session) => SignalResult::Signalled(Ok(running())),
            Ok(current) => SignalResult::NotSignalled(Ok(current[at].clone())),
            Err(err) => SignalResult::NotSignalled(Err(err.clone())),
        };
        sessions.iter().enumerate().map(result).collect()
    }

    /// The sessions now, in their order.
    async fn current(&self, sessions: &[SessionId]) -> Result<Vec<CurrentSession>, QueryError> {
        let columns = SessionColumns::of(sessions);
        let SessionColumns { pids, backend_starts, query_starts, roles, databases, state_changes } = &columns;
        let sql = include_str!("current_session.sql");
        let values: [&(dyn ToSql + Sync); 7] =
            [pids, backend_starts, query_starts, &self.own_roles, roles, databases, state_changes];
        let rows = self.client.query(sql, &values).await?;
        let by_pid: HashMap<i32, CurrentSession> = rows
            .iter()
            .map(|row| Ok((row.get("pid")?, CurrentSession::from_row(row)?)))
            .collect::<Result<_, QueryError>>()?;
        let current = |session: &SessionId| by_pid.get(&session.pid).cloned().unwrap_or(CurrentSession::Gone);
        Ok(sessions.iter().map(current).collect())
    }
}

/// Sessions as a statement's parameters: an array for each of their fields.
struct SessionColumns<'a> {
    pids: Vec<i32>,
    backend_starts: Vec<&'a str>,
    query_starts: Vec<Option<&'a str>>,
    roles: Vec<&'a str>,
    databases: Vec<&'a str>,
    state_changes: Vec<Option<&'a str>>,
}

impl SessionColumns<'_> {
    fn of(sessions: &[SessionId]) -> SessionColumns<'_> {
        SessionColumns {
            pids: sessions.iter().map(|session| session.pid).collect(),
            backend_starts: sessions.iter().map(|session| session.backend_start.as_str()).collect(),
            query_starts: sessions.iter().map(|session| session.query_start.as_deref()).collect(),
            roles: sessions.iter().map(|session| session.role.as_str()).collect(),
            databases: sessions.iter().map(|session| session.database.as_str()).collect(),
            state_changes: sessions.iter().map(|session| session.state_change.as_deref()).collect(),
        }
    }
}

/// The sessions of a plan, of which `kill` and `cancel` have one; `None` if one of them can't be read.
fn planned_sessions(plan: &Plan) -> Option<Vec<SessionId>> {
    if plan.target_identities.is_empty() {
        return Some(vec![plan.target()?]);
    }
    plan.target_identities.iter().map(from_identity).collect()
}

/// Signals the sessions of the plan, none of which stops the others, then waits for them to end. The results are in the sessions'
/// order.
pub async fn signal_all(execution: &Execution<'_>, kind: SignalKind) -> Result<Vec<SignalResult>, Outcome> {
    let Some(sessions) = planned_sessions(execution.plan) else {
        return Err(Outcome::invalidated("The plan names no session."));
    };
    Signaller::connect(execution, kind).await?.signal_and_wait(execution, &sessions).await
}

/// Signals the one session of a plan, for `kill` and `cancel`.
pub async fn signal(execution: &Execution<'_>, kind: SignalKind) -> Outcome {
    Box::pin(signal_one(execution, kind)).await.unwrap_or_else(|outcome| outcome)
}

async fn signal_one(execution: &Execution<'_>, kind: SignalKind) -> Result<Outcome, Outcome> {
    let no_session = || Outcome::invalidated("The plan names no session.");
    let session: SessionId = execution.plan.target().ok_or_else(no_session)?;
    let pid = session.pid;
    let signaller = Signaller::connect(execution, kind).await?;
    let behind = match kind {
        SignalKind::Cancel => Vec::new(),
        _ => Box::pin(sessions_behind(&signaller.client, pid)).await,
    };
    let results = Box::pin(signaller.signal_and_wait(execution, std::slice::from_ref(&session))).await?;
    let result = results.into_iter().next().ok_or_else(no_session)?;
    let mut outcome = outcome(result, pid, kind);
    Box::pin(add_unblocked(&mut outcome, &signaller.client, &behind)).await;
    Ok(outcome)
}

/// Looks at the sessions that an interrupted run may have signalled; `None` while a server can't be asked.
pub async fn observe_outcome(execution: &Execution<'_>, kind: SignalKind) -> Option<Outcome> {
    let signaller = Signaller::connect(execution, kind).await.ok()?;
    let sessions = planned_sessions(execution.plan)?;
    let current = signaller.current(&sessions).await.ok()?;
    let is_running = |(_, current): &(&SessionId, &CurrentSession)| current.is_running(kind);
    let running: Vec<String> = sessions
        .iter()
        .zip(&current)
        .filter(is_running)
        .map(|(session, _)| session.pid.to_string())
        .collect();
    let noun = if kind == SignalKind::Cancel { "statement" } else { "session" };
    let (event, observation) = match (running.len(), sessions.len()) {
        (0, 1) => (EventKind::Succeeded, format!("The {noun} has ended")),
        (0, total) => (EventKind::Succeeded, format!("All {total} {noun}s have ended")),
        (_, 1) => (EventKind::Failed, format!("The {noun} has not ended")),
        (remaining, total) if remaining < total => {
            (EventKind::Partial, format!("Of {total} {noun}s, {} have not ended", first_of(&running, 20)))
        }
        (_, total) => (EventKind::Failed, format!("None of the {total} {noun}s has ended")),
    };
    Some(Outcome::new(event, format!("{observation}. {INTERRUPTED}")))
}

/// "1, 2 and 3 more".
fn first_of(pids: &[String], number: usize) -> String {
    match pids.len().saturating_sub(number) {
        0 => pids.join(", "),
        more => format!("{} and {more} more", pids[..number].join(", ")),
    }
}

fn outcome(result: SignalResult, pid: i32, kind: SignalKind) -> Outcome {
    use CurrentSession::{Gone, OtherSession, Same};
    let is_cancel = kind == SignalKind::Cancel;
    match result {
        SignalResult::NotSignalled(current) => {
            let reason = match current {
                Ok(Gone) => format!("The session that was shown is gone: no session has pid {pid} now."),
                Ok(OtherSession) => format!(
                    "The session that was shown is gone: pid {pid} belongs to another session now, which was left alone."
                ),
                Ok(Same(LiveSession { protected_owner: Some(owner), .. })) => {
                    format!("Session {pid} is {owner} now, and was left alone.")
                }
                Ok(Same(LiveSession { runs_statement: false, state, .. })) if is_cancel => {
                    format!("The statement that was shown is over: session {pid} is {state} now.")
                }
                Ok(_) => format!("Session {pid} no longer matches what was shown: a guard failed."),
                Err(err) => format!("Session {pid} was not signalled. Its state can't be read: {err}."),
            };
            Outcome { facts: json!({ "signalled": false }), ..Outcome::invalidated(reason) }
        }
        SignalResult::Signalled(current) => {
            let outcome = match current {
                Ok(Same(LiveSession { runs_statement: false, state, .. })) if is_cancel => Outcome::done(
                    format!("The statement of session {pid} is cancelled; the session is {state}."),
                ),
                Ok(Gone) if is_cancel => {
                    Outcome::done(format!("The statement of session {pid} is over, and so is the session."))
                }
                Ok(Gone) => Outcome::done(format!("Session {pid} ended.")),
                Ok(OtherSession) => {
                    Outcome::done(format!("Session {pid} ended; its pid already belongs to another session."))
                }
                Ok(Same(_)) => {
                    let stuck = "it is stuck where it can't handle a signal yet";
                    let seconds = END_TIMEOUT.as_secs();
                    let text =
                        format!("Session {pid} was signalled and has not ended after {seconds} s: {stuck}.");
                    Outcome::new(EventKind::Failed, text)
                }
                Err(err) => {
                    Outcome::unknown(format!("Session {pid} was signalled. Its state can't be read: {err}."))
                }
            };
            Outcome { facts: json!({ "signalled": true }), ..outcome }
        }
        SignalResult::Refused(err) => {
            Outcome::failed(format!("PostgreSQL refused to signal session {pid}: {err}"))
        }
        SignalResult::Unknown(err) => Outcome::unknown(format!(
            "The server {err} while session {pid} was being signalled: `long` shows whether it has ended."
        )),
    }
}
