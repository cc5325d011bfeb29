//! Tables and indexes by the names that people type: resolved and quoted by the server.

use crate::actions::Call;
use crate::command_line::as_word;
use crate::error::{Error, Result};
use crate::model::{Plan, as_text, from_identity};
use crate::postgres::{PgRow, PooledClient, QueryError};
use crate::suggest::{nearest, shown};
use serde::{Deserialize, Serialize};

/// A table or an index as the login that works on it sees it.
#[derive(Debug, Clone)]
pub struct RelationInfo {
    /// Quoted, with its schema: `public."User"`.
    pub relation: String,
    /// Neither quoted nor with its schema.
    name: String,
    /// Not quoted.
    schema: String,
    pub oid: i64,
    /// As `pg_class.relkind`: "r", "m", "p", "i", "I".
    pub kind: String,
    pub owner: String,
    /// The login may run VACUUM, ANALYZE and REINDEX on it.
    pub may: bool,
    exact: bool,
    pub bytes: i64,
    pub dead: i64,
}

impl RelationInfo {
    /// Its name with its schema's, neither of them quoted.
    fn qualified_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The relation as a plan's target.
    pub fn planned(&self) -> PlannedRelation {
        let RelationInfo { relation, oid, bytes, dead, .. } = self.clone();
        PlannedRelation { relation, oid, bytes, dead, ..PlannedRelation::default() }
    }
}

/// One of a plan's targets.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlannedRelation {
    pub relation: String,
    #[serde(with = "as_text")]
    pub oid: i64,
    #[serde(with = "as_text")]
    pub bytes: i64,
    #[serde(with = "as_text")]
    pub dead: i64,
    /// Of an index: its table's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub table: String,
    /// Of an index: its table.
    #[serde(with = "as_text", skip_serializing_if = "is_zero")]
    pub table_oid: i64,
    /// Of a table to be rewritten: its file, as `pg_relation_filenode` has it.
    #[serde(with = "as_text", skip_serializing_if = "is_zero")]
    pub file: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl PlannedRelation {
    /// Reads all targets of a plan; none if one of them is malformed.
    pub fn all(plan: &Plan) -> Vec<PlannedRelation> {
        plan.target_identities.iter().map(from_identity).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Adds to the effect which of the targets can't be touched, since no statement of ours can have their names.
pub fn add_unnameable(plan: &mut Plan, one: &str, many: &str) {
    let targets = PlannedRelation::all(plan);
    let names: Vec<&str> = targets.iter().map(|target| target.relation.as_str()).collect();
    let names: Vec<&str> =
        names.into_iter().filter(|name| name.contains(char::REPLACEMENT_CHARACTER)).collect();
    if names.is_empty() {
        return;
    }
    let (has, number) = if names.len() == 1 {
        ("its name has", format!("1 {one}"))
    } else {
        ("their names have", format!("{} {many}", names.len()))
    };
    let named = names[..names.len().min(MAX_UNNAMEABLE)].join(", ");
    let more = if names.len() > MAX_UNNAMEABLE { ", …" } else { "" };
    plan.effect.push_str(&format!(
        " {number} won't be touched, since {has} bytes that aren't UTF-8: {named}{more}."
    ));
}

/// Name of the plan's context that lists what the login may not maintain.
const LEFT_OUT: &str = "left out";

/// Names that a plan lists of those that are left out.
const MAX_LEFT_OUT: usize = 5;

/// The fix for what is left out.
pub const TO_INCLUDE_THEM: &str = "To include them, configure a login `maintain` with a role that is a member of their owners, or from PostgreSQL 17 on of pg_maintain.";

/// Adds what the login may not maintain: to the effect, which everybody sees, and to the context, where the outcome finds it. `are`
/// counts it: "2 tables are".
pub fn add_left_out(plan: &mut Plan, role: &str, left_out: &[RelationInfo], are: &str) {
    if left_out.is_empty() {
        return;
    }
    let them = if left_out.len() == 1 { "it" } else { "them" };
    plan.effect.push_str(&format!(" {are} left out: {role} may not maintain {them}."));
    let named = left_out.iter().take(MAX_LEFT_OUT);
    let named: Vec<String> = named.map(|found| format!("{} ({})", found.relation, found.owner)).collect();
    let more = left_out.len().saturating_sub(MAX_LEFT_OUT);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    plan.add_context(LEFT_OUT, format!("{}{more}", named.join(", ")));
}

/// The sentence of an outcome about what was left out, if anything was.
pub fn left_out_sentence(plan: &Plan, role: &str) -> Option<String> {
    let (_, names) = plan.context.iter().find(|(name, _)| name == LEFT_OUT)?;
    Some(format!(" Left out, since {role} may not maintain them: {names}."))
}

/// Names that a plan lists of those that can't be touched.
const MAX_UNNAMEABLE: usize = 5;

/// The relations that a command takes.
#[derive(Debug, Clone, Copy)]
pub enum RelationKind {
    /// Tables for VACUUM: a partitioned one represents its partitions.
    Vacuumed,
    /// Tables for ANALYZE, which takes a foreign table that is named.
    Analyzed,
    /// Tables and indexes for REINDEX.
    Reindexed,
    /// Tables to delete rows from.
    Purged,
}

impl RelationKind {
    /// Lists those of a name as typed, exact matches first; all of them without a name.
    pub async fn list(
        self,
        client: &PooledClient,
        typed: Option<&str>,
    ) -> Result<Vec<RelationInfo>, QueryError> {
        let sql = include_str!("relations.sql");
        let kinds: &[&str] = match self {
            RelationKind::Analyzed if typed.is_some() => &["r", "m", "p", "f"],
            RelationKind::Vacuumed | RelationKind::Analyzed => &["r", "m", "p"],
            RelationKind::Reindexed => &["r", "m", "p", "i", "I"],
            RelationKind::Purged => &["r", "p"],
        };
        let rows = match self {
            RelationKind::Vacuumed | RelationKind::Analyzed => {
                client.query(include_str!("tables.sql"), &[&typed, &kinds]).await?
            }
            RelationKind::Reindexed | RelationKind::Purged => client.query(sql, &[&typed, &kinds]).await?,
        };
        let relation = |row: &PgRow| {
            Ok(RelationInfo {
                relation: row.get("relation")?,
                name: row.get("name")?,
                schema: row.get("schema")?,
                oid: row.get("oid")?,
                kind: row.get("kind")?,
                owner: row.get("owner")?,
                may: row.is_true("may"),
                exact: row.is_true("exact"),
                bytes: row.value("est_bytes").unwrap_or(0),
                dead: row.get("dead")?,
            })
        };
        rows.iter().map(relation).collect()
    }

    /// Resolves a name as typed: the exact match, else the only one.
    pub async fn resolve(
        self,
        call: &Call<'_>,
        client: &PooledClient,
        database: &str,
        typed: &str,
    ) -> Result<RelationInfo> {
        let rejected = |error: QueryError| Error::user(format!("{database}: {error}."));
        let mut matches = self.list(client, Some(typed)).await.map_err(rejected)?;
        if matches.iter().any(|relation| relation.exact) {
            matches.retain(|relation| relation.exact);
        }
        match matches.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(self.not_found(client, database, typed).await),
            [first, ..] => {
                let names: Vec<&str> = matches.iter().map(|relation| relation.relation.as_str()).collect();
                let service = call.value("service").unwrap_or_default();
                let example = as_word(&first.qualified_name());
                Err(Error::instead(
                    format!("“{}” can be {}.", shown(typed), names.join(" or ")),
                    format!("Say which, as in `{} {service} {example}`.", call.command.name),
                ))
            }
        }
    }
    /// Builds the refusal for a name that no relation of this kind has: another kind of relation has it, or none.
    async fn not_found(self, client: &PooledClient, database: &str, typed: &str) -> Error {
        let noun = if let RelationKind::Reindexed = self { "table or index" } else { "table" };
        let others = client.query(include_str!("other_kinds.sql"), &[&typed]).await.unwrap_or_default();
        let columns = |other: &PgRow| other.value::<String>("relation").zip(other.value::<String>("kind"));
        if let Some((relation, kind)) = others.first().and_then(columns) {
            return Error::instead(
                format!("{relation} of {database} is {kind}, not a {noun}."),
                "`sizes <service>` shows the tables that there are.",
            );
        }
        let all = self.list(client, None).await.unwrap_or_default();
        let near = nearest(typed, all.iter().map(|relation| relation.name.as_str()));
        if let Some(near) = near.filter(|near| near.contains(char::REPLACEMENT_CHARACTER)) {
            return Error::instead(
                format!(
                    "The name of {near} in {database} has bytes that aren't UTF-8, so Countersign can't name it."
                ),
                "Rename it with psql: `ALTER TABLE … RENAME TO …`.",
            );
        }
        Error::instead(
            format!("{database} has no {noun} “{}”.", shown(typed)),
            match near {
                // A backtick in a name would end the code, and what follows could look like a command to run.
                Some(near) => format!("Did you mean `{}`?", as_word(&near.replace('`', ""))),
                None => "`sizes <service>` shows the tables that there are.".to_owned(),
            },
        )
    }
}
