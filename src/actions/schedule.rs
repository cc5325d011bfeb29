//! `schedule`: the windows of the configuration, and what became of each since it was last due. Reads the record only.

use super::support::blocks::{answer, between, count, environments, state, table, verdict};
use super::{Call, Query};
use crate::error::{Error, Result};
use crate::model::{Block, Cell, Run, RunState, Severity, Shape};
use crate::schedule::Window;
use crate::sql::{Answer, fill, minute};
use crate::store::Filter;
use async_trait::async_trait;
use jiff::Timestamp;

pub struct Schedule;

/// Runs of one command that are looked through for those of a window.
const LOOKED_THROUGH: usize = 200;

/// What became of a window since it was last due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WindowState {
    Done,
    /// It runs, or waits for its second person.
    InProgress,
    /// It was due a moment ago, and isn't late yet.
    Due,
    Failed,
    Late,
    /// Late, and the record has never seen it run.
    Never,
}

impl WindowState {
    fn tone(self) -> Severity {
        match self {
            WindowState::Done | WindowState::Due => Severity::Ok,
            WindowState::InProgress | WindowState::Never => Severity::Warning,
            WindowState::Failed | WindowState::Late => Severity::Critical,
        }
    }
}

/// A window, its newest run, and its fate.
struct WindowStatus<'w> {
    window: &'w Window,
    newest: Option<Run>,
    fate: WindowState,
}

#[async_trait]
impl Query for Schedule {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let seen = environments(call);
        let now = Timestamp::now();
        let windows = call.app.schedule.iter().filter(|window| seen.contains(&window.environment.as_str()));
        let told = windows.map(|window| async move {
            let runs = runs(call, window).await?;
            let fate = fate(window, &runs, now);
            Ok::<_, Error>(WindowStatus { window, newest: runs.into_iter().next(), fate })
        });
        let mut told = futures::future::try_join_all(told).await?;
        if told.is_empty() {
            let next = "A window is four lines in the configuration: [[schedule]], with `name`, `run`, `environments` and `at`.";
            let words = "No maintenance window is configured for what you may look at.";
            return Ok(answer(vec![verdict(Severity::Neutral, words), Block::Note(fill(next, &|_| None))]));
        }
        told.sort_by_key(|told| (std::cmp::Reverse(told.fate.tone()), told.window.next(now)));
        Ok(present(&told, now))
    }
}

/// What ran with the window's very command and values, newest first.
async fn runs(call: &Call<'_>, window: &Window) -> Result<Vec<Run>> {
    let filter = Filter {
        environment: Some(window.environment.clone()),
        command: Some(window.command.clone()),
        reads: true,
        limit: LOOKED_THROUGH,
        ..Filter::default()
    };
    let listed = call.app.audit.store.list(filter).await.map_err(anyhow::Error::from)?;
    Ok(listed.runs.into_iter().filter(|run| run.request.arguments == window.values).collect())
}

fn fate(window: &Window, runs: &[Run], now: Timestamp) -> WindowState {
    let Some(due) = window.last(now) else { return WindowState::Due };
    let since: Vec<RunState> = runs.iter().filter(|run| run.opened_at >= due).map(|run| run.state).collect();
    match since.first() {
        _ if since.contains(&RunState::Succeeded) => WindowState::Done,
        Some(newest) if newest.is_open() => WindowState::InProgress,
        Some(_) => WindowState::Failed,
        None if now.duration_since(due).unsigned_abs() <= window.within => WindowState::Due,
        None if runs.is_empty() => WindowState::Never,
        None => WindowState::Late,
    }
}

fn present(told: &[WindowStatus<'_>], now: Timestamp) -> Answer {
    let columns = [
        ("window", Shape::Left),
        ("environment", Shape::Left),
        ("runs", Shape::Left),
        ("when (UTC)", Shape::Left),
        ("last run", Shape::Left),
        ("next", Shape::Right),
    ];
    let rows = told.iter().map(|told| row(told, now)).collect();
    let worst = &told[0];
    let run_now = format!("`{} --env {}` runs it now.", worst.window.run, worst.window.environment);
    let next = match worst.fate {
        WindowState::Failed => {
            format!("`show {}` tells why; {run_now}", worst.newest.as_ref().map_or(0, |run| run.id))
        }
        WindowState::Late | WindowState::Never => run_now,
        _ => "Countersign starts none of these; it tells whether they ran.".to_owned(),
    };
    answer(vec![
        judgement(told, now),
        Block::Table(table(&columns, rows)),
        Block::Note(fill(&next, &|_| None)),
    ])
}

fn judgement(told: &[WindowStatus<'_>], now: Timestamp) -> Block {
    let bad: Vec<String> = told.iter().filter_map(|told| complaint(told, now)).collect();
    if !bad.is_empty() {
        return verdict(told[0].fate.tone(), format!("{}.", bad.join("; ")));
    }
    let next =
        told.iter().filter_map(|told| Some((told.window.next(now)?, told.window))).min_by_key(|next| next.0);
    let next = next.map(|(at, window)| format!("; next is {}, in {}", title(window), between(now, at)));
    let all = count(told.len(), "window is", "windows are");
    verdict(told[0].fate.tone(), format!("{all} on time{}.", next.unwrap_or_default()))
}

fn title(window: &Window) -> String {
    format!("{} ({})", window.name, window.environment)
}

fn complaint(told: &WindowStatus<'_>, now: Timestamp) -> Option<String> {
    let due = told.window.last(now).map_or(String::new(), minute);
    let title = title(told.window);
    match told.fate {
        WindowState::Failed => Some(format!("{title}, due at {due}, ended without success")),
        WindowState::Late => Some(format!("{title} was due at {due} and has not run since")),
        WindowState::Never => Some(format!("{title} was due at {due}, and the history has no run of it")),
        WindowState::Done | WindowState::InProgress | WindowState::Due => None,
    }
}

fn row(told: &WindowStatus<'_>, now: Timestamp) -> Vec<Cell> {
    let window = told.window;
    let last = told.newest.as_ref().map_or("never".to_owned(), |run| {
        format!("{} {}, #{}", state(run).text, minute(run.opened_at), run.id)
    });
    let tone = told.fate.tone();
    vec![
        window.name.as_str().into(),
        window.environment.as_str().into(),
        window.run.as_str().into(),
        window.rhythm().into(),
        Cell { text: last, tone },
        window.next(now).map_or("-".to_owned(), |next| format!("in {}", between(now, next))).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::Values;
    use std::time::Duration;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    /// Due every day at two; an hour later it is late.
    fn window() -> Window {
        Window {
            name: "Full backup".to_owned(),
            environment: "production".to_owned(),
            command: "backup".to_owned(),
            values: Values::new(),
            run: "backup all".to_owned(),
            within: Duration::from_secs(3600),
            at: "0 2 * * *".parse().unwrap(),
        }
    }

    fn run(opened: &str, state: RunState) -> Run {
        Run::example(("backup", Some("production")), at(opened), state)
    }

    #[test]
    fn a_window_is_judged_by_what_ran_since_it_was_due() {
        let yesterday = run("2026-11-21T02:00:03Z", RunState::Succeeded);
        let tonight = |state| run("2026-11-22T02:00:03Z", state);
        for (now, runs, expected) in [
            ("2026-11-22T01:59:59Z", vec![yesterday.clone()], WindowState::Done),
            ("2026-11-22T02:00:00Z", vec![yesterday.clone()], WindowState::Due),
            ("2026-11-22T03:00:00Z", vec![yesterday.clone()], WindowState::Due),
            ("2026-11-22T03:00:01Z", vec![yesterday.clone()], WindowState::Late),
            ("2026-11-22T03:00:01Z", vec![], WindowState::Never),
            (
                "2026-11-22T09:00:00Z",
                vec![tonight(RunState::Running), yesterday.clone()],
                WindowState::InProgress,
            ),
            ("2026-11-22T09:00:00Z", vec![tonight(RunState::Failed), yesterday.clone()], WindowState::Failed),
            ("2026-11-22T09:00:00Z", vec![tonight(RunState::Interrupted), yesterday], WindowState::Failed),
            // What failed and then succeeded is done, in whichever order.
            (
                "2026-11-22T09:00:00Z",
                vec![tonight(RunState::Succeeded), tonight(RunState::Failed)],
                WindowState::Done,
            ),
            (
                "2026-11-22T09:00:00Z",
                vec![tonight(RunState::Failed), tonight(RunState::Succeeded)],
                WindowState::Done,
            ),
        ] {
            assert_eq!(fate(&window(), &runs, at(now)), expected, "at {now}: {runs:?}");
        }
    }

    #[test]
    fn what_failed_comes_before_what_is_late_and_tells_the_way_on() {
        let now = at("2026-11-22T09:00:00Z");
        let window = window();
        let told = |fate, newest| WindowStatus { window: &window, newest, fate };
        let words = |told: &[WindowStatus<'_>]| match &present(told, now).blocks[..] {
            [Block::Verdict { tone, text }, Block::Table(_), Block::Note(next)] => {
                format!("{}: {} | {}", format!("{tone:?}").to_uppercase(), text.words(), next.words())
            }
            other => panic!("{other:?}"),
        };
        let failed = run("2026-11-22T02:00:03Z", RunState::Failed);
        assert_eq!(
            words(&[told(WindowState::Failed, Some(failed.clone()))]),
            "CRITICAL: Full backup (production), due at 2026-11-22 02:00 UTC, ended without success. | \
             show 7 tells why; backup all --env production runs it now."
        );
        assert_eq!(
            words(&[told(WindowState::Late, Some(failed))]),
            "CRITICAL: Full backup (production) was due at 2026-11-22 02:00 UTC and has not run since. | \
             backup all --env production runs it now."
        );
        assert_eq!(
            words(&[told(WindowState::Done, None)]),
            "OK: 1 window is on time; next is Full backup (production), in 17 h 0 min. | \
             Countersign starts none of these; it tells whether they ran."
        );
    }
}
