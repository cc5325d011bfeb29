//! A service's migrations in one environment: the database, the role and the command. Nothing is started here.

use super::database_url::{DatabaseUrl, forms};
use super::migration_history::{HistoryError, MigrationHistory};
use super::output::CapturedOutput;
use crate::actions::support::subprocess;
use crate::app::App;
use crate::config::{EnvValue, Environment, LoginCredentials, MigrateSettings, Server, Service};
use crate::error::{Error, Result};
use crate::model::Login;
use crate::postgres::{Address, PooledClient};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub struct MigrateTarget<'a> {
    pub environment: &'a Environment,
    pub server: &'a Server,
    pub service: &'a Service,
    pub migrate: &'a MigrateSettings,
    pub role: LoginCredentials,
    login: Login,
}

/// The identity of a plan: the database, and the digests of its migration history and of the migrations directory.
#[derive(Default, Serialize, Deserialize)]
pub struct MigrateIdentity {
    pub server: String,
    pub database: String,
    pub role: String,
    pub ledger: String,
    /// `None` where no directory is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrations: Option<String>,
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
    pub fn new(app: &'a App, environment: &str, service: &str, login: Login) -> Result<MigrateTarget<'a>> {
        let environment = app.environments.environment(environment)?;
        let service = app.environments.service(service)?;
        let unknown = || Error::user(format!("{} is on no server of {}.", service.name, environment.name));
        let server = app.environments.server_of(environment, service).ok_or_else(unknown)?;
        let migrate = service.migrate.as_ref().ok_or_else(|| {
            Error::instead(
                format!("No deploy command is configured for {}.", service.name),
                "Set `deploy` in `[migrate]` of the configuration.",
            )
        })?;
        let (_, role) = app.environments.login(environment, login)?;
        Ok(MigrateTarget { environment, server, service, migrate, role, login })
    }

    pub fn database(&self) -> &str {
        &self.service.database
    }

    /// The database through that login.
    pub fn address(&self, login: Login) -> Address {
        Address::new(&self.environment.name, &self.server.name, login)
            .in_database(self.service.database.clone())
    }

    /// The database through the command's own login.
    pub fn command_address(&self) -> Address {
        self.address(self.login)
    }

    /// The resource that a run locks against every other run, here and in other Countersign instances.
    pub fn resource(&self) -> String {
        format!("migration of {}", self.database())
    }

    pub async fn history(
        &self,
        client: &PooledClient,
    ) -> std::result::Result<MigrationHistory, HistoryError> {
        MigrationHistory::read(client, &self.migrate.schema, self.service.migrations.as_ref()).await
    }

    /// The argv, with each word's placeholders filled in. No word becomes two, and no word becomes an option.
    pub fn argv(&self, words: &[String], more: &[(&str, &str)]) -> Result<Vec<String>> {
        let mut argv = Vec::new();
        for word in words {
            let filled = self.fill_in(word, more);
            if filled.starts_with('-') && !word.starts_with('-') {
                return Err(Error::user(format!(
                    "“{filled}” begins with a dash and would be read as an option."
                )));
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
            return Err(Error::instead(
                format!("The command's working directory {} doesn't exist.", directory.display()),
                "Create it, or correct `directory` in `[migrate]` of the configuration.",
            ));
        }
        let program = argv.first().map_or("", String::as_str);
        let exists = match self.migrate.env.get("PATH") {
            _ if program.contains('/') => Path::new(program).is_file(),
            Some(EnvValue::Plain(path)) => {
                let mut directories = path.split(':').filter(|directory| !directory.is_empty());
                directories.any(|directory| Path::new(directory).join(program).is_file())
            }
            _ => false,
        };
        if exists {
            return Ok(());
        }
        Err(Error::instead(
            format!("The program {program} is not installed where Countersign runs."),
            "Install it, or set its path in `[migrate]` of the configuration.",
        ))
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

    pub fn url(&self, application: &str) -> SecretString {
        DatabaseUrl {
            environment: self.environment,
            server: self.server,
            database: self.database(),
            login: &self.role,
            schema: &self.migrate.schema,
            application,
        }
        .url()
    }

    /// A buffer for the output, which hides every secret that the command is given.
    pub fn captured_output(&self, url: &SecretString, names: &[&str]) -> CapturedOutput {
        let settings = self.migrate.env.values().filter_map(|setting| match setting {
            EnvValue::Secret(secret) => Some(secret),
            EnvValue::Plain(_) => None,
        });
        let secrets = settings.chain([url]).chain(self.role.password.as_ref());
        CapturedOutput::new(
            secrets.flat_map(forms).collect(),
            names.iter().map(|name| (*name).to_owned()).collect(),
        )
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

/// Finds the session that holds Prisma's lock on the database.
pub async fn lock_holder(reader: &PooledClient) -> std::result::Result<Option<LockHolder>, HistoryError> {
    let rows = reader.query(include_str!("lock_holder.sql"), &[]).await?;
    Ok(rows.first().map(|row| LockHolder {
        pid: row.get("pid"),
        app: row.get("app"),
        state: row.get("state"),
        for_s: row.get::<_, Option<f64>>("for_s").unwrap_or_default(),
    }))
}

/// Port of Azure's PgBouncer. It shares sessions between clients, and Prisma's lock belongs to a session.
const POOLER_PORT: u16 = 6432;

/// Refuses a server that is a pooler.
pub fn require_direct(server: &Server) -> Result<()> {
    if server.port != POOLER_PORT {
        return Ok(());
    }
    Err(Error::instead(
        format!(
            "Port {POOLER_PORT} of {} is a connection pooler's, which would lose Prisma's lock.",
            server.name
        ),
        "Set the server's own port, 5432, in the configuration.",
    ))
}
