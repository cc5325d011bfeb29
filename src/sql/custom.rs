//! Reads by a custom command: analysed, then run in the same transaction.

use super::analysis::{self, AnalysisError};
use super::{MAX_ROWS, QueryRequest, Rows, decode, parameters, time_limit};
use crate::catalog::Section;
use crate::postgres::{AccessMode, Address, Environments, PooledClient};
use tokio_postgres::Row;

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
        let rows = self.run(client, section, bound_values).await?;
        let columns = rows.first().map(Row::columns).unwrap_or_default();
        let names = columns.iter().map(|column| column.name().to_owned()).collect();
        let decoded = rows.iter().take(MAX_ROWS).map(decode).collect::<Result<_, _>>()?;
        Ok((names, decoded))
    }

    /// Analyses and runs in one transaction. A replica can't write what an analysis needs: its primary is asked first.
    async fn run(
        &self,
        client: &PooledClient,
        section: &Section,
        bound_values: &[Option<String>],
    ) -> Result<Vec<Row>, AnalysisError> {
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
                transaction.query(&section.sql, &parameters(bound_values)).await.map_err(AnalysisError::from)
            }
        };
        transaction.roll_back().await;
        rows
    }
}
