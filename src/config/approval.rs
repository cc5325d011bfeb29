//! The sections `[approval]` and `[break_glass]`: how many others must agree, how long that may take, and who may act alone. Which
//! commands there are is the catalog's to say.

use super::people::{commands_of, places_of};
use super::validate::{title, within};
use super::{ApprovalRule, ApprovalSettings, BreakGlassSettings, Environment};
use crate::toml_reader::Reader;
use std::time::Duration;

/// How long a request waits for its approver, and at most may wait: after a day nobody remembers what they would approve.
const WAIT: Duration = Duration::from_secs(30 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long after an approval a run may still start: the plan that was approved grows old.
const START_WITHIN: Duration = Duration::from_secs(10 * 60);

const REMIND_AFTER: Duration = Duration::from_secs(5 * 60);

/// More people than that nobody finds at night.
const MOST_APPROVERS: usize = 5;

/// What one person may do alone in need, unless the configuration says otherwise: what ends a session, and what can only add.
const ALONE: [&str; 4] = ["cancel", "kill", "kill-idle", "grow-storage"];
const ALONE_EVERY: Duration = Duration::from_secs(60 * 60);
const LONGEST_EVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) fn approval(root: &mut Reader<'_>, environments: &[Environment]) -> ApprovalSettings {
    let read = root.opt_table("approval", |table| ApprovalSettings {
        wait: within(table, "wait", LONGEST_WAIT).unwrap_or(WAIT),
        start_within: within(table, "start_within", LONGEST_WAIT).unwrap_or(START_WITHIN),
        approvers: approvers(table).unwrap_or(1),
        remind_after: within(table, "remind_after", LONGEST_WAIT).unwrap_or(REMIND_AFTER),
        rules: table.tables("rules", |table| rule(table, environments)),
    });
    read.unwrap_or(ApprovalSettings {
        wait: WAIT,
        start_within: START_WITHIN,
        approvers: 1,
        remind_after: REMIND_AFTER,
        rules: Vec::new(),
    })
}

fn rule(table: &mut Reader<'_>, environments: &[Environment]) -> ApprovalRule {
    let places = places_of(table, environments, "a rule");
    table.needs_entry(
        "commands",
        "a rule must say for which `commands`: risks or names; \"*\" is all of them",
    );
    let rule = ApprovalRule {
        at: table.position().line,
        environments: places,
        commands: commands_of(table, "commands"),
        second_person: table.flag("second_person"),
        approvers: approvers(table),
        wait: within(table, "wait", LONGEST_WAIT),
        start_within: within(table, "start_within", LONGEST_WAIT),
    };
    let empty = rule.approvers.is_none() && rule.wait.is_none() && rule.start_within.is_none();
    if empty && !rule.second_person {
        let message =
            "a rule must ask for something: `approvers`, `wait`, `start_within`, or `second_person = true`";
        table.problem_at(table.position(), message);
    }
    rule
}

fn approvers(table: &mut Reader<'_>) -> Option<usize> {
    let number = table.opt_integer("approvers")?;
    let fitting = usize::try_from(number).ok().filter(|number| (1..=MOST_APPROVERS).contains(number));
    if fitting.is_none() {
        table.problem("approvers", format!("`approvers` must be 1 to {MOST_APPROVERS}, not {number}"));
    }
    fitting
}

pub(super) fn break_glass(root: &mut Reader<'_>) -> Option<BreakGlassSettings> {
    root.opt_table("break_glass", |table| {
        let role = title(table, "role").value;
        let named = table.has("commands").then(|| commands_of(table, "commands"));
        let every = within(table, "every", LONGEST_EVERY).unwrap_or(ALONE_EVERY);
        let named_by_file = named.is_some();
        let commands = named.unwrap_or_else(|| ALONE.map(str::to_owned).to_vec());
        BreakGlassSettings { role, commands, named_by_file, every }
    })
}
