//! `run-sql`: a reviewed file of the team's SQL directory, run like a custom command that changes data. A file that was edited
//! after its card was made has another hash and is not run.

use super::sql_command::SqlCommand;
use super::{Action, Call, EffectGuard, Execution, Outcome};
use crate::app::App;
use crate::catalog::{Command, sql_files};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Plan;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

pub struct RunSql;

/// The file that the approver saw, beside the target of its SQL.
#[derive(Serialize, Deserialize)]
struct FileTarget {
    file: String,
}

#[async_trait]
impl Action for RunSql {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        if call.value("service") == Some("all") {
            let problem = "`run-sql` works on one service's database at a time.";
            return Err(Error::instead(problem, format!("Type `{}`.", call.command.usage())));
        }
        let command = file(call.app, call.value("file").unwrap_or_default(), call.command).await?;
        let asker = call.asker.clone();
        let Call { app, person, conversation, environment, values, run, .. } = *call;
        let file_call =
            Call { app, command: &command, person, conversation, environment, values, asker, run };
        let mut plan = SqlCommand.plan(&file_call).await?;
        plan.context.insert(0, ("summary".to_owned(), command.header.summary));
        plan.set_target(&FileTarget { file: command.name });
        Ok(plan)
    }

    async fn execute(&self, execution: &Execution<'_>) -> Outcome {
        let Some(FileTarget { file: name }) = execution.plan.target() else {
            return Outcome::invalidated("The plan names no file.");
        };
        let command = match file(execution.app, &name, execution.command).await {
            Ok(command) => command,
            Err(error) => return Outcome::invalidated(error.to_string()),
        };
        let asker = execution.asker.clone();
        let Execution { app, run, plan, stop, part, .. } = *execution;
        SqlCommand.execute(&Execution { app, command: &command, run, plan, asker, stop, part }).await
    }

    fn effect_guards(&self) -> &'static [EffectGuard] {
        &[EffectGuard::TargetLock]
    }

    fn is_transactional(&self) -> bool {
        true
    }
}

async fn file(app: &App, name: &str, like: &Command) -> Result<Command> {
    sql_files::find(directory(&app.config)?.clone(), name, like).await
}

/// The directory of the team's SQL files.
///
/// # Errors
/// [`Error::User`] where the configuration names none.
pub(crate) fn directory(config: &Config) -> Result<&PathBuf> {
    let missing =
        || Error::instead("No directory of SQL files is configured.", "Set `directory` in `[sql]`.");
    config.sql.as_ref().ok_or_else(missing)
}
