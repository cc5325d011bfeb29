//! The section `[store]`: the audit log in a file, or in a PostgreSQL database of its own.

use super::environments::{PORT, host, login, tls};
use super::validate::{count, duration, identifier, path};
use super::{Environment, LoadContext, LoginCredentials, Server, Service, Tls};
use crate::suggest::quoted;
use crate::toml_reader::Reader;
use std::path::PathBuf;
use std::time::Duration;

/// An action is recorded within this time or dropped, and its sender told so: after longer, the sender has asked again.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Half of the above, so that there is time left to say that the file is locked.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of the store's server, which nobody configures.
const SERVER_NAME: &str = "audit log";

/// The place of the audit log.
#[derive(Debug, Clone)]
pub enum StoreSettings {
    /// The embedded store's file.
    File(PathBuf),
    Postgres(Box<PostgresStoreSettings>),
}

impl StoreSettings {
    /// The embedded store's file, if that is the place.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            StoreSettings::File(path) => Some(path),
            StoreSettings::Postgres(_) => None,
        }
    }
}

/// A PostgreSQL database for the audit log alone, which several replicas may share.
#[derive(Debug, Clone)]
pub struct PostgresStoreSettings {
    pub server: Server,
    pub database: String,
    pub login: LoginCredentials,
    pub tls: Tls,
}

/// Limits on waiting for the audit log.
#[derive(Debug, Clone, Copy)]
pub struct StoreTimeouts {
    /// An action that isn't recorded within this time is dropped, and its sender told.
    pub call_timeout: Duration,
    /// For another process's lock on the file.
    pub lock_timeout: Duration,
}

pub(super) fn timeouts(table: &mut Reader<'_>) -> StoreTimeouts {
    let call_timeout = duration(table, "answer_within", CALL_TIMEOUT).unwrap_or(CALL_TIMEOUT);
    let lock_timeout = duration(table, "lock_wait", CALL_TIMEOUT).unwrap_or(LOCK_TIMEOUT);
    StoreTimeouts { call_timeout, lock_timeout }
}

pub(super) fn settings(
    table: &mut Reader<'_>,
    environments: &[Environment],
    services: &[Service],
    context: &LoadContext<'_>,
) -> StoreSettings {
    match (table.has("path"), table.has("postgres")) {
        (_, false) => StoreSettings::File(path(table, "path", context)),
        (has_path, true) => {
            if has_path {
                drop(path(table, "path", context));
                table.problem("path", "the audit log has one place: `path` or `[store.postgres]`, not both");
            }
            let read = table.table("postgres", |table| postgres(table, environments, services, context));
            read.map_or_else(
                || StoreSettings::File(PathBuf::new()),
                |read| StoreSettings::Postgres(read.into()),
            )
        }
    }
}

fn postgres(
    table: &mut Reader<'_>,
    environments: &[Environment],
    services: &[Service],
    context: &LoadContext<'_>,
) -> PostgresStoreSettings {
    let port = count(table, "port", u16::MAX).unwrap_or(PORT);
    let server = Server { name: SERVER_NAME.to_owned(), host: host(table), port };
    let database = identifier(table, "database");
    let tls = tls(table, std::slice::from_ref(&server), context);
    let login = login(table, context).value;
    if let Some(owner) = target_of(&server, &database, environments, services) {
        let message =
            format!("the audit log needs a database of its own, and {} is {owner}", quoted(&database));
        table.problem("database", message);
    }
    PostgresStoreSettings { server, database, login, tls }
}

/// Words for the target that is this database, if one is, by host, port and name: another name of one host isn't known.
fn target_of(
    server: &Server,
    database: &str,
    environments: &[Environment],
    services: &[Service],
) -> Option<String> {
    for environment in environments {
        let is_same =
            |other: &&Server| other.port == server.port && other.host.eq_ignore_ascii_case(&server.host);
        let Some(target) = environment.servers.iter().find(is_same) else { continue };
        if environment.maintenance_database == database {
            return Some(format!("the maintenance database of {}", environment.name));
        }
        let is_on_target = |service: &&Service| {
            let named = service.servers.get(&environment.name);
            let name = named.or_else(|| environment.servers.first().map(|first| &first.name));
            name == Some(&target.name) && service.database == database
        };
        if let Some(service) = services.iter().find(is_on_target) {
            return Some(format!("{}'s, in {}", service.name, environment.name));
        }
    }
    None
}
