//! Checks of what the configuration allows: commands with too few approvers, windows that no timer can run, people at a terminal whose
//! requests go nowhere, and connections in clear text.

use super::{CheckContext, CheckStatus, Finding};
use crate::actions::support::blocks::count;
use crate::catalog::{Command, Scope};
use crate::config::{Config, Environment, Tls};
use crate::model::{Person, PlatformKind, Risk};
use std::collections::BTreeMap;

/// Section about the people and the rules.
pub(super) const RULES_SECTION: &str = "People and rules";

/// Findings about the access rules, the schedule and the chat channels.
pub(super) fn check(context: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for environment in &context.config.environments {
        findings.extend(without_approvers(context, &environment.name));
    }
    findings.extend(windows(context));
    findings.extend(terminal_requests(context.config));
    findings.extend(clear_text(context.config));
    if findings.is_empty() {
        let people = count(context.config.people.len(), "person", "people");
        findings
            .push(Finding::works("approval", format!("{people}; each request can be approved by others")));
    }
    findings
}

/// The commands that somebody may request, and that too few others may approve, whoever requests them.
fn without_approvers(context: &CheckContext<'_>, environment: &str) -> Vec<Finding> {
    let mut by_quorum: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for command in context.catalog.iter().filter(|command| command.header.scope != Scope::None) {
        let policy = context.access.policy(command, Some(environment));
        if policy.risk == Risk::Danger && !can_be_approved(context, command, environment, policy.approvers) {
            by_quorum.entry(policy.approvers).or_default().push(format!("`{}`", command.name));
        }
    }
    let finding = |(approvers, commands): (usize, Vec<String>)| {
        let needed = count(approvers, "other person", "other people");
        let details = format!("has too few approvers for {}: {needed} must approve", commands.join(", "));
        let fix = format!(
            "Give a role with `approve` in {environment} to {needed} beside those who run them, under [[people]] and [[access]]."
        );
        let finding = Finding::missing(environment, details, fix);
        // A configuration begins with one person.
        if context.config.people.len() > 1 {
            finding
        } else {
            Finding { status: CheckStatus::Optional, ..finding }
        }
    };
    by_quorum.into_iter().map(finding).collect()
}

/// True if nobody may request the command, or one of those who may has enough approvers.
fn can_be_approved(context: &CheckContext<'_>, command: &Command, environment: &str, quorum: usize) -> bool {
    let people = context.config.people.iter().map(|person| Person { id: person.name.clone(), account: None });
    let requesters: Vec<Person> =
        people.filter(|person| context.access.may_run(person, command, Some(environment))).collect();
    let has_approvers =
        |requester: &Person| context.access.approvers(command, Some(environment), requester).len() >= quorum;
    requesters.is_empty() || requesters.iter().any(has_approvers)
}

/// The windows whose command no timer can run: it waits for approval, or nobody with a login name may run it.
fn windows(context: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for window in context.schedule {
        let Some(command) = context.catalog.find(&window.command) else { continue };
        let environment = Some(window.environment.as_str());
        let subject = format!("window \"{}\" of {}", window.name, window.environment);
        let may_run = context.config.people.iter().any(|person| {
            !person.accounts(PlatformKind::Terminal).is_empty()
                && context.access.may_run(
                    &Person { id: person.name.clone(), account: None },
                    command,
                    environment,
                )
        });
        let (details, fix) = if context.access.policy(command, environment).risk == Risk::Danger {
            let details = format!("`{}` waits for approval, so a timer can't finish it", window.command_line);
            (details, "Run it from chat, or schedule a command that needs no approval.")
        } else if !may_run {
            let details =
                format!("no account at the terminal may run `{}`, so no timer can", window.command_line);
            (
                details,
                "Add the timer's account as `terminal` of one of the [[people]] with a role that may run it.",
            )
        } else {
            continue;
        };
        findings.push(optional(subject, details, fix));
    }
    findings
}

/// People with a login name, where no channel takes a terminal's requests.
fn terminal_requests(config: &Config) -> Option<Finding> {
    let has_login = config.people.iter().any(|person| !person.accounts(PlatformKind::Terminal).is_empty());
    let slack = config.chat.slack.as_ref().and_then(|slack| slack.terminal_channel.as_ref());
    let teams = config.chat.teams.as_ref().and_then(|teams| teams.terminal_channel.as_ref());
    let details = "requests made with `countersign run` can't be approved: no channel is named for them";
    let fix = "Set `terminal_channel` of `[slack]` or `[teams]`.";
    (has_login && slack.is_none() && teams.is_none())
        .then(|| optional("terminal".to_owned(), details.to_owned(), fix))
}

/// Production environments without TLS.
fn clear_text(config: &Config) -> Vec<Finding> {
    let is_open = |environment: &&Environment| environment.production && environment.tls == Tls::Off;
    let finding = |environment: &Environment| {
        let details = "is production, and its connections are not encrypted (`tls = \"off\"`)";
        let fix = "Remove `tls = \"off\"` of the environment, unless a proxy on this machine encrypts them.";
        optional(environment.name.clone(), details.to_owned(), fix)
    };
    config.environments.iter().filter(is_open).map(finding).collect()
}

fn optional(subject: String, details: String, fix: &str) -> Finding {
    Finding { status: CheckStatus::Optional, ..Finding::missing(subject, details, fix) }
}
