//! Checks before an incident, for `countersign check`: for every environment, server and login, what works, what is missing and
//! how to fix it. They change nothing: no server, no file.

use crate::access::Access;
use crate::actions::backup::{ClientInstallation, choose_installation, find_installations};
use crate::catalog::Catalog;
use crate::config::{
    Config, ConfigPart, Environment, LoginCredentials, RedisSettings, Server, StoreSettings,
};
use crate::model::LoginKind;
use crate::postgres::{Address, Environments, PgRow, PooledClient, QueryError, QueryResult, Unreachable};
use crate::schedule::EnvironmentWindow;
use crate::shared_state::check_redis;
use crate::webhook::Webhook;
use secrecy::SecretString;
use tokio_postgres::types::ToSql;

mod custom_commands;
mod databases;
mod host;
mod needs;
mod report;
mod rules;
mod unreachable;

use report::HOST_SECTION;
pub use report::{CheckStatus, Finding, Report};

/// Configuration and connections that the checks use.
pub struct CheckContext<'a> {
    pub config: &'a Config,
    pub catalog: &'a Catalog,
    pub environments: &'a Environments,
    pub access: &'a Access,
    pub schedule: &'a [EnvironmentWindow],
}

/// Checks a part, or all: the environments in parallel. The chat platforms add their own findings.
pub async fn check(context: &CheckContext<'_>, only: Option<ConfigPart>) -> Report {
    let includes = |part| only.is_none_or(|only| only == part);
    let audit_log = match &context.config.store {
        StoreSettings::Postgres(settings) if includes(ConfigPart::Host) => {
            let checked = host::audit_log_server(settings).await;
            if let Some(server) = checked.system_identifier {
                context.environments.exclude(server);
            }
            checked.findings
        }
        _ => Vec::new(),
    };
    let mut sections = Vec::new();
    if includes(ConfigPart::Servers) {
        let installations = find_installations(&context.config.backups).await;
        let environments = context.config.environments.iter();
        let checks = environments.map(|environment| check_environment(context, &installations, environment));
        sections = futures::future::join_all(checks).await;
    }
    if includes(ConfigPart::Host) {
        sections.push((HOST_SECTION.to_owned(), [audit_log, host::check(context).await].concat()));
    }
    if only.is_none() {
        sections.push((rules::RULES_SECTION.to_owned(), rules::check(context)));
    }
    let mut report = Report { only, sections };
    if let Some(settings) = context.config.redis.as_ref().filter(|_| includes(ConfigPart::Host)) {
        report.add_finding(redis(settings).await);
    }
    if let Some(url) = context.config.webhook.as_ref().filter(|_| includes(ConfigPart::Chat)) {
        report.add_finding(webhook(url).await);
    }
    report
}

/// The finding about Redis, without which Countersign works.
async fn redis(settings: &RedisSettings) -> Finding {
    let subject = "Redis";
    match check_redis(settings).await {
        Ok(()) => Finding::works(subject, "answers, and takes what replicas share"),
        Err(obstacle) => {
            let details = format!(
                "{obstacle}; until it can be used, each replica keeps its own pace, and shows no progress of the others"
            );
            let finding = Finding::missing(subject, details, obstacle.fix());
            Finding { status: CheckStatus::Optional, ..finding }
        }
    }
}

/// The finding about the webhook, to which nothing is sent.
async fn webhook(url: &SecretString) -> Finding {
    let subject = "webhook";
    match Webhook::new(url) {
        Ok(webhook) => match webhook.check().await {
            Ok(()) => Finding::works(subject, "answers; it was asked by HEAD, and no event was sent"),
            Err(problem) => {
                let fix =
                    "Correct the address that `url` of `[webhook]` names, and let Countersign connect to it.";
                Finding::missing(subject, problem, fix)
            }
        },
        Err(error) => Finding::missing(
            subject,
            format!("can't be asked: {error:#}"),
            "Install the system's certificates.",
        ),
    }
}

async fn check_environment(
    context: &CheckContext<'_>,
    installations: &[ClientInstallation],
    environment: &Environment,
) -> (String, Vec<Finding>) {
    let servers = environment.servers.iter();
    let checks = servers.map(|server| check_server(context, installations, environment, server));
    let findings = futures::future::join_all(checks).await.into_iter().flatten().collect();
    (environment.name.clone(), findings)
}

const APPLICATION_NAME: &str = "countersign check";

/// The server under check.
struct ServerCheck<'a> {
    environments: &'a Environments,
    environment: &'a Environment,
    server: &'a Server,
}

/// Checks one server. An error that keeps every login out is reported once.
async fn check_server(
    context: &CheckContext<'_>,
    installations: &[ClientInstallation],
    environment: &Environment,
    server: &Server,
) -> Vec<Finding> {
    let check = ServerCheck { environments: context.environments, environment, server };
    let mut findings = Vec::new();
    let others = environment.logins.keys().copied().filter(|login| *login != LoginKind::Reader);
    for login in [LoginKind::Reader].into_iter().chain(others) {
        let Some(credentials) = environment.logins.get(&login) else { continue };
        let needs = check.needs(context.catalog, login);
        match check.connect(login, None).await {
            Err(error) => {
                let subject = check.subject(login);
                findings.push(check.unreachable(&subject, &error, credentials, None));
                // The same for every login, so that one finding is enough.
                if error.is_of_server() {
                    return findings;
                }
            }
            Ok(client) if login == LoginKind::Reader => {
                let missing = check.server_needs(&client, login, &needs).await;
                findings.extend(or_failed(check.subject(login), check.reader(&client, missing).await));
                let database = &environment.maintenance_database;
                if !check.databases_of_services().contains(database.as_str()) {
                    let subject = format!("{}/{database}", server.name);
                    findings.extend(or_failed(subject.clone(), databases::schemas(&subject, &client).await));
                }
                findings.push(client_program(&server.name, client.major(), installations));
            }
            Ok(client) => {
                let missing = check.server_needs(&client, login, &needs).await;
                findings
                    .extend(or_failed(check.subject(login), check.non_reader(&client, login, missing).await));
                drop(client);
                findings.extend(check.database_needs(login, &needs).await);
            }
        }
    }
    findings.extend(check.databases(&check.needs(context.catalog, LoginKind::Reader)).await);
    findings.extend(check.custom_commands(context.catalog).await);
    findings
}

impl ServerCheck<'_> {
    /// "main as reader".
    fn subject(&self, login: LoginKind) -> String {
        format!("{} as {login}", self.server.name)
    }

    async fn connect(&self, login: LoginKind, database: Option<&str>) -> Result<PooledClient, Unreachable> {
        let address = Address::new(&self.environment.name, &self.server.name, login);
        let address = address.in_database(database.map(str::to_owned));
        self.environments.acquire(&address, APPLICATION_NAME).await
    }

    async fn reader(&self, client: &PooledClient, missing: Vec<Finding>) -> QueryResult<Vec<Finding>> {
        let subject = self.subject(LoginKind::Reader);
        let login = query_row(client, include_str!("login.sql"), &[]).await?;
        let write_privileges = client.query(include_str!("write_privileges.sql"), &[]).await?;
        let mut findings = missing;
        for privilege in &write_privileges {
            let details = format!("must be read-only, but {}", privilege.get::<String>("privilege")?);
            findings.push(Finding::missing(&subject, details, privilege.get::<String>("fix")?));
        }
        if findings.is_empty() {
            let version: String = login.get("version")?;
            let details = format!("PostgreSQL {version}; sees all sessions, is read-only");
            findings.push(Finding::works(&subject, details));
        }
        Ok(findings)
    }

    /// Completes the findings of a login other than the reader.
    async fn non_reader(
        &self,
        client: &PooledClient,
        login: LoginKind,
        missing: Vec<Finding>,
    ) -> QueryResult<Vec<Finding>> {
        let subject = self.subject(login);
        let facts = query_row(client, include_str!("login.sql"), &[]).await?;
        let mut findings = missing;
        if findings.is_empty() {
            let details = "has the privileges on the server that its commands need";
            findings.push(Finding::works(&subject, details));
        }
        if facts.get("superuser")? {
            let fix = format!("ALTER ROLE {} NOSUPERUSER;", facts.get::<String>("role")?);
            let finding = Finding::missing(subject, "is a superuser, which it doesn't need to be", fix);
            findings.push(Finding { status: CheckStatus::Optional, ..finding });
        }
        Ok(findings)
    }

    /// The finding for an error, with the fix.
    fn unreachable(
        &self,
        subject: &str,
        error: &Unreachable,
        credentials: &LoginCredentials,
        database: Option<&str>,
    ) -> Finding {
        let database = database.unwrap_or(&self.environment.maintenance_database);
        let fix = unreachable::fix(error, &self.environment.name, self.server, credentials, database);
        Finding::missing(subject, error.to_string(), fix)
    }
}

/// The finding about the programs that dump a server of that major version.
fn client_program(server: &str, major: u32, installations: &[ClientInstallation]) -> Finding {
    match choose_installation(installations, major) {
        Ok(installation) => Finding::works(server, format!("pg_dump {} fits", installation.version)),
        Err(missing) => Finding::missing(server, missing.to_string(), missing.install_hint()),
    }
}

fn query_failed(subject: String, error: &QueryError) -> Finding {
    Finding::missing(subject, error.to_string(), "Check the server's log for the reason.")
}

/// The findings, or the one that they could not be made.
fn or_failed(subject: String, findings: QueryResult<Vec<Finding>>) -> Vec<Finding> {
    findings.unwrap_or_else(|error| vec![query_failed(subject, &error)])
}

async fn query_row(
    client: &PooledClient,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<PgRow, QueryError> {
    client.query(sql, values).await?.into_iter().next().ok_or(QueryError::Lost)
}

/// Quotes a name for SQL where no server can quote it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_pg_dump_that_is_older_than_the_server_is_named_with_the_package_to_install() {
        for (installed, server_major, details) in [
            (&[][..], 15, "needs pg_dump 15 or newer, and Countersign has none"),
            (&[(13, "13.22")], 14, "needs pg_dump 14 or newer, and Countersign has only 13.22"),
            (
                &[(13, "13.22"), (16, "16.4")],
                17,
                "needs pg_dump 17 or newer, and Countersign has only 13.22, 16.4",
            ),
            (&[(13, "13.22")], 13, "pg_dump 13.22 fits"),
            (&[(18, "18.0"), (16, "16.4")], 15, "pg_dump 16.4 fits"),
        ] {
            let installation = |(major, version): &(u32, &str)| ClientInstallation {
                directory: PathBuf::new(),
                major: *major,
                version: (*version).to_owned(),
            };
            let installations: Vec<ClientInstallation> = installed.iter().map(installation).collect();
            let finding = client_program("main", server_major, &installations);
            assert_eq!((finding.subject.as_str(), finding.details.as_str()), ("main", details));
            let install = format!(
                "Install postgresql-client-{server_major} where Countersign runs, or add its directory to `tools` in `[backups]`."
            );
            let is_missing = details.starts_with("needs");
            assert_eq!(finding.fix, is_missing.then_some(install), "{details}");
            assert_eq!(finding.status == CheckStatus::Missing, is_missing, "{details}");
        }
    }
}
