//! The sections `[[schedule]]`. The catalog checks their commands: see `schedule`.

use super::validate::{UniqueNames, complain, environment_names, title, within};
use super::{Environment, MaintenanceWindow};
use crate::toml_reader::Reader;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, tz::TimeZone};
use std::time::Duration;

/// A run that succeeds later than this after it was due counts as late.
const DEFAULT_WITHIN: Duration = Duration::from_secs(60 * 60);
const LONGEST_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(super) fn schedule(root: &mut Reader<'_>, environments: &[Environment]) -> Vec<MaintenanceWindow> {
    let mut names = UniqueNames::new("the window");
    let windows = root.tables("schedule", |table| {
        let name = title(table, "name");
        names.note(table, &name);
        let (run, at) = (table.string("run"), at(table));
        let within = within(table, "within", LONGEST_WITHIN).unwrap_or(DEFAULT_WITHIN);
        let message = "a window must say for which `environments`";
        let environments = environment_names(table, environments, None, message);
        at.map(|at| MaintenanceWindow { name: name.value, run, environments, at, within })
    });
    windows.into_iter().flatten().collect()
}

/// A pattern of cron's five fields. A day that never comes, as the 30th of February, is refused.
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
