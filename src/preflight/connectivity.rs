//! Why a server or a database isn't reached, and what mends that.

use super::Finding;
use crate::config::{Environment, Login, Server};
use crate::postgres::Unreachable;

/// Whether any other login would fare the same: then one complaint is enough.
pub fn is_the_servers(why: &Unreachable) -> bool {
    matches!(
        why,
        Unreachable::TimedOut(_) | Unreachable::Refused | Unreachable::Tls(_) | Unreachable::Restarting
    )
}

/// As a finding, with what to do.
pub fn finding(
    at: &str,
    why: &Unreachable,
    (environment, server, login): (&Environment, &Server, &Login),
) -> Finding {
    let address = format!("{}:{}", server.host, server.port);
    let fix = match why {
        Unreachable::TimedOut(_) => {
            format!("Let Countersign through to {address}: a firewall drops it, or the server hangs.")
        }
        Unreachable::Refused => {
            format!("Start the server, or correct its `host` and `port`: nothing listens at {address}.")
        }
        Unreachable::Tls(_) => format!(
            "Switch TLS on at the server, with a certificate for {} by an authority that this system trusts, or name the authority's certificate as `ca_file` of {}.",
            server.host, environment.name
        ),
        Unreachable::NoSlot => {
            "Free connections, or give the role CONNECTION LIMIT and the server reserved_connections."
                .to_owned()
        }
        Unreachable::Login(_) => format!(
            "Compare the password of {} with the secret that the configuration names, and look whether pg_hba.conf lets it in from here; psql's \\password sets a new one.",
            login.user
        ),
        Unreachable::NoDatabase => {
            "Correct the name in the configuration, or create the database.".to_owned()
        }
        Unreachable::Restarting => "Wait until the server has started, and check again.".to_owned(),
        Unreachable::Misconfigured | Unreachable::Other(_) => {
            "Look into the server's log for the reason.".to_owned()
        }
    };
    Finding::missing(at, why.to_string(), fix)
}
