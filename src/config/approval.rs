//! The sections `[approval]` and `[break_glass]`. Their commands are checked by the catalog.

use super::people::{environments_or_all, risks_or_commands};
use super::validate::{title, within};
use super::{ApprovalRule, ApprovalSettings, BreakGlassSettings, Environment};
use crate::toml_reader::Reader;
use std::time::Duration;

/// A request expires after this time, and after a day at most: nobody remembers by then what they would approve.
const WAIT: Duration = Duration::from_secs(30 * 60);
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Time from an approval to the start of its run, at most: the approved plan grows old.
const START_WITHIN: Duration = Duration::from_secs(10 * 60);

const REMIND_AFTER: Duration = Duration::from_secs(5 * 60);

/// More people can't be found at night.
const MAX_APPROVERS: usize = 5;

/// Commands of break-glass by default: those that end a session, and those that can only add.
const BREAK_GLASS_COMMANDS: [&str; 4] = ["cancel", "kill", "kill-idle", "grow-storage"];
const BREAK_GLASS_EVERY: Duration = Duration::from_secs(60 * 60);
const LONGEST_EVERY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) fn approval(root: &mut Reader<'_>, environments: &[Environment]) -> ApprovalSettings {
    let section = root.opt_table("approval", |table| ApprovalSettings {
        wait: within(table, "wait", LONGEST_WAIT).unwrap_or(WAIT),
        start_within: within(table, "start_within", LONGEST_WAIT).unwrap_or(START_WITHIN),
        approvers: approvers(table).unwrap_or(1),
        remind_after: within(table, "remind_after", LONGEST_WAIT).unwrap_or(REMIND_AFTER),
        rules: table.tables("rules", |table| rule(table, environments)),
    });
    section.unwrap_or(ApprovalSettings {
        wait: WAIT,
        start_within: START_WITHIN,
        approvers: 1,
        remind_after: REMIND_AFTER,
        rules: Vec::new(),
    })
}

fn rule(table: &mut Reader<'_>, environments: &[Environment]) -> ApprovalRule {
    let environments = environments_or_all(table, environments, "a rule");
    let message = "a rule must say for which `commands`: risks or names; \"*\" is all of them";
    table.needs_entry("commands", message);
    let rule = ApprovalRule {
        at: table.position().line,
        environments,
        commands: risks_or_commands(table, "commands"),
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
    let approvers = usize::try_from(number).ok().filter(|number| (1..=MAX_APPROVERS).contains(number));
    if approvers.is_none() {
        table.problem("approvers", format!("`approvers` must be 1 to {MAX_APPROVERS}, not {number}"));
    }
    approvers
}

pub(super) fn break_glass(root: &mut Reader<'_>) -> Option<BreakGlassSettings> {
    root.opt_table("break_glass", |table| {
        let role = title(table, "role").value;
        let named = table.has("commands").then(|| risks_or_commands(table, "commands"));
        let every = within(table, "every", LONGEST_EVERY).unwrap_or(BREAK_GLASS_EVERY);
        let named_by_file = named.is_some();
        let commands = named.unwrap_or_else(|| BREAK_GLASS_COMMANDS.map(str::to_owned).to_vec());
        BreakGlassSettings { role, commands, named_by_file, every }
    })
}
