//! The reasons that there is no connection, told apart by SQLSTATE, by the function of the server that refused, and by the kind of the
//! system's error, since a server speaks its own language. In words that say what to do, and name neither host nor secret.

use super::server_message::condition;
use crate::config::Server;
use crate::redact;
use std::error::Error as _;
use std::io;
use std::time::Duration;
use tokio_postgres::error::{DbError, SqlState};

/// The reason that there is no connection. `Display` is for people, and follows the server's or the service's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    #[error("doesn't answer (waited {} s)", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("refuses connections: the server is down or the network is in the way")]
    Refused,
    #[error("has a host name that can't be resolved: correct `host` in the configuration, or the DNS")]
    UnknownHost,
    #[error("can't be reached from here: no network route leads to it")]
    NoRoute,
    #[error(
        "closes connections before they are open: a firewall, a proxy or a server that ends is in the way"
    )]
    Closed,
    #[error("shows no TLS that can be verified ({0})")]
    Tls(String),
    #[error("{0}")]
    NoSlot(SlotLimit),
    #[error("refuses the login of Countersign ({0})")]
    Login(LoginRefusal),
    #[error("has no such database")]
    NoDatabase,
    #[error("doesn't accept connections (ALLOW_CONNECTIONS is off)")]
    NoConnectionsAllowed,
    #[error("is half dropped: DROP DATABASE was interrupted; only another DROP DATABASE is possible")]
    HalfDropped,
    #[error("is {0}: try again in a moment")]
    Restarting(&'static str),
    #[error(
        "takes no connections yet: as a replica it recovers up to a consistent state first, or hot_standby is off"
    )]
    NotYetHot,
    #[error("is a pooler (PgBouncer): Countersign needs the server's own address, port 5432 as a rule")]
    Pooler,
    #[error(
        "is a pooler, or ignores start-up options: Countersign needs the server's own address, port 5432 as a rule"
    )]
    IgnoresOptions,
    #[error("changes {setting} when Countersign logs in, by {cause}: let it leave Countersign's roles out")]
    ChangesSetting { setting: &'static str, cause: SettingChange },
    #[error(
        "has the audit log, and Countersign runs no command on that server: give the audit log a server of its own"
    )]
    AuditLogServer,
    #[error(
        "doesn't tell whether it has the audit log: GRANT EXECUTE ON FUNCTION pg_control_system() to Countersign's roles"
    )]
    UnknownIdentity,
    #[error("is not in the configuration")]
    Misconfigured,
    #[error("can't be reached ({0})")]
    Other(String),
}

impl Unreachable {
    /// True if the server itself replied.
    pub fn is_reply(&self) -> bool {
        use Unreachable::{
            AuditLogServer, ChangesSetting, HalfDropped, Login, NoConnectionsAllowed, NoDatabase, NoSlot,
            NotYetHot, Pooler, Restarting, UnknownIdentity,
        };
        matches!(
            self,
            Login(_)
                | AuditLogServer
                | UnknownIdentity
                | ChangesSetting { .. }
                | NoDatabase
                | NoSlot(_)
                | Pooler
                | Restarting(_)
                | NoConnectionsAllowed
                | HalfDropped
                | NotYetHot
        )
    }

    /// True for a reason that holds for every login and every database of the server.
    pub fn is_of_server(&self) -> bool {
        use Unreachable::{
            AuditLogServer, Closed, IgnoresOptions, NoRoute, NotYetHot, Pooler, Refused, Restarting,
            TimedOut, Tls, UnknownHost,
        };
        matches!(
            self,
            TimedOut(_)
                | AuditLogServer
                | Refused
                | UnknownHost
                | NoRoute
                | Closed
                | Tls(_)
                | Restarting(_)
                | NotYetHot
                | Pooler
                | IgnoresOptions
        )
    }
}

/// The part of a database that changes a setting after the start-up options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingChange {
    /// By name.
    #[error("its login event trigger {0}")]
    LoginTrigger(String),
    #[error("one of its login event triggers ({})", .0.join(", "))]
    LoginTriggers(Vec<String>),
    #[error("a library that the server loads, or a proxy")]
    Other,
}

impl SettingChange {
    /// The cause, where the database has those login event triggers.
    pub fn of(triggers: &[String]) -> SettingChange {
        let mut names: Vec<String> = triggers.iter().map(|name| redact::name(name)).collect();
        match names.len() {
            0 => SettingChange::Other,
            1 => SettingChange::LoginTrigger(names.remove(0)),
            _ => SettingChange::LoginTriggers(names),
        }
    }
}

/// The limit that leaves no connection slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotLimit {
    #[error("has no connection slot left (max_connections): `connections` shows who has them")]
    Server,
    #[error(
        "has no connection slot left but the reserved ones (superuser_reserved_connections): `connections` shows who has the others"
    )]
    Reserved,
    #[error("lets Countersign's role open no more connections: its CONNECTION LIMIT is reached")]
    Role,
    #[error("allows no more connections to this database: its CONNECTION LIMIT is reached")]
    Database,
}

/// The condition of a login that doesn't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusal {
    #[error("the password is wrong, or there is no such role")]
    Password,
    #[error("a password is asked for, and none is configured")]
    NoPassword,
    #[error("pg_hba.conf doesn't let this role connect to this database from here, or only with TLS")]
    AccessRules,
    #[error("its role is NOLOGIN, or there is no such role")]
    NoLogin,
    #[error("no CONNECT privilege")]
    NoConnectPrivilege,
    #[error("its role may not set a start-up option")]
    Options,
    #[error("authentication failed")]
    Other,
}

/// The reason in an error of the connection's start.
pub(super) async fn reason(error: &tokio_postgres::Error, server: &Server, waited: Duration) -> Unreachable {
    let reason = match error.as_db_error() {
        Some(refusal) => return refusal_reason(refusal),
        None => network_reason(error, waited),
    };
    // A name that can't be resolved has no kind of its own.
    let is_unknown = matches!(reason, Unreachable::Other(_))
        && tokio::net::lookup_host((&*server.host, server.port)).await.is_err();
    if is_unknown { Unreachable::UnknownHost } else { reason }
}

fn network_reason(error: &tokio_postgres::Error, waited: Duration) -> Unreachable {
    for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
        let io = cause.downcast_ref::<io::Error>();
        let tls = io.and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls.or_else(|| cause.downcast_ref()) {
            return Unreachable::Tls(tls.to_string());
        }
        if let Some(io) = io {
            return reason_of_kind(io.kind(), waited);
        }
    }
    // The library's own words.
    let message = error.to_string();
    if message.contains("does not support TLS") || message.contains("TLS handshake") {
        return Unreachable::Tls("the server offers none".to_owned());
    }
    if message.contains("password missing") {
        return Unreachable::Login(LoginRefusal::NoPassword);
    }
    if message.contains("authentication") {
        return Unreachable::Login(LoginRefusal::Other);
    }
    Unreachable::Closed
}

fn reason_of_kind(kind: io::ErrorKind, waited: Duration) -> Unreachable {
    use io::ErrorKind::{
        AddrNotAvailable, BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkDown, NetworkUnreachable, TimedOut, UnexpectedEof,
    };
    match kind {
        TimedOut => Unreachable::TimedOut(waited),
        ConnectionRefused => Unreachable::Refused,
        HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable => Unreachable::NoRoute,
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Unreachable::Closed,
        other => Unreachable::Other(other.to_string()),
    }
}

/// The function of the server tells apart what has one SQLSTATE: `CheckMyDatabase` looks at the database,
/// `InitializeSessionUserId` at the role, `ClientAuthentication` at pg_hba.conf. A proxy names none.
fn refusal_reason(refusal: &DbError) -> Unreachable {
    let routine = refusal.routine().unwrap_or_default();
    let code = refusal.code();
    let is = |known: &SqlState| code == known;
    if is(&SqlState::INVALID_PASSWORD) {
        Unreachable::Login(LoginRefusal::Password)
    } else if is(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) {
        Unreachable::Login(match routine {
            "ClientAuthentication" => LoginRefusal::AccessRules,
            "InitializeSessionUserId" => LoginRefusal::NoLogin,
            _ => LoginRefusal::Other,
        })
    } else if is(&SqlState::INSUFFICIENT_PRIVILEGE) {
        Unreachable::Login(match routine {
            "CheckMyDatabase" | "" => LoginRefusal::NoConnectPrivilege,
            "set_config_option" | "set_config_with_handle" | "set_config_option_ext" => LoginRefusal::Options,
            _ => LoginRefusal::Other,
        })
    } else if is(&SqlState::TOO_MANY_CONNECTIONS) {
        Unreachable::NoSlot(match routine {
            "InitPostgres" => SlotLimit::Reserved,
            "InitializeSessionUserId" => SlotLimit::Role,
            "CheckMyDatabase" => SlotLimit::Database,
            _ => SlotLimit::Server,
        })
    } else if is(&SqlState::INVALID_CATALOG_NAME) {
        Unreachable::NoDatabase
    } else if is(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) && routine == "CheckMyDatabase" {
        Unreachable::NoConnectionsAllowed
    } else if is(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) && routine == "InitPostgres" {
        Unreachable::HalfDropped
    } else if is(&SqlState::CANNOT_CONNECT_NOW) {
        // Only a replica that isn't open yet has more to say.
        match refusal.detail() {
            Some(_) => Unreachable::NotYetHot,
            None => Unreachable::Restarting("starting up, shutting down or recovering from a crash"),
        }
    } else if is(&SqlState::ADMIN_SHUTDOWN) {
        Unreachable::Restarting("being stopped or restarted")
    } else if is(&SqlState::CRASH_SHUTDOWN) {
        Unreachable::Restarting("recovering from a crash")
    } else if is(&SqlState::PROTOCOL_VIOLATION)
        && refusal.message().starts_with("unsupported startup parameter")
    {
        // PgBouncer, which speaks English only, refuses start-up options unless `ignore_startup_parameters` names them.
        Unreachable::Pooler
    } else {
        Unreachable::Other(format!("{}, SQLSTATE {}", condition(code.code()), code.code()))
    }
}
