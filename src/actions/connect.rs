//! `connect <service>`: lines to copy, from the configuration. They contain no secret.

use super::Call;
use super::support::blocks::{answer, note, verdict};
use crate::error::{Error, Result};
use crate::model::{Block, Severity};
use crate::sql::Answer;

/// For an environment whose configuration has no line of its own.
const PSQL: &str = r#"psql "host={host} port={port} dbname={database} user=YOUR_ROLE sslmode=verify-full""#;

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    let environments = &call.app.environments;
    let environment = environments.environment(call.environment_name())?;
    let name = call.value("service").unwrap_or_default();
    if name == "all" {
        return Err(Error::instead("`connect` works on one service at a time.", "`services` lists them."));
    }
    let service = environments.service(name)?;
    let server = environments
        .server_of(environment, service)
        .ok_or_else(|| Error::user(format!("{} has no server for {}.", environment.name, service.name)))?;
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
    let needs_role = lines.iter().any(|line| line.contains("YOUR_ROLE"));
    let words = format!("{} is {} on {}:{}.", service.name, service.database, server.host, server.port);
    let mut blocks = vec![verdict(Severity::Neutral, words)];
    blocks.extend(lines.into_iter().map(|text| Block::Code { title: None, text }));
    let replace =
        if needs_role { "Replace `YOUR_ROLE` with your own role; psql asks for the password. " } else { "" };
    blocks.push(note(&format!("{replace}Countersign does not record what you do there.")));
    Ok(answer(blocks))
}
