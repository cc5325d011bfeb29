//! `services`: each service's database, size class and live size in every environment that the person may read. One query a
//! server; a server that doesn't answer is named and doesn't delay the others.

use super::support::blocks::{answer, count, environments, verdict};
use super::{Call, Query};
use crate::error::Result;
use crate::model::{Block, Cell, Login, Severity, Shape, Text};
use crate::postgres::Address;
use crate::sql::{Answer, bytes, fill};
use async_trait::async_trait;
use std::collections::HashMap;
use std::time::Duration;

pub struct Services;

/// PostgreSQL reads sizes of databases file by file; after this the answer has none.
const SIZES_TIMEOUT: Duration = Duration::from_secs(5);

const SIZES: &str = "SELECT d.datname::text, CASE WHEN has_database_privilege(d.oid, 'CONNECT') \
     OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END \
     FROM pg_database d WHERE d.datname = ANY ($1::text[])";

/// A server's databases and their sizes; `None` for one that the reader may not measure. The error is for people.
type Sizes = Result<HashMap<String, Option<i64>>, String>;

#[async_trait]
impl Query for Services {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let names = environments(call);
        let mut addresses = Vec::new();
        for name in &names {
            let servers = call.app.environments.environment(name)?.servers.iter();
            addresses.extend(servers.map(|server| Address::new(name, &server.name, Login::Reader)));
        }
        let all = addresses.iter().map(|address| sizes(call, address));
        let sizes = futures::future::join_all(all).await;
        let by_server: HashMap<(&str, &str), Sizes> = addresses
            .iter()
            .map(|address| (address.environment.as_str(), address.server.as_str()))
            .zip(sizes)
            .collect();
        Ok(present(call, &names, &by_server))
    }
}

async fn sizes(call: &Call<'_>, address: &Address) -> Sizes {
    let databases: Vec<&str> = call.app.environments.services().iter().map(|s| s.database.as_str()).collect();
    let lease = call.app.environments.lease(address, &call.asker).await.map_err(|why| why.to_string())?;
    let rows = lease.ask_within(SIZES_TIMEOUT, SIZES, &[&databases]).await.map_err(|why| why.to_string())?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn present(call: &Call<'_>, names: &[&str], by_server: &HashMap<(&str, &str), Sizes>) -> Answer {
    let targets = &call.app.environments;
    let mut missing = Vec::new();
    let mut rows = Vec::new();
    for service in targets.services() {
        let size = service.size.clone().unwrap_or_else(|| "-".to_owned());
        let mut cells =
            vec![Cell::from(service.name.as_str()), service.database.as_str().into(), size.into()];
        for name in names {
            let server = targets.environment(name).ok().and_then(|e| targets.server_of(e, service));
            let sizes = server.and_then(|server| by_server.get(&(*name, server.name.as_str())));
            cells.push(match sizes {
                Some(Ok(sizes)) => match sizes.get(&service.database) {
                    Some(Some(size)) => bytes(*size as f64).into(),
                    Some(None) => "no privilege".into(),
                    None => {
                        missing.push(format!("{} has no {}", name, service.database));
                        Cell { text: "missing".to_owned(), tone: Severity::Warning }
                    }
                },
                _ => Cell { text: "no answer".to_owned(), tone: Severity::Critical },
            });
        }
        rows.push(cells);
    }
    let mut columns = vec![("service", Shape::Left), ("database", Shape::Left), ("class", Shape::Left)];
    columns.extend(names.iter().map(|name| (*name, Shape::Right)));
    let mut silent: Vec<_> =
        by_server.iter().filter_map(|(key, sizes)| Some((key, sizes.as_ref().err()?))).collect();
    silent.sort();
    let mut blocks = vec![match (silent.is_empty(), missing.is_empty()) {
        (false, _) => {
            let servers: Vec<String> = silent.iter().map(|((e, s), _)| format!("{e}/{s}")).collect();
            verdict(Severity::Critical, format!("No answer from {}.", servers.join(", ")))
        }
        (_, false) => verdict(Severity::Warning, format!("{}.", missing.join("; "))),
        _ => {
            let services = count(targets.services().len(), "service", "services");
            verdict(Severity::Ok, format!("{services} in {}.", names.join(" and ")))
        }
    }];
    for ((environment, server), why) in silent {
        blocks.push(Block::Text(
            Text::new().strong(format!("{environment}/{server}")).plain(format!(" {why}")),
        ));
    }
    blocks.push(Block::Table(super::support::blocks::table(&columns, rows)));
    blocks.push(Block::Note(fill("`sizes <service>` shows a service's tables.", &|_| None)));
    answer(blocks)
}
