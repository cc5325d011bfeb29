//! Functions of somebody's own that PostgreSQL would call while a table's rows are counted, before anyone has approved anything.
//!
//! Neither a count nor a DELETE evaluates the expressions of indexes and statistics; INSERT, UPDATE and ANALYZE do. But whatever the query
//! is, its planner computes their constant parts, with the rights of whoever asks. A call with a column among its arguments has none.

use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::relations::RelationInfo;
use crate::error::{Error, Result};
use crate::postgres::PooledClient;
use crate::sql::analysis::ExpressionCall;
use serde::Serialize;

/// A call, and the index or the statistics that has it.
#[derive(Serialize)]
struct PlannedCall {
    object: String,
    #[serde(flatten)]
    call: ExpressionCall,
}

/// Refuses a table whose rows can't be counted without such a call.
///
/// # Errors
/// [`Error::User`] that names the index or the statistics, and the functions.
pub(super) async fn check(
    client: &PooledClient,
    table: &RelationInfo,
    database: &DatabaseTarget,
) -> Result<()> {
    let failed = |error| database.query_error(&error);
    let rows = client.query(include_str!("expressions.sql"), &[&table.oid]).await.map_err(failed)?;
    let mut calls = Vec::new();
    for row in &rows {
        let (object, tree): (String, String) = (row.get("object")?, row.get("tree")?);
        let found = ExpressionCall::all(&tree).map_err(|part| {
            let problem = format!("The {object} of {} has a part that is unknown ({part})", table.relation);
            refusal(&problem, "what would be called while the rows are counted can't be told.")
        })?;
        calls.extend(found.into_iter().map(|call| PlannedCall { object: object.clone(), call }));
    }
    let calls = serde_json::to_string(&calls).unwrap_or_default();
    let rows = client.query(include_str!("planned_calls.sql"), &[&calls]).await.map_err(failed)?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (object, functions): (String, String) = (row.get("object")?, row.get("functions")?);
    let problem =
        format!("The {object} of {} uses {functions}, which isn't PostgreSQL's own", table.relation);
    let role = &database.role;
    let why = format!(
        "it, or what it calls, could be called as {role} while the rows are counted, before anyone approves."
    );
    Err(refusal(&problem, &why))
}

fn refusal(problem: &str, why: &str) -> Error {
    Error::instead(format!("{problem}: {why}"), "Delete its rows with a reviewed file (`run-sql`).")
}
