//! One server: its logins and their privileges, the services' databases on it, and the client programs for it.

use super::{CheckStatus, Finding, databases};
use crate::actions::backup::{Tool, choose};
use crate::config::{Environment, LoginCredentials, Server};
use crate::model::Login;
use crate::postgres::{Address, Environments, PooledClient, QueryError, Unreachable};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

const ASKER: &str = "countersign check";

/// The server under check.
struct ServerCheck<'a> {
    targets: &'a Environments,
    environment: &'a Environment,
    server: &'a Server,
}

/// Checks one server. An error that keeps every login out is reported once.
pub async fn check(
    targets: &Environments,
    tools: &[Tool],
    environment: &Environment,
    server: &Server,
) -> Vec<Finding> {
    let check = ServerCheck { targets, environment, server };
    let mut findings = Vec::new();
    let others = environment.logins.keys().copied().filter(|login| *login != Login::Reader);
    for login in [Login::Reader].into_iter().chain(others) {
        let Some(role) = environment.logins.get(&login) else { continue };
        match check.connect(login, None).await {
            Err(error) => {
                let subject = check.subject(login);
                findings.push(unreachable(&subject, &error, environment, server, role));
                if concerns_every_login(&error) {
                    return findings;
                }
            }
            Ok(client) if login == Login::Reader => {
                findings.extend(check.reader(&client).await);
                findings.push(check.client_program(&client, tools));
            }
            Ok(client) => findings.extend(check.acting_login(&client, login).await),
        }
    }
    findings.extend(check.databases().await);
    findings
}

impl ServerCheck<'_> {
    /// "main as reader".
    fn subject(&self, login: Login) -> String {
        format!("{} as {login}", self.server.name)
    }

    async fn connect(&self, login: Login, database: Option<&str>) -> Result<PooledClient, Unreachable> {
        let address = Address::new(&self.environment.name, &self.server.name, login);
        let address = address.in_database(database.map(str::to_owned));
        self.targets.acquire(&address, ASKER).await
    }

    async fn reader(&self, client: &PooledClient) -> Vec<Finding> {
        let subject = self.subject(Login::Reader);
        let facts = async {
            let login = query_row(client, include_str!("login.sql"), &[]).await?;
            Ok::<_, QueryError>((login, client.query(include_str!("acts.sql"), &[]).await?))
        };
        let (login, acts) = match facts.await {
            Ok(facts) => facts,
            Err(error) => return vec![query_failed(subject, &error)],
        };
        let role: String = login.get("role");
        let mut findings = Vec::new();
        if !login.get::<_, bool>("sees_sessions") {
            findings.push(Finding::missing(
                &subject,
                "can't see other roles' sessions",
                format!("GRANT pg_monitor TO {role};"),
            ));
        }
        for act in &acts {
            let details = format!("must be read-only, but {}", act.get::<_, String>("found"));
            findings.push(Finding::missing(&subject, details, act.get::<_, String>("fix")));
        }
        if findings.is_empty() {
            let version: String = login.get("version");
            findings.push(Finding::works(
                &subject,
                format!("PostgreSQL {version}; sees all sessions, is read-only"),
            ));
        }
        if !login.get::<_, bool>("statements_loaded") {
            findings.push(Finding::missing(
                &self.server.name,
                "pg_stat_statements isn't loaded, so `slow` doesn't work",
                "Add pg_stat_statements to shared_preload_libraries and restart the server.",
            ));
        }
        findings
    }

    /// Checks an acting login, for each purpose that it serves.
    async fn acting_login(&self, client: &PooledClient, login: Login) -> Vec<Finding> {
        let subject = self.subject(login);
        let facts = match query_row(client, include_str!("login.sql"), &[]).await {
            Ok(facts) => facts,
            Err(error) => return vec![query_failed(subject, &error)],
        };
        let role: String = facts.get("role");
        let grant = |granted: &str| format!("GRANT {granted} TO {role};");
        let serves = |purpose: Login| {
            self.targets.login(self.environment, purpose).is_ok_and(|(serving, _)| serving == login)
        };
        let mut findings = Vec::new();
        if serves(Login::Signal) && !facts.get::<_, bool>("signals") {
            let details = "can't end other roles' sessions: `cancel` and `kill` fail";
            findings.push(Finding::missing(&subject, details, grant("pg_signal_backend")));
        }
        if serves(Login::Signal) && !facts.get::<_, bool>("sees_sessions") {
            let details = "can't see the sessions that it has to end";
            findings.push(Finding::missing(&subject, details, grant("pg_monitor")));
        }
        // Below 14 there is no such role, and each table has its own grant.
        if serves(Login::Dump) && facts.get::<_, Option<bool>>("reads_all") == Some(false) {
            let details = "can't read every table: `backup` fails";
            findings.push(Finding::missing(&subject, details, grant("pg_read_all_data")));
        }
        if findings.is_empty() {
            findings.push(Finding::works(&subject, "has the privileges that its commands need"));
        }
        if facts.get("superuser") {
            findings.push(Finding {
                subject,
                status: CheckStatus::Optional,
                details: "is a superuser, which it doesn't need to be".to_owned(),
                fix: Some(format!("ALTER ROLE {role} NOSUPERUSER;")),
            });
        }
        findings
    }

    fn client_program(&self, client: &PooledClient, tools: &[Tool]) -> Finding {
        let subject = &self.server.name;
        match choose(tools, client.major()) {
            Ok(tool) => Finding::works(subject, format!("pg_dump {} fits", tool.version)),
            Err(missing) => Finding::missing(subject, missing.to_string(), missing.instead()),
        }
    }

    /// Checks the services' databases as the reader. The complete ones share a line.
    async fn databases(&self) -> Vec<Finding> {
        let names = databases(self.targets, self.environment, self.server);
        let all = futures::future::join_all(names.iter().map(|name| self.database(name))).await;
        let complete = all.iter().filter(|findings| findings.is_empty()).count();
        let mut findings: Vec<Finding> = all.into_iter().flatten().collect();
        if complete > 0 {
            let details = format!("{complete} of {} databases: reachable and complete", names.len());
            findings.insert(0, Finding::works(&self.server.name, details));
        }
        findings
    }

    /// Findings about one database; empty if it is complete.
    async fn database(&self, name: &str) -> Vec<Finding> {
        let subject = format!("{}/{name}", self.server.name);
        let Some(reader) = self.environment.logins.get(&Login::Reader) else { return Vec::new() };
        let client = match self.connect(Login::Reader, Some(name)).await {
            Ok(client) => client,
            Err(Unreachable::Login(_)) => {
                let fix = format!("GRANT CONNECT ON DATABASE {} TO {};", quoted(name), quoted(&reader.user));
                return vec![Finding::missing(subject, "doesn't let the reader in", fix)];
            }
            Err(error) => {
                return vec![unreachable(&subject, &error, self.environment, self.server, reader)];
            }
        };
        // The login for signals connects to the maintenance database only.
        let others = self.environment.logins.iter().filter(|(login, _)| **login != Login::Signal);
        let others: Vec<&str> =
            others.map(|(_, login)| login.user.as_str()).filter(|user| *user != reader.user).collect();
        match query_row(&client, include_str!("database.sql"), &[&others]).await {
            Ok(row) => database_findings(&subject, &row),
            Err(error) => vec![query_failed(subject, &error)],
        }
    }
}

/// True for an error that is the same for every login, so that one finding is enough.
fn concerns_every_login(error: &Unreachable) -> bool {
    matches!(
        error,
        Unreachable::TimedOut(_) | Unreachable::Refused | Unreachable::Tls(_) | Unreachable::Restarting
    )
}

/// The finding for an error, with the fix.
fn unreachable(
    subject: &str,
    error: &Unreachable,
    environment: &Environment,
    server: &Server,
    login: &LoginCredentials,
) -> Finding {
    let address = format!("{}:{}", server.host, server.port);
    let fix = match error {
        Unreachable::TimedOut(_) => format!(
            "Allow connections from Countersign to {address}: a firewall drops them, or the server hangs."
        ),
        Unreachable::Refused => {
            format!("Start the server, or correct its `host` and `port`: no server listens at {address}.")
        }
        Unreachable::Tls(_) => format!(
            "Enable TLS on the server, with a certificate for {} from an authority that this system trusts, or set the authority's certificate as `ca_file` of {}.",
            server.host, environment.name
        ),
        Unreachable::NoSlot => {
            "Free connections, or give the role CONNECTION LIMIT and the server reserved_connections."
                .to_owned()
        }
        Unreachable::Login(_) => format!(
            "Compare the password of {} with the secret that the configuration names, and check that pg_hba.conf allows it from here; psql's \\password sets a new one.",
            login.user
        ),
        Unreachable::NoDatabase => {
            "Correct the name in the configuration, or create the database.".to_owned()
        }
        Unreachable::Restarting => "Wait until the server has started, then check again.".to_owned(),
        Unreachable::Misconfigured | Unreachable::Other(_) => {
            "Check the server's log for the reason.".to_owned()
        }
    };
    Finding::missing(subject, error.to_string(), fix)
}

fn database_findings(subject: &str, row: &Row) -> Vec<Finding> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let (database, reader) = (row.get::<_, String>("database"), row.get::<_, String>("role"));
    let mut findings = Vec::new();
    if !row.get::<_, bool>("statements") {
        let details = "pg_stat_statements isn't installed, so `slow` doesn't work";
        findings.push(Finding::missing(subject, details, "CREATE EXTENSION pg_stat_statements;"));
    }
    for role in row.get::<_, Option<Vec<String>>>("shut_out").unwrap_or_default() {
        let fix = format!("GRANT CONNECT ON DATABASE {database} TO {role};");
        findings.push(Finding::missing(subject, format!("doesn't let {role} in"), fix));
    }
    if let Some(table) = text("writable_table") {
        let details = format!("the reader must be read-only, but can change {table}");
        let fix = format!("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table} FROM {reader}, PUBLIC;");
        findings.push(Finding::missing(subject, details, fix));
    }
    if let Some(schema) = text("open_schema") {
        let details = format!("the reader must be read-only, but can create tables in {schema}");
        let fix = format!("REVOKE CREATE ON SCHEMA {schema} FROM {reader}, PUBLIC;");
        findings.push(Finding::missing(subject, details, fix));
    }
    if let Some(ledger) = text("hidden_ledger") {
        findings.push(Finding {
            subject: subject.to_owned(),
            status: CheckStatus::Optional,
            details: format!("the reader can't read {ledger}, so `migrations` doesn't work"),
            fix: Some(format!("GRANT SELECT ON {ledger} TO {reader};")),
        });
    }
    findings
}

fn query_failed(subject: String, error: &QueryError) -> Finding {
    Finding::missing(subject, error.to_string(), "Check the server's log for the reason.")
}

async fn query_row(
    client: &PooledClient,
    sql: &str,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Row, QueryError> {
    client.query(sql, values).await?.into_iter().next().ok_or(QueryError::Lost)
}

/// Quotes a name for SQL where no server can quote it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
