//! The sections `[[schedule]]`: what is to run when. Whether there is such a command is the catalog's to say: see `schedule`.

use super::people::unknown_environment;
use super::validate::{UniqueNames, complain, title, within};
use super::{Environment, MaintenanceWindow};
use crate::toml_reader::Reader;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// How long after it was due a run may succeed before it counts as late, and the most that a file may say.
const WITHIN: Duration = Duration::from_secs(60 * 60);
const LONGEST_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(super) fn schedule(root: &mut Reader<'_>, environments: &[Environment]) -> Vec<MaintenanceWindow> {
    let mut names = UniqueNames::new("the window");
    let windows = root.tables("schedule", |table| {
        let name = title(table, "name");
        names.note(table, &name);
        let (run, at) = (table.string("run"), at(table));
        let within = within(table, "within", LONGEST_WITHIN).unwrap_or(WITHIN);
        let environments = named(table, environments);
        at.map(|at| MaintenanceWindow { name: name.value, run, environments, at, within })
    });
    windows.into_iter().flatten().collect()
}

/// Five fields, as cron has them. A day that never comes, as the 30th of February, is refused.
fn at(table: &mut Reader<'_>) -> Option<Cron> {
    let pattern = table.string("at");
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let start = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let comes = |cron: &Cron| cron.find_next_occurrence(&start, false).is_ok();
    let cron = parser.parse(&pattern).ok().filter(comes);
    if cron.is_none() {
        complain(table, "at", &pattern, "cron's five fields, in UTC (\"0 2 * * *\" is 02:00 every day)");
    }
    cron
}

fn named(table: &mut Reader<'_>, environments: &[Environment]) -> Vec<String> {
    table.needs_entry("environments", "a window must say for which `environments`");
    let named = table.located_strings("environments");
    for name in &named {
        if !environments.iter().any(|environment| environment.name == name.value) {
            unknown_environment(table, name, environments);
        }
    }
    named.into_iter().map(|name| name.value).collect()
}
