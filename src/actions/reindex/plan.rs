//! The plan of `reindex`: the indexes, the leftovers of an earlier rebuild, and the transactions that it will wait for.

use super::invalid_indexes::{self, InvalidIndex};
use super::{rebuild_timeout, table_oids};
use crate::actions::Call;
use crate::actions::support::blocks::count;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::maintenance::{is_lock_timeout, resource, sessions_table};
use crate::actions::support::relations::{PlannedRelation, RelationInfo, RelationKind};
use crate::error::{Error, Result};
use crate::model::Plan;
use crate::postgres::QueryError;
use crate::sql::{bytes, duration};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio_postgres::Row;

/// In seconds. A younger transaction is over before it is waited for.
const OLD_TRANSACTION_S: f64 = 1.0;

/// Plans the rebuild of one index, or of all indexes of a table.
pub(super) async fn plan(call: &Call<'_>) -> Result<Plan> {
    let database = DatabaseTarget::from_call(call)?;
    let client = database.client(call).await?;
    let typed = call.values.get("name").cloned().unwrap_or_default();
    let object = RelationKind::Reindexed.resolve(call, &client, &database.database, &typed).await?;
    let relation = &object.relation;
    if !object.may {
        return Err(may_not(&object, &database.role));
    }
    let user_error = |error: QueryError| {
        if is_lock_timeout(&error) {
            return Error::instead(
                format!("{relation} is locked, so its indexes can't be measured."),
                "`blocked` shows who holds it.",
            );
        }
        database.query_error(&error)
    };
    let indexes = client.ask(include_str!("indexes.sql"), &[&object.oid]).await.map_err(user_error)?;
    if indexes.is_empty() {
        return Err(Error::user(format!("{relation} has no index to rebuild.")));
    }
    let targets: Vec<BTreeMap<String, String>> = indexes.iter().map(target).collect();
    let planned: Vec<PlannedRelation> = targets.iter().map(PlannedRelation::from_target).collect();
    let leftovers = invalid_indexes::find(&client, &table_oids(&planned)).await;
    let leftovers = leftovers.map_err(|error| database.query_error(&error))?;
    let transactions = database.reader(call).await?.ask(include_str!("open_transactions.sql"), &[]).await;
    let transactions = transactions.map_err(|error| database.query_error(&error))?;
    let lock_timeout = call.app.environments.environment(&database.address.environment)?.lock_timeout;
    let mut plan = describe(&database, relation, &planned, rebuild_timeout(lock_timeout));
    plan.targets = targets;
    if let Some(text) = transactions.first().and_then(oldest_transaction) {
        plan.effect.push_str(&text);
    }
    if !leftovers.is_empty() {
        plan.context.push(left_by_earlier(&leftovers));
    }
    plan.tables.extend(sessions_table("Open transactions that could hold it up", &transactions));
    Ok(plan)
}

fn may_not(object: &RelationInfo, role: &str) -> Error {
    let RelationInfo { relation, owner, .. } = object;
    Error::instead(
        format!("{role} may not reindex {relation}, which belongs to {owner}."),
        format!(
            "Name a login `maintain` in the configuration whose role is a member of {owner}; from PostgreSQL 17 on, `GRANT pg_maintain` to it is enough to rebuild, but not to drop the leftovers of an interrupted rebuild."
        ),
    )
}

fn target(row: &Row) -> BTreeMap<String, String> {
    let number = |name: &str| row.get::<_, Option<i64>>(name).unwrap_or_default().to_string();
    [
        ("relation", row.get::<_, String>("relation")),
        ("oid", number("oid")),
        ("bytes", number("bytes")),
        ("table", row.get::<_, String>("table")),
        ("table_oid", number("table_oid")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn describe(
    database: &DatabaseTarget,
    relation: &str,
    indexes: &[PlannedRelation],
    timeout: Duration,
) -> Plan {
    let what = match indexes {
        [only] if only.relation == relation => relation.to_owned(),
        all => format!("the {} of {relation}", count(all.len(), "index", "indexes")),
    };
    let environment = &database.address.environment;
    let mut plan = Plan::of(format!("Rebuilds {what} of {} in {environment}.", database.database));
    database.write_to(&mut plan);
    let size: i64 = indexes.iter().map(|index| index.bytes).sum();
    let largest = indexes.iter().map(|index| index.bytes).max().unwrap_or_default();
    let needs = format!("{}; needs {} of disk meanwhile", bytes(size as f64), bytes(largest as f64));
    plan.context.push(("size".to_owned(), needs));
    plan.context.push((
        "waits".to_owned(),
        format!(
            "for each older transaction, {} at a time; then it gives up and drops the unfinished index",
            duration(timeout.as_secs_f64())
        ),
    ));
    plan.impact =
        "None: it runs alongside reads and writes (CONCURRENTLY). It reads and writes the disk.".to_owned();
    plan.rollback = "Not needed.".to_owned();
    let tables: BTreeSet<&str> = indexes.iter().map(|index| index.table.as_str()).collect();
    plan.resource_locks = tables.into_iter().map(|table| resource(&database.database, table)).collect();
    plan
}

/// Builds the sentence on the oldest transaction, part of the message that stays while the rebuild runs.
fn oldest_transaction(row: &Row) -> Option<String> {
    let seconds = row.get::<_, Option<f64>>("held_s").filter(|seconds| *seconds >= OLD_TRANSACTION_S)?;
    let (who, app): (String, String) = (row.get("who"), row.get("app"));
    Some(format!(
        " The rebuild waits for open transactions; the oldest is {who} ({app}), open for {}.",
        duration(seconds)
    ))
}

fn left_by_earlier(leftovers: &[InvalidIndex]) -> (String, String) {
    let names: Vec<&str> = leftovers.iter().map(|index| index.relation.as_str()).collect();
    let text = format!(
        "{}: invalid; dropped first, unless another session is building on the table",
        names.join(", ")
    );
    ("leftovers of an earlier rebuild".to_owned(), text)
}
