//! `help [command]`: what this person may run here, by group, or all about one command. The texts are the command files'.

use super::support::blocks::{answer, count, verdict};
use super::{Call, Query};
use crate::catalog::Command;
use crate::error::{Error, Result};
use crate::model::{Block, Risk, Severity, Text};
use crate::sql::{Answer, fill};
use async_trait::async_trait;
use std::collections::BTreeMap;

pub struct Help;

#[async_trait]
impl Query for Help {
    async fn answer(&self, call: &Call<'_>) -> Result<Answer> {
        match call.values.get("command").and_then(|name| call.app.catalog.find(name)) {
            Some(command) => one(call, command),
            None => Ok(all(call)),
        }
    }
}

fn may_run(call: &Call<'_>, command: &Command) -> bool {
    call.app.access.may_run(call.person, command, call.environment)
}

/// Environments where the person may run it, unless that is everywhere.
fn only_in(call: &Call<'_>, command: &Command) -> Option<String> {
    let names = call.app.environments.names();
    let here = |name: &&String| call.app.access.may_run(call.person, command, Some(name.as_str()));
    let some: Vec<&str> = names.iter().filter(here).map(String::as_str).collect();
    if some.len() == names.len() { None } else { Some(some.join(" and ")) }
}

fn approval_note(risk: Risk) -> &'static str {
    match risk {
        Risk::Read => "",
        Risk::Write => "recorded",
        Risk::Danger => "needs approval",
    }
}

fn all(call: &Call<'_>) -> Answer {
    let mut groups: BTreeMap<(Risk, &str), Vec<&Command>> = BTreeMap::new();
    let mine: Vec<&Command> = call.app.catalog.iter().filter(|command| may_run(call, command)).collect();
    for command in &mine {
        let group = command.header.group.as_str();
        // Reads come first: a group is sorted by its least risky command.
        let peers = mine.iter().filter(|peer| peer.header.group == group);
        let risk = peers.map(|peer| peer.header.risk).min().unwrap_or(Risk::Danger);
        groups.entry((risk, group)).or_default().push(command);
    }
    let words = format!("You can run {} here.", count(mine.len(), "command", "commands"));
    let mut blocks = vec![verdict(Severity::Neutral, words)];
    for ((_, group), commands) in groups {
        let mut text = Text::new().strong(capital(group));
        for command in commands {
            let notes = [
                approval_note(command.header.risk).to_owned(),
                only_in(call, command).map(|names| format!("in {names}")).unwrap_or_default(),
            ];
            let notes: Vec<&str> = notes.iter().map(String::as_str).filter(|note| !note.is_empty()).collect();
            let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
            text =
                text.plain("\n").code(command.usage()).plain(format!(" {}{notes}", command.header.summary));
        }
        blocks.push(Block::Text(text));
    }
    blocks.push(Block::Note(fill(
        "`help <command>` shows details. Every command also takes `--env`, `--reason`, `--private` and `--dry-run`.",
        &|_| None,
    )));
    answer(blocks)
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn one(call: &Call<'_>, command: &Command) -> Result<Answer> {
    if !may_run(call, command) {
        let place = call.environment.map_or(String::new(), |name| format!(" in {name}"));
        return Err(Error::instead(
            format!("You may not run `{}`{place}.", command.name),
            "`help` lists the commands that you can run.",
        ));
    }
    let header = &command.header;
    let mut facts = vec![("type".to_owned(), Text::new().code(command.usage()))];
    for arg in header.args.iter().filter(|arg| !arg.hidden) {
        let default = arg.default.as_ref().map(|value| format!("; default: {value}"));
        facts.push((
            arg.name.clone(),
            fill(&format!("{}{}", arg.help, default.unwrap_or_default()), &|_| None),
        ));
    }
    facts.push(("for example".to_owned(), Text::new().code(header.example.clone())));
    let risk = match header.risk {
        Risk::Read => "read: answers immediately and changes nothing".to_owned(),
        Risk::Write => "write: runs immediately and is recorded".to_owned(),
        Risk::Danger => "danger: runs after a second person has approved exactly what it will do".to_owned(),
    };
    facts.push(("risk".to_owned(), risk.into()));
    if let Some(names) = only_in(call, command) {
        facts.push(("you can run it in".to_owned(), names.into()));
    }
    let mut blocks = vec![verdict(Severity::Neutral, format!("{}.", header.summary)), Block::Facts(facts)];
    blocks.extend(header.details.as_deref().map(|details| Block::Text(fill(details, &|_| None))));
    Ok(answer(blocks))
}
