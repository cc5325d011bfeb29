//! Relations and functions that a section of a command reads, and how to take everybody's privileges on them away.

use countersign::catalog::{Section, WAIT_GRAPH, shared_query};
use regex::Regex;
use std::collections::BTreeSet;
use tokio_postgres::Client;

/// Read before a section that draws who waits for whom.
const LOCK_REQUESTS: &str = include_str!("../../src/sql/wait_graph/lock_requests.sql");

/// A relation or a function, by its name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub name: String,
    is_function: bool,
}

impl Object {
    /// All that a section names, and the queries that it shares with other commands.
    pub fn of(section: &Section) -> BTreeSet<Object> {
        let before = section.parameters.iter().filter_map(|name| match name.as_str() {
            WAIT_GRAPH => Some(LOCK_REQUESTS.to_owned()),
            name => shared_query(name).map(|query| query.sql),
        });
        let sql = before.fold(section.sql.clone(), |sql, query| format!("{sql}\n{query}"));
        // In quotes it is only a name, and behind colons a type.
        let named = Regex::new(r"[^'a-z_:](pg_[a-z_]+|current_setting)(\()?").unwrap();
        let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
        let code = code.join("\n");
        let objects = named
            .captures_iter(&code)
            .map(|found| Object { name: found[1].to_owned(), is_function: found.get(2).is_some() });
        objects.collect()
    }

    /// The catalog, the prefix of its columns, and the privilege that is needed.
    fn catalog(&self) -> [&'static str; 3] {
        if self.is_function { ["pg_proc", "pro", "EXECUTE"] } else { ["pg_class", "rel", "SELECT"] }
    }

    /// Leaves only its owner a privilege on it, in the session's database. False if there is no such object.
    pub async fn take_away(&self, superuser: &Client) -> bool {
        let [catalog, prefix, privilege] = self.catalog();
        let name = &self.name;
        let keep = format!(
            "CREATE TEMP TABLE kept AS
             SELECT oid, {prefix}owner AS owner, {prefix}acl AS acl FROM pg_catalog.{catalog} WHERE {prefix}name = '{name}';
             UPDATE pg_catalog.{catalog} c SET {prefix}acl = ARRAY[makeaclitem(owner, owner, '{privilege}', false)]
             FROM kept WHERE kept.oid = c.oid"
        );
        superuser.batch_execute(&keep).await.unwrap();
        !superuser.query("SELECT FROM kept", &[]).await.unwrap().is_empty()
    }

    /// Restores the privileges that were taken away.
    pub async fn give_back(&self, superuser: &Client) {
        let [catalog, prefix, _] = self.catalog();
        let restore = format!(
            "UPDATE pg_catalog.{catalog} c SET {prefix}acl = kept.acl FROM kept WHERE kept.oid = c.oid;
             DROP TABLE kept"
        );
        superuser.batch_execute(&restore).await.unwrap();
    }
}
