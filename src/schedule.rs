//! The maintenance windows of the configuration: which command is to run when, and when each was and will be due. All times
//! are UTC. Countersign starts none of it: a timer does (`countersign run`), or a person; `schedule` tells whether they did.

use crate::catalog::{Catalog, Scope};
use crate::command_line::{KnownNames, ParsedCommand, Values, parse_command};
use crate::config::{ChatChannel, Config, MaintenanceWindow};
use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

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

    /// "At 02:00", with the zone unless that is UTC.
    pub fn description(&self) -> String {
        let zone = self.zone.iana_name().filter(|zone| *zone != "UTC");
        let zone = zone.map_or(String::new(), |zone| format!(" ({zone})"));
        format!("{}{zone}", self.cron.describe().trim_end_matches('.'))
    }
}

/// Every window, once for each of its environments.
///
/// # Errors
/// Lines that no command understands, and those that are not allowed in a schedule, all at once.
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
    if line.environment.is_some() || line.reason.is_some() || line.private || line.dry_run {
        let name = &command.name;
        return Err(format!("`run` holds `{name}` and its arguments only; `environments` says where"));
    }
    if command.header.scope == Scope::None {
        return Err(format!("`{}` concerns no environment", command.name));
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
    };
    Ok(window.environments.iter().map(of_environment).collect())
}
