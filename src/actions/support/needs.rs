//! The needs of a command's header before its plan is made: a login that can't do the work is told so at once, in the words of
//! `countersign check`.

use super::database::DatabaseTarget;
use super::relations::RelationInfo;
use crate::actions::Call;
use crate::catalog::Need;
use crate::error::{Error, Result};
use crate::model::LoginKind;
use crate::postgres::{Address, PooledClient};
use crate::privileges::{self, Shortfall};
use crate::sql::Target;

/// Refuses a command whose login can do its work on none of the targets. Where some can be worked on, each target's outcome tells. A
/// target that can't be asked is left to the command.
///
/// # Errors
/// [`Error::User`] with the fix.
pub async fn ensure(call: &Call<'_>) -> Result<()> {
    let login = call.command.header.login;
    let mut needs = call.command.needs_of(login);
    needs.retain(|need| need.is_essential());
    if needs.is_empty() || login == LoginKind::Reader {
        return Ok(());
    }
    let targets = call.targets(call.command.header.scope)?;
    let mut refusal = None;
    for target in &targets {
        match first_shortfall(call, target, &needs).await {
            Some(shortfall) => {
                let place = target.database.as_deref().unwrap_or(&target.server);
                refusal.get_or_insert_with(|| shortfall.refusal(place, ""));
            }
            None => return Ok(()),
        }
    }
    refusal.map_or(Ok(()), Err)
}

async fn first_shortfall(call: &Call<'_>, target: &Target, needs: &[Need]) -> Option<Shortfall> {
    let address = Address::new(call.environment_name(), &target.server, call.command.header.login);
    let address = address.in_database(target.database.clone());
    let client = call.app.environments.acquire_single_use(&address, &call.asker).await.ok()?;
    privileges::shortfalls(&client, needs).await.ok()?.into_iter().next()
}

/// Refuses a client's login that doesn't meet a need, about that owner or schema alone where one is named; `more` follows the problem.
///
/// # Errors
/// [`Error::User`] with the fix.
pub async fn ensure_met(
    client: &PooledClient,
    database: &DatabaseTarget,
    need: Need,
    subject: Option<&str>,
    more: &str,
) -> Result<()> {
    let missing = privileges::shortfalls(client, &[need]).await;
    let missing = missing.map_err(|error| database.query_error(&error))?;
    let concerns = |missing: &&Shortfall| subject.is_none() || missing.subject.as_deref() == subject;
    missing.iter().find(concerns).map_or(Ok(()), |missing| Err(missing.refusal(&database.database, more)))
}

/// The refusal to maintain a relation, for a login that may not, with the fix.
pub async fn refuse_maintenance(
    client: &PooledClient,
    database: &DatabaseTarget,
    relation: &RelationInfo,
) -> Error {
    let RelationInfo { relation: name, owner, .. } = relation;
    let more = format!(", such as {name}, which belongs to {owner}");
    match ensure_met(client, database, Need::Maintenance, Some(owner), &more).await {
        Err(refusal) => refusal,
        Ok(()) => {
            Error::user(format!("{} doesn't let {} maintain {name}.", database.database, database.role))
        }
    }
}
