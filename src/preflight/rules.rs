//! Checks of what the configuration allows: commands with too few approvers, windows that wait for people or tell nobody, people at a terminal whose
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

/// The windows that can't run by themselves, and those whose failures nobody would be told of.
fn windows(context: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has_channel = has_terminal_channel(context.config);
    for window in context.schedule {
        let Some(command) = context.catalog.find(&window.command) else { continue };
        let subject = format!("window \"{}\" of {}", window.name, window.environment);
        let needs_approval = context.access.policy(command, Some(&window.environment)).risk == Risk::Danger;
        let (details, fix) = if window.channel.is_none() && !has_channel {
            let details = "has no channel to post to when it doesn't go well";
            (details.to_owned(), "Set its `channel`, or `terminal_channel` of `[slack]` or `[teams]`.")
        } else if needs_approval {
            let details = format!("`{}` waits for approval each time it is due", window.command_line);
            (details, "Choose a time at which an approver is there, or a command that needs no approval.")
        } else {
            continue;
        };
        findings.push(optional(subject, details, fix));
    }
    findings
}

fn has_terminal_channel(config: &Config) -> bool {
    let slack = config.chat.slack.as_ref().and_then(|slack| slack.terminal_channel.as_ref());
    let teams = config.chat.teams.as_ref().and_then(|teams| teams.terminal_channel.as_ref());
    slack.is_some() || teams.is_some()
}

/// People with a login name, where no channel takes a terminal's requests.
fn terminal_requests(config: &Config) -> Option<Finding> {
    let has_login = config.people.iter().any(|person| !person.accounts(PlatformKind::Terminal).is_empty());
    let details = "requests made with `countersign run` can't be approved: no channel is named for them";
    let fix = "Set `terminal_channel` of `[slack]` or `[teams]`.";
    (has_login && !has_terminal_channel(config))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::catalog::Catalog;
    use crate::postgres::Environments;
    use crate::schedule;

    const BASE: &str = r#"
listen = "127.0.0.1:1"
[store]
path = "x"
[backups]
directory = "x"
[[environments]]
name = "main"
production = true
tls = "verified"
[[environments.servers]]
name = "s"
host = "127.0.0.1"
[environments.logins]
reader = { user = "r" }
operator = { user = "o" }
[[services]]
name = "a"
database = "a_db"
[[access]]
role = "on-call"
environments = ["*"]
run = ["read", "write", "danger"]
[[access]]
role = "approver"
environments = ["*"]
run = ["read"]
approve = ["danger"]
[[access]]
role = "backups"
environments = ["*"]
run = ["backup", "kill"]
"#;

    /// Each person's name and roles; who has a login name is called by it.
    fn people(all: &[(&str, &str)]) -> String {
        let person = |(name, role): &(&str, &str)| {
            let account = if name.starts_with("login") { "terminal" } else { "slack" };
            let id =
                if account == "slack" { format!("U0{}", name.to_uppercase()) } else { (*name).to_owned() };
            format!("[[people]]\nname = \"{name}\"\nroles = [\"{role}\"]\n{account} = [\"{id}\"]\n")
        };
        all.iter().map(person).collect()
    }

    fn window(run: &str) -> String {
        format!(
            "[[schedule]]\nname = \"night\"\nrun = \"{run}\"\nenvironments = [\"main\"]\nat = \"0 2 * * *\"\n"
        )
    }

    fn findings(base: &str, tail: &str) -> Vec<Finding> {
        let environment = |name: &str| name.starts_with("SLACK").then(|| "x".to_owned());
        let config = Config::parse("x.toml", &format!("{base}{tail}"), &environment).unwrap();
        let catalog = Catalog::built_in().unwrap();
        let access = Access::new(&config, &catalog).unwrap();
        let schedule = schedule::windows(&config, &catalog).unwrap();
        let environments = Environments::new(&config).unwrap();
        let (config, catalog) = (&config, &catalog);
        let (environments, access) = (&environments, &access);
        check(&CheckContext { config, catalog, environments, access, schedule: &schedule })
    }

    #[tokio::test]
    async fn each_rule_is_told_by_itself_and_what_is_good_is_not() {
        use CheckStatus::{Missing, Optional, Works};
        let two = people(&[("ana", "on-call"), ("ben", "approver")]);
        let with_login =
            |role: &str| people(&[("ana", "on-call"), ("ben", "approver"), ("login-cron", role)]);
        let quorum = "[[approval.rules]]\ncommands = [\"kill\"]\nenvironments = [\"main\"]\napprovers = 2\n";
        let channel = "[slack]\nworkspaces = [\"T0A\"]\nbot_token = { env = \"SLACK_A\" }\nsigning_secrets = [{ env = \"SLACK_B\" }]\nterminal_channel = \"C0A\"\n";
        let open = BASE.replace("\"verified\"", "\"off\"");
        let staging = open.replace("production = true", "production = false");
        let terminal = (Optional, "terminal", "can't be approved: no channel is named for them");
        for (base, tail, expected) in [
            (
                BASE,
                two.clone(),
                vec![(Works, "approval", "2 people; each request can be approved by others")],
            ),
            (BASE, people(&[("ana", "on-call")]), vec![(Optional, "main", "has too few approvers for ")]),
            (
                BASE,
                people(&[("ana", "on-call"), ("ben", "on-call")]),
                vec![(Missing, "main", "1 other person must approve")],
            ),
            // Nobody may request anything.
            (
                BASE,
                people(&[("ben", "approver"), ("cara", "approver")]),
                vec![(Works, "approval", "2 people")],
            ),
            (
                BASE,
                format!("{two}{quorum}"),
                vec![(Missing, "main", "has too few approvers for `kill`: 2 other people must approve")],
            ),
            (
                BASE,
                format!(
                    "{}{quorum}",
                    people(&[("ana", "on-call"), ("ben", "approver"), ("cara", "approver")])
                ),
                vec![(Works, "approval", "3 people")],
            ),
            (BASE, with_login("backups"), vec![terminal]),
            (BASE, format!("{channel}{}", with_login("backups")), vec![(Works, "approval", "3 people")]),
            (
                BASE,
                format!("{channel}{}{}", with_login("backups"), window("backup all")),
                vec![(Works, "approval", "3 people")],
            ),
            (
                BASE,
                format!("{two}{}", window("backup all")),
                vec![(Optional, "window \"night\" of main", "has no channel to post to")],
            ),
            (
                BASE,
                format!("{channel}{}{}", with_login("backups"), window("kill 4711")),
                vec![(Optional, "window \"night\" of main", "`kill 4711` waits for approval")],
            ),
            (&open, two.clone(), vec![(Optional, "main", "connections are not encrypted (`tls = \"off\"`)")]),
            (&staging, two.clone(), vec![(Works, "approval", "2 people")]),
        ] {
            let found = findings(base, &tail);
            let told: Vec<_> = found.iter().map(|found| (found.status, found.subject.as_str())).collect();
            let wanted: Vec<_> = expected.iter().map(|(status, subject, _)| (*status, *subject)).collect();
            assert_eq!(told, wanted, "{tail}: {found:?}");
            for (found, (status, _, words)) in found.iter().zip(&expected) {
                assert!(found.details.contains(words), "{words}: {found:?}");
                assert_eq!(found.fix.is_none(), *status == Works, "{found:?}");
            }
        }
    }
}
