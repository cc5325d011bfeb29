//! The plan of a purge: the table and its column as they are, one cutoff, and how many rows are older.

use super::resolve::{TableName, column, table};
use super::work::{KeyColumn, PurgeSpec, TimeType};
use super::{held, lag, most_lag, wanting, words};
use crate::actions::Call;
use crate::actions::support::blocks::run_argument_named;
use crate::error::{Error, Result};
use crate::model::{Plan, Run, RunState};
use crate::postgres::{AccessMode, Address, PooledClient, QueryError};
use crate::sql::{QueryRequest, parameters, scope_targets};
use tokio_postgres::Row;

/// What the plan is made of.
pub(super) struct PlanFacts {
    pub environment: String,
    pub database: String,
    pub work: PurgeSpec,
    /// Of the table with its indexes, in bytes.
    pub bytes: i64,
    pub oldest: String,
    pub newest: String,
    /// Foreign keys that refer to it, and what they do.
    pub referred: Vec<String>,
    /// Triggers on DELETE.
    pub triggers: Vec<String>,
    /// The run that it goes on with.
    pub continues: Option<i64>,
}

pub(super) async fn plan(call: &Call<'_>) -> Result<Plan> {
    wanting(call)?;
    let environment = call.environment.unwrap_or_default();
    let address = address(call, environment)?;
    let database = address.database.clone().unwrap_or_default();
    let lease = call.app.environments.lease(&address, &call.asker).await;
    let lease = lease.map_err(|why| Error::user(format!("{database} {why}.")))?;
    let (_, login) =
        call.app.environments.login(call.app.environments.environment(environment)?, &address.login)?;
    let typed = call.values.get("table").cloned().unwrap_or_default();
    let table = table(call, &lease, (&typed, &database)).await?;
    let refused = |why: QueryError| Error::user(format!("{database}: {why}."));
    let facts = lease.ask(include_str!("facts.sql"), &[&table.oid]).await.map_err(refused)?;
    let gone = || Error::user(format!("{} is gone.", table.relation));
    let facts = facts.first().ok_or_else(gone)?;
    may(facts, &table, &login.user)?;
    let (work, indexed) = work(call, (&lease, &address), (&table, facts)).await?;
    let counted = count(&lease, &work).await.map_err(|why| words::uncounted(&why, &work, indexed))?;
    let (mut work, row) = (work, counted);
    work.rows = row.get("rows");
    let continues = call.values.get("continue").and_then(|run| run.parse().ok());
    if work.rows == 0 {
        return Err(words::nothing_to_do(&work, continues));
    }
    let text = |name: &str| row.get::<_, Option<String>>(name).unwrap_or_default();
    let found = PlanFacts {
        environment: environment.to_owned(),
        database: database.clone(),
        bytes: row.get("bytes"),
        oldest: text("oldest"),
        newest: text("newest"),
        referred: facts.get("referred"),
        triggers: facts.get("triggers"),
        continues,
        work,
    };
    let mut plan = words::describe(&found);
    plan.identity.insert("server".to_owned(), address.server.clone());
    plan.identity.insert("role".to_owned(), login.user);
    plan.resource_locks = vec![held(&database, &found.work.relation)];
    let most = lag::limit(most_lag(call.values));
    plan.guards.insert("replicas".to_owned(), format!("no replica is more than {most}"));
    plan.context.push(("replicas".to_owned(), replicas(call, &address).await));
    Ok(plan)
}

/// The one service's database, through the login that the command's header names.
fn address(call: &Call<'_>, environment: &str) -> Result<Address> {
    let question =
        QueryRequest { command: call.command, environment, values: call.values, asker: &call.asker };
    let targets = scope_targets(&call.app.environments, &question, call.command.header.scope)?;
    match targets.as_slice() {
        [only] => Ok(Address {
            environment: environment.to_owned(),
            server: only.server.clone(),
            database: only.database.clone(),
            login: call.command.header.login.clone(),
        }),
        _ => Err(Error::instead(
            "It works on one service's database at a time.",
            format!("Type `{}`.", call.command.usage()),
        )),
    }
}

/// Whether rows can be deleted there at all.
fn may(facts: &Row, table: &TableName, role: &str) -> Result<()> {
    let is = |name: &str| facts.get::<_, Option<bool>>(name).unwrap_or(false);
    let relation = &table.relation;
    if is("replica") {
        return Err(Error::user("That server is a replica: nothing can be deleted there."));
    }
    if is("read_only") {
        return Err(Error::instead(
            "The server is read-only (default_transaction_read_only), as Azure makes it before its storage is full.",
            "Grow the storage first: a purge would take more disk, and give none back.",
        ));
    }
    let schema: String = facts.get("schema");
    let mut grants = Vec::new();
    if !is("may_enter") {
        grants.push(format!("GRANT USAGE ON SCHEMA {schema} TO {role}"));
    }
    let needs = [("SELECT", "may_read"), ("DELETE", "may_delete")];
    let lacks: Vec<&str> = needs.iter().filter(|(_, may)| !is(may)).map(|(right, _)| *right).collect();
    if !lacks.is_empty() {
        grants.push(format!("GRANT {} ON {relation} TO {role}", lacks.join(", ")));
    }
    if grants.is_empty() {
        return Ok(());
    }
    Err(Error::instead(
        format!("{role} may not delete rows of {relation}."),
        format!(
            "The table's owner allows it: `{}`. Or name a login `owner` in the configuration that may.",
            grants.join("; ")
        ),
    ))
}

/// What is to go, before it is counted; and whether an index begins with the column.
async fn work(
    call: &Call<'_>,
    (lease, address): (&PooledClient, &Address),
    (table, facts): (&TableName, &Row),
) -> Result<(PurgeSpec, bool)> {
    let name = facts.get::<_, Option<String>>("key_name");
    let key = name.zip(facts.get("key_type")).map(|(name, kind)| KeyColumn { name, kind });
    if call.values.contains_key("continue") {
        let run = run_argument_named(call, "continue", "`history --command purge` shows them.").await?;
        let before = continued(call, &run, (address, table))?;
        let column = column(lease, table, &before.column).await?;
        if column.kind != before.kind {
            return Err(Error::user(format!(
                "{} is of another type now than in run #{}.",
                before.column, run.id
            )));
        }
        let after = reached(&run).or(before.after.clone()).filter(|_| key == before.key && key.is_some());
        return Ok((PurgeSpec { key, after, ..before }, column.indexed));
    }
    let given = |name: &str| call.values.get(name).cloned().unwrap_or_default();
    let column = column(lease, table, &given("column")).await?;
    let cutoff = cutoff(lease, column.kind, &given("older-than")).await?;
    let TableName { relation, oid } = table;
    let work = PurgeSpec {
        relation: relation.clone(),
        oid: *oid,
        column: column.quoted,
        kind: column.kind,
        cutoff,
        key,
        after: None,
        rows: 0,
    };
    Ok((work, column.indexed))
}

async fn cutoff(lease: &PooledClient, kind: TimeType, older_than: &str) -> Result<String> {
    let refused = |why| Error::user(format!("The cutoff can't be computed: {why}."));
    let rows = lease.ask(kind.cutoff(), &[&older_than]).await.map_err(refused)?;
    let cutoff = rows.first().and_then(|row| row.get::<_, Option<String>>(0));
    cutoff.ok_or_else(|| Error::user("The cutoff can't be computed."))
}

/// What that run was to delete, if it is one to go on with.
fn continued(call: &Call<'_>, run: &Run, (address, table): (&Address, &TableName)) -> Result<PurgeSpec> {
    let id = run.id;
    if run.request.command != call.command.name {
        return Err(Error::user(format!("Run #{id} is a `{}`, and no purge.", run.request.command)));
    }
    if run.request.environment.as_deref() != call.environment {
        let other = run.request.environment.as_deref().unwrap_or_default();
        return Err(Error::instead(
            format!("Run #{id} is a purge of {other}."),
            format!("Say so: `--env {other}`."),
        ));
    }
    let plan = run.text("plan").and_then(Plan::read);
    let plan =
        plan.ok_or_else(|| Error::user(format!("What run #{id} was to delete is no longer known.")))?;
    let before = PurgeSpec::of(&plan.identity)
        .ok_or_else(|| Error::user(format!("What run #{id} was to delete can't be read.")))?;
    let same = |name: &str, now: Option<&str>| plan.identity.get(name).map(String::as_str) == now;
    if before.relation != table.relation || !same("database", address.database.as_deref()) {
        let of = plan.identity.get("database").cloned().unwrap_or_default();
        return Err(Error::user(format!("Run #{id} is a purge of {} of {of}.", before.relation)));
    }
    if before.oid != table.oid || !same("server", Some(&address.server)) {
        return Err(Error::user(format!("{} is another table now than in run #{id}.", table.relation)));
    }
    match run.state {
        RunState::Stopped | RunState::Partial | RunState::Failed | RunState::Interrupted => Ok(before),
        state => Err(Error::instead(
            format!("Run #{id} is {}: there is nothing to go on with.", format!("{state:?}").to_lowercase()),
            "Ask for a new purge, with `--column` and `--older-than`.",
        )),
    }
}

/// The key that a run got to, as its end or its last step noted it.
fn reached(run: &Run) -> Option<String> {
    let noted = run.events.iter().rev().find(|event| event.facts.get("deleted").is_some())?;
    noted.facts.get("after")?.as_str().map(str::to_owned)
}

/// Counted in a transaction that can only read and is timed.
async fn count(lease: &PooledClient, work: &PurgeSpec) -> std::result::Result<Row, QueryError> {
    let transaction = lease.begin(AccessMode::Read, lease.statement_timeout()).await?;
    let values = work.values(work.after.as_deref());
    let rows = transaction.ask(&work.count(), &parameters(&values)).await;
    transaction.roll_back().await;
    rows?.into_iter().next().ok_or(QueryError::Lost)
}

/// How far the replicas are behind before it begins.
async fn replicas(call: &Call<'_>, address: &Address) -> String {
    let address = Address { database: None, login: "reader".to_owned(), ..address.clone() };
    let found = match call.app.environments.lease(&address, &call.asker).await {
        Ok(lease) => lag::replicas(&lease).await,
        Err(why) => Err(why.to_string()),
    };
    match found {
        Ok(some) if some.is_empty() => "none".to_owned(),
        Ok(some) => some.iter().map(lag::ReplicaLag::words).collect::<Vec<_>>().join("; "),
        Err(why) => format!("the server {why}"),
    }
}
