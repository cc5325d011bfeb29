//! The section `[store]`: the audit log in a file, or in a PostgreSQL database on a server of its own.

use super::environments::{PORT, host, login, tls};
use super::validate::{count, duration, identifier, path};
use super::{Environment, LoadContext, LoginCredentials, Server, Tls};
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

    /// True for the same file, or the same database by host, port and name.
    pub fn is_same(&self, other: &StoreSettings) -> bool {
        match (self, other) {
            (StoreSettings::File(path), StoreSettings::File(other)) => {
                let real = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                real(path) == real(other)
            }
            (StoreSettings::Postgres(settings), StoreSettings::Postgres(other)) => {
                settings.server.is_same(&other.server) && settings.database == other.database
            }
            _ => false,
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
    context: &LoadContext<'_>,
) -> StoreSettings {
    match (table.has("path"), table.has("postgres")) {
        (_, false) => StoreSettings::File(path(table, "path", context)),
        (has_path, true) => {
            if has_path {
                drop(path(table, "path", context));
                table.problem("path", "the audit log has one place: `path` or `[store.postgres]`, not both");
            }
            let read = table.table("postgres", |table| postgres(table, environments, context));
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
    context: &LoadContext<'_>,
) -> PostgresStoreSettings {
    let port = count(table, "port", u16::MAX).unwrap_or(PORT);
    let server = Server { name: SERVER_NAME.to_owned(), host: host(table), port };
    let database = identifier(table, "database");
    let tls = tls(table, std::slice::from_ref(&server), context);
    let login = login(table, context).value;
    // Another name of one host isn't known here: the servers themselves are asked at the start.
    for environment in environments {
        if let Some(target) = environment.servers.iter().find(|target| target.is_same(&server)) {
            let (name, target) = (&environment.name, &target.name);
            table.problem(
                "host",
                format!("the audit log needs a server of its own, and this one is {target} of {name}"),
            );
        }
    }
    PostgresStoreSettings { server, database, login, tls }
}
