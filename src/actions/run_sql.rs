//! `run-sql`: a reviewed file of the team's, run like one of its own commands that act, as it is in the directory at that moment. A file
//! that was edited since its card was made has another hash, and is not run.

use super::sql_command::Statement;
use super::{Action, Call, Execution, Outcome};
use crate::catalog::{Command, sql_files};
use crate::error::{Error, Result};
use crate::model::{EventKind, Plan};
use async_trait::async_trait;

pub struct RunSql;

#[async_trait]
impl Action for RunSql {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        if call.values.get("service").is_some_and(|service| service == "all") {
            return Err(Error::instead(
                "It works on one service's database at a time.",
                format!("Type `{}`.", call.command.usage()),
            ));
        }
        let typed = call.values.get("file").map_or("", String::as_str);
        let command = file(call.app, typed, call.command).await?;
        let asker = call.asker.clone();
        let Call { app, person, place, environment, values, .. } = *call;
        let own = Call { app, command: &command, person, place, environment, values, asker };
        let mut plan = Statement.plan(&own).await?;
        plan.context.insert(0, ("it".to_owned(), command.header.summary.clone()));
        plan.identity.insert("file".to_owned(), command.name.clone());
        Ok(plan)
    }

    async fn act(&self, doing: &Execution<'_>) -> Outcome {
        let planned = doing.plan.identity.get("file").map_or("", String::as_str);
        let command = match file(doing.app, planned, doing.command).await {
            Ok(command) => command,
            Err(why) => return Outcome::new(EventKind::Invalidated, format!("{why} Nothing was done.")),
        };
        let asker = doing.asker.clone();
        let Execution { app, run, plan, stop, .. } = *doing;
        Statement.act(&Execution { app, command: &command, run, plan, asker, stop }).await
    }

    fn all_or_nothing(&self) -> bool {
        true
    }
}

async fn file(app: &crate::app::App, name: &str, like: &Command) -> Result<Command> {
    let directory = app.config.sql.clone().ok_or_else(|| {
        Error::instead("The configuration names no directory of SQL files.", "It is `directory` in `[sql]`.")
    })?;
    sql_files::find(directory, name, like).await
}
