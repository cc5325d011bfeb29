//! Checks before an incident, for `countersign check`: for every environment, server and login, what works, what is missing and
//! how to fix it. They change nothing: no server, no file.

use crate::actions::backup::{ClientInstallation, choose_installation, find_installations};
use crate::actions::support::blocks::{count, verdict};
use crate::catalog::Catalog;
use crate::config::{Config, ConfigPart, Environment, LoginCredentials, Server};
use crate::model::{Block, Cell, Column, ColumnKind, LoginKind, Row, Severity, Table, Text};
use crate::postgres::{Address, Environments, PgRow, PooledClient, QueryError, QueryResult, Unreachable};
use tokio_postgres::types::ToSql;

mod custom_commands;
mod databases;
mod host;
mod unreachable;

/// Configuration and connections that the checks use.
pub struct CheckContext<'a> {
    pub config: &'a Config,
    pub catalog: &'a Catalog,
    pub environments: &'a Environments,
}

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatus {
    Works,
    /// Countersign works without it.
    Optional,
    Missing,
}

/// One checked thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// "main as reader", "main/asset_service_db".
    pub subject: String,
    pub status: CheckStatus,
    /// "doesn't see other sessions": follows the subject.
    pub details: String,
    /// A statement to copy, or a sentence.
    pub fix: Option<String>,
}

impl Finding {
    pub fn works(subject: impl Into<String>, details: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), status: CheckStatus::Works, details: details.into(), fix: None }
    }

    pub fn missing(
        subject: impl Into<String>,
        details: impl Into<String>,
        fix: impl Into<String>,
    ) -> Finding {
        let fix = Some(fix.into());
        Finding { subject: subject.into(), status: CheckStatus::Missing, details: details.into(), fix }
    }
}

/// All findings by section: an environment's name, or [`HOST_SECTION`].
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The only part that was checked; `None` is all.
    pub only: Option<ConfigPart>,
    pub sections: Vec<(String, Vec<Finding>)>,
}

/// Section about the host that Countersign runs on.
const HOST_SECTION: &str = "Where Countersign runs";

/// Checks a part, or all: the environments in parallel. The chat platforms add their own findings.
pub async fn check(context: &CheckContext<'_>, only: Option<ConfigPart>) -> Report {
    let includes = |part| only.is_none_or(|only| only == part);
    let mut sections = Vec::new();
    if includes(ConfigPart::Servers) {
        let installations = find_installations(&context.config.backups).await;
        let environments = context.config.environments.iter();
        let checks = environments.map(|environment| check_environment(context, &installations, environment));
        sections = futures::future::join_all(checks).await;
    }
    if includes(ConfigPart::Host) {
        sections.push((HOST_SECTION.to_owned(), host::check(context.config)));
    }
    Report { only, sections }
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

impl Report {
    /// Adds a finding about the host that Countersign runs on.
    pub fn add_finding(&mut self, finding: Finding) {
        match self.sections.iter_mut().find(|(section, _)| section == HOST_SECTION) {
            Some((_, findings)) => findings.push(finding),
            None => self.sections.push((HOST_SECTION.to_owned(), vec![finding])),
        }
    }

    /// The verdict where nothing is missing: no wider than the checks.
    fn success(&self) -> &'static str {
        match self.only {
            None => "All checks passed.",
            Some(ConfigPart::Servers) => {
                "All checks of the servers passed. Chat and this host were not checked."
            }
            Some(ConfigPart::Chat) => {
                "All checks of chat passed. The servers and this host were not checked."
            }
            Some(ConfigPart::Host) => {
                "All checks of this host passed. The servers and chat were not checked."
            }
        }
    }

    pub fn missing_count(&self) -> usize {
        self.sections.iter().map(|(_, findings)| count_missing(findings)).sum()
    }

    /// A verdict, then each section's findings and fixes.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = vec![match self.missing_count() {
            0 => verdict(Severity::Ok, self.success()),
            missing => {
                let sections = self.sections.iter().filter(|(_, findings)| count_missing(findings) > 0);
                let sections: Vec<&str> = sections.map(|(section, _)| section.as_str()).collect();
                let failed = count(missing, "check failed", "checks failed");
                verdict(Severity::Critical, format!("{failed}: {}.", sections.join(", ")))
            }
        }];
        for (section, findings) in &self.sections {
            blocks.push(Block::Table(table(section, findings)));
            blocks.extend(findings.iter().filter_map(fix).map(Block::Text));
        }
        blocks
    }
}

fn count_missing(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.status == CheckStatus::Missing).count()
}

fn table(section: &str, findings: &[Finding]) -> Table {
    let column = |title: &str| Column { title: title.to_owned(), kind: ColumnKind::Left };
    let rows = findings.iter().map(|finding| {
        let (word, severity) = match finding.status {
            CheckStatus::Works => ("works", Severity::Ok),
            CheckStatus::Optional => ("optional", Severity::Neutral),
            CheckStatus::Missing => ("missing", Severity::Critical),
        };
        let cells = vec![
            Cell::from(finding.subject.as_str()),
            Cell { text: word.to_owned(), severity },
            Cell::from(finding.details.as_str()),
        ];
        Row { cells, buttons: Vec::new() }
    });
    Table {
        title: Some(section.to_owned()),
        columns: ["checked", "result", "details"].map(column).to_vec(),
        rows: rows.collect(),
        total: findings.len(),
        empty: None,
    }
}

/// "main as reader: GRANT pg_monitor TO countersign_read;"
fn fix(finding: &Finding) -> Option<Text> {
    let fix = finding.fix.clone()?;
    let text = Text::new().strong(format!("{}: ", finding.subject));
    Some(if fix.ends_with(';') { text.code(fix) } else { text.plain(fix) })
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
        match check.connect(login, None).await {
            Err(error) => {
                let subject = check.subject(login);
                findings.push(check.unreachable(&subject, &error, credentials));
                // The same for every login, so that one finding is enough.
                if error.is_of_server() {
                    return findings;
                }
            }
            Ok(client) if login == LoginKind::Reader => {
                findings.extend(or_failed(check.subject(login), check.reader(&client).await));
                let database = &environment.maintenance_database;
                if !check.databases_of_services().contains(database.as_str()) {
                    let subject = format!("{}/{database}", server.name);
                    findings.extend(or_failed(subject.clone(), databases::schemas(&subject, &client).await));
                }
                findings.push(check.client_program(&client, installations));
            }
            Ok(client) => {
                findings.extend(or_failed(check.subject(login), check.non_reader(&client, login).await));
            }
        }
    }
    findings.extend(check.databases().await);
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

    async fn reader(&self, client: &PooledClient) -> QueryResult<Vec<Finding>> {
        let subject = self.subject(LoginKind::Reader);
        let login = query_row(client, include_str!("login.sql"), &[]).await?;
        let write_privileges = client.query(include_str!("write_privileges.sql"), &[]).await?;
        let role: String = login.get("role")?;
        let mut findings = Vec::new();
        if !login.get::<bool>("has_pg_read_all_stats")? {
            let fix = format!("GRANT pg_monitor TO {role};");
            findings.push(Finding::missing(&subject, "can't see other roles' sessions", fix));
        }
        for privilege in &write_privileges {
            let details = format!("must be read-only, but {}", privilege.get::<String>("privilege")?);
            findings.push(Finding::missing(&subject, details, privilege.get::<String>("fix")?));
        }
        if findings.is_empty() {
            let version: String = login.get("version")?;
            let details = format!("PostgreSQL {version}; sees all sessions, is read-only");
            findings.push(Finding::works(&subject, details));
        }
        if !login.get::<bool>("statements_loaded")? {
            let details = "pg_stat_statements isn't loaded, so `slow` doesn't work";
            let fix = "Add pg_stat_statements to shared_preload_libraries and restart the server.";
            findings.push(Finding::missing(&self.server.name, details, fix));
        }
        Ok(findings)
    }

    /// Checks a login other than the reader, for each purpose that it serves.
    async fn non_reader(&self, client: &PooledClient, login: LoginKind) -> QueryResult<Vec<Finding>> {
        let subject = self.subject(login);
        let facts = query_row(client, include_str!("login.sql"), &[]).await?;
        let role: String = facts.get("role")?;
        let grant = |granted: &str| format!("GRANT {granted} TO {role};");
        let serves = |purpose: LoginKind| {
            self.environments.login(self.environment, purpose).is_ok_and(|(serving, _)| serving == login)
        };
        let mut findings = Vec::new();
        if serves(LoginKind::Signal) && !facts.get::<bool>("signals")? {
            let details = "can't end other roles' sessions: `cancel` and `kill` fail";
            findings.push(Finding::missing(&subject, details, grant("pg_signal_backend")));
        }
        if serves(LoginKind::Signal) && !facts.get::<bool>("has_pg_read_all_stats")? {
            let details = "can't see the sessions that it has to end";
            findings.push(Finding::missing(&subject, details, grant("pg_monitor")));
        }
        // Below 14 there is no such role, and each table has its own grant.
        if serves(LoginKind::Dump) && facts.get::<Option<bool>>("reads_all")? == Some(false) {
            let details = "can't read every table: `backup` fails";
            findings.push(Finding::missing(&subject, details, grant("pg_read_all_data")));
        }
        if findings.is_empty() {
            findings.push(Finding::works(&subject, "has the privileges that its commands need"));
        }
        if facts.get("superuser")? {
            let fix = format!("ALTER ROLE {role} NOSUPERUSER;");
            let finding = Finding::missing(subject, "is a superuser, which it doesn't need to be", fix);
            findings.push(Finding { status: CheckStatus::Optional, ..finding });
        }
        Ok(findings)
    }

    fn client_program(&self, client: &PooledClient, installations: &[ClientInstallation]) -> Finding {
        let subject = &self.server.name;
        match choose_installation(installations, client.major()) {
            Ok(installation) => Finding::works(subject, format!("pg_dump {} fits", installation.version)),
            Err(missing) => Finding::missing(subject, missing.to_string(), missing.install_hint()),
        }
    }

    /// The finding for an error, with the fix.
    fn unreachable(&self, subject: &str, error: &Unreachable, credentials: &LoginCredentials) -> Finding {
        let fix = unreachable::fix(error, self.environment, self.server, credentials);
        Finding::missing(subject, error.to_string(), fix)
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
