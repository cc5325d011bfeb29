//! `enable-stats` and `reset-stats`: pg_stat_statements in one database. CREATE EXTENSION says that it is done even where the
//! server has not loaded the library, and the plain reset forgets every database's counters; both are seen to here.

use super::support::database::DatabaseTarget;
use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan};
use crate::postgres::{DedicatedSession, PooledClient, QueryError};
use crate::sql::grouped;
use async_trait::async_trait;
use serde_json::json;
use tokio_postgres::Row;

pub struct EnableStats;
pub struct ResetStats;

const MAKE: &str = "CREATE EXTENSION pg_stat_statements WITH SCHEMA public";
const THERE: &str = include_str!("there.sql");

#[async_trait]
impl Action for EnableStats {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let site = DatabaseTarget::of(call)?;
        let there = first(site.lease(call).await?.ask(THERE, &[]).await, &site)?;
        // Settings that the login which acts may not see.
        let seen = first(site.reader(call).await?.ask(THERE, &[]).await, &site)?;
        let available = creatable(&site, &there, &seen)?;
        let environment = &site.address.environment;
        let database = &site.database;
        let mut plan =
            Plan::of(format!("Makes pg_stat_statements {available} in {database} in {environment}."));
        site.identify(&mut plan);
        plan.context.push(("statement".to_owned(), MAKE.to_owned()));
        plan.rollback =
            "A DBA drops it: DROP EXTENSION pg_stat_statements. The server goes on counting.".to_owned();
        plan.resource_locks = vec![resource(&site)];
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let site = DatabaseTarget::planned(doing);
        let worker = match begin(doing, &site).await {
            Ok(worker) => worker,
            Err(nothing) => return *nothing,
        };
        match worker.run(MAKE).await {
            Err(why) if why.is_final() => {
                site.nothing(format!("has no pg_stat_statements: PostgreSQL refused: {why}"))
            }
            _ => made(doing, &site).await,
        }
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        let seen = made(doing, &DatabaseTarget::planned(doing)).await;
        let known = Some(seen).filter(|seen| seen.kind != EventKind::Interrupted)?;
        Some(Outcome { verdict: known.verdict.clone().plain(format!(" {INTERRUPTED}")), ..known })
    }
}

const INTERRUPTED: &str = "Countersign was interrupted and can't tell whether that is its work.";

fn resource(site: &DatabaseTarget) -> String {
    format!("statistics of {}", site.database)
}

fn first(answer: std::result::Result<Vec<Row>, QueryError>, site: &DatabaseTarget) -> Result<Row> {
    let rows = answer.map_err(|why| site.told(&why))?;
    rows.into_iter().next().ok_or_else(|| Error::user(format!("{} says nothing of itself.", site.database)))
}

async fn begin(
    doing: &Execution<'_>,
    site: &DatabaseTarget,
) -> std::result::Result<DedicatedSession, Box<Outcome>> {
    let worker = site.worker(doing).await.map_err(|why| Box::new(site.nothing(why)))?;
    match worker.hold(&resource(site)).await {
        Ok(true) => Ok(worker),
        Ok(false) => Err(Box::new(site.nothing("is worked on by another Countersign"))),
        Err(why) => Err(Box::new(site.nothing(why))),
    }
}

/// The version that could be made; everything that stands in its way is told with what to do.
fn creatable(site: &DatabaseTarget, there: &Row, seen: &Row) -> Result<String> {
    let database = &site.database;
    let available: Option<String> = there.get("available");
    let loaded: bool = there.get("loaded");
    let restart = match seen.get::<_, Option<bool>>("waits_for_restart") {
        Some(true) => "shared_preload_libraries is changed already, and waits for a restart of the server.",
        _ => "A DBA adds pg_stat_statements to shared_preload_libraries and restarts the server.",
    };
    if let Some(version) = there.get::<_, Option<String>>("version") {
        let has = format!("{database} has pg_stat_statements {version} already.");
        return Err(match available.filter(|available| *available != version) {
            _ if !loaded => Error::instead(format!("{has} But the server doesn't load it."), restart),
            Some(newer) => Error::instead(
                format!("{has} The server has version {newer}."),
                "Its owner updates it: `ALTER EXTENSION pg_stat_statements UPDATE`.",
            ),
            None => Error::instead(has, "`slow` asks it, and nothing has to be done."),
        });
    }
    let allowed: Option<Vec<String>> = there.get("allowed");
    if allowed.is_some_and(|allowed| !allowed.iter().any(|name| name == "pg_stat_statements")) {
        return Err(Error::instead(
            format!("Azure doesn't allow pg_stat_statements in {database}."),
            "Add it to the server parameter `azure.extensions`.",
        ));
    }
    let Some(available) = available else {
        return Err(Error::instead(
            "The server has no pg_stat_statements to make.",
            "A DBA installs it: it is one of PostgreSQL's own, in the package of its additional modules (contrib).",
        ));
    };
    if !loaded {
        return Err(Error::instead(
            format!(
                "The server doesn't load pg_stat_statements: in {database} it would be made and answer nothing."
            ),
            restart,
        ));
    }
    if !there.get::<_, Option<bool>>("may").unwrap_or(false) {
        return Err(Error::instead(
            format!(
                "{} may not make pg_stat_statements in {database}: that takes a superuser, on Azure a member of azure_pg_admin.",
                site.role
            ),
            format!(
                "Such a role runs `{MAKE}` there, once; or it is named as the login `owner` in the configuration."
            ),
        ));
    }
    Ok(available)
}

/// Whether it is there, as those see it who will ask.
async fn made(doing: &Execution<'_>, site: &DatabaseTarget) -> Outcome {
    let database = &site.database;
    let unseen = format!("Whether pg_stat_statements is in {database} can't be seen: `slow` tells.");
    let Some(watcher) = site.watcher(doing).await else {
        return Outcome::new(EventKind::Interrupted, unseen);
    };
    let seen =
        watcher.ask("SELECT extversion FROM pg_extension WHERE extname = 'pg_stat_statements'", &[]).await;
    let Ok(rows) = seen else { return Outcome::new(EventKind::Interrupted, unseen) };
    let Some(version) = rows.first().map(|row| row.get::<_, String>(0)) else {
        return Outcome::new(EventKind::Failed, format!("pg_stat_statements is not in {database}."));
    };
    match watcher.ask("SELECT count(*) FROM public.pg_stat_statements", &[]).await {
        Ok(_) => {
            let text = format!("pg_stat_statements {version} is in {database}: `slow` answers from now on.");
            Outcome::new(EventKind::Succeeded, text)
        }
        Err(why) => {
            let text = format!("pg_stat_statements {version} is in {database}, but can't be asked: {why}.");
            Outcome::new(EventKind::Partial, text)
        }
    }
}

/// The function that forgets, as this login may call it.
struct ResetFunction {
    function: String,
    schema: String,
    dbid: i64,
}

impl ResetFunction {
    async fn find(lease: &PooledClient, site: &DatabaseTarget) -> Result<ResetFunction> {
        let rows = lease.ask(include_str!("resets.sql"), &[]).await.map_err(|why| site.told(&why))?;
        let Some(row) = rows.first() else {
            return Err(Error::instead(
                format!("{} has no pg_stat_statements that can forget one database.", site.database),
                "`enable-stats` makes it; `extensions` tells whether there is one that is too old.",
            ));
        };
        let (role, schema): (String, String) = (row.get("role"), row.get("schema"));
        let mut grants = Vec::new();
        if !row.get::<_, bool>("may_use") {
            grants.push(format!("`GRANT USAGE ON SCHEMA {schema} TO {role}`"));
        }
        if !row.get::<_, bool>("may") {
            let signature: String = row.get("signature");
            grants.push(format!("`GRANT EXECUTE ON FUNCTION {signature} TO {role}`"));
        }
        if !grants.is_empty() {
            return Err(Error::instead(
                format!("{role} may not reset the statistics of {}.", site.database),
                format!("Who owns the extension there runs {}.", grants.join(" and ")),
            ));
        }
        Ok(ResetFunction { function: row.get("function"), schema, dbid: row.get("dbid") })
    }

    /// Statements and calls of this database, without Countersign's own.
    async fn counted(
        &self,
        lease: &PooledClient,
        own: &[String],
    ) -> std::result::Result<(i64, i64), QueryError> {
        let sql = format!(
            "SELECT count(*), COALESCE(sum(calls), 0)::int8 FROM {}.pg_stat_statements
             WHERE dbid = $1::int8::oid AND userid NOT IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($2::text[]))",
            self.schema
        );
        let rows = lease.ask(&sql, &[&self.dbid, &own]).await?;
        Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
    }
}

#[async_trait]
impl Action for ResetStats {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let site = DatabaseTarget::of(call)?;
        let reset = ResetFunction::find(&site.lease(call).await?, &site).await?;
        let environment = call.app.environments.environment(&site.address.environment)?;
        let own = call.app.environments.own_roles(environment);
        let (statements, calls) =
            reset.counted(&site.reader(call).await?, &own).await.map_err(|why| site.told(&why))?;
        let (database, name) = (&site.database, &environment.name);
        let mut plan =
            Plan::of(format!("Forgets what pg_stat_statements has counted of {database} in {name}."));
        site.identify(&mut plan);
        plan.identity.insert("dbid".to_owned(), reset.dbid.to_string());
        plan.context.push((
            "counted".to_owned(),
            format!("{} calls of {} statements", grouped(calls), grouped(statements)),
        ));
        plan.guards.insert("database".to_owned(), "it is still this very database".to_owned());
        plan.impact = "Whoever looks at `slow`, or compares with before: it begins from nothing. No other database's counters, \
                      and no work."
            .to_owned();
        plan.rollback = "Nothing brings the counters back.".to_owned();
        plan.resource_locks = vec![resource(&site)];
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let site = DatabaseTarget::planned(doing);
        let database = &site.database;
        let nothing = |why: Error| Outcome::new(EventKind::Failed, format!("{why} Nothing was done."));
        let worker = match begin(doing, &site).await {
            Ok(worker) => worker,
            Err(nothing) => return *nothing,
        };
        let Some(watcher) = site.watcher(doing).await else {
            return site.nothing("can't be looked at, so that it could not be proved");
        };
        let reset = match ResetFunction::find(worker.lease(), &site).await {
            Ok(reset) => reset,
            Err(why) => return nothing(why),
        };
        let environment = doing.app.environments.environment(&site.address.environment);
        let own =
            environment.map(|environment| doing.app.environments.own_roles(environment)).unwrap_or_default();
        let before = match reset.counted(&watcher, &own).await {
            Ok(before) => before,
            Err(why) => return site.nothing(why),
        };
        let dbid: i64 =
            doing.plan.identity.get("dbid").and_then(|dbid| dbid.parse().ok()).unwrap_or_default();
        // Without the database's oid, which must not be 0, it would forget the whole server's.
        let sql = format!(
            "SELECT {}(0, d.oid, 0) FROM pg_database d WHERE d.datname = current_database() AND d.oid = $1::int8::oid",
            reset.function
        );
        match worker.ask(&sql, &[&dbid]).await {
            Ok(rows) if rows.is_empty() => {
                let text = format!("Another database is called {database} now. Nothing was done.");
                return Outcome::new(EventKind::Invalidated, text);
            }
            Err(why) if why.is_final() => {
                return site.nothing(format!("keeps its counters: PostgreSQL refused: {why}"));
            }
            _ => {}
        }
        proved(&site, before, reset.counted(&watcher, &own).await)
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        let site = DatabaseTarget::planned(doing);
        let since = doing.run.event(EventKind::Started.word())?.at.to_string();
        begun_anew(&site, &site.watcher(doing).await?, &since).await
    }
}

/// Since PostgreSQL 17 each statement says since when it is counted; before, or while it can't be seen, nothing tells: `None`.
async fn begun_anew(site: &DatabaseTarget, watcher: &PooledClient, since: &str) -> Option<Outcome> {
    let there = watcher.ask(THERE, &[]).await.ok()?;
    let schema: String = there.first()?.get::<_, Option<String>>("schema")?;
    // As JSON, since a column that isn't there can't be named.
    let sql = format!(
        "SELECT bool_and((to_jsonb(s) ->> 'stats_since')::timestamptz >= $1::text::timestamptz) FROM {schema}.pg_stat_statements(false) s
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND to_jsonb(s) ? 'stats_since'"
    );
    let rows = watcher.ask(&sql, &[&since]).await.ok()?;
    let database = &site.database;
    Some(match rows.first()?.get::<_, Option<bool>>(0)? {
        true => Outcome::new(
            EventKind::Succeeded,
            format!(
                "No statement of {database} is counted since before it began: its statistics begin anew. {INTERRUPTED}"
            ),
        ),
        false => Outcome::new(
            EventKind::Failed,
            format!(
                "Statements of {database} are counted since before it began: its statistics were not forgotten."
            ),
        ),
    })
}

/// The counters have gone: fewer calls are counted than before.
fn proved(
    site: &DatabaseTarget,
    (statements, calls): (i64, i64),
    after: std::result::Result<(i64, i64), QueryError>,
) -> Outcome {
    let database = &site.database;
    let counted = |(statements, calls): (i64, i64)| {
        format!("{} calls of {} statements", grouped(calls), grouped(statements))
    };
    let had = counted((statements, calls));
    let mut outcome = match after {
        Ok(after) if after.1 < calls || calls == 0 => Outcome::new(
            EventKind::Succeeded,
            format!(
                "The statistics of {database} begin anew: {had} before, {} now. Every other database's are as they were.",
                counted(after)
            ),
        ),
        Ok(after) => Outcome::new(
            EventKind::Interrupted,
            format!(
                "Whether the statistics of {database} were forgotten can't be told: {had} before, {} now. `slow` tells.",
                counted(after)
            ),
        ),
        Err(why) => Outcome::new(
            EventKind::Interrupted,
            format!("Whether the statistics of {database} were forgotten can't be seen: {why}."),
        ),
    };
    outcome.facts = json!({ "statements": statements, "calls": calls });
    outcome
}
