//! `jobs`: runs in progress, and what interrupted runs still do on PostgreSQL. Reads the audit log and the sessions that carry a
//! run's number.

use super::Call;
use super::support::blocks::{
    COMMAND, ENVIRONMENT, REQUESTED_BY, RUN, RunColumn, answer, between, count, environments, may_see, note,
    run_table, verdict,
};
use super::support::{backends, recovery};
use crate::error::Result;
use crate::model::ColumnKind::{Left, Right};
use crate::model::{Block, Cell, Coverage, EventKind, Run, RunState, Severity};
use crate::shared_state::RunProgress;
use crate::sql::{Answer, duration};
use crate::store::Filter;
use jiff::Timestamp;
use std::collections::BTreeMap;

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let running = runs_in(call, RunState::Running).await?;
    let interrupted = runs_in(call, RunState::Interrupted).await?;
    let view = JobsView::load(call, &interrupted).await;
    let left: Vec<Run> = interrupted.into_iter().filter(|run| view.is_open(call, run)).collect();
    let mut blocks = Vec::new();
    let unavailable = view.unavailable.join(" and ");
    let unknown = format!(
        "Sessions of interrupted runs in {unavailable} can't be read now: whether those runs still work is unknown."
    );
    if running.is_empty() && left.is_empty() {
        blocks.push(if view.unavailable.is_empty() {
            verdict(Severity::Ok, "No runs are in progress.")
        } else {
            verdict(Severity::Warning, unknown)
        });
        let next = note("`environments` shows which servers answer.");
        blocks.extend((!view.unavailable.is_empty()).then_some(next));
    } else {
        let severity = if left.is_empty() { Severity::Neutral } else { Severity::Critical };
        blocks.push(verdict(severity, summary(running.len(), &left, &view)));
        let table = run_table(
            &[
                RUN,
                COMMAND,
                RunColumn::new("progress", Left, &|run| progress(call, run, &view)),
                RunColumn::new("for", Right, &|run| between(run.opened_at, Timestamp::now()).into()),
                REQUESTED_BY,
                ENVIRONMENT,
            ],
            left.iter().chain(&running),
        );
        blocks.push(Block::Table(table));
        if !view.unavailable.is_empty() {
            blocks.push(Block::Text(unknown.into()));
        }
        blocks.push(note("`stop <run>` stops one; `show <run>` shows its details."));
    }
    let coverage = if view.unavailable.is_empty() { Coverage::Whole } else { Coverage::Partial };
    Ok(Answer { coverage, ..answer(blocks) })
}

fn summary(running: usize, interrupted: &[Run], view: &JobsView<'_>) -> String {
    let working = interrupted.iter().filter(|run| view.sessions.contains_key(&run.id)).count();
    let mut parts = Vec::new();
    if working > 0 {
        let runs = count(working, "interrupted run is still working", "interrupted runs are still working");
        parts.push(format!("{runs} on PostgreSQL"));
    }
    if interrupted.len() > working {
        let open = interrupted.len() - working;
        parts.push(count(open, "interrupted run has not ended", "interrupted runs have not ended"));
    }
    if parts.is_empty() {
        return count(running, "run in progress.", "runs in progress.");
    }
    format!("{}; {}.", parts.join("; "), count(running, "other run in progress", "other runs in progress"))
}

async fn runs_in(call: &Call<'_>, state: RunState) -> Result<Vec<Run>> {
    let environment = call.environment.map(str::to_owned);
    let filter = Filter { environment, states: vec![state], limit: usize::MAX, ..Filter::default() };
    Ok(call.runs(filter).await?.runs.into_iter().filter(|run| may_see(call, run)).collect())
}

/// The state of interrupted runs on PostgreSQL.
#[derive(Default)]
struct JobsView<'a> {
    /// Seconds that a run's statement has been running.
    sessions: BTreeMap<i64, f64>,
    /// Progress of runs that continue without their process.
    progress: BTreeMap<i64, RunProgress>,
    unavailable: Vec<&'a str>,
}

impl<'a> JobsView<'a> {
    async fn load(call: &'a Call<'_>, interrupted: &[Run]) -> JobsView<'a> {
        let mut view = JobsView::default();
        for name in environments(call) {
            let is_in_environment = |run: &&Run| run.request.environment.as_deref() == Some(name);
            let runs: Vec<&Run> = interrupted.iter().filter(is_in_environment).collect();
            if runs.is_empty() {
                continue;
            }
            let Ok(backends) = backends::sessions(call.app, name).await else {
                view.unavailable.push(name);
                continue;
            };
            for run in runs {
                let longest = backends.of(run).map(|backend| backend.for_s).reduce(f64::max);
                view.sessions.extend(longest.map(|seconds| (run.id, seconds)));
                let share = recovery::observe_progress(call.app, run).await;
                view.progress.extend(share.map(|share| (run.id, share)));
            }
        }
        view
    }

    fn is_open(&self, call: &Call<'_>, run: &Run) -> bool {
        self.sessions.contains_key(&run.id) || self.progress.contains_key(&run.id) || resumes(call, run)
    }
}

fn resumes(call: &Call<'_>, run: &Run) -> bool {
    super::action_of(call.app, run).is_some_and(|action| recovery::resumes(action, run))
}

fn progress(call: &Call<'_>, run: &Run, view: &JobsView<'_>) -> Cell {
    if run.state == RunState::Interrupted {
        let text = format!("interrupted: {}", interrupted_progress(call, run, view));
        return Cell { text, severity: Severity::Critical };
    }
    let share = call.app.progress.get(run.id);
    let percent = share.as_ref().and_then(|share| share.percent).map(|percent| format!("{percent} %"));
    let label = share.map(|share| share.label).filter(|label| !label.is_empty());
    let stopping = run.event(EventKind::StopRequested).map(|_| "stop requested".to_owned());
    let parts: Vec<String> = [percent, label, stopping].into_iter().flatten().collect();
    if parts.is_empty() { "-".into() } else { parts.join(", ").into() }
}

fn interrupted_progress(call: &Call<'_>, run: &Run, view: &JobsView<'_>) -> String {
    if let Some(share) = view.progress.get(&run.id) {
        return share.label.replace('\n', ". ");
    }
    let mut parts = Vec::new();
    if resumes(call, run) {
        let label = call.app.progress.get(run.id).map(|share| share.label);
        parts.push(label.unwrap_or_else(|| "resumes as soon as it can".to_owned()));
    }
    if let Some(seconds) = view.sessions.get(&run.id) {
        parts.push(format!("its statement has been running for {}", duration(*seconds)));
    }
    parts.join(", ")
}
