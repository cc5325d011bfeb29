//! `connect <service>`: lines to copy, from the configuration. They contain no secret.

use super::support::blocks::{answer, verdict};
use super::{Call, Query};
use crate::error::{Error, Result};
use crate::model::{Block, Severity};
use crate::sql::{Answer, fill};
use async_trait::async_trait;

pub struct Connect;

/// For an environment whose configuration has no line of its own.
const PSQL: &str = r#"psql "host={host} port={port} dbname={database} user=YOUR_ROLE sslmode=verify-full""#;

#[async_trait]
impl Query for Connect {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        let targets = &call.app.environments;
        let environment = targets.environment(call.environment.unwrap_or_default())?;
        let name = call.values.get("service").map(String::as_str).unwrap_or_default();
        if name == "all" {
            return Err(Error::instead(
                "`connect` works on one service at a time.",
                "`services` lists them.",
            ));
        }
        let service = targets.service(name)?;
        let server = targets.server_of(environment, service).ok_or_else(|| {
            Error::user(format!("{} has no server for {}.", environment.name, service.name))
        })?;
        let line = |hint: &str| {
            // Nothing else in braces is ours: a shell's ${HOME} stays.
            hint.replace("{host}", &server.host)
                .replace("{port}", &server.port.to_string())
                .replace("{database}", &service.database)
                .replace("{service}", &service.name)
        };
        let hints = &environment.connect_hints;
        let lines: Vec<String> =
            if hints.is_empty() { vec![line(PSQL)] } else { hints.iter().map(|hint| line(hint)).collect() };
        let asks = lines.iter().any(|line| line.contains("YOUR_ROLE"));
        let words = format!("{} is {} on {}:{}.", service.name, service.database, server.host, server.port);
        let code = |text: String| Block::Code { title: None, text };
        let mut blocks = vec![verdict(Severity::Neutral, words)];
        blocks.extend(lines.into_iter().map(code));
        let replace =
            if asks { "Replace `YOUR_ROLE` with your own role; psql asks for the password. " } else { "" };
        let note = format!("{replace}Countersign does not record what you do there.");
        blocks.push(Block::Note(fill(&note, &|_| None)));
        Ok(answer(blocks))
    }
}
