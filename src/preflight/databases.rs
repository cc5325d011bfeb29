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
        let unseen = all.iter().filter(|(_, unseen_widths)| *unseen_widths).count();
        let mut findings: Vec<Finding> = all.into_iter().flat_map(|(findings, _)| findings).collect();
        if complete > 0 {
            let details = format!("{complete} of {} databases: reachable and complete", names.len());
            findings.insert(0, Finding::works(&self.server.name, details));
        }
        if unseen > 0 {
            let details = format!(
                "`bloat` can't estimate all tables of {unseen} of {} databases: the reader has no SELECT on them, or row security hides them",
                names.len()
            );
            let fix = "To allow it, see the optional part at the end of deploy/roles.sql: SELECT lets the reader read the rows, too.";
            let finding = Finding::missing(&self.server.name, details, fix);
            findings.push(Finding { status: CheckStatus::Optional, ..finding });
        }
        findings
    }

    /// Findings about one database, none if it is complete; and `true` if the reader can't see the widths of all its columns.
    async fn database(&self, name: &str, needs: &LoginNeeds) -> (Vec<Finding>, bool) {
        let subject = format!("{}/{name}", self.server.name);
        let Some(reader) = self.environment.logins.get(&LoginKind::Reader) else {
            return (Vec::new(), false);
        };
        let client = match self.connect(LoginKind::Reader, Some(name)).await {
            Ok(client) => client,
            Err(error) => return (vec![self.unreachable(&subject, &error, reader, Some(name))], false),
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
                (findings, row.is_true("unseen_widths"))
            }
            Err(error) => (vec![query_failed(subject, &error)], false),
        }
    }
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
