//! `migrate` and `migrate-resolve`: a service's Prisma migrations, by the command that the configuration names. What was done
//! is what Prisma's ledger says afterwards, whatever the command says of itself; nothing is ever tried again.

use super::{Action, Call, Execution, Outcome};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan};
use crate::postgres::{DedicatedSession, PooledClient};
use async_trait::async_trait;

mod database_url;
pub(super) mod execute;
pub(super) mod migration_history;
mod output;
pub(super) mod recover;
pub(super) mod target;
pub(super) mod text;

use execute::{CommandResult, MigrateCommand};
use migration_history::{Executor, MigrationHistory};
use target::{MigrateTarget, holder, is_direct};

pub struct Migrate;

#[async_trait]
impl Action for Migrate {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let job = asked(call)?;
        let argv = job.argv(&job.migrate.deploy, &[])?;
        job.check(&argv)?;
        let seen = survey(call, &job).await?;
        let status = &seen.status;
        if let Some(open) = status.open() {
            return Err(text::barred(&job, open));
        }
        if status.to_come().is_some_and(|names| names.is_empty()) {
            return Err(text::nothing_to_come(&job, status));
        }
        Ok(text::describe(&job, &seen, &argv))
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let prepared = async {
            let job = planned(doing)?;
            let argv = job.argv(&job.migrate.deploy, &[]).map_err(|why| voided(&why.to_string()))?;
            let ready = Prepared::of(doing, &job, &argv).await?;
            match ready.before.open() {
                Some(open) => Err(voided(&text::barred(&job, open).to_string())),
                None => Ok((job, argv, ready)),
            }
        };
        let (job, argv, ready) = match prepared.await {
            Ok(prepared) => prepared,
            Err(outcome) => return outcome,
        };
        match ready.run(doing, &job, &argv).await {
            Ok((ended, Ok(after))) => text::outcome(&job, (&ready.before, &after), &ended),
            Ok((ended, Err(why))) => text::unknown(&job, &why, &ended),
            Err(why) => nothing_done(&why),
        }
    }

    async fn observe(&self, doing: &Execution<'_>) -> Option<Outcome> {
        recover::deploy(doing).await
    }

    async fn watch(&self, doing: &Execution<'_>) -> Option<crate::app::Share> {
        recover::watch(doing).await
    }

    fn is_watched(&self) -> bool {
        true
    }
}

/// Who it is for, and by what command.
pub(super) fn asked<'a>(call: &Call<'a>) -> Result<MigrateTarget<'a>> {
    let environment = call.environment.unwrap_or_default();
    let target = super::sql_command::the_target(call, environment)?;
    let service = target.service.unwrap_or_default();
    let job = MigrateTarget::of(call.app, (environment, &service), &call.command.header.login)?;
    is_direct(job.server)?;
    Ok(job)
}

/// The job of a plan, if the configuration still means that database, that role and no other.
pub(super) fn planned<'a>(doing: &Execution<'a>) -> std::result::Result<MigrateTarget<'a>, Outcome> {
    let environment = doing.run.request.environment.as_deref().unwrap_or_default();
    let service = doing.run.request.arguments.get("service").map_or("", String::as_str);
    let job = MigrateTarget::of(doing.app, (environment, service), &doing.command.header.login);
    let job = job.map_err(|why| voided(&why.to_string()))?;
    let now = [
        ("server", job.server.name.as_str()),
        ("database", job.database()),
        ("role", job.login.user.as_str()),
    ];
    match now.iter().find(|(name, now)| doing.plan.identity.get(*name).is_none_or(|shown| shown != now)) {
        Some((name, _)) => {
            Err(voided(&format!("The {name} is another one now than the one that was shown.")))
        }
        None => Ok(job),
    }
}

/// What a plan is made from.
pub(super) struct PlanFacts {
    pub status: MigrationHistory,
    /// The port that the server itself listens on; another than the configured one means that something is in between.
    pub port: String,
}

/// The ledger and the directory, and that no migration runs.
pub(super) async fn survey(call: &Call<'_>, job: &MigrateTarget<'_>) -> Result<PlanFacts> {
    let database = job.database();
    let lease = |login: crate::postgres::Address| async move {
        let lease = call.app.environments.lease(&login, &call.asker).await;
        lease.map_err(|why| Error::user(format!("{database} {why}.")))
    };
    let (own, reader) = tokio::join!(lease(job.own_address()), lease(job.address("reader")));
    let (own, reader) = (own?, reader?);
    if let Some(holder) = holder(&reader).await.map_err(|why| text::unread(job, &why))? {
        return Err(text::held(job, &holder));
    }
    let told = |why: migration_history::HistoryError| text::unread(job, &why);
    let rows = own.ask("SELECT current_setting('port')", &[]).await.map_err(|why| told(why.into()))?;
    let port = rows.first().map_or(String::new(), |row| row.get(0));
    Ok(PlanFacts { status: job.status(&Executor::PooledClient(&own)).await.map_err(told)?, port })
}

pub(super) fn voided(why: &str) -> Outcome {
    Outcome::new(EventKind::Invalidated, format!("{why} Nothing was done."))
}

pub(super) fn nothing_done(why: &str) -> Outcome {
    Outcome::new(EventKind::Failed, format!("{why}. Nothing was done."))
}

/// All that a command needs, once everything is still as it was shown.
pub(super) struct Prepared {
    /// Holds the database's migrations against every other Countersign.
    alone: DedicatedSession,
    watcher: PooledClient,
    pub before: MigrationHistory,
}

impl Prepared {
    /// Identity and guards once more. A program of somebody else's can't be started inside a statement, so there is a moment
    /// between this look and its own: Prisma looks at its ledger again once it has its lock, which we can't take for it.
    pub async fn of(
        doing: &Execution<'_>,
        job: &MigrateTarget<'_>,
        argv: &[String],
    ) -> std::result::Result<Prepared, Outcome> {
        let failed = |why: String| nothing_done(&format!("{} {why}", job.database()));
        let targets = &doing.app.environments;
        let lease = targets.lease(&job.own_address(), &doing.asker).await;
        let alone = lease.map_err(|why| failed(why.to_string()))?.alone().await;
        let alone = alone.map_err(|why| failed(why.to_string()))?;
        let watcher = targets.lease(&job.address("reader"), &doing.asker).await;
        let watcher = watcher.map_err(|why| failed(why.to_string()))?;
        match alone.hold(&job.resource()).await {
            Ok(true) => {}
            Ok(false) => return Err(voided("Another Countersign migrates this database.")),
            Err(why) => return Err(failed(why.to_string())),
        }
        if doing.plan.code != Some(job.shown(argv)) {
            return Err(voided("The configured command is another one now than the one that was shown."));
        }
        job.check(argv).map_err(|why| voided(&why.to_string()))?;
        let before =
            job.status(&Executor::DedicatedSession(&alone)).await.map_err(|why| failed(why.to_string()))?;
        let shown = |name: &str| doing.plan.identity.get(name).cloned();
        if shown("ledger") != Some(before.ledger_digest()) {
            return Err(voided("Prisma's ledger has changed since it was shown."));
        }
        if shown("migrations") != before.directory_digest() {
            return Err(voided("The migrations directory has changed since it was shown."));
        }
        match holder(&watcher).await {
            Ok(None) => {}
            Ok(Some(holder)) => return Err(voided(&text::held(job, &holder).to_string())),
            Err(why) => return Err(failed(why.to_string())),
        }
        if doing.stop.is_cancelled() || doing.app.shutdown.is_cancelled() {
            return Err(Outcome::new(EventKind::Stopped, "Stopped before it began. Nothing was done."));
        }
        Ok(Prepared { alone, watcher, before })
    }

    /// Runs the command, and looks at the ledger afterwards: by another connection, if ours is gone.
    ///
    /// # Errors
    /// Why it was not even started.
    pub async fn run(
        &self,
        doing: &Execution<'_>,
        job: &MigrateTarget<'_>,
        argv: &[String],
    ) -> std::result::Result<
        (CommandResult, std::result::Result<MigrationHistory, migration_history::HistoryError>),
        String,
    > {
        let Prepared { alone, watcher, before } = self;
        let work = MigrateCommand { doing, job, alone, watcher, argv, before };
        let ended = work.run().await?;
        let mut after = job.status(&Executor::DedicatedSession(alone)).await;
        if let Err(migration_history::HistoryError::Server(_)) = after
            && let Ok(lease) = doing.app.environments.lease(&job.own_address(), &doing.asker).await
        {
            after = job.status(&Executor::PooledClient(&lease)).await;
        }
        Ok((ended, after))
    }
}
