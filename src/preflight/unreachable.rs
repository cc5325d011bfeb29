//! The fix for each reason that a server or one of its databases can't be reached, for `countersign check`.

use super::quoted;
use crate::config::{LoginCredentials, Server};
use crate::postgres::{LoginRefusal, SettingChange, SlotLimit, Unreachable};

/// The fix, in whole sentences. `section` is the server's in the configuration.
pub(super) fn fix(
    error: &Unreachable,
    section: &str,
    server: &Server,
    credentials: &LoginCredentials,
    database: &str,
) -> String {
    match error {
        Unreachable::NoSlot(limit) => slots(*limit, credentials),
        Unreachable::Login(refusal) => login(*refusal, credentials, database),
        Unreachable::TimedOut(_)
        | Unreachable::Refused
        | Unreachable::Tls(_)
        | Unreachable::UnknownHost
        | Unreachable::NoRoute
        | Unreachable::Closed => network(error, section, server),
        Unreachable::NoDatabase => {
            "Correct the name in the configuration, or create the database.".to_owned()
        }
        Unreachable::Restarting(_) | Unreachable::NotYetHot => {
            "Wait until the server has started, then check again.".to_owned()
        }
        Unreachable::NoConnectionsAllowed => {
            "Let it accept connections: ALTER DATABASE … ALLOW_CONNECTIONS true.".to_owned()
        }
        Unreachable::HalfDropped => {
            "Drop it with DROP DATABASE and restore it, or take it out of the configuration.".to_owned()
        }
        Unreachable::Pooler | Unreachable::IgnoresOptions => format!(
            "Set `host` and `port` of {} to PostgreSQL's own: port 5432 as a rule, where a pooler has another.",
            server.name
        ),
        Unreachable::ChangesSetting { cause, .. } => setting(cause, credentials),
        Unreachable::AuditLogServer => {
            "Name another server in `[store.postgres]`, and move the audit log with `countersign store copy`."
                .to_owned()
        }
        Unreachable::UnknownIdentity => {
            format!("GRANT EXECUTE ON FUNCTION pg_control_system() TO {};", quoted(&credentials.user))
        }
        Unreachable::Misconfigured | Unreachable::Other(_) => {
            "Check the server's log for the reason.".to_owned()
        }
    }
}

/// The fix for a server to which no connection could be made.
fn network(error: &Unreachable, section: &str, server: &Server) -> String {
    let address = format!("{}:{}", server.host, server.port);
    match error {
        Unreachable::TimedOut(_) => format!(
            "Allow connections from Countersign to {address}: a firewall drops them, or the server hangs."
        ),
        Unreachable::Refused => {
            format!("Start the server, or correct its `host` and `port`: no server listens at {address}.")
        }
        Unreachable::Tls(_) => format!(
            "Enable TLS on the server, with a certificate for {} from an authority that this system trusts, or set the authority's certificate as `ca_file` of {section}.",
            server.host
        ),
        Unreachable::UnknownHost => {
            format!("Correct `host` of {}, or add {} to the DNS.", server.name, server.host)
        }
        Unreachable::NoRoute => format!("Let Countersign's network reach {address}."),
        _ => format!("Look for what closes connections to {address}: a firewall, a proxy, or the server."),
    }
}

fn setting(cause: &SettingChange, credentials: &LoginCredentials) -> String {
    match cause {
        SettingChange::Other => {
            "Look for what sets it: session_preload_libraries, or a proxy between Countersign and the server."
                .to_owned()
        }
        _ => format!(
            "In the trigger's function, return before it sets anything where session_user is {}.",
            quoted(&credentials.user)
        ),
    }
}

fn slots(limit: SlotLimit, credentials: &LoginCredentials) -> String {
    match limit {
        SlotLimit::Role => {
            format!("Raise its limit: ALTER ROLE {} CONNECTION LIMIT ….", quoted(&credentials.user))
        }
        SlotLimit::Database => "Raise its limit: ALTER DATABASE … CONNECTION LIMIT ….".to_owned(),
        SlotLimit::Server | SlotLimit::Reserved => {
            "Free connections, or give the role CONNECTION LIMIT and the server reserved_connections."
                .to_owned()
        }
    }
}

fn login(refusal: LoginRefusal, credentials: &LoginCredentials, database: &str) -> String {
    let user = &credentials.user;
    match refusal {
        LoginRefusal::NoLogin => {
            format!("Create the role, or let it log in: ALTER ROLE {} LOGIN.", quoted(user))
        }
        LoginRefusal::AccessRules => format!(
            "Add a line for {user} to the server's pg_hba.conf that covers Countersign's address, and reload the server."
        ),
        LoginRefusal::NoConnectPrivilege => {
            format!("GRANT CONNECT ON DATABASE {} TO {};", quoted(database), quoted(user))
        }
        LoginRefusal::NoPassword => format!("Set the password of {user} in the configuration."),
        _ => format!(
            "Compare the password of {user} with the secret that the configuration names, and check that pg_hba.conf allows it from here; psql's \\password sets a new one."
        ),
    }
}
