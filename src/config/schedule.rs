//! The section `[[schedule]]`: the maintenance windows. The catalog checks their commands: see `schedule`.

use super::access::roles_of;
use super::validate::{UniqueNames, duration, environment_names, pause, reject, title};
use super::{ChatChannel, ChatSettings, Environment};
use crate::toml_reader::Reader;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// A run that succeeds later than this after it was due counts as late.
pub(super) const WITHIN: Duration = Duration::from_secs(60 * 60);
pub(super) const LONGEST_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub(super) const CATCH_UP: Duration = Duration::ZERO;
pub(super) const LONGEST_CATCH_UP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub(super) const ZONE: &str = "UTC";

/// The starts of a window that people are told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WindowReport {
    /// Each that doesn't go well.
    #[default]
    Problems,
    /// Each in which a finding begins, changes its severity or ends.
    Changes,
}

impl WindowReport {
    pub(super) const CHOICES: [(&'static str, WindowReport); 2] =
        [("problems", WindowReport::Problems), ("changes", WindowReport::Changes)];
}

/// A maintenance window: something that is to run again and again.
#[derive(Debug, Clone)]
pub struct MaintenanceWindow {
    pub name: String,
    /// A command's line, without its environment: "backup all".
    pub run: String,
    pub environments: Vec<String>,
    /// Times at which it is due, in `zone`.
    pub cron: Cron,
    pub zone: TimeZone,
    /// Success later than this after it was due counts as late.
    pub grace: Duration,
    /// What was due while no Countersign ran is run this much later at most.
    pub catch_up: Duration,
    /// The channel for its requests and for what didn't go well.
    pub channel: Option<ChatChannel>,
    /// Roles whose people are mentioned when a run didn't go well.
    pub notify: Vec<String>,
    pub report: WindowReport,
}

pub(super) fn windows(
    root: &mut Reader<'_>,
    environments: &[Environment],
    chat: &ChatSettings,
    granted_roles: &[&str],
) -> Vec<MaintenanceWindow> {
    let mut names = UniqueNames::new("the window");
    let windows = root.tables("schedule", |table| {
        let name = title(table, "name");
        names.check(table, &name);
        let (run, cron, zone) = (table.string("run"), cron(table), zone(table));
        let grace = duration(table, "within", LONGEST_WITHIN).unwrap_or(WITHIN);
        let catch_up = pause(table, "catch_up", LONGEST_CATCH_UP).unwrap_or(CATCH_UP);
        let environments =
            environment_names(table, environments, None, "a window must say for which `environments`");
        let channel = channel(table, chat);
        let notify = roles_of(table, "notify", granted_roles);
        let report = table.opt_choice("report", &WindowReport::CHOICES).unwrap_or_default();
        let name = name.value;
        cron.map(|cron| MaintenanceWindow {
            name,
            run,
            environments,
            cron,
            zone,
            grace,
            catch_up,
            channel,
            notify,
            report,
        })
    });
    windows.into_iter().flatten().collect()
}

/// A pattern of cron's five fields. A day that never comes, as the 30th of February, is refused.
fn cron(table: &mut Reader<'_>) -> Option<Cron> {
    let pattern = table.string("at");
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let start = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let cron = parser.parse(&pattern).ok().filter(|cron| cron.find_next_occurrence(&start, false).is_ok());
    if cron.is_none() {
        reject(table, "at", &pattern, "cron's five fields (\"0 2 * * *\" is 02:00 every day)");
    }
    cron
}

/// The time zone of `at`, by its name in the tz database, of which the program has a copy.
fn zone(table: &mut Reader<'_>) -> TimeZone {
    let name = table.opt_string("zone").unwrap_or_else(|| ZONE.to_owned());
    TimeZone::get(&name).unwrap_or_else(|_| {
        reject(table, "zone", &name, "a time zone's name, like \"Europe/Berlin\" or \"UTC\"");
        TimeZone::UTC
    })
}

/// The channel for a window's messages, on a platform that is set up.
fn channel(table: &mut Reader<'_>, chat: &ChatSettings) -> Option<ChatChannel> {
    let id = table.opt_string("channel")?;
    let channel = ChatChannel::of(&id).filter(|channel| chat.has(channel.platform));
    if channel.is_none() {
        let rule =
            "a channel's id of a chat that is set up: C012AB3CD for Slack, 19:…@thread.tacv2 for Teams";
        reject(table, "channel", &id, rule);
    }
    channel
}
