//! A service's migrations in one environment: the database, the role and the command. Nothing is started here.

use super::migration_history::{HistoryError, MigrationHistory};
use super::output::CapturedOutput;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::subprocess;
use crate::config::{EnvValue, Environment, LoginCredentials, MigrateSettings, Server, Service, Tls};
use crate::error::{Error, Result};
use crate::files;
use crate::model::LoginKind;
use crate::postgres::{Address, ColumnError, Environments, PooledClient, QueryError, migration_options};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Bytes that don't stay as they are in every part of a URL (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Bytes that `encodeURIComponent` encodes.
const JAVASCRIPT: &AsciiSet = &RESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');

pub struct MigrateTarget<'a> {
    pub environment: &'a Environment,
    pub server: &'a Server,
    pub service: &'a Service,
    pub migrate: &'a MigrateSettings,
    pub role: LoginCredentials,
    /// The database through the command's own login, and through the reader.
    pub connections: DatabaseTarget,
}

/// What a plan's identity has beside the database: the digests of its migration history and of the migrations directory.
#[derive(Default, Serialize, Deserialize)]
pub struct MigrateIdentity {
    #[serde(rename = "ledger")]
    pub history_digest: String,
    /// `None` where no directory is configured.
    #[serde(rename = "migrations", default, skip_serializing_if = "Option::is_none")]
    pub directory_digest: Option<String>,
}

/// The session that holds Prisma's advisory lock.
pub struct LockHolder {
    pub pid: i32,
    pub app: String,
    pub state: String,
    /// Seconds that it has been in its state.
    pub for_s: f64,
}

impl<'a> MigrateTarget<'a> {
    /// The target of a service, if a deploy command is configured for it.
    pub fn new(
        environments: &'a Environments,
        environment: &str,
        service: &str,
        login: LoginKind,
    ) -> Result<MigrateTarget<'a>> {
        let (environment, service) = (environments.environment(environment)?, environments.service(service)?);
        let unknown = || Error::user(format!("{} is on no server of {}.", service.name, environment.name));
        let server = environments.server_of(environment, service).ok_or_else(unknown)?;
        let Some(migrate) = &service.migrate else {
            let problem = format!("No deploy command is configured for {}.", service.name);
            return Err(Error::instead(problem, "Set `deploy` in `[migrate]` of the configuration."));
        };
        let (_, role) = environments.login(environment, login)?;
        let database = service.database.clone();
        let address = Address::new(&environment.name, &server.name, login).in_database(database.clone());
        let connections = DatabaseTarget { address, database, role: role.user.clone() };
        Ok(MigrateTarget { environment, server, service, migrate, role, connections })
    }

    pub fn database(&self) -> &str {
        &self.service.database
    }

    /// The resource that a run locks against every other run, here and in other Countersign instances.
    pub fn resource(&self) -> String {
        format!("migration of {}", self.database())
    }

    pub async fn history(&self, client: &PooledClient) -> Result<MigrationHistory, HistoryError> {
        MigrationHistory::read(client, &self.migrate.schema, self.service.migrations.as_ref()).await
    }

    /// The argv, with each word's placeholders filled in. No word becomes two, and no word becomes an option.
    pub fn argv(&self, words: &[String], more: &[(&str, &str)]) -> Result<Vec<String>> {
        let mut argv = Vec::new();
        for word in words {
            let filled = self.fill_in(word, more);
            if filled.starts_with('-') && !word.starts_with('-') {
                let problem = format!("“{filled}” begins with a dash and would be read as an option.");
                return Err(Error::user(problem));
            }
            argv.push(filled);
        }
        Ok(argv)
    }

    /// Fills in the database last: its name may contain anything, also a placeholder.
    fn fill_in(&self, text: &str, more: &[(&str, &str)]) -> String {
        let known =
            [("service", self.service.name.as_str()), ("environment", self.environment.name.as_str())];
        let last = [("database", self.service.database.as_str())];
        let all = known.iter().chain(more).chain(&last);
        all.fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }

    pub fn directory(&self) -> PathBuf {
        PathBuf::from(self.fill_in(&self.migrate.directory.to_string_lossy(), &[]))
    }

    /// Checks that the command can be started where Countersign runs.
    pub fn check(&self, argv: &[String]) -> Result<()> {
        let directory = self.directory();
        if !directory.is_dir() {
            let problem = format!("The command's working directory {} doesn't exist.", directory.display());
            let instead = "Create it, or correct `directory` in `[migrate]` of the configuration.";
            return Err(Error::instead(problem, instead));
        }
        if let Err(error) = files::check_executable(&directory) {
            let problem =
                format!("The command's working directory {} can't be entered: {error}.", directory.display());
            let instead = "Let the account that Countersign runs as enter it, or correct `directory` in `[migrate]` of the configuration.";
            return Err(Error::instead(problem, instead));
        }
        let program = argv.first().map_or("", String::as_str);
        let Some(path) = self.installed(program) else {
            let problem = format!("The program {program} is not installed where Countersign runs.");
            let instead = "Install it, or set its path in `[migrate]` of the configuration.";
            return Err(Error::instead(problem, instead));
        };
        files::check_executable(&path).map_err(|error| {
            let problem = format!("The program {program} can't be started: {error}.");
            let instead = "Make it executable for the account that Countersign runs as, or set another path in `[migrate]` of the configuration.";
            Error::instead(problem, instead)
        })
    }

    /// The program's file, where it is installed.
    fn installed(&self, program: &str) -> Option<PathBuf> {
        let candidates: Vec<PathBuf> = match self.migrate.env.get("PATH") {
            _ if program.contains('/') => vec![PathBuf::from(program)],
            Some(EnvValue::Plain(path)) => {
                let directories = path.split(':').filter(|directory| !directory.is_empty());
                directories.map(|directory| Path::new(directory).join(program)).collect()
            }
            _ => Vec::new(),
        };
        candidates.into_iter().find(|path| path.is_file())
    }

    /// The command, ready to be started. Secrets are only in its environment.
    pub fn command(&self, argv: &[String], url: &SecretString) -> tokio::process::Command {
        let mut command = subprocess::command(Path::new(argv.first().map_or("", String::as_str)));
        command.env_clear().args(argv.iter().skip(1)).current_dir(self.directory()).stdin(Stdio::null());
        for (name, value) in &self.migrate.env {
            match value {
                EnvValue::Plain(text) => command.env(name, text),
                EnvValue::Secret(secret) => command.env(name, secret.expose_secret()),
            };
        }
        command.env(&self.migrate.url, url.expose_secret());
        command
    }

    /// The database's URL in Prisma's form, directly to the server: a pooler would give Prisma's advisory lock to another client.
    /// <https://www.prisma.io/docs/orm/overview/databases/postgresql#connection-details>
    pub fn url(&self, application: &str, server_major: u32) -> SecretString {
        let Server { host, port, .. } = self.server;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let mut url = format!("postgresql://{}", encoded(&self.role.user));
        if let Some(password) = &self.role.password {
            url += &format!(":{}", encoded(password.expose_secret()));
        }
        url += &format!("@{host}:{port}/{}?", encoded(self.database()));
        // Prisma checks a certificate only if `sslaccept` says so; its `sslcert` is the authority's.
        match &self.environment.tls {
            Tls::Off => url += "sslmode=disable",
            Tls::Verified { ca_file } => {
                url += "sslmode=require&sslaccept=strict";
                if let Some(file) = ca_file.as_ref().and_then(|file| std::path::absolute(file).ok()) {
                    url += &format!("&sslcert={}", encoded(&file.to_string_lossy()));
                }
            }
        }
        url += &format!("&application_name={}", encoded(application));
        url += &format!("&options={}", encoded(&migration_options(server_major)));
        if self.migrate.schema != "public" {
            url += &format!("&schema={}", encoded(&self.migrate.schema));
        }
        url.into()
    }

    /// A buffer for the output, which hides every secret that the command is given.
    pub fn captured_output(&self, url: &SecretString, names: Vec<String>) -> CapturedOutput {
        let settings = self.migrate.env.values().filter_map(|setting| match setting {
            EnvValue::Secret(secret) => Some(secret),
            EnvValue::Plain(_) => None,
        });
        let secrets = settings.chain([url]).chain(self.role.password.as_ref());
        CapturedOutput::new(secrets.flat_map(forms).collect(), names)
    }

    /// Title and text of the command on a card. A word with a character that a shell would interpret is quoted.
    pub fn code(&self, argv: &[String]) -> (String, String) {
        let plain = |word: &String| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c))
        };
        let words = argv.iter().map(|word| if plain(word) { word.clone() } else { format!("{word:?}") });
        let line = words.collect::<Vec<_>>().join(" ");
        ("The command, without a shell".to_owned(), format!("cd {}\n{line}", self.directory().display()))
    }
}

/// Refuses a database in which Prisma's own SQL would call what somebody created in place of PostgreSQL's functions and operators,
/// with the rights of the role that migrates. Prisma needs the schema of its tables on its search_path.
///
/// # Errors
/// [`Error::User`], and a failed query.
pub async fn ensure_no_shadowing(target: &MigrateTarget<'_>, client: &PooledClient) -> Result<()> {
    let sql = include_str!("shadowing.sql");
    let rows = client.query(sql, &[&target.migrate.schema]).await;
    let rows = rows.map_err(|error| target.connections.query_error(&error))?;
    let Some(first) = rows.first().and_then(|row| row.value::<String>(0)) else { return Ok(()) };
    let database = target.database();
    Err(Error::instead(
        format!(
            "In {database}, Prisma would call {first} in place of PostgreSQL's own, with the rights of the login that migrates."
        ),
        format!("The owner of that object drops it, or moves it to another schema: `DROP {first}`."),
    ))
}

/// Finds the session that holds Prisma's lock on the database.
pub async fn lock_holder(reader: &PooledClient) -> Result<Option<LockHolder>, HistoryError> {
    let rows = reader.query(include_str!("lock_holder.sql"), &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let holder = || {
        Ok(LockHolder {
            pid: row.get("pid")?,
            app: row.get("app")?,
            state: row.get("state")?,
            for_s: row.value("for_s").unwrap_or_default(),
        })
    };
    holder().map(Some).map_err(|error: ColumnError| QueryError::from(error).into())
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A secret and its encoded forms in a URL.
fn forms(secret: &SecretString) -> Vec<String> {
    let plain = secret.expose_secret();
    let strict = encoded(plain);
    let javascript = utf8_percent_encode(plain, JAVASCRIPT).to_string();
    vec![plain.to_owned(), lower_hex(&strict), lower_hex(&javascript), strict, javascript]
}

/// `%2F` → `%2f`.
fn lower_hex(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        text.push_str(&format!("%{}{rest}", digits.to_lowercase()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(tls: &str, host: &str, schema: &str) -> String {
        let text = format!(
            "listen = \"127.0.0.1:1\"\n[store]\npath = \"x\"\n[backups]\ndirectory = \"x\"\n\
             [[environments]]\nname = \"e\"\nproduction = false\n{tls}\n\
             [[environments.servers]]\nname = \"s\"\nhost = \"{host}\"\n\
             [environments.logins]\nreader = {{ user = \"r\" }}\noperator = {{ user = \"o\" }}\n\
             [[services]]\nname = \"a\"\ndatabase = \"a db?\"\n\
             migrate = {{ deploy = [\"x\"], directory = \"/\", schema = \"{schema}\" }}\n"
        );
        let config = crate::config::Config::parse("x.toml", &text, &|_| None).unwrap();
        let (environment, service) = (&config.environments[0], &config.services[0]);
        let role = LoginCredentials { user: "o'hara@x".into(), password: Some("p:a/s#s %w".into()) };
        let (server, migrate) = (&environment.servers[0], service.migrate.as_ref().unwrap());
        let address = Address::new("e", "s", LoginKind::Operator);
        let connections = DatabaseTarget { address, database: String::new(), role: String::new() };
        let target = MigrateTarget { environment, server, service, migrate, role, connections };
        target.url("countersign #7 ana", 13).expose_secret().to_owned()
    }

    #[test]
    fn every_part_is_encoded_and_the_certificate_is_checked() {
        assert_eq!(
            url("", "db.example.com", "public"),
            "postgresql://o%27hara%40x:p%3Aa%2Fs%23s%20%25w@db.example.com:5432/a%20db%3F\
             ?sslmode=require&sslaccept=strict&application_name=countersign%20%237%20ana\
             &options=-c%20default_transaction_isolation%3Dread%5C%20committed%20-c%20default_transaction_deferrable%3Doff\
             %20-c%20statement_timeout%3D0%20-c%20idle_in_transaction_session_timeout%3D0"
        );
        let local = url("tls = \"off\"", "::1", "Own");
        assert!(local.contains("@[::1]:5432/") && local.contains("?sslmode=disable&"), "{local}");
        assert!(local.ends_with("&schema=Own"), "{local}");
    }

    #[test]
    fn a_secret_is_known_in_every_form_that_a_url_gives_it() {
        let forms = forms(&"p(A/s".into());
        for form in ["p(A/s", "p%28A%2Fs", "p%28A%2fs", "p(A%2Fs", "p(A%2fs"] {
            assert!(forms.iter().any(|known| known == form), "{form} is not in {forms:?}");
        }
    }
}
