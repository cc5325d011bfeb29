//! Checks of what the commands' headers need: each login, on the server and in each service's database that its commands work in.

use super::{APPLICATION_NAME, CheckStatus, Finding, ServerCheck, or_failed, query_failed};
use crate::catalog::{Catalog, Need};
use crate::model::LoginKind;
use crate::postgres::{Address, PgRow, PooledClient, Unreachable};
use crate::privileges::{Shortfall, shortfalls};
use std::collections::BTreeMap;

/// Each need of a login, with the commands that have it.
pub(super) type LoginNeeds = BTreeMap<Need, Vec<String>>;

/// The first version with a role for maintenance: before, only a member of each table's owner may do it.
const HAS_PG_MAINTAIN: u32 = 17;

impl ServerCheck<'_> {
    /// The needs that a login of the configuration meets: its own purpose's, and those of purposes without a login.
    pub(super) fn needs(&self, catalog: &Catalog, login: LoginKind) -> LoginNeeds {
        let serves = |purpose: LoginKind| {
            self.environments.login(self.environment, purpose).is_ok_and(|(serving, _)| serving == login)
        };
        let mut needs = LoginNeeds::new();
        for purpose in LoginKind::ALL.into_iter().filter(|purpose| serves(*purpose)) {
            for command in catalog.iter() {
                for need in command.needs_of(purpose) {
                    let commands = needs.entry(need).or_default();
                    if !commands.contains(&command.name) {
                        commands.push(command.name.clone());
                    }
                }
            }
        }
        needs
    }

    /// The server-wide needs that a login doesn't meet.
    pub(super) async fn server_needs(
        &self,
        client: &PooledClient,
        login: LoginKind,
        needs: &LoginNeeds,
    ) -> Vec<Finding> {
        let subject = self.subject(login);
        let asked = needs.keys().copied().filter(|need| need.is_of_server()).collect();
        unmet(client, &subject, needs, asked).await
    }

    /// The needs that a login other than the reader doesn't meet in the services' databases, one connection after another: its role
    /// may have few.
    pub(super) async fn database_needs(&self, login: LoginKind, needs: &LoginNeeds) -> Vec<Finding> {
        let mut findings = Vec::new();
        if needs.keys().all(|need| need.is_of_server()) {
            return findings;
        }
        for database in self.databases_of_services() {
            let subject = format!("{}/{database}", self.server.name);
            let address = Address::new(&self.environment.name, &self.server.name, login);
            let address = address.in_database(database.to_owned());
            match self.environments.acquire_single_use(&address, APPLICATION_NAME).await {
                Ok(client) => {
                    let asked = self.needs_in(database, needs);
                    findings.extend(unmet(&client, &subject, needs, asked).await);
                    let schemas = self.migration_schemas(database, login);
                    findings.extend(shared_schemas(&client, &subject, &schemas).await);
                }
                Err(error @ Unreachable::Login(_)) => {
                    let credentials = self.environment.logins.get(&login);
                    let finding =
                        |credentials| self.unreachable(&subject, &error, credentials, Some(database));
                    findings.extend(credentials.map(finding));
                }
                // The reader is told the same.
                Err(_) => {}
            }
        }
        findings
    }

    /// The schemas in which the tables of a database's migrations are, for the login that migrates.
    fn migration_schemas(&self, database: &str, login: LoginKind) -> Vec<&str> {
        let migrates = self.environments.login(self.environment, LoginKind::Owner);
        if !migrates.is_ok_and(|(serving, _)| serving == login) {
            return Vec::new();
        }
        let services = self.environments.services().iter().filter(|service| service.database == database);
        services.filter_map(|service| Some(service.migrate.as_ref()?.schema.as_str())).collect()
    }

    /// The needs that differ by database. What migrates needs its rights only where a program is configured.
    pub(super) fn needs_in(&self, database: &str, needs: &LoginNeeds) -> Vec<Need> {
        let mut services = self.environments.services().iter().filter(|service| service.database == database);
        let migrates = services.any(|service| service.migrate.is_some());
        let applies = |need: &Need| !need.is_of_server() && (*need != Need::MigrationRecord || migrates);
        needs.keys().copied().filter(applies).collect()
    }
}

/// The findings about schemas on the search_path of what migrates in which others can create functions.
async fn shared_schemas(client: &PooledClient, subject: &str, schemas: &[&str]) -> Vec<Finding> {
    if schemas.is_empty() {
        return Vec::new();
    }
    let found = async {
        let rows = client.query(include_str!("migration_schemas.sql"), &[&schemas]).await?;
        let finding = |row: &PgRow| {
            let (schema, grantees): (String, String) = (row.get("schema")?, row.get("grantees")?);
            let details = format!(
                "{grantees} can create functions in {schema}, and `migrate` would call them as {}",
                row.get::<String>("role")?
            );
            let fix = format!("REVOKE CREATE ON SCHEMA {schema} FROM {grantees};");
            Ok(Finding::missing(subject, details, fix))
        };
        rows.iter().map(finding).collect()
    };
    or_failed(subject.to_owned(), found.await)
}

/// The findings about the needs that a client's login doesn't meet.
pub(super) async fn unmet(
    client: &PooledClient,
    subject: &str,
    needs: &LoginNeeds,
    asked: Vec<Need>,
) -> Vec<Finding> {
    match shortfalls(client, &asked).await {
        Ok(missing) => {
            missing.iter().map(|missing| finding(subject, missing, needs, client.major())).collect()
        }
        Err(error) => vec![query_failed(subject.to_owned(), &error)],
    }
}

fn finding(subject: &str, missing: &Shortfall, needs: &LoginNeeds, major: u32) -> Finding {
    let commands = needs.get(&missing.need).map_or(&[][..], Vec::as_slice);
    let details = format!("{}: needed by {}", missing.problem, list(commands));
    let finding = Finding::missing(subject, details, &missing.fix);
    if is_optional(missing.need, major) {
        return Finding { status: CheckStatus::Optional, ..finding };
    }
    finding
}

/// True for what a team may decide not to grant: Countersign's other commands work without it.
fn is_optional(need: Need, major: u32) -> bool {
    match need {
        Need::Sequences | Need::MigrationHistory | Need::StatementsCreation | Need::RowDeletion => true,
        Need::Maintenance => major < HAS_PG_MAINTAIN,
        _ => false,
    }
}

/// "`kill`, `cancel` and `kill-idle`".
fn list(commands: &[String]) -> String {
    let quoted: Vec<String> = commands.iter().map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "a command".to_owned(),
        [only] => only.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}
