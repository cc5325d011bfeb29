//! The run that a command was asked about.

use super::Call;
use crate::error::{Error, Result};
use crate::model::Run;

/// # Errors
/// [`Error::User`] when there is none of that number; `lists` says where to find one.
pub async fn wanted(call: &Call<'_>, lists: &str) -> Result<Run> {
    wanted_as(call, "run", lists).await
}

/// As [`wanted`], by the argument of that name.
///
/// # Errors
/// As [`wanted`].
pub async fn wanted_as(call: &Call<'_>, argument: &str, lists: &str) -> Result<Run> {
    let id = call.values.get(argument).and_then(|id| id.parse().ok()).unwrap_or_default();
    let found = call.app.audit.store.get(id).await.map_err(anyhow::Error::from)?;
    found.ok_or_else(|| Error::instead(format!("There is no run #{id}."), lists.to_owned()))
}
