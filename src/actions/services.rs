//! `services`: each service's database, size class and live size in every environment that the person may read. One query a
//! server; a server that doesn't answer is named and doesn't delay the others.

use super::Call;
use super::support::blocks::{answer, count, environments, note, table, verdict};
use super::support::servers::{ServerAnswer, ask_all, coverage, failure_blocks, place};
use crate::config::Service;
use crate::error::Result;
use crate::model::ColumnKind::{Left, Right};
use crate::model::{Block, Cell, Severity};
use crate::sql::{Answer, bytes};
use std::time::Duration;

/// PostgreSQL reads sizes of databases file by file; after this the answer has none.
const SIZES_TIMEOUT: Duration = Duration::from_secs(5);

const SIZES: &str = "SELECT d.datname::text AS database, CASE WHEN has_database_privilege(d.oid, 'CONNECT') \
     OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END AS size \
     FROM pg_database d WHERE d.datname = ANY ($1::text[])";

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let names = environments(call);
    let services = call.app.environments.services();
    let databases: Vec<&str> = services.iter().map(|service| service.database.as_str()).collect();
    let mut servers = ask_all(call, &names, SIZES_TIMEOUT, SIZES, &[&databases]).await?;
    servers.sort_by_key(|answer| (&answer.environment.name, &answer.server.name));
    let mut missing = Vec::new();
    let mut rows = Vec::new();
    for service in services {
        let class = service.size.as_deref().unwrap_or("-");
        let mut cells =
            vec![Cell::from(service.name.as_str()), service.database.as_str().into(), class.into()];
        for name in &names {
            let size = size(call, service, name, &servers);
            if size.severity == Severity::Warning {
                missing.push(format!("{name} has no {}", service.database));
            }
            cells.push(size);
        }
        rows.push(cells);
    }
    let mut columns = vec![("service", Left), ("database", Left), ("class", Left)];
    columns.extend(names.iter().map(|name| (*name, Right)));
    let mut blocks = failure_blocks(&servers);
    let unmeasured = unmeasured(&servers);
    if blocks.is_empty() && !missing.is_empty() {
        blocks.push(verdict(Severity::Warning, format!("{}.", missing.join("; "))));
    }
    match &unmeasured {
        Some(text) if blocks.is_empty() => blocks.push(verdict(Severity::Warning, text.clone())),
        Some(text) => blocks.push(Block::Text(text.clone().into())),
        None if blocks.is_empty() => {
            let services = count(services.len(), "service", "services");
            blocks.push(verdict(Severity::Ok, format!("{services} in {}.", names.join(" and "))));
        }
        None => {}
    }
    let has_gap = servers.iter().any(|server| server.rows.is_err()) || !missing.is_empty();
    blocks.extend(has_gap.then(|| note("`environments` shows which servers answer.")));
    let part = if unmeasured.is_some() { " (in part)" } else { "" };
    blocks.extend(
        place(&servers).map(|place| note(&format!("Looked at: databases and their sizes{part} on {place}."))),
    );
    blocks.push(Block::Table(table(&columns, rows)));
    blocks.push(note("`sizes <service>` shows a service's tables."));
    Ok(Answer { coverage: coverage(&servers), ..answer(blocks) })
}

/// The databases whose size the reader may not see. Those that are missing are told of before.
fn unmeasured(servers: &[ServerAnswer<'_>]) -> Option<String> {
    let rows = servers.iter().filter_map(|server| server.rows.as_ref().ok()).flatten();
    let unmeasured = rows.filter(|row| row.value::<i64>("size").is_none());
    let databases: Vec<String> = unmeasured.filter_map(|row| row.value("database")).collect();
    let reason = "Countersign's reader may not connect to it: grant it CONNECT, or pg_monitor";
    (!databases.is_empty()).then(|| format!("Not checked: the size of {} ({reason}).", databases.join(", ")))
}

/// The size of a service's database in an environment; a warning if its server has no such database.
fn size(call: &Call<'_>, service: &Service, environment: &str, servers: &[ServerAnswer<'_>]) -> Cell {
    let answer = servers.iter().find(|answer| {
        let server = call.app.environments.server_of(answer.environment, service);
        answer.environment.name == environment
            && server.is_some_and(|server| server.name == answer.server.name)
    });
    let Some(Ok(rows)) = answer.map(|answer| &answer.rows) else {
        return Cell { text: "no answer".to_owned(), severity: Severity::Critical };
    };
    match rows.iter().find(|row| row.value::<String>("database").as_ref() == Some(&service.database)) {
        Some(row) => row.value::<i64>("size").map_or("no privilege".into(), |size| bytes(size as f64).into()),
        None => Cell { text: "missing".to_owned(), severity: Severity::Warning },
    }
}
