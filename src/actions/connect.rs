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
    let port = server.port.to_string();
    let values = [
        ("{host}", server.host.as_str()),
        ("{port}", &port),
        ("{database}", &service.database),
        ("{service}", &service.name),
    ];
    let line = |hint: &str| filled(hint, &values);
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

/// The quotes of a shell around a place of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ShellQuotes {
    None,
    Single,
    Double,
}

/// The line with its values, each quoted for the place where it stands: a key of a connection string, an address, the shell. Nothing
/// else in braces is ours: a shell's ${HOME} stays.
fn filled(hint: &str, values: &[(&str, &str)]) -> String {
    let mut line = String::new();
    let mut quotes = ShellQuotes::None;
    let mut rest = hint;
    while let Some(next) = rest.chars().next() {
        if let Some((name, value)) = values.iter().find(|(name, _)| rest.starts_with(name)) {
            let value = quoted(value, &line, quotes);
            line.push_str(&value);
            rest = &rest[name.len()..];
            continue;
        }
        quotes = match (quotes, next) {
            (ShellQuotes::None, '\'') => ShellQuotes::Single,
            (ShellQuotes::None, '"') => ShellQuotes::Double,
            (ShellQuotes::Single, '\'') | (ShellQuotes::Double, '"') => ShellQuotes::None,
            (unchanged, _) => unchanged,
        };
        line.push(next);
        rest = &rest[next.len_utf8()..];
    }
    line
}

fn quoted(value: &str, before: &str, quotes: ShellQuotes) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-:/".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    let word = before.rsplit([' ', '"', '\'']).next().unwrap_or_default();
    let value = if word.contains("://") {
        return percent_encoded(value);
    } else if before.ends_with('=') && quotes != ShellQuotes::None {
        format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    } else {
        value.to_owned()
    };
    match quotes {
        ShellQuotes::Double => {
            let escaped = |c: char| "\\\"$`".contains(c).then_some('\\').into_iter().chain([c]);
            value.chars().flat_map(escaped).collect()
        }
        ShellQuotes::Single => value.replace('\'', "'\\''"),
        ShellQuotes::None => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

fn percent_encoded(value: &str) -> String {
    let encode = |byte: u8| match char::from(byte) {
        c if c.is_ascii_alphanumeric() || "_.-".contains(c) => c.to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell makes of the line is what PostgreSQL reads.
    #[test]
    fn a_value_is_quoted_for_its_place() {
        let database = r#"we"ird db=1 'x\y $z"#;
        for (hint, line) in [
            (r#"psql "dbname={database} user=me""#, r#"psql "dbname='we\"ird db=1 \\'x\\\\y \$z' user=me""#),
            ("psql 'dbname={database}'", r#"psql 'dbname='\''we"ird db=1 \'\''x\\y $z'\'''"#),
            ("psql -d {database} ${HOME}", r#"psql -d 'we"ird db=1 '\''x\y $z' ${HOME}"#),
            ("psql postgres://h/{database}", "psql postgres://h/we%22ird%20db%3D1%20%27x%5Cy%20%24z"),
            ("echo '' {database}", r#"echo '' 'we"ird db=1 '\''x\y $z'"#),
        ] {
            assert_eq!(filled(hint, &[("{database}", database)]), line, "{hint}");
        }
        assert_eq!(
            filled("psql \"dbname={database}\"", &[("{database}", "shop_db")]),
            "psql \"dbname=shop_db\""
        );
    }
}
