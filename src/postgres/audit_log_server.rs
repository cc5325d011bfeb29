//! The server of the audit log, which is never a target: commands end its sessions, and restart what it shares. Servers are told apart
//! by the system identifier of their data, since one server can have many host names.

use crate::pg_connect::{OpenedConnection, Unreachable, system_identifier};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::OnceLock;
use std::time::Duration;

/// The audit log's server, if it is a PostgreSQL server.
#[derive(Debug, Default)]
pub(super) struct AuditLogServer {
    identifier: OnceLock<String>,
    /// Servers that are others, as environment and name: compared once in the life of this process.
    others: Mutex<HashSet<(String, String)>>,
}

impl AuditLogServer {
    /// Excludes the server with that system identifier from the targets.
    pub fn set(&self, identifier: String) {
        let _ = self.identifier.set(identifier);
    }

    pub fn is_set(&self) -> bool {
        self.identifier.get().is_some()
    }

    /// Checks a new connection to a target.
    ///
    /// # Errors
    /// The target is the audit log's server, or doesn't tell which server it is.
    pub async fn check(
        &self,
        environment: &str,
        server: &str,
        connection: &OpenedConnection,
        time_limit: Duration,
    ) -> Result<(), Unreachable> {
        let Some(excluded) = self.identifier.get() else { return Ok(()) };
        let target = (environment.to_owned(), server.to_owned());
        if self.others.lock().contains(&target) {
            return Ok(());
        }
        let identifier = tokio::time::timeout(time_limit, system_identifier(&connection.client)).await;
        match identifier.map_err(|_| Unreachable::TimedOut(time_limit))? {
            Some(identifier) if identifier == *excluded => Err(Unreachable::AuditLogServer),
            Some(_) => {
                self.others.lock().insert(target);
                Ok(())
            }
            None => Err(Unreachable::UnknownIdentity),
        }
    }
}
