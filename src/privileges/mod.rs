//! What a login is missing of the needs that a command's header declares, in one set of words for `countersign check` and for the
//! command's own refusal: the problem, and the statement that fixes it.

use crate::catalog::Need;
use crate::error::Error;
use crate::postgres::{PooledClient, QueryError};
use strum::IntoEnumIterator;

/// A need that a login doesn't meet in a database or on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    pub need: Need,
    /// "doesn't let countersign_read see other roles' sessions": follows the server's or the database's name.
    pub problem: String,
    /// A statement that ends in `;`, or a sentence.
    pub fix: String,
    /// The owner of the tables, or the schema, that it is about, where it differs by those.
    pub subject: Option<String>,
}

impl Shortfall {
    /// The problem and its fix, as they follow the name of a server or a database.
    pub fn reason(&self) -> String {
        match self.fix.strip_suffix(';') {
            Some(statement) if statement.starts_with("CREATE EXTENSION") => {
                format!("{}: run enable-stats, or `{statement}`", self.problem)
            }
            Some(statement) => format!("{}: `{statement}`", self.problem),
            None => format!("{}. {}", self.problem, self.fix.trim_end_matches('.')),
        }
    }

    /// The refusal of a command, with more about the problem if there is more to say.
    pub fn refusal(&self, place: &str, more: &str) -> Error {
        let fix = match self.fix.strip_suffix(';') {
            Some(statement) => format!("A role that may do so runs `{statement}`."),
            None => self.fix.clone(),
        };
        Error::instead(format!("{place} {}{more}.", self.problem), fix)
    }
}

/// The shortfalls of a client's login in its database, the most fundamental one first.
///
/// # Errors
/// A query that failed.
pub async fn shortfalls(client: &PooledClient, needs: &[Need]) -> Result<Vec<Shortfall>, QueryError> {
    read(client, needs, None).await
}

/// The shortfalls of a client's login in the privileges to delete rows of the table with that oid.
///
/// # Errors
/// A query that failed.
pub async fn row_deletion_shortfalls(
    client: &PooledClient,
    table: i64,
) -> Result<Vec<Shortfall>, QueryError> {
    read(client, &[Need::RowDeletion], Some(table)).await
}

async fn read(
    client: &PooledClient,
    needs: &[Need],
    table: Option<i64>,
) -> Result<Vec<Shortfall>, QueryError> {
    let names: Vec<&str> =
        needs.iter().filter(|need| need.login().is_some()).map(|need| need.name()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client.query(include_str!("shortfalls.sql"), &[&names, &table]).await?;
    let mut found = Vec::new();
    for row in &rows {
        let name: String = row.get("need")?;
        let Some(need) = Need::iter().find(|need| need.name() == name) else { continue };
        let (problem, fix, subject) = (row.get("problem")?, row.get("fix")?, row.get("subject")?);
        found.push(Shortfall { need, problem, fix, subject });
    }
    Ok(found)
}
