//! The plan of `vacuum-full`: the table's file and size, the disk that it needs, and the sessions that use the table.

use super::{MEASURE, TableSize};
use crate::actions::Call;
use crate::actions::support::database::DatabaseTarget;
use crate::actions::support::maintenance::{is_lock_timeout, resource, sessions_table};
use crate::actions::support::relations::{RelationInfo, RelationKind};
use crate::actions::support::tolerance::max_change;
use crate::actions::vacuum::may_not;
use crate::error::{Error, Result};
use crate::model::Plan;
use crate::postgres::PooledClient;
use crate::sql::{bytes, duration};

/// Plans the rewrite of one table.
pub(super) async fn plan(call: &Call<'_>) -> Result<Plan> {
    let database = DatabaseTarget::from_call(call)?;
    let client = database.client(call).await?;
    let typed = call.values.get("table").cloned().unwrap_or_default();
    let mut table = RelationKind::Vacuumed.resolve(call, &client, &database.database, &typed).await?;
    let relation = &table.relation;
    if table.kind == "p" {
        return Err(is_partitioned(call, &table, &database, &client).await);
    }
    if !table.may {
        return Err(may_not(&table, &database.role, "vacuum"));
    }
    let size = match client.ask(MEASURE, &[&table.oid, relation]).await {
        Ok(rows) => TableSize::from_rows(&rows).and_then(|size| size.filenode.zip(size.bytes)),
        Err(error) if is_lock_timeout(&error) => {
            return Err(Error::instead(
                format!("{relation} is locked, so its size can't be measured."),
                "`blocked` shows who holds it. Try again when the lock is released.",
            ));
        }
        Err(error) => return Err(database.query_error(&error)),
    };
    let (filenode, size) = size.ok_or_else(|| Error::user(format!("{relation} is gone.")))?;
    let users = database.reader(call).await?.ask(include_str!("users.sql"), &[&table.oid]).await;
    let users = users.map_err(|error| database.query_error(&error))?;
    let lock_timeout = call.app.environments.environment(&database.address.environment)?.lock_timeout;
    table.bytes = size;
    let mut plan = describe(&database, &table, &duration(lock_timeout.as_secs_f64()));
    for target in &mut plan.targets {
        target.insert("file".to_owned(), filenode.to_string());
    }
    let used_by = match users.len() {
        0 => "no session at the moment".to_owned(),
        1 => "1 session holds a lock on it".to_owned(),
        more => format!("{more} sessions hold locks on it"),
    };
    plan.context.push(("used now".to_owned(), used_by));
    plan.tables.extend(sessions_table("Sessions that use it now", &users));
    Ok(plan)
}

/// Builds the refusal for a partitioned table: each partition has a card of its own.
async fn is_partitioned(
    call: &Call<'_>,
    table: &RelationInfo,
    database: &DatabaseTarget,
    client: &PooledClient,
) -> Error {
    let sql = "SELECT string_agg(format('%s.%s', n.nspname, c.relname), ', ' ORDER BY c.relname) FROM
                 (SELECT relid FROM pg_partition_tree($1::int8::oid) WHERE isleaf ORDER BY relid LIMIT 12) l
               JOIN pg_class c ON c.oid = l.relid JOIN pg_namespace n ON n.oid = c.relnamespace";
    let names = match client.ask(sql, &[&table.oid]).await {
        Ok(rows) => rows.first().and_then(|row| row.get::<_, Option<String>>(0)),
        Err(error) => return database.query_error(&error),
    };
    Error::instead(
        format!("{} is partitioned: `{}` takes one partition at a time.", table.relation, call.command.name),
        names.map_or("It has none.".to_owned(), |names| format!("Name one: {names}.")),
    )
}

fn describe(database: &DatabaseTarget, table: &RelationInfo, lock_timeout: &str) -> Plan {
    let environment = &database.address.environment;
    let relation = &table.relation;
    let size = bytes(table.bytes as f64);
    let mut plan =
        Plan::of(format!("Rewrites {relation} of {} in {environment} (VACUUM FULL).", database.database));
    database.write_to(&mut plan);
    plan.identity.insert("relation".to_owned(), relation.clone());
    plan.identity.insert("oid".to_owned(), table.oid.to_string());
    plan.targets = vec![table.identity()];
    let most = bytes(max_change(table.bytes) as f64);
    for (name, guard) in [
        ("table", "it is still the same table".to_owned()),
        ("bytes", format!("it is no larger than {most}")),
        ("file", "it has not been rewritten since then".to_owned()),
    ] {
        plan.guards.insert(name.to_owned(), guard);
    }
    plan.impact = format!(
        "Everyone who uses {relation}: an AccessExclusive lock stops reads too. While it waits for the lock, other sessions wait behind it, \
         {lock_timeout} at most: then it gives up. Once it has the lock, they wait until the whole table is rewritten; only a stop ends that earlier."
    );
    plan.rollback = "Not needed: the rows stay as they are.".to_owned();
    plan.context = vec![
        ("size".to_owned(), format!("{size} with indexes and TOAST")),
        (
            "disk".to_owned(),
            format!(
                "it may need {size} more until it is done, and writes as much WAL. The free space can't be seen from here; \
                 Azure makes a server read-only at 95 %."
            ),
        ),
        (
            "no disk emergency".to_owned(),
            "it takes space before it gives any back: on a full disk, enlarge the storage or drop abandoned tables instead".to_owned(),
        ),
    ];
    plan.resource_locks = vec![resource(&database.database, relation)];
    plan
}
