//! `jobs`: what runs now and how far it is, and what interrupted runs still do on PostgreSQL. A read over the record, and over
//! the sessions that bear a run's number.

use super::answers::{answer, asked, between, count, environments, may_see, table, verdict};
use super::{Call, Look, lingering};
use crate::error::Result;
use crate::message::{Block, Cell, Shape, Tone};
use crate::runs::Happening;
use crate::sql::{Answer, duration, fill};
use crate::store::{Filter, Run, State};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

pub struct Jobs;

/// An interrupted run whose sessions are gone is history after that; `history --failed` has it.
const INTERRUPTED: Duration = Duration::from_secs(86_400);

#[async_trait]
impl Look for Jobs {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let (running, interrupted) =
            (listed(call, State::Running).await?, listed(call, State::Unknown).await?);
        let (sessions, unseen) = on_postgresql(call, &interrupted).await;
        let left: Vec<Run> = interrupted.into_iter().filter(|run| sessions.contains_key(&run.id)).collect();
        let mut blocks = Vec::new();
        if running.is_empty() && left.is_empty() {
            blocks.push(verdict(Tone::Good, "Nothing runs."));
        } else {
            let words = match left.len() {
                0 => count(running.len(), "run goes on.", "runs go on."),
                some => {
                    let left = count(some, "interrupted run still works", "interrupted runs still work");
                    format!("{left} on PostgreSQL; {}.", count(running.len(), "other runs", "others run"))
                }
            };
            let tone = if left.is_empty() { Tone::Plain } else { Tone::Act };
            blocks.push(verdict(tone, words));
            let rows = left.iter().chain(&running).map(|run| row(call, run, &sessions)).collect();
            blocks.push(Block::Table(table(&COLUMNS, rows)));
            blocks
                .push(Block::Note(fill("`stop <run>` ends one; `show <run>` tells all about it.", &|_| {
                    None
                })));
        }
        if !unseen.is_empty() {
            let text =
                format!("What interrupted runs still do in {} can't be seen now.", unseen.join(" and "));
            blocks.push(Block::Note(text.into()));
        }
        Ok(answer(blocks))
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

async fn listed(call: &Call<'_>, state: State) -> Result<Vec<Run>> {
    let since = (state == State::Unknown).then(|| Timestamp::now() - INTERRUPTED);
    let environment = call.environment.map(str::to_owned);
    let filter = Filter { environment, states: vec![state], since, ..Filter::default() };
    let listed = call.app.runs.store.list(filter).await.map_err(anyhow::Error::from)?;
    let others = listed.runs.into_iter().filter(|run| may_see(call, run));
    Ok(others.collect())
}

/// For how many seconds the statement of an interrupted run has been running, by run; and the environments that can't be asked.
async fn on_postgresql<'a>(call: &'a Call<'_>, interrupted: &[Run]) -> (BTreeMap<i64, f64>, Vec<&'a str>) {
    let (mut sessions, mut unseen) = (BTreeMap::new(), Vec::new());
    let concerned =
        |name: &&str| interrupted.iter().any(|run| run.request.environment.as_deref() == Some(*name));
    for name in environments(call).into_iter().filter(concerned) {
        let Ok(found) = lingering::sessions(call.app, name).await else {
            unseen.push(name);
            continue;
        };
        for run in interrupted.iter().filter(|run| run.request.environment.as_deref() == Some(name)) {
            let longest = found.iter().filter(|session| session.is_of(run)).map(|session| session.for_s);
            if let Some(longest) = longest.reduce(f64::max) {
                sessions.insert(run.id, longest);
            }
        }
    }
    (sessions, unseen)
}

fn row(call: &Call<'_>, run: &Run, sessions: &BTreeMap<i64, f64>) -> Vec<Cell> {
    let request = &run.request;
    vec![
        format!("#{}", run.id).into(),
        asked(run).into(),
        request.environment.clone().unwrap_or_else(|| "-".to_owned()).into(),
        request.requester.id.as_str().into(),
        between(run.opened_at, Timestamp::now()).into(),
        how_far(call, run, sessions),
    ]
}

fn how_far(call: &Call<'_>, run: &Run, sessions: &BTreeMap<i64, f64>) -> Cell {
    if run.state == State::Unknown {
        let text = sessions
            .get(&run.id)
            .map_or(String::new(), |for_s| format!(": its statement runs for {}", duration(*for_s)));
        return Cell { text: format!("interrupted{text}"), tone: Tone::Act };
    }
    let share = call.app.progress.get(run.id);
    let percent = share.as_ref().and_then(|share| share.percent).map(|percent| format!("{percent} %"));
    let label = share.map(|share| share.label).filter(|label| !label.is_empty());
    let stopping = run.event(Happening::Stopping.word()).map(|_| "told to stop".to_owned());
    let told: Vec<String> = [percent, label, stopping].into_iter().flatten().collect();
    if told.is_empty() { "-".into() } else { told.join(", ").into() }
}
