//! PostgreSQL's client programs. Connection settings go through their environment, which holds nothing else; their error messages
//! are kept, bounded and redacted.
//!
//! They end with Countersign, however it ends: `pg_dump` writes into a pipe that closes with this process and has a lock timeout;
//! `pg_restore` reads from such a pipe.

use super::BackupError;
use crate::actions::support::subprocess::{CapturedStreams, OutputSink, Subprocess, ending};
use crate::config::{Server, Tls};
use crate::redact;
use secrecy::{ExposeSecret, SecretString};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// Bytes of standard error that are kept: the first error is the cause.
const MAX_STDERR_BYTES: usize = 32 * 1024;

const MAX_REASON_CHARS: usize = 400;

/// Certificate bundles of operating systems, for clients before 16, which can't use the system's store themselves.
const CA_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A client program's connection to a server.
#[derive(Debug, Clone)]
pub struct ClientConnection {
    pub server: Server,
    pub database: String,
    pub user: String,
    pub password: Option<SecretString>,
    pub tls: Tls,
    pub timeout: Duration,
    /// The `application_name`: "countersign #128 ana".
    pub application: String,
}

impl ClientConnection {
    /// The connection's part of the command line, without a secret: settings that have no environment variable. A server that
    /// disappears silently is noticed within about a minute.
    pub fn argument(&self) -> String {
        let quoted = self.database.replace('\\', "\\\\").replace('\'', "\\'");
        format!(
            "--dbname=dbname='{quoted}' keepalives_idle=30 keepalives_interval=10 keepalives_count=3 tcp_user_timeout=30000"
        )
    }

    /// Sets libpq's variables (<https://www.postgresql.org/docs/current/libpq-envars.html>).
    pub fn apply(&self, command: &mut Command, client_major: u32) {
        command
            .env("PGHOST", &self.server.host)
            .env("PGPORT", self.server.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGAPPNAME", &self.application)
            // Below 2 s libpq rounds up.
            .env("PGCONNECT_TIMEOUT", self.timeout.as_secs().max(2).to_string())
            .env("PGGSSENCMODE", "disable");
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password.expose_secret());
        }
        match &self.tls {
            Tls::Off => command.env("PGSSLMODE", "disable"),
            Tls::Verified { ca_file } => {
                let roots = roots(ca_file.as_deref(), client_major);
                command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", roots)
            }
        };
    }
}

/// The file of trusted certificates, or "system" for clients that know it (16 and up).
fn roots(ca_file: Option<&Path>, client_major: u32) -> PathBuf {
    match ca_file {
        Some(file) => file.to_owned(),
        None if client_major >= 16 => PathBuf::from("system"),
        None => PathBuf::from(
            CA_BUNDLES.into_iter().find(|file| Path::new(file).is_file()).unwrap_or(CA_BUNDLES[0]),
        ),
    }
}

/// A running client. Dropping it kills it.
pub struct PgClient(Subprocess<StderrHead>);

impl PgClient {
    /// Takes the command, and with it the parent's copies of the child's pipe ends.
    pub fn start(command: Command) -> Result<PgClient, BackupError> {
        let started = Subprocess::start(command, CapturedStreams::Errors, StderrHead::default());
        started.map(PgClient).map_err(BackupError::Start)
    }

    /// Waits for its end; an error is the reason of its failure, for people.
    pub async fn wait(mut self) -> Result<(), String> {
        let status = self.0.wait().await;
        let stderr = self.0.output().await.unwrap_or_default().0;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(reason(&String::from_utf8_lossy(&stderr)).unwrap_or_else(|| {
                let silent = if status.code().is_some() { " without an error message" } else { "" };
                format!("it {}{silent}", ending(status))
            })),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The beginning of a client's standard error.
#[derive(Default)]
pub struct StderrHead(Vec<u8>);

impl OutputSink for StderrHead {
    fn receive(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[..bytes.len().min(MAX_STDERR_BYTES.saturating_sub(self.0.len()))]);
    }
}

/// The cause among a client's error messages: its first error and the server's message, without address, query or value.
fn reason(stderr: &str) -> Option<String> {
    let mut messages: Vec<&str> = Vec::new();
    for line in stderr.lines() {
        let line = line.trim_start_matches("pg_dump: ").trim_start_matches("pg_restore: ");
        let message = match line.strip_prefix("error: ") {
            // "connection to server at "db.example.com" (10.0.0.7), port 5432 failed: FATAL:  …"
            Some(error) if error.starts_with("connection to server") => {
                error.split_once(" failed: ").map_or(error, |(_, message)| message)
            }
            Some(error) => error,
            None => match line.split_once("Error message from server: ") {
                Some((_, error)) => error,
                None => continue,
            },
        };
        messages.push(message.trim());
    }
    messages.truncate(2);
    if messages.is_empty() {
        return None;
    }
    Some(redact::text(&messages.join(": ")).chars().take(MAX_REASON_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::support::subprocess::command;

    fn connection(tls: Tls) -> ClientConnection {
        ClientConnection {
            server: Server { name: "main".into(), host: "db.example.com".into(), port: 5433 },
            database: r"o'hara \ db".into(),
            user: "dumper".into(),
            password: Some(SecretString::from("hush")),
            tls,
            timeout: Duration::from_secs(3),
            application: "countersign #7 ana".into(),
        }
    }

    fn variable(connection: &ClientConnection, major: u32, name: &str) -> Option<String> {
        let mut command = command(Path::new("/bin/true"));
        connection.apply(&mut command, major);
        let found = command.as_std().get_envs().find(|(key, _)| *key == name)?.1?;
        Some(found.to_string_lossy().into_owned())
    }

    #[test]
    fn tls_is_verified_unless_it_is_off() {
        let verified = connection(Tls::Verified { ca_file: None });
        assert_eq!(variable(&verified, 17, "PGSSLMODE").as_deref(), Some("verify-full"));
        assert_eq!(variable(&verified, 17, "PGSSLROOTCERT").as_deref(), Some("system"));
        assert!(variable(&verified, 15, "PGSSLROOTCERT").unwrap().starts_with("/etc/"));
        let own = connection(Tls::Verified { ca_file: Some("/etc/ours.pem".into()) });
        assert_eq!(variable(&own, 17, "PGSSLROOTCERT").as_deref(), Some("/etc/ours.pem"));
        assert_eq!(variable(&connection(Tls::Off), 17, "PGSSLMODE").as_deref(), Some("disable"));
    }

    #[test]
    fn the_command_line_names_the_database_and_no_secret() {
        let connection = connection(Tls::Off);
        assert!(connection.argument().starts_with(r"--dbname=dbname='o\'hara \\ db' "));
        assert!(!connection.argument().contains("hush"));
        assert_eq!(variable(&connection, 15, "PGPASSWORD").as_deref(), Some("hush"));
    }

    #[test]
    fn a_reason_has_neither_address_nor_query() {
        let refused = "pg_dump: error: connection to server at \"db.example.com\" (10.0.0.7), port 5432 failed: \
            FATAL:  password authentication failed for user \"dumper\"\n";
        assert_eq!(reason(refused).unwrap(), "FATAL: password authentication failed for user \"dumper\"");
        let cut = "pg_dump: error: Dumping the contents of table \"a\" failed: PQgetCopyData() failed.\n\
            pg_dump: detail: Error message from server: server closed the connection unexpectedly\n\
            \tThis probably means the server terminated abnormally\n\
            pg_dump: detail: Command was: COPY public.a (secret) TO stdout;\n";
        let error = reason(cut).unwrap();
        assert!(error.ends_with("failed.: server closed the connection unexpectedly"), "{error}");
        assert_eq!(reason("pg_dump: warning: something\n"), None);
    }
}
