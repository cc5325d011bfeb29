//! `environments`: servers with address, TLS and version, and the channel's environment. All servers are queried at once, each under
//! its own time limit.

use super::support::blocks::{answer, environments, table, verdict};
use super::{Call, Query};
use crate::config::{Environment, Server, Tls};
use crate::error::Result;
use crate::model::{Block, Cell, Login, Severity, Shape, Text};
use crate::postgres::Address;
use crate::sql::{Answer, fill};
use async_trait::async_trait;
use std::time::Duration;

pub struct ListEnvironments;

/// A server that takes longer for its version counts as not answering.
const VERSION_TIMEOUT: Duration = Duration::from_secs(3);

#[async_trait]
impl Query for ListEnvironments {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let mut servers = Vec::new();
        for name in environments(call) {
            let environment = call.app.environments.environment(name)?;
            servers.extend(environment.servers.iter().map(|server| (environment, server)));
        }
        let queries = servers.iter().map(|(environment, server)| version(call, environment, server));
        let (versions, bound) = tokio::join!(
            futures::future::join_all(queries),
            call.app.audit.store.binding(call.place.clone())
        );
        // Without the audit log the channel's environment is unknown; the servers are still worth showing.
        let bound = bound.ok().flatten();
        let silent: Vec<(String, &String)> = servers
            .iter()
            .zip(&versions)
            .filter_map(|((e, s), version)| Some((format!("{}/{}", e.name, s.name), version.as_ref().err()?)))
            .collect();
        let mut blocks = Vec::new();
        if silent.is_empty() {
            let words = match servers.len() {
                1 => "The only server answers.".to_owned(),
                all => format!("All {all} servers answer."),
            };
            blocks.push(verdict(Severity::Ok, words));
        } else {
            let names: Vec<&str> = silent.iter().map(|(name, _)| name.as_str()).collect();
            blocks.push(verdict(Severity::Critical, format!("No answer from {}.", names.join(", "))));
        }
        for (name, why) in &silent {
            blocks.push(Block::Text(Text::new().strong(name.clone()).plain(format!(" {why}"))));
        }
        let rows = servers.iter().zip(&versions).map(|((environment, server), version)| {
            row(environment, server, version, bound.as_deref() == Some(environment.name.as_str()))
        });
        let columns =
            ["environment", "server", "address", "TLS", "PostgreSQL"].map(|title| (title, Shape::Left));
        blocks.push(Block::Table(table(&columns, rows.collect())));
        blocks.push(Block::Note(fill(
            match bound {
                Some(_) => "This channel uses {bound}; `use <environment>` changes that.",
                None => "No environment is set for this channel. Set one: `use <environment>`.",
            },
            &|_| bound.clone(),
        )));
        Ok(answer(blocks))
    }
}

fn row(
    environment: &Environment,
    server: &Server,
    version: &Result<String, String>,
    bound: bool,
) -> Vec<Cell> {
    let mut name = environment.name.clone();
    if environment.production && name != "production" {
        name.push_str(" (production)");
    }
    if bound {
        name.push_str(" · here");
    }
    let tls = match environment.tls {
        Tls::Verified { .. } => "verified",
        Tls::Off => "off",
    };
    let version = match version {
        Ok(version) => Cell::from(version.as_str()),
        Err(_) => Cell { text: "no answer".to_owned(), tone: Severity::Critical },
    };
    vec![
        name.into(),
        server.name.as_str().into(),
        format!("{}:{}", server.host, server.port).into(),
        tls.into(),
        version,
    ]
}

/// Queries the server's version; the error is for people.
async fn version(call: &Call<'_>, environment: &Environment, server: &Server) -> Result<String, String> {
    let address = Address::new(&environment.name, &server.name, Login::Reader);
    let lease = call.app.environments.lease(&address, &call.asker).await.map_err(|why| why.to_string())?;
    let sql = "SELECT split_part(current_setting('server_version'), ' ', 1) \
               || CASE WHEN pg_is_in_recovery() THEN ', replica' ELSE '' END";
    let rows = lease.ask_within(VERSION_TIMEOUT, sql, &[]).await.map_err(|why| why.to_string())?;
    rows.first().map(|row| row.get(0)).ok_or_else(|| "gave no version".to_owned())
}
