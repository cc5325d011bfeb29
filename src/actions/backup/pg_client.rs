//! PostgreSQL's client programs, and which of them fits a server. Connection settings go through their environment
//! variables, and they get no others; their error messages are kept, bounded and redacted.
//!
//! They end with Countersign, however it ends: `pg_dump` writes into a pipe that closes with this process and has a lock timeout;
//! `pg_restore` reads from a pipe that closes in the same way.

use super::BackupError;
use crate::actions::support::subprocess::{
    CapturedStreams, OutputSink, Subprocess, command, describe_exit_status,
};
use crate::config::{BackupSettings, Server, Tls};
use crate::postgres::dump_options;
use crate::redact;
use secrecy::{ExposeSecret, SecretString};
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// Bytes of standard error that are kept: only its head, since the first error is the cause.
const MAX_STDERR_BYTES: usize = 32 * 1024;

const MAX_REASON_CHARS: usize = 400;

/// Certificate bundles of operating systems, for clients before 16, which can't use the system's store themselves.
const CA_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A program that prints its version or rejects an option answers in milliseconds; one that takes longer is broken.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

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
    pub fn dbname_argument(&self) -> String {
        let escaped_database = self.database.replace('\\', "\\\\").replace('\'', "\\'");
        format!(
            "--dbname=dbname='{escaped_database}' keepalives_idle=30 keepalives_interval=10 keepalives_count=3 tcp_user_timeout=30000"
        )
    }

    /// Sets libpq's environment variables (<https://www.postgresql.org/docs/current/libpq-envars.html>).
    pub fn set_environment(&self, command: &mut Command, client_major: u32) {
        command
            .env("PGHOST", &self.server.host)
            .env("PGPORT", self.server.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGAPPNAME", &self.application)
            .env("PGOPTIONS", dump_options())
            // Below 2 s libpq rounds up.
            .env("PGCONNECT_TIMEOUT", self.timeout.as_secs().max(2).to_string())
            .env("PGGSSENCMODE", "disable");
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password.expose_secret());
        }
        match &self.tls {
            Tls::Off => command.env("PGSSLMODE", "disable"),
            Tls::Verified { ca_file } => {
                let certificates = root_certificates(ca_file.as_deref(), client_major);
                command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", certificates)
            }
        };
    }
}

/// The file of trusted certificates, or "system" for clients that know it (16 and up).
fn root_certificates(ca_file: Option<&Path>, client_major: u32) -> PathBuf {
    match ca_file {
        Some(file) => file.to_owned(),
        None if client_major >= 16 => PathBuf::from("system"),
        None => CA_BUNDLES.into_iter().find(|file| Path::new(file).is_file()).unwrap_or(CA_BUNDLES[0]).into(),
    }
}

/// A running client. Dropping it kills it.
pub(super) struct PgClient(Subprocess<StderrHead>);

impl PgClient {
    /// Consumes the command, so that the parent's copies of the child's pipe ends are closed.
    pub fn start(command: Command) -> Result<PgClient, BackupError> {
        let process = Subprocess::start(command, CapturedStreams::Errors, StderrHead::default());
        process.map(PgClient).map_err(BackupError::Start)
    }

    /// Waits for its end.
    pub async fn wait(mut self) -> Result<(), ClientFailure> {
        let status = self.0.wait().await;
        let stderr = self.0.output().await.unwrap_or_default().0;
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(ClientFailure::read(&String::from_utf8_lossy(&stderr)).unwrap_or_else(|| {
                let suffix = if status.code().is_some() { " without an error message" } else { "" };
                ClientFailure::new(format!("it {}{suffix}", describe_exit_status(status)))
            })),
            Err(error) => Err(ClientFailure::new(error.to_string())),
        }
    }
}

#[derive(Default)]
struct StderrHead(Vec<u8>);

impl OutputSink for StderrHead {
    fn receive(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[..bytes.len().min(MAX_STDERR_BYTES.saturating_sub(self.0.len()))]);
    }
}

/// A failed client: its own message, and its server's. `Display` is for people, without address, query or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFailure {
    pub(super) messages: Vec<String>,
    /// False if the server speaks another language: its words are left out, since what is a customer's value in them is unknown.
    pub in_english: bool,
    /// What to do.
    pub hint: Option<String>,
}

/// Severities of the errors of a server that speaks English.
const SEVERITIES: [&str; 3] = ["ERROR", "FATAL", "PANIC"];

impl ClientFailure {
    fn new(message: String) -> ClientFailure {
        ClientFailure { messages: vec![message], in_english: true, hint: None }
    }

    /// The cause among a client's error messages; `None` without any.
    fn read(stderr: &str) -> Option<ClientFailure> {
        let messages: Vec<String> = error_messages(stderr).into_iter().take(2).map(str::to_owned).collect();
        (!messages.is_empty()).then_some(ClientFailure { messages, in_english: true, hint: None })
    }

    /// A message without the server's words, unless they are in English. libpq writes two spaces behind the severity.
    fn shown<'a>(&self, message: &'a str) -> Cow<'a, str> {
        let Some((before, _)) = message.split_once(":  ") else { return message.into() };
        let (own, severity) = before.rsplit_once(": ").unwrap_or(("", before));
        if self.in_english && SEVERITIES.contains(&severity) {
            return message.into();
        }
        let own = if own.is_empty() { String::new() } else { format!("{own}: ") };
        format!("{own}the server refused it in another language than English, which is not shown").into()
    }
}

impl fmt::Display for ClientFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages: Vec<_> = self.messages.iter().map(|message| self.shown(message)).collect();
        let text: String = redact::text(&messages.join(": ")).chars().take(MAX_REASON_CHARS).collect();
        match &self.hint {
            Some(hint) => write!(f, "{}. {hint}", text.trim_end_matches('.')),
            None => f.write_str(&text),
        }
    }
}

fn error_messages(stderr: &str) -> Vec<&str> {
    let mut messages: Vec<&str> = Vec::new();
    for line in stderr.lines() {
        let line = line.trim_start_matches("pg_dump: ").trim_start_matches("pg_restore: ");
        let message = match line.strip_prefix("error: ") {
            // "connection to server at "db.example.com" (10.0.0.7), port 5432 failed: FATAL:  …"
            Some(error) if error.starts_with("connection to server") => {
                error.split_once(" failed: ").map_or(error, |(_, message)| message)
            }
            Some(error) => error,
            None => {
                let Some((_, error)) = line.split_once("Error message from server: ") else { continue };
                error
            }
        };
        messages.push(message.trim());
    }
    messages
}

/// `pg_dump` and `pg_restore` of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInstallation {
    pub directory: PathBuf,
    pub major: u32,
    /// "15.18".
    pub version: String,
}

/// No client is new enough for a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("needs pg_dump {server_major} or newer, and Countersign has {}", installed_list(.installed))]
pub struct MissingClient {
    pub server_major: u32,
    /// The clients' versions.
    pub installed: Vec<String>,
}

impl MissingClient {
    /// The fix, for whoever runs the bot.
    pub fn install_hint(&self) -> String {
        format!(
            "Install postgresql-client-{} where Countersign runs, or add its directory to `tools` in `[backups]`.",
            self.server_major
        )
    }
}

fn installed_list(installed: &[String]) -> String {
    if installed.is_empty() { "none".to_owned() } else { format!("only {}", installed.join(", ")) }
}

impl ClientInstallation {
    pub fn pg_dump(&self) -> PathBuf {
        self.directory.join("pg_dump")
    }

    pub fn pg_restore(&self) -> PathBuf {
        self.directory.join("pg_restore")
    }

    /// The fastest compression that is worth its time: zstd where the client has it (16 and up, if built so), else gzip 1.
    /// Gzip at its default level takes 70 % of a dump's time.
    pub async fn compression(&self) -> &'static str {
        const ZSTD: &str = "--compress=zstd:1";
        if self.major < 16 {
            return "--compress=1";
        }
        // An option that is missing in the build is rejected before connecting; no server listens at that path.
        match run_probe(&self.pg_dump(), &["-Fc", ZSTD, "--host=/dev/null"]).await {
            Some((_, stderr)) if !stderr.contains("compression") => ZSTD,
            _ => "--compress=gzip:1",
        }
    }
}

/// Every installation that has both programs: the configured directories, then `PATH`, then Debian's.
pub async fn find_installations(backups: &BackupSettings) -> Vec<ClientInstallation> {
    let mut installations: Vec<ClientInstallation> = Vec::new();
    for directory in backups.tools.iter().chain(&backups.search_path).cloned().chain(debian_directories()) {
        let is_known = installations.iter().any(|installation| installation.directory == directory);
        if is_known || !["pg_dump", "pg_restore"].iter().all(|name| is_program(&directory, name)) {
            continue;
        }
        let version = run_probe(&directory.join("pg_dump"), &["--version"]).await;
        if let Some((major, version)) = version.and_then(|(stdout, _)| parse_version(&stdout)) {
            installations.push(ClientInstallation { directory, major, version });
        }
    }
    installations
}

/// The first installation of the smallest major version that is new enough: pg_dump refuses a server newer than itself
/// (<https://www.postgresql.org/docs/current/app-pgdump.html#PG-DUMP-NOTES>), and an archive of a newer one is harder to restore
/// into an old server.
///
/// # Errors
/// [`MissingClient`].
pub fn choose_installation(
    installations: &[ClientInstallation],
    server_major: u32,
) -> Result<&ClientInstallation, MissingClient> {
    let candidates = installations.iter().filter(|installation| installation.major >= server_major);
    let installed = || installations.iter().map(|installation| installation.version.clone()).collect();
    let missing = || MissingClient { server_major, installed: installed() };
    candidates.min_by_key(|installation| installation.major).ok_or_else(missing)
}

/// Debian keeps each major version in a directory of its own.
fn debian_directories() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut directories: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
    directories.sort();
    directories
}

/// Debian's `/usr/bin/pg_dump` is a link to a script that chooses a version by this machine's clusters, so it is left out.
fn is_program(directory: &Path, name: &str) -> bool {
    let resolved = std::fs::canonicalize(directory.join(name));
    resolved.is_ok_and(|path| path.is_file() && path.file_name().is_some_and(|file| file != "pg_wrapper"))
}

/// "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" → 15 and "15.18".
fn parse_version(output: &str) -> Option<(u32, String)> {
    let version = output.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, version.to_owned()))
}

async fn run_probe(program: &Path, arguments: &[&str]) -> Option<(String, String)> {
    let mut command = command(program);
    let output = command.args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(PROBE_TIMEOUT, output).await.ok()?.ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((text(&output.stdout), text(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        connection.set_environment(&mut command, major);
        let found = command.as_std().get_envs().find(|(key, _)| *key == name)?.1?;
        Some(found.to_string_lossy().into_owned())
    }

    #[test]
    fn tls_is_verified_unless_it_is_off() {
        let verified = connection(Tls::Verified { ca_file: None });
        assert_eq!(variable(&verified, 17, "PGSSLMODE").as_deref(), Some("verify-full"));
        assert_eq!(variable(&verified, 17, "PGSSLROOTCERT").as_deref(), Some("system"));
        assert!(variable(&verified, 15, "PGSSLROOTCERT").unwrap().starts_with("/etc/"));
        let custom_ca = connection(Tls::Verified { ca_file: Some("/etc/ours.pem".into()) });
        assert_eq!(variable(&custom_ca, 17, "PGSSLROOTCERT").as_deref(), Some("/etc/ours.pem"));
        assert_eq!(variable(&connection(Tls::Off), 17, "PGSSLMODE").as_deref(), Some("disable"));
    }

    #[test]
    fn the_command_line_names_the_database_and_no_secret() {
        let connection = connection(Tls::Off);
        assert!(connection.dbname_argument().starts_with(r"--dbname=dbname='o\'hara \\ db' "));
        assert!(!connection.dbname_argument().contains("hush"));
        assert_eq!(variable(&connection, 15, "PGPASSWORD").as_deref(), Some("hush"));
    }

    #[test]
    fn a_reason_has_neither_address_nor_query() {
        let login_failure_output = "pg_dump: error: connection to server at \"db.example.com\" (10.0.0.7), port 5432 failed: \
            FATAL:  password authentication failed for user \"dumper\"\n";
        let failure = ClientFailure::read(login_failure_output).unwrap();
        let reason = failure.to_string();
        assert_eq!(reason, "FATAL: password authentication failed for user \"dumper\"");
        let broken_connection_output = "pg_dump: error: Dumping the contents of table \"a\" failed: PQgetCopyData() failed.\n\
            pg_dump: detail: Error message from server: server closed the connection unexpectedly\n\
            \tThis probably means the server terminated abnormally\n\
            pg_dump: detail: Command was: COPY public.a (secret) TO stdout;\n";
        let error = ClientFailure::read(broken_connection_output).unwrap().to_string();
        assert!(error.ends_with("failed.: server closed the connection unexpectedly"), "{error}");
        assert_eq!(ClientFailure::read("pg_dump: warning: something\n"), None);
    }

    #[test]
    fn a_servers_words_are_shown_in_english_alone() {
        let hidden = "the server refused it in another language than English, which is not shown";
        for (message, in_english, expected) in [
            ("query failed: ERROR:  permission denied for table users", true, None),
            ("query failed: FEHLER:  keine Berechtigung für Tabelle jane", true, Some("query failed: ")),
            ("query failed: ERROR:  permiso denegado a la tabla jane", false, Some("query failed: ")),
            ("query failed: 오류:  jane 테이블 접근 권한 없음", true, Some("query failed: ")),
            (
                "connection to server at \"db\", port 5432 failed: FATAL:  el rol «jane» no existe",
                false,
                Some(""),
            ),
            ("aborting because of server version mismatch", false, None),
        ] {
            let failure = ClientFailure::read(&format!("pg_dump: error: {message}\n")).unwrap();
            let shown = ClientFailure { in_english, ..failure }.to_string();
            let expected = expected.map_or(message.replace(":  ", ": "), |own| format!("{own}{hidden}"));
            assert_eq!(shown.replace(":  ", ": "), expected, "{message}");
        }
    }

    fn installation(major: u32, directory: &str) -> ClientInstallation {
        ClientInstallation { directory: directory.into(), major, version: format!("{major}.4") }
    }

    #[test]
    fn reads_what_pg_dump_says_of_itself() {
        let debian = parse_version("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
        assert_eq!(debian, Some((15, "15.18".to_owned())));
        assert_eq!(parse_version("pg_dump (PostgreSQL) 19beta1\n"), Some((19, "19beta1".to_owned())));
        assert_eq!(parse_version("pg_dump: command not found"), None);
    }

    #[test]
    fn takes_the_nearest_major_that_is_new_enough_and_of_equal_ones_the_first() {
        let installations =
            [installation(18, "/a"), installation(16, "/b"), installation(16, "/c"), installation(14, "/d")];
        assert_eq!(choose_installation(&installations, 15).unwrap().directory, Path::new("/b"));
        assert_eq!(choose_installation(&installations, 17).unwrap().directory, Path::new("/a"));
        assert_eq!(choose_installation(&installations, 14).unwrap().directory, Path::new("/d"));
    }

    #[test]
    fn says_what_is_lacking_and_what_to_install() {
        let missing = choose_installation(&[installation(15, "/a")], 17).unwrap_err();
        assert_eq!(missing.to_string(), "needs pg_dump 17 or newer, and Countersign has only 15.4");
        assert!(missing.install_hint().contains("postgresql-client-17"));
        assert!(choose_installation(&[], 17).unwrap_err().to_string().ends_with("Countersign has none"));
    }
}
