//! The sections `[[services]]`, `[[people]]` and `[[access]]`. `access` decides what they allow.

use super::load::LoadContext;
use super::migrate::{self, MigrateSection};
use super::slack::is_slack_id;
use super::validate::{
    UniqueNames, environment_names, identifier, is_title, name, path, title, unknown_environment,
};
use super::{Environment, Grant, PersonConfig, Service};
use crate::suggest::{quoted, suggestion};
use crate::toml_reader::Reader;
use std::collections::BTreeMap;

/// Every environment, every command.
const ALL: &str = "*";

/// Lengths of the five groups of an Entra object id, in hexadecimal digits.
const OBJECT_ID_GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

pub(super) fn services(
    root: &mut Reader<'_>,
    environments: &[Environment],
    migrate_all: Option<&MigrateSection>,
    outside: &LoadContext<'_>,
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
            migrate: migrate::of_service(table, migrate_all, outside),
            servers: servers(table, environments),
        }
    })
}

/// Environment to server, for a service that isn't on the environment's first server.
fn servers(table: &mut Reader<'_>, environments: &[Environment]) -> BTreeMap<String, String> {
    let servers = table.map("servers");
    for (name, server) in &servers {
        if let Some(message) = unknown_environment(&name.value, environments) {
            table.problem_at(name.at, message);
        }
        for environment in environments.iter().filter(|environment| environment.name == name.value) {
            let known: Vec<&str> = environment.servers.iter().map(|server| server.name.as_str()).collect();
            if !known.contains(&server.value.as_str()) {
                let hint = suggestion(&server.value, known);
                let (name, server_name) = (quoted(&name.value), quoted(&server.value));
                table.problem_at(server.at, format!("{name} has no server {server_name}{hint}"));
            }
        }
    }
    servers.into_iter().map(|(environment, server)| (environment.value, server.value)).collect()
}

pub(super) fn access(root: &mut Reader<'_>, environments: &[Environment]) -> Vec<Grant> {
    root.tables("access", |table| {
        let role = title(table, "role").value;
        let environments = environments_or_all(table, environments, "a grant");
        let (run, approve) = (risks_or_commands(table, "run"), risks_or_commands(table, "approve"));
        let grant = Grant { role, environments, run, approve };
        if !table.has("run") && !table.has("approve") {
            table.problem_at(table.position(), "a grant must say what may be `run` or `approve`d");
        }
        grant
    })
}

/// The environments that an entry is for; `*` is all of them.
pub(super) fn environments_or_all(
    table: &mut Reader<'_>,
    environments: &[Environment],
    entry: &str,
) -> Vec<String> {
    let message = format!("{entry} must say for which `environments`; \"*\" is all of them");
    environment_names(table, environments, Some(ALL), &message)
}

/// Risks or command names, which the catalog checks.
pub(super) fn risks_or_commands(table: &mut Reader<'_>, key: &str) -> Vec<String> {
    table.checked_strings(key, |word| {
        (word.trim() != word || word.is_empty())
            .then(|| format!("`{key}` must hold risks or command names, not {}", quoted(word)))
    })
}

/// The people; `granting` are the roles that a section grants something to.
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
fn accounts(table: &mut Reader<'_>, key: &str, unique: &mut UniqueNames) -> Vec<String> {
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
            unique.note(table, account);
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
    table.checked_strings("roles", |role| {
        if !is_title(role) {
            return Some(format!("{} can't be a role's name", quoted(role)));
        }
        let mut known = granting.to_vec();
        known.dedup();
        let hint = || suggestion(role, known.iter().copied());
        (!known.contains(&role))
            .then(|| format!("the role {} grants nothing, as no [[access]] names it{}", quoted(role), hint()))
    })
}
