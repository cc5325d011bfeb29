//! How far the WAL of each server of an environment is. What a replica is missing is counted from its primary, because what its
//! upstream has sent can be as late as the upstream itself.

use super::QueryRequest;
use crate::catalog::shared_query;
use crate::error::Result;
use crate::model::LoginKind;
use crate::postgres::{Address, Environments, PooledClient};
use serde_json::{Value, json};
use std::time::Duration;

/// A server that takes longer is left out: the answer itself says that it doesn't answer.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Asks every server of the environment; those that answered, as JSON. A server alone has none to compare itself with.
///
/// # Errors
/// [`Error::User`](crate::error::Error::User) for an unknown environment.
pub async fn read(environments: &Environments, query: &QueryRequest<'_>) -> Result<String> {
    let environment = environments.environment(query.environment)?;
    if environment.servers.len() < 2 {
        return Ok("[]".to_owned());
    }
    let all = environment.servers.iter().map(|server| async {
        let address = Address::new(query.environment, &server.name, LoginKind::Reader);
        let asked = async {
            let client = environments.acquire(&address, query.application_name).await.ok()?;
            tokio::join!(rows(&client, "walsenders"), rows(&client, "wal_position")).into()
        };
        let (walsenders, position) = tokio::time::timeout(TIME_LIMIT, asked).await.ok().flatten()?;
        let (position, walsenders) = (position?.get(0).cloned()?, walsenders.unwrap_or_else(|| json!([])));
        Some(json!({ "server": server.name, "host": server.host, "port": server.port, "position": position, "walsenders": walsenders }))
    });
    let positions: Vec<Value> = futures::future::join_all(all).await.into_iter().flatten().collect();
    Ok(json!(positions).to_string())
}

/// The rows of a shared query; `None` if the server refuses.
async fn rows(client: &PooledClient, name: &str) -> Option<Value> {
    let rows = client.query_within(TIME_LIMIT, &shared_query(name)?.sql, &[]).await.ok()?;
    serde_json::from_str(&rows.first()?.get::<String>(0).ok()?).ok()
}
