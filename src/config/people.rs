//! The sections `[[services]]`, `[[people]]` and `[[access]]`. Who may do what with them is decided in `access`.

use super::load::LoadContext;
use super::migrate::{self, MigrateSection};
use super::slack::is_slack_id;
use super::validate::{UniqueNames, identifier, is_title, name, path, title};
use super::{Environment, Grant, PersonConfig, Service};
use crate::suggest::{quoted, suggestion};
use crate::toml_reader::{Located, Reader};
use std::collections::BTreeMap;

/// Every environment, every command.
const ALL: &str = "*";

/// Lengths of the five groups of an Entra object id, in hexadecimal digits.
const OBJECT_ID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

pub(super) fn services(
    root: &mut Reader<'_>,
    environments: &[Environment],
    (for_all, outside): (Option<&MigrateSection>, &LoadContext<'_>),
) -> Vec<Service> {
    root.needs_entry("services", "at least one service is needed: [[services]]");
    let mut names = UniqueNames::new("the service");
    root.tables("services", |table| {
        let name = name(table);
        names.note(table, &name);
        Service {
            name: name.value,
            database: identifier(table, "database"),
            size: table.opt_string("size"),
            migrations: table.has("migrations").then(|| path(table, "migrations", outside)),
            migrate: migrate::of_service(table, for_all, outside),
            servers: servers(table, environments),
        }
    })
}

/// Where a service isn't on its environment's first server.
fn servers(table: &mut Reader<'_>, environments: &[Environment]) -> BTreeMap<String, String> {
    let servers = table.map("servers");
    for (place, server) in &servers {
        let Some(environment) = environments.iter().find(|environment| environment.name == place.value)
        else {
            unknown_environment(table, place, environments);
            continue;
        };
        let known = environment.servers.iter().map(|server| server.name.as_str());
        if !known.clone().any(|name| name == server.value) {
            let hint = suggestion(&server.value, known);
            let message = format!("{} has no server {}{hint}", quoted(&place.value), quoted(&server.value));
            table.problem_at(server.at, message);
        }
    }
    servers.into_iter().map(|(environment, server)| (environment.value, server.value)).collect()
}

pub(super) fn unknown_environment(
    table: &mut Reader<'_>,
    name: &Located<String>,
    environments: &[Environment],
) {
    let hint = suggestion(&name.value, environments.iter().map(|environment| environment.name.as_str()));
    table.problem_at(name.at, format!("there is no environment {}{hint}", quoted(&name.value)));
}

pub(super) fn access(root: &mut Reader<'_>, environments: &[Environment]) -> Vec<Grant> {
    root.tables("access", |table| {
        let role = title(table, "role").value;
        let environments = places_of(table, environments, "a grant");
        let (run, approve) = (commands_of(table, "run"), commands_of(table, "approve"));
        let grant = Grant { role, environments, run, approve };
        if !table.has("run") && !table.has("approve") {
            table.problem_at(table.position(), "a grant must say what may be `run` or `approve`d");
        }
        grant
    })
}

/// The environments that an entry is for.
pub(super) fn places_of(table: &mut Reader<'_>, environments: &[Environment], what: &str) -> Vec<String> {
    table.needs_entry(
        "environments",
        &format!("{what} must say for which `environments`; \"*\" is all of them"),
    );
    let named = table.located_strings("environments");
    for name in &named {
        if name.value != ALL && !environments.iter().any(|environment| environment.name == name.value) {
            unknown_environment(table, name, environments);
        }
    }
    named.into_iter().map(|name| name.value).collect()
}

/// Risks or command names; which of them exist is the catalog's to say.
pub(super) fn commands_of(table: &mut Reader<'_>, key: &str) -> Vec<String> {
    let words = table.located_strings(key);
    for word in words.iter().filter(|word| word.value.trim() != word.value || word.value.is_empty()) {
        table.problem_at(
            word.at,
            format!("`{key}` must hold risks or command names, not {}", quoted(&word.value)),
        );
    }
    words.into_iter().map(|word| word.value).collect()
}

/// `granting` are the roles that mean something.
pub(super) fn people(root: &mut Reader<'_>, granting: &[&str]) -> Vec<PersonConfig> {
    let mut names = UniqueNames::new("the person");
    let mut slack = UniqueNames::new("the Slack account");
    let mut teams = UniqueNames::new("the Teams account");
    let mut terminal = UniqueNames::new("the login name");
    root.tables("people", |table| {
        let name = title(table, "name");
        names.note(table, &name);
        PersonConfig {
            name: name.value,
            slack: accounts(table, "slack", &mut slack),
            teams: accounts(table, "teams", &mut teams),
            terminal: accounts(table, "terminal", &mut terminal),
            roles: roles(table, granting),
        }
    })
}

/// A person's accounts on one platform; an account is one person's.
fn accounts(table: &mut Reader<'_>, key: &str, seen: &mut UniqueNames) -> Vec<String> {
    let accounts = table.located_strings(key);
    for account in &accounts {
        let (fits, like) = match key {
            "slack" => {
                (is_slack_id(&account.value, &['U', 'W']), "a Slack user id, which looks like U012AB3CD")
            }
            "teams" => (is_object_id(&account.value), "an Entra object id, a UUID in lower case"),
            _ => (is_login_name(&account.value), "a login name, as `whoami` shows it"),
        };
        if fits {
            seen.note(table, account);
        } else {
            table.problem_at(account.at, format!("{} isn't {like}", quoted(&account.value)));
        }
    }
    accounts.into_iter().map(|account| account.value).collect()
}

/// Teams sends object ids in lower case, and accounts are compared byte by byte.
pub(super) fn is_object_id(id: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    id.split('-').map(str::len).eq(OBJECT_ID_GROUPS) && id.chars().all(|c| digit(c) || c == '-')
}

/// As the system has it: one word, from a directory service perhaps with a domain in it.
fn is_login_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || ":/".contains(c))
}

fn roles(table: &mut Reader<'_>, granting: &[&str]) -> Vec<String> {
    let roles = table.located_strings("roles");
    for role in &roles {
        let quoted = quoted(&role.value);
        if !is_title(&role.value) {
            table.problem_at(role.at, format!("{quoted} can't be a role's name"));
        } else if !granting.contains(&role.value.as_str()) {
            let mut known = granting.to_vec();
            known.dedup();
            let hint = suggestion(&role.value, known);
            table.problem_at(
                role.at,
                format!("the role {quoted} grants nothing, as no [[access]] names it{hint}"),
            );
        }
    }
    roles.into_iter().map(|role| role.value).collect()
}
