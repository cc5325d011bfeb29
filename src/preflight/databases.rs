//! Checks of the services' databases, as the reader sees them.

use super::needs::{LoginNeeds, unmet};
use super::{CheckStatus, Finding, ServerCheck, or_failed, query_failed, query_row};
use crate::model::LoginKind;
use crate::postgres::{ColumnError, PgRow, PooledClient, QueryResult};
use std::collections::BTreeSet;

impl ServerCheck<'_> {
    pub(super) fn databases_of_services(&self) -> BTreeSet<&str> {
        let on_server = self.environments.services().iter().filter(|service| {
            let server = self.environments.server_of(self.environment, service);
            server.is_some_and(|other| other.name == self.server.name)
        });
        on_server.map(|service| service.database.as_str()).collect()
    }

    /// Checks the services' databases as the reader. Complete databases are reported in one finding.
    pub(super) async fn databases(&self, needs: &LoginNeeds) -> Vec<Finding> {
        let names = self.databases_of_services();
        let all = futures::future::join_all(names.iter().map(|name| self.database(name, needs))).await;
        let complete = all.iter().filter(|(findings, _)| findings.is_empty()).count();
        let (findings, advice): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let mut findings: Vec<Finding> = findings.into_iter().flatten().collect();
        if complete > 0 {
            let details = format!("{complete} of {} databases: reachable and complete", names.len());
            findings.insert(0, Finding::works(&self.server.name, details));
        }
        findings.extend(advice.into_iter().flatten());
        findings
    }

    /// Findings about one database, none if it is complete; and what would make its answers better.
    async fn database(&self, name: &str, needs: &LoginNeeds) -> (Vec<Finding>, Option<Finding>) {
        let subject = format!("{}/{name}", self.server.name);
        let Some(reader) = self.environment.logins.get(&LoginKind::Reader) else {
            return (Vec::new(), None);
        };
        let client = match self.connect(LoginKind::Reader, Some(name)).await {
            Ok(client) => client,
            Err(error) => return (vec![self.unreachable(&subject, &error, reader, Some(name))], None),
        };
        match query_row(&client, include_str!("database.sql"), &[]).await {
            Ok(row) => {
                let checked = async {
                    let mut findings = database_findings(&subject, &row)?;
                    findings.extend(schemas(&subject, &client).await?);
                    Ok(findings)
                };
                let mut findings = or_failed(subject.clone(), checked.await);
                findings.extend(unmet(&client, &subject, needs, self.needs_in(name, needs)).await);
                (findings, bloat_advice(&subject, &row))
            }
            Err(error) => (vec![query_failed(subject, &error)], None),
        }
    }
}

/// The advice for tables whose bloat the reader can neither estimate nor measure. `bloat` doesn't need it: it counts these tables.
fn bloat_advice(subject: &str, row: &PgRow) -> Option<Finding> {
    let fix: String = row.value("measurement_fix")?;
    let details = "`bloat` can't estimate all tables: the reader has no SELECT on them, or row security hides them. pgstattuple measures \
                   them without SELECT, and the end of deploy/roles.sql tells how to grant SELECT";
    Some(Finding { status: CheckStatus::Optional, ..Finding::missing(subject, details, fix) })
}

fn database_findings(subject: &str, row: &PgRow) -> Result<Vec<Finding>, ColumnError> {
    let text = |column: &str| row.value::<String>(column);
    let reader: String = row.get("role")?;
    let mut findings = Vec::new();
    if let Some(table) = text("writable_table") {
        let details = format!("the reader must be read-only, but can change {table}");
        let fix = format!("REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table} FROM {reader}, PUBLIC;");
        findings.push(Finding::missing(subject, details, fix));
    }
    Ok(findings)
}

/// Findings about the schemas of one database in which others can create objects, and may not.
pub(super) async fn schemas(subject: &str, client: &PooledClient) -> QueryResult<Vec<Finding>> {
    let rows = client.query(include_str!("schemas.sql"), &[]).await?;
    let finding = |row: &PgRow| {
        let (schema, grantees): (String, String) = (row.get("schema")?, row.get("grantees")?);
        let details = if row.get("searched")? {
            format!("{grantees} can create functions in {schema}, and Countersign's SQL would call them")
        } else {
            format!("the reader must be read-only, but can create tables in {schema}")
        };
        Ok(Finding::missing(subject, details, format!("REVOKE CREATE ON SCHEMA {schema} FROM {grantees};")))
    };
    rows.iter().map(finding).collect()
}
