//! The maintenance windows of the configuration: which command runs when, in which environment. The workflow's scheduler starts
//! them; the audit log holds all that is known of a start, and whether a window is paused. Times are UTC; a window's zone only says
//! when it is due.

use crate::catalog::{Catalog, Scope};
use crate::command_line::{KnownNames, ParsedCommand, Values, parse_command};
use crate::config::{ChatChannel, Config, MaintenanceWindow, WindowReport};
use crate::error::{Error, Result};
use crate::model::{Person, Risk, Run, RunId, RunState};
use crate::store::{Filter, Store, StoreResult, WatchState};
use crate::suggest::{nearest, shown};
use jiff::{Timestamp, tz::TimeZone};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The command that pauses a window, and the one that ends the pause.
pub const PAUSE: &str = "schedule-pause";
pub const RESUME: &str = "schedule-resume";

/// A start that is no later than this is on time: another replica takes over within it.
pub const PUNCTUAL_WITHIN: Duration = Duration::from_secs(60);

/// A requester's name begins with this if it is a window, not a person.
const REQUESTER_PREFIX: &str = "schedule ";

/// A window in one environment.
#[derive(Debug, Clone)]
pub struct EnvironmentWindow {
    pub name: String,
    pub environment: String,
    pub command: String,
    pub values: Values,
    /// "backup all": in canonical form.
    pub command_line: String,
    /// Time after it was due in which it has to succeed; then it is late.
    pub grace: Duration,
    /// Time after it was due in which a missed start is made up for.
    pub catch_up: Duration,
    pub cron: croner::Cron,
    /// The zone of `cron`.
    pub zone: TimeZone,
    /// The channel for its messages.
    pub channel: Option<ChatChannel>,
    /// Roles whose people are mentioned when a run didn't go well.
    pub notify: Vec<String>,
    pub report: WindowReport,
}

impl EnvironmentWindow {
    /// Its last due time, not after `now`.
    pub fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.cron.find_previous_occurrence(&now.to_zoned(self.zone.clone()), true);
        last.ok().map(|time| time.timestamp())
    }

    /// Its next due time, after `now`.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&now.to_zoned(self.zone.clone()), false);
        next.ok().map(|time| time.timestamp())
    }

    /// Its due times after `after` and before `until`.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> {
        std::iter::successors(self.next(after), move |due| self.next(*due))
            .take_while(move |due| *due < until)
    }

    /// "At 02:00", with the zone unless that is UTC.
    pub fn description(&self) -> String {
        let zone = self.zone.iana_name().filter(|zone| *zone != "UTC");
        let zone = zone.map_or(String::new(), |zone| format!(" ({zone})"));
        format!("{}{zone}", self.cron.describe().trim_end_matches('.'))
    }

    /// Its start times, as each start is recorded with them: "0 2 * * * (Europe/Berlin)".
    pub fn times(&self) -> String {
        format!("{} ({})", self.cron, self.zone.iana_name().unwrap_or("UTC"))
    }

    /// The requester of its runs.
    pub fn requester(&self) -> Person {
        Person { id: format!("{REQUESTER_PREFIX}{}", self.name), account: None }
    }

    /// The delivery id of a start: the audit log opens one run for it, whatever number of replicas and restarts there are.
    pub fn delivery_id(&self, due: Timestamp) -> String {
        format!("schedule/{}/{}/{due}", self.environment, self.name)
    }

    /// True for a run that this window requested, as it is configured now.
    pub fn requested(&self, run: &Run) -> bool {
        let request = &run.request;
        request.sender.is_none()
            && request.requester == self.requester()
            && request.environment.as_ref() == Some(&self.environment)
            && request.command == self.command
            && request.arguments == self.values
    }

    /// True for a window whose starts are looks, each of which tells what has changed.
    pub fn is_watching(&self) -> bool {
        self.report == WindowReport::Changes
    }

    /// What its looks have left, of the states of all windows.
    pub fn state<'s>(&self, states: &'s [WatchState]) -> Option<&'s WatchState> {
        states.iter().find(|state| state.environment == self.environment && state.name == self.name)
    }

    fn key(&self) -> WindowKey {
        (self.environment.clone(), self.name.clone())
    }
}

/// True for the requester of a window's runs.
pub fn is_window(person: &Person) -> bool {
    person.account.is_none() && person.id.starts_with(REQUESTER_PREFIX)
}

/// Environment and name.
type WindowKey = (String, String);

/// The window of that name, of which the beginning is enough where no other begins so.
///
/// # Errors
/// [`Error::User`] with the names that there are.
pub fn find<'w>(
    windows: &'w [EnvironmentWindow],
    environment: &str,
    typed: &str,
) -> Result<&'w EnvironmentWindow> {
    let there: Vec<_> = windows.iter().filter(|window| window.environment == environment).collect();
    let typed = typed.trim().to_lowercase();
    let exact = there.iter().find(|window| window.name.to_lowercase() == typed);
    let mut longer = there.iter().filter(|window| window.name.to_lowercase().starts_with(&typed));
    let found = exact.or(match (longer.next(), longer.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    });
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = there.iter().map(|window| window.name.as_str()).collect();
        let problem = format!("There is no window “{}” in {environment}.", shown(&typed));
        match nearest(&typed, names.iter().copied()) {
            Some(near) => {
                Error::instead(problem, format!("Did you mean `{}`?", crate::command_line::as_word(near)))
            }
            None if names.is_empty() => Error::user(format!("No window is configured in {environment}.")),
            None => Error::instead(problem, format!("There are: {}.", names.join(", "))),
        }
    })
}

/// One start of a window, as the first event of its run has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledStart {
    pub window: String,
    /// UTC.
    pub due: Timestamp,
    /// As [`EnvironmentWindow::times`]; empty if an earlier version recorded it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub times: String,
    /// Number of earlier starts that were missed since the one before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: usize,
    /// The first of them (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_since: Option<Timestamp>,
    /// Countersign could not start it on time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_late: bool,
    /// The run that it waited for, since that one worked on the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_for: Option<RunId>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl ScheduledStart {
    /// Name of the fact in a run's first event.
    pub const FACT: &'static str = "schedule";

    /// The start that opened a run; `None` if a person requested it.
    pub fn of(run: &Run) -> Option<ScheduledStart> {
        let fact = run.events.first()?.facts.get(ScheduledStart::FACT)?;
        serde_json::from_value(fact.clone()).ok()
    }

    /// True if the window had the same start times then.
    pub fn has_times_of(&self, window: &EnvironmentWindow) -> bool {
        self.times.is_empty() || self.times == window.times()
    }

    /// True if people have to be told of it, even if it went well.
    pub fn is_irregular(&self) -> bool {
        self.is_late || self.missed > 0 || self.waited_for.is_some()
    }
}

/// Returns the newest start of a window in the audit log.
///
/// # Errors
/// When the store can't be read.
pub async fn newest_start(
    store: &dyn Store,
    window: &EnvironmentWindow,
) -> StoreResult<Option<ScheduledStart>> {
    let filter = Filter {
        environment: Some(window.environment.clone()),
        requester: Some(window.requester().id),
        include_reads: true,
        limit: 1,
        ..Filter::default()
    };
    Ok(store.list(filter).await?.runs.first().and_then(ScheduledStart::of))
}

/// Pause of a window, by the audit log.
#[derive(Debug, Clone, Default)]
pub struct PauseState {
    /// The `schedule-pause` that is in force.
    pub pause: Option<Run>,
    /// The end of the last pause (UTC): what was due before that is over.
    pub resumed_at: Option<Timestamp>,
}

impl PauseState {
    /// Reads the newest `schedule-pause` and `schedule-resume` of a window.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn of(store: &dyn Store, window: &EnvironmentWindow) -> StoreResult<PauseState> {
        let paused = newest_success(store, window, PAUSE).await?;
        let resumed = newest_success(store, window, RESUME).await?;
        Ok(match (paused, resumed) {
            (Some(pause), Some(resume)) if pause.id < resume.id => {
                PauseState { pause: None, resumed_at: Some(resume.changed_at) }
            }
            (pause, resume) => PauseState { pause, resumed_at: resume.map(|resume| resume.changed_at) },
        })
    }
}

/// Name of the argument and of the plan's identity with a window's name.
pub const WINDOW: &str = "window";

async fn newest_success(
    store: &dyn Store,
    window: &EnvironmentWindow,
    command: &str,
) -> StoreResult<Option<Run>> {
    let mut before = None;
    loop {
        let filter = Filter {
            environment: Some(window.environment.clone()),
            command: Some(command.to_owned()),
            states: vec![RunState::Succeeded],
            before,
            ..Filter::default()
        };
        let page = store.list(filter).await?.runs;
        before = page.last().map(|run| run.id);
        let is_of_window = |run: &Run| {
            let fact = run.events.last().and_then(|event| event.facts.get(WINDOW));
            fact.and_then(|name| name.as_str()) == Some(&window.name)
        };
        match page.into_iter().find(is_of_window) {
            Some(run) => return Ok(Some(run)),
            None if before.is_none() => return Ok(None),
            None => {}
        }
    }
}

/// The windows that wait in this process for a run that works on the same. Each replica has its own, since each waits.
#[derive(Default)]
pub struct Waits(Mutex<BTreeMap<WindowKey, Wait>>);

/// A window's wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub resource: String,
    pub by: RunId,
}

impl Waits {
    pub fn get(&self, window: &EnvironmentWindow) -> Option<Wait> {
        self.0.lock().get(&window.key()).cloned()
    }

    pub fn set(&self, window: &EnvironmentWindow, wait: Option<Wait>) {
        match wait {
            Some(wait) => drop(self.0.lock().insert(window.key(), wait)),
            None => drop(self.0.lock().remove(&window.key())),
        }
    }
}

/// Every window, once for each of its environments.
///
/// # Errors
/// Lines that no command understands, those that are not allowed in a schedule, and people who are called like a window, all at once.
pub fn windows(config: &Config, catalog: &Catalog) -> Result<Vec<EnvironmentWindow>, Vec<String>> {
    let known = KnownNames::of(config, catalog);
    let mut windows = Vec::new();
    let mut errors = Vec::new();
    for window in &config.schedule {
        match of_environments(window, catalog, &known) {
            Ok(found) => windows.extend(found),
            Err(why) => errors.push(format!("the window `{}`: {why}", window.name)),
        }
    }
    let people = config.people.iter().filter(|person| person.name.starts_with(REQUESTER_PREFIX));
    errors.extend(people.map(|person| {
        format!(
            "the person `{}`: names that begin with \"{REQUESTER_PREFIX}\" are those of windows",
            person.name
        )
    }));
    if errors.is_empty() { Ok(windows) } else { Err(errors) }
}

fn of_environments(
    window: &MaintenanceWindow,
    catalog: &Catalog,
    known: &KnownNames,
) -> Result<Vec<EnvironmentWindow>, String> {
    let parsed = parse_command(catalog, &window.run.as_str().into(), known).map_err(|why| why.to_string())?;
    let Some(ParsedCommand { command, values, line }) = parsed else {
        return Err("`run` is empty: name a command, as in \"backup all\"".to_owned());
    };
    if line.environment.is_some() || line.has_options() {
        let name = &command.name;
        return Err(format!("`run` holds `{name}` and its arguments only; `environments` says where"));
    }
    if command.header.scope == Scope::None {
        return Err(format!("`{}` concerns no environment", command.name));
    }
    if window.report == WindowReport::Changes && command.header.risk != Risk::Read {
        return Err(format!(
            "`report = \"changes\"` is for a command that reads, and `{}` acts",
            command.name
        ));
    }
    let command_line = crate::command_line::to_line(&command.name, &command.header.args, &values);
    let of_environment = |environment: &String| EnvironmentWindow {
        name: window.name.clone(),
        environment: environment.clone(),
        command: command.name.clone(),
        values: values.clone(),
        command_line: command_line.clone(),
        grace: window.grace,
        catch_up: window.catch_up,
        cron: window.cron.clone(),
        zone: window.zone.clone(),
        channel: window.channel.clone(),
        notify: window.notify.clone(),
        report: window.report,
    };
    Ok(window.environments.iter().map(of_environment).collect())
}
