//! Reads by a custom command: analysed, then run in the same transaction, and redacted by what its columns may contain.

use super::analysis::{self, Analysis, AnalysisError};
use super::{MAX_ROWS, QueryRequest, Rows, Value, decode, parameters, time_limit};
use crate::catalog::{Command, Section};
use crate::postgres::{AccessMode, Address, BoundSql, Environments, PgRow, PooledClient, QueryError};
use crate::redact;
use tokio_postgres::Column;

/// A custom command that reads from one target.
pub struct CustomQuery<'a> {
    pub environments: &'a Environments,
    pub query: &'a QueryRequest<'a>,
    pub address: &'a Address,
}

impl CustomQuery<'_> {
    /// The rows of one section.
    pub async fn rows(
        &self,
        client: &PooledClient,
        section: &Section,
        bound_values: &[Option<String>],
    ) -> Result<Rows, AnalysisError> {
        let (analysis, rows) = self.run(client, section, bound_values).await?;
        let columns = rows.first().map(PgRow::columns).unwrap_or_default();
        let names = columns.iter().map(|column| column.name().to_owned()).collect();
        let decoded = rows.iter().take(MAX_ROWS).map(|row| {
            let values = decode(row)?.into_iter().zip(columns);
            Ok(values.map(|(value, column)| redacted(value, column, self.query.command, &analysis)).collect())
        });
        Ok((names, decoded.collect::<Result<_, QueryError>>()?))
    }

    /// Analyses and runs in one transaction. A replica can't write what an analysis needs: its primary is asked first.
    async fn run(
        &self,
        client: &PooledClient,
        section: &Section,
        bound_values: &[Option<String>],
    ) -> Result<(Analysis, Vec<PgRow>), AnalysisError> {
        let CustomQuery { environments, query, address } = self;
        let limit = time_limit(query.command).min(client.statement_timeout());
        let (analysis, transaction) = if analysis::is_replica(client).await? {
            let section = |_| vec![section];
            let found = analysis::check(environments, address, query.application_name, section).await?.pop();
            (found.unwrap_or_default(), client.begin(AccessMode::Read, limit).await?)
        } else {
            let transaction = analysis::begin(client, limit).await?;
            match analysis::analyze(&transaction, &section.sql).await {
                Ok(analysis) => {
                    transaction.set_read_only().await?;
                    (analysis, transaction)
                }
                Err(error) => {
                    transaction.roll_back().await;
                    return Err(error);
                }
            }
        };
        let rows = match analysis.sessions_refusal(query.command) {
            Some(reason) => Err(AnalysisError::Refused(reason)),
            None => {
                let statement = BoundSql { sql: &section.sql, values: &parameters(bound_values) };
                analysis.query(&transaction, statement).await.map_err(AnalysisError::from)
            }
        };
        transaction.roll_back().await;
        Ok((analysis, rows?))
    }
}

/// Stands for a part of a statement's text.
const HIDDEN: &str = "hidden: part of a statement's text; show `query` or left(query, 200)";

/// A value fit for a chat, unless the header lists its column as plain.
fn redacted(value: Value, column: &Column, command: &Command, analysis: &Analysis) -> Value {
    if command.header.plain_columns.iter().any(|plain| plain == column.name()) {
        return value;
    }
    let redact = |text: &str| {
        if analysis.may_have_part_of_query(column) {
            HIDDEN.to_owned()
        } else if analysis.may_have_query(column) {
            redact::query(text)
        } else {
            redact::text(text)
        }
    };
    match value {
        Value::Text(text) => Value::Text(redact(&text)),
        Value::List(texts) => Value::List(texts.iter().map(|text| redact(text)).collect()),
        other => other,
    }
}
