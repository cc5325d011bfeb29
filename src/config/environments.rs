//! The sections `[[environments]]` (servers, logins, TLS and limits) and `[[services]]`. `postgres` connects to the servers.

use super::migrate::{self, MigrateSection};
use super::secrets::opt_secret;
use super::validate::{
    UniqueNames, count, duration, identifier, name, path, reject, unknown_braces, unknown_environment,
};
use super::{Environment, LoadContext, LoginCredentials, Server, Service, ThresholdOverride, Tls};
use crate::model::LoginKind;
use crate::suggest::{quoted, suggestion};
use crate::toml_reader::{Located, Reader};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Every server has this database, and nobody's tables are in it.
pub(super) const MAINTENANCE_DATABASE: &str = "postgres";

/// Connections that the bot may hold unless the file says otherwise, and the most that it may ever be given: a chat bot that
/// needs more takes them from the services.
pub(super) const CONNECTIONS: usize = 12;
pub(super) const MAX_CONNECTIONS: u16 = 200;

/// Defaults and upper bounds of the three time limits. An answer in chat is late after a minute; a lock that isn't free at
/// once makes everybody else queue behind the bot.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub(super) const LONGEST_CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
pub(super) const LONGEST_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60 * 60);
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
pub(super) const LONGEST_LOCK_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) const PORT: u16 = 5432;

/// The logins that a command may ask for. The first two must be there: whatever has no login of its own is the operator's.
const LOGINS: [LoginKind; 6] = [
    LoginKind::Reader,
    LoginKind::Operator,
    LoginKind::Signal,
    LoginKind::Dump,
    LoginKind::Maintain,
    LoginKind::Owner,
];

/// Names for a hint's braces.
const HINT_NAMES: [&str; 4] = ["host", "port", "database", "service"];

pub(super) fn environments(root: &mut Reader<'_>, context: &LoadContext<'_>) -> Vec<Environment> {
    root.needs_entry("environments", "at least one environment is needed: [[environments]]");
    let mut names = UniqueNames::new("the environment");
    root.tables("environments", |table| {
        let name = name(table);
        names.check(table, &name);
        environment(table, name.value, context)
    })
}

fn environment(table: &mut Reader<'_>, name: String, context: &LoadContext<'_>) -> Environment {
    let servers = servers(table);
    Environment {
        name,
        production: table.boolean("production"),
        tls: tls(table, &servers, context),
        servers,
        logins: logins(table, context),
        maintenance_database: if table.has("maintenance_database") {
            identifier(table, "maintenance_database")
        } else {
            MAINTENANCE_DATABASE.into()
        },
        connect_timeout: duration(table, "connect_timeout", LONGEST_CONNECT_TIMEOUT)
            .unwrap_or(CONNECT_TIMEOUT),
        statement_timeout: duration(table, "statement_timeout", LONGEST_STATEMENT_TIMEOUT)
            .unwrap_or(STATEMENT_TIMEOUT),
        lock_timeout: duration(table, "lock_timeout", LONGEST_LOCK_TIMEOUT).unwrap_or(LOCK_TIMEOUT),
        connections: count(table, "connections", MAX_CONNECTIONS).map_or(CONNECTIONS, usize::from),
        // A misspelt name in braces would reach people as it stands.
        connect_hints: table
            .checked_strings("connect_hints", |hint| unknown_braces("a hint", hint, &HINT_NAMES)),
        limits: limits(table),
    }
}

/// `thresholds.health.connections_pct = { warning = 60, critical = 80 }`. The catalog checks the names.
fn limits(table: &mut Reader<'_>) -> Vec<ThresholdOverride> {
    let mut limits = Vec::new();
    table.opt_table("thresholds", |commands| {
        for Located { value: command, .. } in commands.keys() {
            commands.opt_table(&command, |columns| {
                for Located { value: column, .. } in columns.keys() {
                    let expected = "{ warning = …, critical = … }";
                    let read = columns.opt_table_like(&column, expected, |limit| ThresholdOverride {
                        command: command.clone(),
                        column: column.clone(),
                        warning: limit.opt_number("warning"),
                        critical: limit.opt_number("critical"),
                    });
                    limits.extend(read);
                }
            });
        }
    });
    limits
}

fn servers(table: &mut Reader<'_>) -> Vec<Server> {
    table.needs_entry("servers", "an environment needs at least one server: [[environments.servers]]");
    let mut names = UniqueNames::new("the server");
    table.tables("servers", |table| {
        let name = name(table);
        names.check(table, &name);
        let port = count(table, "port", u16::MAX).unwrap_or(PORT);
        Server { name: name.value, host: host(table), port }
    })
}

pub(super) fn host(table: &mut Reader<'_>) -> String {
    let host = table.string("host");
    if !is_host(&host) {
        reject(table, "host", &host, "a host's name or IP address, without port or user");
    }
    host
}

/// True for a host's name or IP address.
pub(super) fn is_host(host: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    !host.is_empty() && host.chars().all(letter) && (!host.contains(':') || host.parse::<IpAddr>().is_ok())
}

/// TLS is verified or, if every server is this very machine, off: an unverified connection hands the password to whoever answers.
pub(super) fn tls(table: &mut Reader<'_>, servers: &[Server], context: &LoadContext<'_>) -> Tls {
    let off = table.opt_choice("tls", &[("verified", false), ("off", true)]).unwrap_or(false);
    let ca_file = table.opt_string("ca_file").map(|file| context.directory.join(file));
    if ca_file.as_ref().is_some_and(|file| !file.is_file()) {
        table.problem("ca_file", "`ca_file` names no file that is there");
    }
    if !off {
        return Tls::Verified { ca_file };
    }
    if ca_file.is_some() {
        table.problem("ca_file", "`ca_file` means nothing while `tls` is off");
    }
    let is_here = |host: &str| {
        matches!(host, "" | "localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    if let Some(remote) = servers.iter().find(|server| !is_here(&server.host)) {
        let host = quoted(&remote.host);
        let message = format!("`tls` may be off for this machine's own servers only, and {host} isn't one");
        table.problem("tls", message);
    }
    Tls::Off
}

fn logins(table: &mut Reader<'_>, context: &LoadContext<'_>) -> BTreeMap<LoginKind, LoginCredentials> {
    let read = table.table("logins", |table| {
        let mut logins = BTreeMap::new();
        for name in LOGINS {
            if matches!(name, LoginKind::Reader | LoginKind::Operator) {
                table.required(name.name());
            }
            let read = table.opt_table(name.name(), |table| login(table, context));
            logins.extend(read.map(|login| (name, login)));
        }
        reader_is_nobody_else(table, &logins);
        logins
    });
    read.unwrap_or_default().into_iter().map(|(name, login)| (name, login.value)).collect()
}

/// A login, with the place of its user.
pub(super) fn login(table: &mut Reader<'_>, context: &LoadContext<'_>) -> Located<LoginCredentials> {
    let user = identifier(table, "user");
    let password = opt_secret(table, "password", context);
    Located { value: LoginCredentials { user, password }, at: table.position_of("user") }
}

/// Whoever may run a command that reads would otherwise have the other login's rights.
fn reader_is_nobody_else(table: &mut Reader<'_>, logins: &BTreeMap<LoginKind, Located<LoginCredentials>>) {
    let Some(reader) = logins.get(&LoginKind::Reader).filter(|reader| !reader.value.user.is_empty()) else {
        return;
    };
    for (name, login) in logins.iter().filter(|(name, _)| **name != LoginKind::Reader) {
        if login.value.user == reader.value.user {
            // A dump only looks, but at every customer's row.
            let must_not = if *name == LoginKind::Dump { "read every table" } else { "act" };
            let user = quoted(&reader.value.user);
            let message = format!(
                "`{name}` is the same user as `reader`, {user}: the reader must not be able to {must_not}"
            );
            table.problem_at(login.at, message);
        }
    }
}

pub(super) fn services(
    root: &mut Reader<'_>,
    environments: &[Environment],
    migrate_all: Option<&MigrateSection>,
    context: &LoadContext<'_>,
) -> Vec<Service> {
    root.needs_entry("services", "at least one service is needed: [[services]]");
    let mut names = UniqueNames::new("the service");
    root.tables("services", |table| {
        let name = name(table);
        names.check(table, &name);
        Service {
            name: name.value,
            database: identifier(table, "database"),
            size: table.opt_string("size"),
            migrations: table.has("migrations").then(|| path(table, "migrations", context)),
            migrate: migrate::of_service(table, migrate_all, context),
            servers: service_servers(table, environments),
        }
    })
}

/// Environment to server, for a service that isn't on the environment's first server.
fn service_servers(table: &mut Reader<'_>, environments: &[Environment]) -> BTreeMap<String, String> {
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
