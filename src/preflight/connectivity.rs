//! Findings about a server or a database that can't be reached, with the fix.

use super::Finding;
use crate::config::{Environment, LoginCredentials, Server};
use crate::postgres::Unreachable;

/// The error would be the same for every login, so that one finding is enough.
pub fn concerns_every_login(error: &Unreachable) -> bool {
    matches!(
        error,
        Unreachable::TimedOut(_) | Unreachable::Refused | Unreachable::Tls(_) | Unreachable::Restarting
    )
}

/// The finding for an error, with the fix.
pub fn finding(
    subject: &str,
    error: &Unreachable,
    environment: &Environment,
    server: &Server,
    login: &LoginCredentials,
) -> Finding {
    let address = format!("{}:{}", server.host, server.port);
    let fix = match error {
        Unreachable::TimedOut(_) => {
            format!(
                "Allow connections from Countersign to {address}: a firewall drops them, or the server hangs."
            )
        }
        Unreachable::Refused => {
            format!("Start the server, or correct its `host` and `port`: no server listens at {address}.")
        }
        Unreachable::Tls(_) => format!(
            "Enable TLS on the server, with a certificate for {} from an authority that this system trusts, or set the authority's certificate as `ca_file` of {}.",
            server.host, environment.name
        ),
        Unreachable::NoSlot => {
            "Free connections, or give the role CONNECTION LIMIT and the server reserved_connections."
                .to_owned()
        }
        Unreachable::Login(_) => format!(
            "Compare the password of {} with the secret that the configuration names, and check that pg_hba.conf allows it from here; psql's \\password sets a new one.",
            login.user
        ),
        Unreachable::NoDatabase => {
            "Correct the name in the configuration, or create the database.".to_owned()
        }
        Unreachable::Restarting => "Wait until the server has started, then check again.".to_owned(),
        Unreachable::Misconfigured | Unreachable::Other(_) => {
            "Check the server's log for the reason.".to_owned()
        }
    };
    Finding::missing(subject, error.to_string(), fix)
}
