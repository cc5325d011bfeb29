//! `environments`: servers with address, TLS and version, and the channel's environment.

use super::Call;
use super::support::blocks::{answer, environments, table, verdict};
use super::support::servers::{ServerAnswer, ask_all, coverage, failure_blocks};
use crate::config::Tls;
use crate::error::Result;
use crate::model::{Block, Cell, ColumnKind, Severity};
use crate::sql::{Answer, fill};
use std::time::Duration;

/// A server that takes longer for its version counts as not answering.
const VERSION_TIMEOUT: Duration = Duration::from_secs(3);

const VERSION: &str = "SELECT split_part(current_setting('server_version'), ' ', 1) \
                       || CASE WHEN pg_is_in_recovery() THEN ', replica' ELSE '' END";

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let names = environments(call);
    let (servers, channel_environment) = tokio::join!(
        ask_all(call, &names, VERSION_TIMEOUT, VERSION, &[]),
        call.app.audit.store.conversation_environment(call.conversation.clone())
    );
    let servers = servers?;
    // Without the audit log the channel's environment is unknown; the servers are still worth showing.
    let channel_environment = channel_environment.ok().flatten();
    let mut blocks = failure_blocks(&servers);
    if blocks.is_empty() {
        let summary = match servers.len() {
            1 => "The only server answers.".to_owned(),
            count => format!("All {count} servers answer."),
        };
        blocks.push(verdict(Severity::Ok, summary));
    }
    let rows = servers.iter().map(|server| row(server, channel_environment.as_deref())).collect();
    let columns =
        ["environment", "server", "address", "TLS", "PostgreSQL"].map(|title| (title, ColumnKind::Left));
    blocks.push(Block::Table(table(&columns, rows)));
    blocks.push(Block::Note(fill(
        match channel_environment {
            Some(_) => "This channel uses {bound}; `use <environment>` changes that.",
            None => "No environment is set for this channel. Set one: `use <environment>`.",
        },
        &|_| channel_environment.clone(),
    )));
    Ok(Answer { coverage: coverage(&servers), ..answer(blocks) })
}

fn row(server: &ServerAnswer<'_>, channel_environment: Option<&str>) -> Vec<Cell> {
    let ServerAnswer { environment, server, rows } = server;
    let mut name = environment.name.clone();
    if environment.production && name != "production" {
        name.push_str(" (production)");
    }
    if channel_environment == Some(environment.name.as_str()) {
        name.push_str(" · here");
    }
    let tls = if let Tls::Off = environment.tls { "off" } else { "verified" };
    let version = match rows {
        Ok(rows) => rows.iter().filter_map(|row| row.value::<String>(0)).collect::<String>().into(),
        Err(_) => Cell { text: "no answer".to_owned(), severity: Severity::Critical },
    };
    vec![
        name.into(),
        server.name.as_str().into(),
        format!("{}:{}", server.host, server.port).into(),
        tls.into(),
        version,
    ]
}
