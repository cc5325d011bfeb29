//! Tables and indexes by the names that people type: resolved and quoted by the server.

use crate::actions::{Call, Execution};
use crate::error::{Error, Result};
use crate::suggest::shown;
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// A table (or an index) as the login that works on it sees it.
#[derive(Debug, Clone)]
pub(super) struct RelationName {
    /// Quoted, with its schema: `public."User"`.
    pub relation: String,
    pub oid: i64,
    /// As `pg_class.relkind`: "r", "m", "p", "i", "I".
    pub kind: String,
    pub owner: String,
    pub may: bool,
    pub exact: bool,
    pub bytes: i64,
    pub dead: i64,
}

impl RelationName {
    pub fn of(row: &Row) -> RelationName {
        RelationName {
            relation: row.get("relation"),
            oid: row.get("oid"),
            kind: row.get("kind"),
            owner: row.get("owner"),
            may: row.get::<_, Option<bool>>("may").unwrap_or(false),
            exact: row.get::<_, Option<bool>>("exact").unwrap_or(false),
            bytes: row.get::<_, Option<i64>>("est_bytes").unwrap_or(0),
            dead: row.get("dead"),
        }
    }

    pub fn identity(&self) -> BTreeMap<String, String> {
        [
            ("relation", self.relation.clone()),
            ("oid", self.oid.to_string()),
            ("dead", self.dead.to_string()),
            ("bytes", self.bytes.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn bare(&self) -> String {
        self.relation.rsplit('.').next().unwrap_or_default().trim_matches('"').to_owned()
    }
}

/// One of a plan's targets, as it was written there.
#[derive(Debug, Clone, Default)]
pub(super) struct Relation {
    pub relation: String,
    pub oid: i64,
    pub bytes: i64,
    pub dead: i64,
    /// Of an index: its table, by name and oid.
    pub table: String,
    pub table_oid: i64,
    /// Of a table that is to be written anew: its file, as `pg_relation_filenode` has it.
    pub file: Option<i64>,
}

impl Relation {
    pub fn of(target: &BTreeMap<String, String>) -> Relation {
        let text = |name: &str| target.get(name).cloned().unwrap_or_default();
        let number = |name: &str| text(name).parse().unwrap_or_default();
        Relation {
            relation: text("relation"),
            oid: number("oid"),
            bytes: number("bytes"),
            dead: number("dead"),
            table: text("table"),
            table_oid: number("table_oid"),
            file: text("file").parse().ok(),
        }
    }

    pub fn all(doing: &Execution<'_>) -> Vec<Relation> {
        doing.plan.targets.iter().map(Relation::of).collect()
    }
}

/// The one that a name means: the exact one, else the only one. `None` if there is none.
pub(super) fn one(call: &Call<'_>, typed: &str, found: Vec<RelationName>) -> Result<Option<RelationName>> {
    let exact: Vec<RelationName> = found.iter().filter(|table| table.exact).cloned().collect();
    let fitting = if exact.is_empty() { found } else { exact };
    let [first, _, ..] = fitting.as_slice() else { return Ok(fitting.into_iter().next()) };
    let names: Vec<&str> = fitting.iter().map(|table| table.relation.as_str()).collect();
    let service = call.values.get("service").cloned().unwrap_or_default();
    Err(Error::instead(
        format!("“{}” can be {}.", shown(typed), names.join(" or ")),
        format!("Say which, as in `{} {service} {}`.", call.command.name, quoted(&first.relation)),
    ))
}

/// There is none of that name: `all` are those that there are, of that `kind` ("table").
pub(super) fn unknown((typed, database): (&str, &str), kind: &str, all: &[RelationName]) -> Error {
    let names: Vec<String> = all.iter().map(RelationName::bare).collect();
    let problem = format!("{database} has no {kind} “{}”.", shown(typed));
    match crate::suggest::nearest(typed, names.iter().map(String::as_str)) {
        Some(near) => Error::instead(problem, format!("Did you mean `{near}`?")),
        None => Error::instead(problem, "`sizes <service>` shows the tables that there are."),
    }
}

/// A name as it can be typed in chat: quotes inside it would end a word.
fn quoted(relation: &str) -> String {
    relation.replace('"', "")
}
