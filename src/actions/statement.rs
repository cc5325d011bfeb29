//! A `.sql` command that acts: its exact text and values on the card, and one transaction under the login that it names.

use super::{Act, Call, Doing, Outcome};
use crate::args::Values;
use crate::catalog::Scope;
use crate::error::{Error, Result};
use crate::message::Block;
use crate::plan::Plan;
use crate::runs::Happening;
use crate::sql::{Question, Target, scope_targets};
use crate::targets::{Address, QueryError};
use async_trait::async_trait;
use serde_json::json;
use tokio_postgres::types::ToSql;

pub struct Statement;

#[async_trait]
impl Act for Statement {
    async fn plan(&self, call: &Call<'_>) -> Result<Plan> {
        let environment = call.environment.unwrap_or_default();
        let target = the_target(call, environment)?;
        let mut plan =
            Plan::of(format!("Runs {} on {} of {environment}.", call.command.name, target.label()));
        plan.identity.insert("server".to_owned(), target.server.clone());
        plan.identity.insert("command_sha256".to_owned(), call.command.hash.clone());
        if let Some(database) = target.database {
            plan.identity.insert("database".to_owned(), database);
        }
        plan.context = call.values.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        plan.code = Some(("The reviewed SQL".to_owned(), call.command.source.clone()));
        plan.hurts = "Whoever uses what the SQL changes.".to_owned();
        plan.undo = "None, unless the SQL has one.".to_owned();
        Ok(plan)
    }

    async fn act(&self, doing: &Doing<'_>) -> Outcome {
        let planned = |name: &str| doing.plan.identity.get(name).cloned();
        if planned("command_sha256").as_deref() != Some(&doing.command.hash) {
            return Outcome::new(
                Happening::Voided,
                "The command's file is no longer the one that was shown.",
            );
        }
        let address = Address {
            environment: doing.environment().unwrap_or_default().to_owned(),
            server: planned("server").unwrap_or_default(),
            database: planned("database"),
            login: doing.command.header.login.clone(),
        };
        let lease = match doing.app.targets.lease(&address, &doing.asker).await {
            Ok(lease) => lease,
            Err(why) => {
                return Outcome::new(
                    Happening::Failed,
                    format!("{} {why}. Nothing was done.", address.server),
                );
            }
        };
        let mut shown = Outcome::new(Happening::Succeeded, "Done.");
        let sections = doing.command.sections(lease.major());
        // Several sections are several transactions otherwise; one is its own.
        if sections.len() != 1 {
            return Outcome::new(Happening::Failed, "A command that acts has one statement.");
        }
        for section in sections {
            let values: &Values = &doing.run.request.arguments;
            let bound: Vec<Option<&str>> =
                section.parameters.iter().map(|name| values.get(name).map(String::as_str)).collect();
            let bound: Vec<&(dyn ToSql + Sync)> =
                bound.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
            match lease.ask(&section.sql, &bound).await {
                Ok(rows) => {
                    shown.facts = json!({ "rows": rows.len() });
                    shown.blocks.push(Block::Note(format!("{} rows came back.", rows.len()).into()));
                }
                Err(why @ QueryError::Refused { .. }) => {
                    return Outcome::new(
                        Happening::Failed,
                        format!("PostgreSQL refused it and changed nothing: {why}."),
                    );
                }
                Err(why) => {
                    let text = format!(
                        "{} {why}: whether it was done is unknown. Look before asking again.",
                        address.server
                    );
                    return Outcome::new(Happening::Lost, text);
                }
            }
        }
        shown
    }
}

fn the_target(call: &Call<'_>, environment: &str) -> Result<Target> {
    let asker = &call.asker;
    let question = Question { command: call.command, environment, values: call.values, asker };
    let scope = match call.command.header.scope {
        Scope::Database => Scope::Database,
        _ => Scope::Server,
    };
    let mut targets = scope_targets(&call.app.targets, &question, scope)?;
    match (targets.pop(), targets.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(Error::user("There is nothing there to run it on.")),
        _ => Err(Error::instead(
            "It acts on one database at a time.",
            format!("Name it: `{}`.", call.command.usage()),
        )),
    }
}
