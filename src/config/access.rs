//! The sections `[[access]]`, `[[people]]`, `[approval]` and `[break_glass]`. `access` decides what they allow; the catalog checks
//! their commands.

use super::chat::{ACCOUNTS, AccountFormat};
use super::validate::{UniqueNames, duration, environment_names, is_title, title};
use super::{ApprovalRule, ApprovalSettings, BreakGlassSettings, Environment, Grant, PersonConfig};
use crate::suggest::{quoted, suggestion};
use crate::toml_reader::Reader;
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use std::time::Duration;

/// The place in which a person is told of what concerns them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotificationPlace {
    /// A message to them alone.
    Direct,
    /// The channel of the request, by name.
    Channel,
}

const PLACES: [(&str, NotificationPlace); 2] =
    [("direct", NotificationPlace::Direct), ("channel", NotificationPlace::Channel)];

/// Hours of every day, UTC. They may span midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietHours {
    from: Time,
    until: Time,
}

impl QuietHours {
    /// True from the first minute until before the last.
    pub fn contains(self, at: Timestamp) -> bool {
        let time = at.to_zoned(TimeZone::UTC).time();
        let (begun, over) = (time >= self.from, time >= self.until);
        if self.from < self.until { begun && !over } else { begun || !over }
    }
}

/// Every environment, every command.
const ALL: &str = "*";

/// A request expires after this time, and after a day at most: nobody remembers by then what they would approve.
pub(super) const WAIT: Duration = Duration::from_secs(30 * 60);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Time from an approval to the start of its run, at most: the approved plan grows old.
pub(super) const START_WITHIN: Duration = Duration::from_secs(10 * 60);

pub(super) const REMIND_AFTER: Duration = Duration::from_secs(5 * 60);

/// The largest quorum of a rule: more people can't be found at night.
pub(super) const MAX_APPROVERS: usize = 5;

/// Commands of break-glass by default: those that end a session, and those that can only add.
const BREAK_GLASS_COMMANDS: [&str; 4] = ["cancel", "kill", "kill-idle", "grow-storage"];
pub(super) const BREAK_GLASS_INTERVAL: Duration = Duration::from_secs(60 * 60);
pub(super) const LONGEST_INTERVAL: Duration = Duration::from_secs(30 * 24 * 60 * 60);

pub(super) fn grants(root: &mut Reader<'_>, environments: &[Environment]) -> Vec<Grant> {
    root.tables("access", |table| {
        let role = title(table, "role").value;
        let environments = environments_or_all(table, environments, "a grant");
        if !table.has("run") && !table.has("approve") {
            table.problem_at(table.position(), "a grant must say what may be `run` or `approve`d");
        }
        let (run, approve) = (risks_or_commands(table, "run"), risks_or_commands(table, "approve"));
        Grant { role, environments, run, approve }
    })
}

fn environments_or_all(table: &mut Reader<'_>, environments: &[Environment], subject: &str) -> Vec<String> {
    let message = format!("{subject} must say for which `environments`; \"*\" is all of them");
    environment_names(table, environments, Some(ALL), &message)
}

/// Risks or command names, which the catalog checks.
fn risks_or_commands(table: &mut Reader<'_>, key: &str) -> Vec<String> {
    table.checked_strings(key, |word| {
        (word.trim() != word || word.is_empty())
            .then(|| format!("`{key}` must hold risks or command names, not {}", quoted(word)))
    })
}

/// The people; `granted_roles` are the roles that a section grants something to.
pub(super) fn people(root: &mut Reader<'_>, granted_roles: &[&str]) -> Vec<PersonConfig> {
    let mut names = UniqueNames::new("the person");
    let mut formats = ACCOUNTS.map(|format| (UniqueNames::new(format.name), format));
    root.tables("people", |table| {
        let name = title(table, "name");
        names.check(table, &name);
        PersonConfig {
            name: name.value,
            accounts: formats
                .iter_mut()
                .map(|(unique, format)| (format.platform, accounts(table, format, unique)))
                .collect(),
            roles: roles_of(table, "roles", granted_roles),
            notify: table.opt_choice("notify", &PLACES),
            quiet: quiet_hours(table),
        }
    })
}

/// Hours of a day as "22:00-07:00", UTC.
fn quiet_hours(table: &mut Reader<'_>) -> Option<QuietHours> {
    let typed = table.opt_string("quiet")?;
    let time = |text: &str| Time::strptime("%H:%M", text.trim()).ok();
    let hours = typed.split_once('-').and_then(|(from, until)| Some((time(from)?, time(until)?)));
    let Some((from, until)) = hours.filter(|(from, until)| from != until) else {
        let message = format!("`quiet` is two times in UTC, as in \"22:00-06:00\", not {}", quoted(&typed));
        table.problem("quiet", message);
        return None;
    };
    Some(QuietHours { from, until })
}

/// A person's accounts on one platform; an account is one person's.
fn accounts(table: &mut Reader<'_>, format: &AccountFormat, unique: &mut UniqueNames) -> Vec<String> {
    let accounts = table.located_strings(format.key);
    for account in &accounts {
        if (format.is_valid)(&account.value) {
            unique.check(table, account);
        } else {
            table.problem_at(account.at, format!("{} isn't {}", quoted(&account.value), format.expected));
        }
    }
    accounts.into_iter().map(|account| account.value).collect()
}

/// Roles that a section grants something to.
pub(super) fn roles_of(table: &mut Reader<'_>, key: &str, granted_roles: &[&str]) -> Vec<String> {
    table.checked_strings(key, |role| {
        if !is_title(role) {
            return Some(format!("{} can't be a role's name", quoted(role)));
        }
        let mut known = granted_roles.to_vec();
        known.dedup();
        let hint = suggestion(role, known);
        (!granted_roles.contains(&role))
            .then(|| format!("the role {} grants nothing, as no [[access]] names it{hint}", quoted(role)))
    })
}

pub(super) fn approval(root: &mut Reader<'_>, environments: &[Environment]) -> ApprovalSettings {
    let (wait, start_within, remind_after) = (WAIT, START_WITHIN, REMIND_AFTER);
    let mut approval = ApprovalSettings { wait, start_within, approvers: 1, remind_after, rules: Vec::new() };
    root.opt_table("approval", |table| {
        approval.wait = duration(table, "wait", LONGEST_WAIT).unwrap_or(wait);
        approval.start_within = duration(table, "start_within", LONGEST_WAIT).unwrap_or(start_within);
        approval.approvers = approvers(table).unwrap_or(1);
        approval.remind_after = duration(table, "remind_after", LONGEST_WAIT).unwrap_or(remind_after);
        approval.rules = table.tables("rules", |table| rule(table, environments));
    });
    approval
}

fn rule(table: &mut Reader<'_>, environments: &[Environment]) -> ApprovalRule {
    let environments = environments_or_all(table, environments, "a rule");
    table.needs_entry(
        "commands",
        "a rule must say for which `commands`: risks or names; \"*\" is all of them",
    );
    let rule = ApprovalRule {
        line: table.position().line,
        environments,
        commands: risks_or_commands(table, "commands"),
        second_person: table.flag("second_person"),
        reason_required: table
            .opt_choice("reason", &[("required", true), ("optional", false)])
            .unwrap_or(false),
        approvers: approvers(table),
        wait: duration(table, "wait", LONGEST_WAIT),
        start_within: duration(table, "start_within", LONGEST_WAIT),
    };
    let empty = rule.approvers.is_none() && rule.wait.is_none() && rule.start_within.is_none();
    if empty && !rule.second_person && !rule.reason_required {
        let requirements =
            "`approvers`, `wait`, `start_within`, `reason = \"required\"`, or `second_person = true`";
        table.problem_at(table.position(), format!("a rule must ask for something: {requirements}"));
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
        let configured = table.has("commands").then(|| risks_or_commands(table, "commands"));
        let interval = duration(table, "every", LONGEST_INTERVAL).unwrap_or(BREAK_GLASS_INTERVAL);
        let commands_configured = configured.is_some();
        let commands = configured.unwrap_or_else(|| BREAK_GLASS_COMMANDS.map(str::to_owned).to_vec());
        BreakGlassSettings { role, commands, commands_configured, interval }
    })
}
