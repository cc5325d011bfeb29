//! `vacuum-full`: a table rewritten, while it can't be read. It gives up when it doesn't get its lock at once, since from the moment
//! that it waits, every reader waits behind it. It is done when the table has another file.

use super::{Action, Call, Execution, Outcome};
use crate::error::Result;
use crate::model::Plan;
use async_trait::async_trait;
use tokio_postgres::Row;

mod execute;
mod plan;
mod recover;

/// The command `vacuum-full`.
pub struct VacuumFull;

/// Measures a table's file and size.
const MEASURE: &str = include_str!("measure.sql");

/// A table as it is measured.
struct TableSize {
    /// The name still belongs to the table of that oid.
    is_same: bool,
    filenode: Option<i64>,
    bytes: Option<i64>,
}

impl TableSize {
    fn from_rows(rows: &[Row]) -> Option<TableSize> {
        let row = rows.first()?;
        Some(TableSize { is_same: row.get("same"), filenode: row.get("filenode"), bytes: row.get("bytes") })
    }
}

#[async_trait]
impl Action for VacuumFull {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        plan::plan(call).await
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        execute::execute(execution).await
    }

    async fn observe_outcome(&self, execution: &Execution<'_>) -> Option<Outcome> {
        recover::recover(execution).await
    }

    fn is_transactional(&self) -> bool {
        true
    }
}
