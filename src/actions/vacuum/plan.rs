//! The plan of `vacuum` and `analyze`: the tables that the login may work on, and the holder of the xmin horizon.

use super::{Operation, horizon_holder};
use crate::actions::Call;
use crate::actions::support::blocks::count;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::maintenance::resource;
use crate::actions::support::relations::{RelationInfo, RelationKind};
use crate::error::{Error, Result};
use crate::model::{Plan, to_identity};
use crate::sql::{bytes, grouped};
use tokio_postgres::Row;

/// In seconds. A younger transaction is over before VACUUM gets to its rows.
const OLD_TRANSACTION_S: f64 = 1.0;

/// In transactions. A replication slot has no time: one that is behind by fewer keeps up.
const OLD_XID_AGE: i32 = 1_000;

const MAX_NAMED: usize = 5;

/// Name of the plan's context that lists the tables of other owners.
pub(super) const LEFT_OUT: &str = "left out";

/// Plans the operation on one table, or on each table of the database.
///
/// # Errors
/// [`Error::User`] when there is no such table, or none that the login may work on.
pub(super) async fn plan(call: &Call<'_>, operation: Operation) -> Result<Plan> {
    let database = DatabaseTarget::from_call(call)?;
    let client = database.client(call).await?;
    let kind = RelationKind::Vacuumed;
    let (tables, left_out): (Vec<RelationInfo>, Vec<RelationInfo>) = match call.value("table") {
        Some(typed) => (vec![kind.resolve(call, &client, &database.database, typed).await?], Vec::new()),
        None => {
            let all = kind.list(&client, None).await.map_err(|error| database.query_error(&error))?;
            all.into_iter().partition(|table| table.may)
        }
    };
    let first_left_out = if tables.is_empty() { left_out.first() } else { None };
    if let Some(table) = tables.iter().find(|table| !table.may).or(first_left_out) {
        return Err(may_not(table, &database.role, operation.verb()));
    }
    if tables.is_empty() {
        return Err(Error::user(format!("{} has no table of its own.", database.database)));
    }
    let mut plan = describe(operation, &database, &tables);
    if operation == Operation::Vacuum
        && let Ok(reader) = database.reader(call).await
        && let Some(holder) = horizon_holder(&reader, is_old).await
    {
        plan.effect.push_str(&format!(" VACUUM can't remove dead rows that are newer than {holder}."));
    }
    if !left_out.is_empty() {
        leave_out(&mut plan, &left_out);
    }
    Ok(plan)
}

fn is_old(row: &Row) -> bool {
    match row.get::<_, Option<f64>>("held_s") {
        Some(seconds) => seconds >= OLD_TRANSACTION_S,
        None => row.get::<_, Option<i32>>("xid_age").is_some_and(|age| age >= OLD_XID_AGE),
    }
}

fn describe(operation: Operation, database: &DatabaseTarget, tables: &[RelationInfo]) -> Plan {
    let objects = match tables {
        [only] => only.relation.clone(),
        all => count(all.len(), "table", "tables"),
    };
    let verb = if operation == Operation::Vacuum { "Vacuums and analyzes" } else { "Analyzes" };
    let mut plan =
        Plan::of(format!("{verb} {objects} of {} in {}.", database.database, database.address.environment));
    database.write_to(&mut plan);
    plan.targets = tables.iter().map(|table| to_identity(&table.planned())).collect();
    let size: i64 = tables.iter().map(|table| table.bytes).sum();
    let dead: i64 = tables.iter().map(|table| table.dead).sum();
    plan.add_context("size", format!("about {}, {} dead rows", bytes(size as f64), grouped(dead)));
    plan.impact = "None: it runs alongside reads and writes and skips locked tables. It reads from the disk."
        .to_owned();
    plan.rollback = "Not needed.".to_owned();
    plan.resource_locks = tables.iter().map(|table| resource(&database.database, &table.relation)).collect();
    plan
}

/// Adds the tables of other owners to the effect, which everybody sees, and to the context, where the outcome finds them.
fn leave_out(plan: &mut Plan, tables: &[RelationInfo]) {
    let number = count(tables.len(), "table of another owner is", "tables of other owners are");
    plan.effect.push_str(&format!(" {number} left out."));
    let names = tables.iter().take(MAX_NAMED).map(|table| format!("{} ({})", table.relation, table.owner));
    let mut names = names.collect::<Vec<_>>().join(", ");
    if tables.len() > MAX_NAMED {
        names.push_str(&format!(" and {} more", tables.len() - MAX_NAMED));
    }
    plan.add_context(LEFT_OUT, names);
}

/// Builds the refusal for a table of another owner. `verb`: "vacuum".
pub fn may_not(table: &RelationInfo, role: &str, verb: &str) -> Error {
    let RelationInfo { relation, owner, .. } = table;
    Error::instead(
        format!(
            "{role} may not {verb} {relation}, which belongs to {owner}: PostgreSQL would skip it and call it done."
        ),
        format!(
            "Name a login `maintain` in the configuration whose role is a member of {owner}; from PostgreSQL 17 on, `GRANT pg_maintain` to it is enough."
        ),
    )
}
