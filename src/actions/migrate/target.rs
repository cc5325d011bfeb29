//! A service's migrations in one environment: which database, as whom, and by which command. It starts nothing.

use super::database_url::{DatabaseUrl, forms};
use super::migration_history::{Executor, HistoryError, MigrationHistory};
use super::output::CapturedOutput;
use crate::actions::support::subprocess;
use crate::app::App;
use crate::config::{EnvValue, Environment, Login, Migrate, Server, Service};
use crate::error::{Error, Result};
use crate::model::Plan;
use crate::postgres::{Address, PooledClient};
use secrecy::{ExposeSecret, SecretString};
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub struct MigrateTarget<'a> {
    pub environment: &'a Environment,
    pub server: &'a Server,
    pub service: &'a Service,
    pub migrate: &'a Migrate,
    pub login: Login,
    /// As the command's header names it.
    login_name: &'a str,
}

/// Who holds Prisma's advisory lock.
pub struct LockHolder {
    pub pid: i32,
    pub app: String,
    pub state: String,
    pub for_s: f64,
}

impl<'a> MigrateTarget<'a> {
    /// # Errors
    /// [`Error::User`]: nobody says how the service's migrations are deployed.
    pub fn of(
        app: &'a App,
        (environment, service): (&str, &str),
        login_name: &'a str,
    ) -> Result<MigrateTarget<'a>> {
        let environment = app.environments.environment(environment)?;
        let service = app.environments.service(service)?;
        let unknown = || Error::user(format!("{} is on no server of {}.", service.name, environment.name));
        let server = app.environments.server_of(environment, service).ok_or_else(unknown)?;
        let migrate = service.migrate.as_ref().ok_or_else(|| {
            Error::instead(
                format!("Nobody has said how {}'s migrations are deployed.", service.name),
                "The section `[migrate]` of the configuration names the command.",
            )
        })?;
        let (_, login) = app.environments.login(environment, login_name)?;
        Ok(MigrateTarget { environment, server, service, migrate, login, login_name })
    }

    pub fn database(&self) -> &str {
        &self.service.database
    }

    /// For questions with that login; the command's own is the owner's.
    pub fn address(&self, login: &str) -> Address {
        Address {
            environment: self.environment.name.clone(),
            server: self.server.name.clone(),
            database: Some(self.service.database.clone()),
            login: login.to_owned(),
        }
    }

    pub fn own_address(&self) -> Address {
        self.address(self.login_name)
    }

    /// What no other run may do meanwhile, here or through another Countersign.
    pub fn resource(&self) -> String {
        format!("migration of {}", self.database())
    }

    /// What is applied and what is to come, as the login sees it that would do it.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn status(&self, asker: &Executor<'_>) -> std::result::Result<MigrationHistory, HistoryError> {
        MigrationHistory::read(asker, &self.migrate.schema, self.service.migrations.as_ref()).await
    }

    /// The argv. Each word's names are filled in; no word becomes two, and none becomes an option that it wasn't.
    ///
    /// # Errors
    /// [`Error::User`].
    pub fn argv(&self, words: &[String], more: &[(&str, &str)]) -> Result<Vec<String>> {
        words
            .iter()
            .map(|word| {
                let filled = self.filled(word, more);
                if filled.starts_with('-') && !word.starts_with('-') {
                    return Err(Error::user(format!(
                        "“{filled}” begins with a dash and would be taken for an option."
                    )));
                }
                Ok(filled)
            })
            .collect()
    }

    /// The database last: its name may hold anything, and nothing is filled into it.
    fn filled(&self, text: &str, more: &[(&str, &str)]) -> String {
        let known =
            [("service", self.service.name.as_str()), ("environment", self.environment.name.as_str())];
        let last = [("database", self.service.database.as_str())];
        let all = known.iter().chain(more).chain(&last);
        all.fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }

    pub fn directory(&self) -> PathBuf {
        PathBuf::from(self.filled(&self.migrate.directory.to_string_lossy(), &[]))
    }

    /// Whether the command could be started at all.
    ///
    /// # Errors
    /// [`Error::User`], with what is missing where Countersign runs.
    pub fn check(&self, argv: &[String]) -> Result<()> {
        let directory = self.directory();
        if !directory.is_dir() {
            return Err(Error::instead(
                format!("{} isn't there, where the command would run.", directory.display()),
                "It is `directory` in `[migrate]` of the configuration.",
            ));
        }
        let program = argv.first().map_or("", String::as_str);
        let path = match self.migrate.env.get("PATH") {
            Some(EnvValue::Plain(path)) => path.as_str(),
            _ => "",
        };
        let places = path.split(':').filter(|place| !place.is_empty());
        let found = match program.contains('/') {
            true => Path::new(program).is_file(),
            false => places.into_iter().any(|place| Path::new(place).join(program).is_file()),
        };
        match found {
            true => Ok(()),
            false => Err(Error::instead(
                format!("The program {program} isn't there, where Countersign runs."),
                "Install it, or name its path in `[migrate]` of the configuration.",
            )),
        }
    }

    /// The command, ready to be started: its secrets are in its environment and nowhere else.
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
        let connection = DatabaseUrl {
            environment: self.environment,
            server: self.server,
            database: self.database(),
            login: &self.login,
            schema: &self.migrate.schema,
            application,
        };
        connection.url()
    }

    /// Hides whatever the command is given, by its value.
    pub fn ear(&self, url: &SecretString, names: &[&str]) -> CapturedOutput {
        let settings = self.migrate.env.values().filter_map(|setting| match setting {
            EnvValue::Secret(secret) => Some(secret),
            EnvValue::Plain(_) => None,
        });
        let secrets = settings.chain([url]).chain(self.login.password.as_ref());
        CapturedOutput::new(
            secrets.flat_map(forms).collect(),
            names.iter().map(|name| (*name).to_owned()).collect(),
        )
    }

    /// The database, and the command to the letter, for a plan.
    pub fn describe(&self, plan: &mut Plan, argv: &[String]) {
        plan.identity.insert("server".to_owned(), self.server.name.clone());
        plan.identity.insert("database".to_owned(), self.database().to_owned());
        plan.identity.insert("role".to_owned(), self.login.user.clone());
        plan.code = Some(self.shown(argv));
        plan.resource_locks = vec![self.resource()];
        let mut names: Vec<&str> = self.migrate.env.keys().map(String::as_str).collect();
        names.push(&self.migrate.url);
        plan.context.push(("its variables".to_owned(), names.join(", ")));
        let limit = crate::sql::duration(self.migrate.within.as_secs_f64());
        plan.context.push(("time limit".to_owned(), format!("{limit}; then it is ended")));
    }

    /// Title and text of the command on a card. Words that a shell would read otherwise stand in quotes.
    pub fn shown(&self, argv: &[String]) -> (String, String) {
        let plain = |word: &String| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c))
        };
        let words = argv.iter().map(|word| if plain(word) { word.clone() } else { format!("{word:?}") });
        let line = words.collect::<Vec<_>>().join(" ");
        ("The command, without a shell".to_owned(), format!("cd {}\n{line}", self.directory().display()))
    }
}

/// Who holds Prisma's lock on the database.
///
/// # Errors
/// [`HistoryError`].
pub async fn holder(reader: &PooledClient) -> std::result::Result<Option<LockHolder>, HistoryError> {
    let rows = reader.ask(include_str!("lock_holder.sql"), &[]).await?;
    Ok(rows.first().map(|row| LockHolder {
        pid: row.get("pid"),
        app: row.get("app"),
        state: row.get("state"),
        for_s: row.get::<_, Option<f64>>("for_s").unwrap_or_default(),
    }))
}

/// Azure's PgBouncer. A session behind it is anybody's, and Prisma's lock is a session's.
const POOLER: u16 = 6432;

/// # Errors
/// [`Error::User`] when the server is a pooler.
pub fn is_direct(server: &Server) -> Result<()> {
    match server.port {
        POOLER => Err(Error::instead(
            format!(
                "{} is reached by port {POOLER}, which is a pooler's: Prisma's lock would be lost in it.",
                server.name
            ),
            "Give the server's own port, 5432, in the configuration.",
        )),
        _ => Ok(()),
    }
}
