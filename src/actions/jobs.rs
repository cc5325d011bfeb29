//! `jobs`: what runs now and how far it is, and what interrupted runs still do on PostgreSQL. A read over the record, and over
//! the sessions that bear a run's number.

use super::support::blocks::{answer, asked, between, count, environments, may_see, table, verdict};
use super::{
    Call, Implementation, Query,
    support::{backends, recovery},
};
use crate::app::Share;
use crate::error::Result;
use crate::model::{Block, Cell, EventKind, Run, RunState, Severity, Shape};
use crate::sql::{Answer, duration, fill};
use crate::store::Filter;
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::BTreeMap;

pub struct Jobs;

#[async_trait]
impl Query for Jobs {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let (running, interrupted) =
            (listed(call, RunState::Running).await?, listed(call, RunState::Interrupted).await?);
        let seen = JobsView::of(call, &interrupted).await;
        let left: Vec<Run> = interrupted.into_iter().filter(|run| seen.is_open(call, run)).collect();
        let mut blocks = Vec::new();
        if running.is_empty() && left.is_empty() {
            blocks.push(verdict(Severity::Ok, "Nothing runs."));
        } else {
            let tone = if left.is_empty() { Severity::Neutral } else { Severity::Critical };
            blocks.push(verdict(tone, words(running.len(), (&left, &seen))));
            let rows = left.iter().chain(&running).map(|run| row(call, run, &seen)).collect();
            blocks.push(Block::Table(table(&COLUMNS, rows)));
            blocks
                .push(Block::Note(fill("`stop <run>` ends one; `show <run>` tells all about it.", &|_| {
                    None
                })));
        }
        if !seen.unseen.is_empty() {
            let text =
                format!("What interrupted runs still do in {} can't be seen now.", seen.unseen.join(" and "));
            blocks.push(Block::Note(text.into()));
        }
        Ok(answer(blocks))
    }
}

fn words(running: usize, (left, seen): (&[Run], &JobsView<'_>)) -> String {
    let works = left.iter().filter(|run| seen.sessions.contains_key(&run.id)).count();
    let mut told = Vec::new();
    if works > 0 {
        let runs = count(works, "interrupted run still works", "interrupted runs still work");
        told.push(format!("{runs} on PostgreSQL"));
    }
    if left.len() > works {
        told.push(count(left.len() - works, "interrupted run isn't over", "interrupted runs aren't over"));
    }
    match told.as_slice() {
        [] => count(running, "run goes on.", "runs go on."),
        _ => format!("{}; {}.", told.join("; "), count(running, "other runs", "others run")),
    }
}

const COLUMNS: [(&str, Shape); 6] = [
    ("run", Shape::Right),
    ("what", Shape::Left),
    ("environment", Shape::Left),
    ("asked by", Shape::Left),
    ("for", Shape::Right),
    ("how far", Shape::Left),
];

async fn listed(call: &Call<'_>, state: RunState) -> Result<Vec<Run>> {
    let environment = call.environment.map(str::to_owned);
    let filter = Filter { environment, states: vec![state], limit: usize::MAX, ..Filter::default() };
    let listed = call.app.audit.store.list(filter).await.map_err(anyhow::Error::from)?;
    let others = listed.runs.into_iter().filter(|run| may_see(call, run));
    Ok(others.collect())
}

/// What interrupted runs do.
struct JobsView<'a> {
    /// For how many seconds a run's statement has been running.
    sessions: BTreeMap<i64, f64>,
    /// How far what goes on without its process is.
    watched: BTreeMap<i64, Share>,
    /// Environments that can't be asked.
    unseen: Vec<&'a str>,
}

impl<'a> JobsView<'a> {
    async fn of(call: &'a Call<'_>, interrupted: &[Run]) -> JobsView<'a> {
        let mut seen = JobsView { sessions: BTreeMap::new(), watched: BTreeMap::new(), unseen: Vec::new() };
        let of = |run: &Run, name: &str| run.request.environment.as_deref() == Some(name);
        for name in environments(call) {
            let runs: Vec<&Run> = interrupted.iter().filter(|run| of(run, name)).collect();
            if runs.is_empty() {
                continue;
            }
            let Ok(found) = backends::sessions(call.app, name).await else {
                seen.unseen.push(name);
                continue;
            };
            for run in runs {
                let longest = found.iter().filter(|session| session.is_of(run)).map(|session| session.for_s);
                seen.sessions.extend(longest.reduce(f64::max).map(|longest| (run.id, longest)));
                seen.watched.extend(recovery::watched(call.app, run).await.map(|share| (run.id, share)));
            }
        }
        seen
    }

    fn is_open(&self, call: &Call<'_>, run: &Run) -> bool {
        self.sessions.contains_key(&run.id) || self.watched.contains_key(&run.id) || goes_on(call, run)
    }
}

/// Whether it is taken up again by itself.
fn goes_on(call: &Call<'_>, run: &Run) -> bool {
    let code = call.app.catalog.find(&run.request.command).and_then(super::find);
    matches!(code, Some(Implementation::Action(act)) if recovery::goes_on(act, run))
}

fn row(call: &Call<'_>, run: &Run, seen: &JobsView<'_>) -> Vec<Cell> {
    let request = &run.request;
    vec![
        format!("#{}", run.id).into(),
        asked(run).into(),
        request.environment.clone().unwrap_or_else(|| "-".to_owned()).into(),
        request.requester.id.as_str().into(),
        between(run.opened_at, Timestamp::now()).into(),
        how_far(call, run, seen),
    ]
}

fn how_far(call: &Call<'_>, run: &Run, seen: &JobsView<'_>) -> Cell {
    if run.state == RunState::Interrupted {
        return Cell {
            text: format!("interrupted: {}", without_us(call, run, seen)),
            tone: Severity::Critical,
        };
    }
    let share = call.app.progress.get(run.id);
    let percent = share.as_ref().and_then(|share| share.percent).map(|percent| format!("{percent} %"));
    let label = share.map(|share| share.label).filter(|label| !label.is_empty());
    let stopping = run.event(EventKind::StopRequested.word()).map(|_| "told to stop".to_owned());
    let told: Vec<String> = [percent, label, stopping].into_iter().flatten().collect();
    if told.is_empty() { "-".into() } else { told.join(", ").into() }
}

/// What an interrupted run does.
fn without_us(call: &Call<'_>, run: &Run, seen: &JobsView<'_>) -> String {
    if let Some(share) = seen.watched.get(&run.id) {
        return share.label.replace('\n', ". ");
    }
    let mut told = Vec::new();
    if goes_on(call, run) {
        let why = call.app.progress.get(run.id).map(|share| share.label);
        told.push(why.unwrap_or_else(|| "goes on by itself as soon as it can".to_owned()));
    }
    told.extend(
        seen.sessions.get(&run.id).map(|for_s| format!("its statement runs for {}", duration(*for_s))),
    );
    told.join(", ")
}
