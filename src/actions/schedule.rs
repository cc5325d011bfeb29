//! `schedule`: maintenance windows of the configuration, and the state of each since it was last due. Reads the audit log, and what
//! this process waits for.

use super::Call;
use super::support::blocks::{answer, between, count, environments, note, state, table, verdict};
use crate::command_line::as_word;
use crate::error::{Error, Result};
use crate::model::ColumnKind::{Left, Right};
use crate::model::{Block, Cell, Run, RunState, Severity};
use crate::schedule::{EnvironmentWindow, PauseState, Wait};
use crate::sql::{Answer, minute};
use crate::store::{Filter, WatchState};
use jiff::Timestamp;

/// Runs of one command that are searched for those of a window.
const MAX_RUNS: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WindowState {
    Done,
    /// It runs, or waits for approval.
    InProgress,
    /// It was due a moment ago and isn't late yet.
    Due,
    /// It is due, and another run works on the same.
    Waiting,
    /// It starts nothing until it is resumed.
    Paused,
    Failed,
    Late,
    /// Late, and the audit log has no run of it.
    Never,
}

impl WindowState {
    fn severity(self) -> Severity {
        match self {
            WindowState::Done | WindowState::Due => Severity::Ok,
            WindowState::InProgress | WindowState::Waiting | WindowState::Paused | WindowState::Never => {
                Severity::Warning
            }
            WindowState::Failed | WindowState::Late => Severity::Critical,
        }
    }
}

struct WindowStatus<'w> {
    window: &'w EnvironmentWindow,
    newest: Option<Run>,
    /// Of one that reports changes.
    looks: Option<WatchState>,
    state: WindowState,
    /// Of a paused one.
    pause: Option<Run>,
    /// Of one that waits.
    wait: Option<Wait>,
}

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let names = environments(call);
    let now = Timestamp::now();
    let windows = call.app.schedule.iter().filter(|window| names.contains(&window.environment.as_str()));
    let looks = call.app.audit.store.watch_states().await.map_err(anyhow::Error::from)?;
    let windows = windows.map(|window| async {
        let runs = runs(call, window).await?;
        let looks = window.state(&looks);
        let pause = PauseState::of(&*call.app.audit.store, window).await.map_err(anyhow::Error::from)?.pause;
        let wait = call.app.waits.get(window);
        let state = if window.is_watching() {
            watch_state(window, looks, now)
        } else {
            window_state(window, &runs, now)
        };
        let state = match (&pause, &wait, state) {
            (Some(_), _, _) => WindowState::Paused,
            (_, Some(_), _) => WindowState::Waiting,
            (None, None, state) => state,
        };
        let (newest, looks) = (runs.into_iter().next(), looks.cloned());
        Ok::<_, Error>(WindowStatus { window, newest, looks, state, pause, wait })
    });
    let mut windows = futures::future::try_join_all(windows).await?;
    if windows.is_empty() {
        let next = "A window is four lines in the configuration: [[schedule]], with `name`, `run`, `environments` and `at`.";
        let words = "No maintenance window is configured in the environments that you can read.";
        return Ok(answer(vec![verdict(Severity::Neutral, words), note(next)]));
    }
    windows.sort_by_key(|status| (std::cmp::Reverse(status.state.severity()), status.window.next(now)));
    Ok(present(&windows, now))
}

/// Lists the runs with the window's command and values, newest first.
async fn runs(call: &Call<'_>, window: &EnvironmentWindow) -> Result<Vec<Run>> {
    let filter = Filter {
        environment: Some(window.environment.clone()),
        command: Some(window.command.clone()),
        include_reads: true,
        limit: MAX_RUNS,
        ..Filter::default()
    };
    let page = call.runs(filter).await?;
    Ok(page.runs.into_iter().filter(|run| run.request.arguments == window.values).collect())
}

fn window_state(window: &EnvironmentWindow, runs: &[Run], now: Timestamp) -> WindowState {
    let Some(due) = window.last(now) else { return WindowState::Due };
    let since: Vec<RunState> = runs.iter().filter(|run| run.opened_at >= due).map(|run| run.state).collect();
    match since.first() {
        _ if since.contains(&RunState::Succeeded) => WindowState::Done,
        Some(newest) if newest.is_open() => WindowState::InProgress,
        Some(_) => WindowState::Failed,
        None if now.duration_since(due).unsigned_abs() <= window.grace => WindowState::Due,
        None if runs.is_empty() => WindowState::Never,
        None => WindowState::Late,
    }
}

/// As [`window_state`], of a window that reports changes: its looks are no runs.
fn watch_state(window: &EnvironmentWindow, looks: Option<&WatchState>, now: Timestamp) -> WindowState {
    let Some(due) = window.last(now) else { return WindowState::Due };
    let is_late = now.duration_since(due).unsigned_abs() > window.grace;
    match looks {
        Some(looks) if looks.content_look >= Some(due) => WindowState::Done,
        _ if !is_late => WindowState::Due,
        Some(_) => WindowState::Late,
        None => WindowState::Never,
    }
}

fn present(windows: &[WindowStatus<'_>], now: Timestamp) -> Answer {
    let columns = ["window", "environment", "runs", "when", "last run"].map(|title| (title, Left));
    let columns = [&columns[..], &[("next", Right)]].concat();
    let rows = windows.iter().map(|status| row(status, now)).collect();
    let worst = &windows[0];
    let (name, environment) = (as_word(&worst.window.name), &worst.window.environment);
    let run_now = format!("`schedule run {name} --env {environment}` runs it now.");
    let next = match worst.state {
        WindowState::Failed => {
            format!("`show {}` shows why; {run_now}", worst.newest.as_ref().map_or(0, |run| run.id))
        }
        WindowState::Late | WindowState::Never => run_now,
        WindowState::InProgress | WindowState::Waiting => "`jobs` shows what is running.".to_owned(),
        WindowState::Paused => format!("`schedule resume {name} --env {environment}` ends the pause."),
        WindowState::Done | WindowState::Due => {
            "`help schedule` explains how to pause a window, and how to run it now.".to_owned()
        }
    };
    answer(vec![judgement(windows, now), Block::Table(table(&columns, rows)), note(&next)])
}

fn judgement(windows: &[WindowStatus<'_>], now: Timestamp) -> Block {
    let bad: Vec<String> = windows.iter().filter_map(|status| complaint(status, now)).collect();
    if !bad.is_empty() {
        return verdict(windows[0].state.severity(), format!("{}.", bad.join("; ")));
    }
    let next = windows.iter().filter_map(|status| Some((status.window.next(now)?, status.window)));
    let next = next.min_by_key(|next| next.0);
    let next = next.map(|(at, window)| format!("; next is {}, in {}", title(window), between(now, at)));
    let all = count(windows.len(), "window is", "windows are");
    verdict(windows[0].state.severity(), format!("{all} on time{}.", next.unwrap_or_default()))
}

fn title(window: &EnvironmentWindow) -> String {
    format!("{} ({})", window.name, window.environment)
}

fn complaint(status: &WindowStatus<'_>, now: Timestamp) -> Option<String> {
    let due = status.window.last(now).map_or(String::new(), minute);
    let title = title(status.window);
    match status.state {
        WindowState::Failed => Some(format!("{title}, due at {due}, failed")),
        WindowState::Late => Some(format!("{title} was due at {due} and has not run since")),
        WindowState::Never => Some(format!("{title} was due at {due}, and the history has no run of it")),
        WindowState::Waiting => {
            let wait = status.wait.as_ref()?;
            Some(format!("{title} waits for #{}, which holds the lock on {}", wait.by, wait.resource))
        }
        WindowState::Paused => {
            let pause = status.pause.as_ref()?;
            Some(format!(
                "{title} is paused by {} since {}",
                pause.request.requester.id,
                minute(pause.changed_at)
            ))
        }
        WindowState::Done | WindowState::InProgress | WindowState::Due => None,
    }
}

fn row(status: &WindowStatus<'_>, now: Timestamp) -> Vec<Cell> {
    let window = status.window;
    let look = status.looks.as_ref().and_then(|looks| looks.content_look);
    let look = look.map(|look| format!("looked {}", minute(look)));
    let run = status
        .newest
        .as_ref()
        .map(|run| format!("{} {}, #{}", state(run).text, minute(run.opened_at), run.id));
    let last = look.or(run).unwrap_or_else(|| "never".to_owned());
    vec![
        window.name.as_str().into(),
        window.environment.as_str().into(),
        window.command_line.as_str().into(),
        window.description().into(),
        Cell { text: last, severity: status.state.severity() },
        next_start(status, now).into(),
    ]
}

fn next_start(status: &WindowStatus<'_>, now: Timestamp) -> String {
    match status.window.next(now) {
        _ if status.state == WindowState::Paused => "paused".to_owned(),
        Some(next) => format!("in {}", between(now, next)),
        None => "-".to_owned(),
    }
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
    fn window() -> EnvironmentWindow {
        EnvironmentWindow {
            name: "Full backup".to_owned(),
            environment: "production".to_owned(),
            command: "backup".to_owned(),
            values: Values::new(),
            command_line: "backup all".to_owned(),
            grace: Duration::from_secs(3600),
            catch_up: Duration::ZERO,
            cron: "0 2 * * *".parse().unwrap(),
            zone: jiff::tz::TimeZone::UTC,
            channel: None,
            notify: Vec::new(),
            report: crate::config::WindowReport::default(),
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
            ("01:59:59", vec![yesterday.clone()], WindowState::Done),
            ("02:00:00", vec![yesterday.clone()], WindowState::Due),
            ("03:00:00", vec![yesterday.clone()], WindowState::Due),
            ("03:00:01", vec![yesterday.clone()], WindowState::Late),
            ("03:00:01", vec![], WindowState::Never),
            ("09:00:00", vec![tonight(RunState::Running), yesterday.clone()], WindowState::InProgress),
            ("09:00:00", vec![tonight(RunState::Failed), yesterday.clone()], WindowState::Failed),
            ("09:00:00", vec![tonight(RunState::Interrupted), yesterday], WindowState::Failed),
            // What failed and then succeeded is done, in whichever order.
            ("09:00:00", vec![tonight(RunState::Succeeded), tonight(RunState::Failed)], WindowState::Done),
            ("09:00:00", vec![tonight(RunState::Failed), tonight(RunState::Succeeded)], WindowState::Done),
        ] {
            let now = at(&format!("2026-11-22T{now}Z"));
            assert_eq!(window_state(&window(), &runs, now), expected, "at {now}: {runs:?}");
        }
    }

    #[test]
    fn what_failed_comes_before_what_is_late_and_tells_the_way_on() {
        let now = at("2026-11-22T09:00:00Z");
        let window = window();
        let status = |state, newest| WindowStatus {
            window: &window,
            newest,
            looks: None,
            state,
            pause: None,
            wait: None,
        };
        let words = |windows: &[WindowStatus<'_>]| match &present(windows, now).blocks[..] {
            [Block::Verdict { severity, text }, Block::Table(_), Block::Note(next)] => {
                format!("{}: {} | {}", format!("{severity:?}").to_uppercase(), text.words(), next.words())
            }
            other => panic!("{other:?}"),
        };
        let failed = run("2026-11-22T02:00:03Z", RunState::Failed);
        assert_eq!(
            words(&[status(WindowState::Failed, Some(failed.clone()))]),
            "CRITICAL: Full backup (production), due at 2026-11-22 02:00 UTC, failed. | \
             show 7 shows why; schedule run \"Full backup\" --env production runs it now."
        );
        assert_eq!(
            words(&[status(WindowState::Late, Some(failed))]),
            "CRITICAL: Full backup (production) was due at 2026-11-22 02:00 UTC and has not run since. | \
             schedule run \"Full backup\" --env production runs it now."
        );
        assert_eq!(
            words(&[status(WindowState::Done, None)]),
            "OK: 1 window is on time; next is Full backup (production), in 17 h 0 min. | \
             help schedule explains how to pause a window, and how to run it now."
        );
    }
}
