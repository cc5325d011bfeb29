//! The start of a window as its card tells it: whether people have to know of it, who is notified, and what was irregular.

use crate::app::App;
use crate::incident::Incident;
use crate::model::{Person, Run, RunState};
use crate::schedule::ScheduledStart;
use crate::sql::minute;

/// Name of the fact in a run's last event with the severity of its answer, where that was a warning or worse.
pub(super) const SEVERITY: &str = "severity";

/// True for a start of a window that nobody has to be told of.
pub(super) fn went_well(run: &Run) -> bool {
    let is_well = |start: ScheduledStart| is_fine(run) && !start.is_irregular();
    Incident::of(run).is_none() && ScheduledStart::of(run).is_some_and(is_well)
}

/// True for a run that succeeded, and whose answer isn't a warning or worse.
fn is_fine(run: &Run) -> bool {
    if let Some(incident) = Incident::of(run) {
        return !incident.needs_people();
    }
    let has_finding = run.events.last().is_some_and(|event| event.facts.get(SEVERITY).is_some());
    run.state == RunState::Succeeded && !has_finding
}

/// "Window Full backup, due at 2026-11-22 02:00 UTC. It waited for run #12, …"; `None` for a run that a person requested.
pub(super) fn description(run: &Run) -> Option<String> {
    let start = ScheduledStart::of(run)?;
    let mut text = format!("Window {}, due at {}.", start.window, minute(start.due));
    if start.is_late {
        text.push_str(" Countersign could not start it on time.");
    }
    if let Some(run) = start.waited_for {
        text.push_str(&format!(" It waited for run #{run}, which held the lock."));
    }
    match (start.missed, start.missed_since) {
        (1, Some(since)) => text.push_str(&format!(" The start at {} was missed.", minute(since))),
        (missed, Some(since)) if missed > 1 => {
            text.push_str(&format!(" {missed} starts since {} were missed.", minute(since)));
        }
        _ => {}
    }
    Some(text)
}

/// The people to be notified of a start that has ended and didn't go well: those of the window's roles, but for their quiet hours.
pub(super) fn notified(app: &App, run: &Run) -> Vec<Person> {
    let Some(window) = app.schedule.iter().find(|window| window.requested(run)) else { return Vec::new() };
    if run.state.is_open() || is_fine(run) {
        return Vec::new();
    }
    let is_production = app.environments.tag(&window.environment).is_some_and(|tag| tag.production);
    let has_role = |roles: &[String]| roles.iter().any(|role| window.notify.contains(role));
    let people = app.config.people.iter().filter(|person| has_role(&person.roles));
    let people = people.map(|person| Person { id: person.name.clone(), account: None });
    people.filter(|person| !app.access.is_quiet(person, is_production, run.changed_at)).collect()
}
