//! What holds for every replica beside the runs: the freeze, and the environments of conversations. Each change
//! tests its conditions in its own transaction.

use super::runs::word;
use super::session::{CallError, CallResult, SessionSlot};
use crate::model::{ActiveFreeze, Conversation};
use crate::store::{Binding, FreezeChange};
use tokio_postgres::types::ToSql;

pub(super) async fn change_freeze(
    slot: &SessionSlot,
    change: &FreezeChange,
    instance: &str,
) -> CallResult<bool> {
    let json = |freeze: &Option<ActiveFreeze>| freeze.as_ref().map(serde_json::to_string).transpose();
    let (from, to) = (json(&change.from)?, json(&change.to)?);
    let sql = "SELECT countersign.change_freeze($1, $2, $3, $4)";
    let rows = slot.query(sql, &[&from, &to, &change.while_executing, &instance]).await?;
    Ok(rows.first().ok_or(CallError::Lost)?.get(0)?)
}

pub(super) async fn frozen(slot: &SessionSlot) -> CallResult<Option<ActiveFreeze>> {
    let rows = slot.query("SELECT value FROM countersign.settings WHERE name = 'frozen'", &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(serde_json::from_str(&row.get::<String>(0)?)?))
}

pub(super) async fn bind(slot: &SessionSlot, binding: &Binding, instance: &str) -> CallResult<bool> {
    let Binding { conversation, environment, while_executing } = binding;
    let platform = word(&conversation.platform)?;
    let sql = "INSERT INTO countersign.bindings (platform, workspace, conversation, environment)
               SELECT $1, $2, $3, $4 WHERE countersign.is_executing($5, $6)
               ON CONFLICT (platform, workspace, conversation) DO UPDATE SET environment = excluded.environment RETURNING 1";
    let values: [&(dyn ToSql + Sync); 6] =
        [&platform, &conversation.workspace, &conversation.id, environment, &instance, while_executing];
    Ok(!slot.query(sql, &values).await?.is_empty())
}

pub(super) async fn conversation_environment(
    slot: &SessionSlot,
    conversation: &Conversation,
) -> CallResult<Option<String>> {
    let sql = "SELECT environment FROM countersign.bindings WHERE platform = $1 AND workspace = $2 AND conversation = $3";
    let platform = word(&conversation.platform)?;
    let rows = slot.query(sql, &[&platform, &conversation.workspace, &conversation.id]).await?;
    Ok(rows.first().map(|row| row.get(0)).transpose()?)
}
