//! One server: its logins and their rights, the services' databases on it, and the client programs that it needs here.

use super::{CheckStatus, Finding, connectivity, databases};
use crate::actions::backup::{Tool, choose};
use crate::config::{Environment, Server};
use crate::postgres::{Address, Environments, PooledClient, QueryError, Unreachable};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

const ASKER: &str = "countersign check";
const READER: &str = "reader";

/// What acting logins are for, as commands' headers name it. A purpose without a login of its own is the operator's.
const SIGNAL: &str = "signal";
const DUMP: &str = "dump";

/// Where the questions go.
struct ServerCheck<'a> {
    targets: &'a Environments,
    environment: &'a Environment,
    server: &'a Server,
}

/// Everything about one server. What keeps every login out is told once.
pub async fn look(
    targets: &Environments,
    tools: &[Tool],
    (environment, server): (&Environment, &Server),
) -> Vec<Finding> {
    let site = ServerCheck { targets, environment, server };
    let mut found = Vec::new();
    let others = environment.logins.keys().map(String::as_str).filter(|name| *name != READER);
    for name in [READER].into_iter().chain(others) {
        let Some(login) = environment.logins.get(name) else { continue };
        match site.lease(name, None).await {
            Err(why) => {
                found.push(connectivity::finding(&site.at(name), &why, (environment, server, login)));
                if connectivity::is_the_servers(&why) {
                    return found;
                }
            }
            Ok(lease) if name == READER => {
                found.extend(site.reader(&lease).await);
                found.push(site.client(&lease, tools));
            }
            Ok(lease) => found.extend(site.acting(&lease, name).await),
        }
    }
    found.extend(site.databases().await);
    found
}

impl ServerCheck<'_> {
    /// "main as reader".
    fn at(&self, login: &str) -> String {
        format!("{} as {login}", self.server.name)
    }

    async fn lease(&self, login: &str, database: Option<&str>) -> Result<PooledClient, Unreachable> {
        let address = Address {
            environment: self.environment.name.clone(),
            server: self.server.name.clone(),
            database: database.map(str::to_owned),
            login: login.to_owned(),
        };
        self.targets.lease(&address, ASKER).await
    }

    async fn reader(&self, lease: &PooledClient) -> Vec<Finding> {
        let at = self.at(READER);
        let asked = async {
            let login = one(lease, include_str!("login.sql"), &[]).await?;
            Ok::<_, QueryError>((login, lease.ask(include_str!("acts.sql"), &[]).await?))
        };
        let (login, acts) = match asked.await {
            Ok(answers) => answers,
            Err(why) => return vec![unanswered(at, &why)],
        };
        let role: String = login.get("role");
        let mut found = Vec::new();
        if !login.get::<_, bool>("sees_sessions") {
            found.push(Finding::missing(
                &at,
                "can't see other roles' sessions",
                format!("GRANT pg_monitor TO {role};"),
            ));
        }
        for act in &acts {
            let words = format!("must not be able to act, and {}", act.get::<_, String>("found"));
            found.push(Finding::missing(&at, words, act.get::<_, String>("fix")));
        }
        if found.is_empty() {
            let version: String = login.get("version");
            found.push(Finding::works(&at, format!("PostgreSQL {version}; sees everything, can't act")));
        }
        if !login.get::<_, bool>("statements_loaded") {
            found.push(Finding::missing(
                &self.server.name,
                "pg_stat_statements isn't loaded, so `slow` has no answer",
                "Add pg_stat_statements to shared_preload_libraries and restart the server.",
            ));
        }
        found
    }

    /// A login that acts, for each purpose that it serves.
    async fn acting(&self, lease: &PooledClient, name: &str) -> Vec<Finding> {
        let at = self.at(name);
        let login = match one(lease, include_str!("login.sql"), &[]).await {
            Ok(login) => login,
            Err(why) => return vec![unanswered(at, &why)],
        };
        let role: String = login.get("role");
        let grant = |granted: &str| format!("GRANT {granted} TO {role};");
        let serves = |purpose: &str| {
            self.targets.login(self.environment, purpose).is_ok_and(|(serving, _)| serving == name)
        };
        let mut found = Vec::new();
        if serves(SIGNAL) && !login.get::<_, bool>("signals") {
            let words = "can't end other roles' sessions: `cancel` and `kill` fail";
            found.push(Finding::missing(&at, words, grant("pg_signal_backend")));
        }
        if serves(SIGNAL) && !login.get::<_, bool>("sees_sessions") {
            let words = "can't see the session that it is to end";
            found.push(Finding::missing(&at, words, grant("pg_monitor")));
        }
        // Below 14 there is no such role, and each table has its own grant.
        if serves(DUMP) && login.get::<_, Option<bool>>("reads_all") == Some(false) {
            let words = "can't read every table: `backup` fails";
            found.push(Finding::missing(&at, words, grant("pg_read_all_data")));
        }
        if found.is_empty() {
            found.push(Finding::works(&at, "may do what its commands need"));
        }
        if login.get("superuser") {
            found.push(Finding {
                at,
                standing: CheckStatus::Optional,
                found: "is a superuser, which is more than it needs".to_owned(),
                fix: Some(format!("ALTER ROLE {role} NOSUPERUSER;")),
            });
        }
        found
    }

    fn client(&self, lease: &PooledClient, tools: &[Tool]) -> Finding {
        let at = &self.server.name;
        match choose(tools, lease.major()) {
            Ok(tool) => Finding::works(at, format!("pg_dump {} fits", tool.version)),
            Err(missing) => Finding::missing(at, missing.to_string(), missing.instead()),
        }
    }

    /// The services' databases, as the reader. Those in which all is well share a line.
    async fn databases(&self) -> Vec<Finding> {
        let names = databases(self.targets, (self.environment, self.server));
        let all = futures::future::join_all(names.iter().map(|name| self.database(name))).await;
        let whole = all.iter().filter(|found| found.is_empty()).count();
        let mut found: Vec<Finding> = all.into_iter().flatten().collect();
        if whole > 0 {
            let words = format!("{whole} of {} databases: reached, nothing is missing", names.len());
            found.insert(0, Finding::works(&self.server.name, words));
        }
        found
    }

    /// What is wrong with a database; nothing, if nothing is.
    async fn database(&self, name: &str) -> Vec<Finding> {
        let at = format!("{}/{name}", self.server.name);
        let Some(reader) = self.environment.logins.get(READER) else { return Vec::new() };
        let lease = match self.lease(READER, Some(name)).await {
            Ok(lease) => lease,
            Err(Unreachable::Login(_)) => {
                let fix = format!("GRANT CONNECT ON DATABASE {} TO {};", quoted(name), quoted(&reader.user));
                return vec![Finding::missing(at, "doesn't let the reader in", fix)];
            }
            Err(why) => {
                return vec![connectivity::finding(&at, &why, (self.environment, self.server, reader))];
            }
        };
        // Sessions are ended from the maintenance database alone.
        let others = self.environment.logins.iter().filter(|(name, _)| *name != SIGNAL);
        let others: Vec<&str> =
            others.map(|(_, login)| login.user.as_str()).filter(|user| *user != reader.user).collect();
        match one(&lease, include_str!("database.sql"), &[&others]).await {
            Ok(row) => wrong_with(&at, &row),
            Err(why) => vec![unanswered(at, &why)],
        }
    }
}

fn wrong_with(at: &str, row: &Row) -> Vec<Finding> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let (database, reader) = (row.get::<_, String>("database"), row.get::<_, String>("role"));
    let mut found = Vec::new();
    if !row.get::<_, bool>("statements") {
        let words = "pg_stat_statements isn't there, so `slow` has no answer";
        found.push(Finding::missing(at, words, "CREATE EXTENSION pg_stat_statements;"));
    }
    for role in row.get::<_, Option<Vec<String>>>("shut_out").unwrap_or_default() {
        let fix = format!("GRANT CONNECT ON DATABASE {database} TO {role};");
        found.push(Finding::missing(at, format!("doesn't let {role} in"), fix));
    }
    if let Some(table) = text("writable_table") {
        let words = format!("the reader must not be able to act, and can change {table}");
        let fix = format!("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table} FROM {reader}, PUBLIC;");
        found.push(Finding::missing(at, words, fix));
    }
    if let Some(schema) = text("open_schema") {
        let words = format!("the reader must not be able to act, and can create tables in {schema}");
        let fix = format!("REVOKE CREATE ON SCHEMA {schema} FROM {reader}, PUBLIC;");
        found.push(Finding::missing(at, words, fix));
    }
    if let Some(ledger) = text("hidden_ledger") {
        found.push(Finding {
            at: at.to_owned(),
            standing: CheckStatus::Optional,
            found: format!("the reader can't read {ledger}, so nothing is told of migrations"),
            fix: Some(format!("GRANT SELECT ON {ledger} TO {reader};")),
        });
    }
    found
}

fn unanswered(at: String, why: &QueryError) -> Finding {
    Finding::missing(at, why.to_string(), "Look into the server's log for the reason.")
}

async fn one(lease: &PooledClient, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, QueryError> {
    lease.ask(sql, values).await?.into_iter().next().ok_or(QueryError::Lost)
}

/// A name as SQL has it, where no server is there to quote it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
