//! `help [command]`: what this person may run here, by group, or all about one command. The texts are the command files'.

use super::Call;
use super::support::blocks::{answer, count, note, verdict};
use crate::catalog::Command;
use crate::error::{Error, Result};
use crate::model::{Block, Risk, Severity, Text};
use crate::sql::{Answer, fill};
use std::collections::BTreeMap;

pub async fn query(call: &Call<'_>) -> Result<Answer> {
    match call.value("command").and_then(|name| call.app.catalog.find(name)) {
        Some(command) => describe(call, command),
        None => Ok(list(call)),
    }
}

fn may_run(call: &Call<'_>, command: &Command) -> bool {
    call.app.access.may_run(call.person, command, call.environment)
}

/// Environments where the person may run it, unless that is everywhere.
fn only_in(call: &Call<'_>, command: &Command) -> Option<String> {
    let all = call.app.environments.names();
    let may_run = |name: &&String| call.app.access.may_run(call.person, command, Some(name.as_str()));
    let names: Vec<&str> = all.iter().filter(may_run).map(String::as_str).collect();
    (names.len() < all.len()).then(|| names.join(" and "))
}

fn list(call: &Call<'_>) -> Answer {
    let mine: Vec<&Command> = call.app.catalog.iter().filter(|command| may_run(call, command)).collect();
    let mut groups: BTreeMap<(Risk, &str), Vec<&Command>> = BTreeMap::new();
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
            let approval = match command.header.risk {
                Risk::Read => None,
                Risk::Write => Some("recorded".to_owned()),
                Risk::Danger => Some("needs approval".to_owned()),
            };
            let place = only_in(call, command).map(|names| format!("in {names}"));
            let notes: Vec<String> = approval.into_iter().chain(place).collect();
            let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
            text =
                text.plain("\n").code(command.usage()).plain(format!(" {}{notes}", command.header.summary));
        }
        blocks.push(Block::Text(text));
    }
    blocks.push(note(
        "`help <command>` shows details. Every command also takes `--env`, `--reason`, `--private` and `--dry-run`.",
    ));
    answer(blocks)
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn describe(call: &Call<'_>, command: &Command) -> Result<Answer> {
    if !may_run(call, command) {
        let place = call.environment.map_or(String::new(), |name| format!(" in {name}"));
        let problem = format!("You may not run `{}`{place}.", command.name);
        return Err(Error::instead(problem, "`help` lists the commands that you can run."));
    }
    let header = &command.header;
    let formatted = |text: &str| fill(text, &|_| None);
    let mut facts = vec![("type".to_owned(), Text::new().code(command.usage()))];
    for arg in header.args.iter().filter(|arg| !arg.hidden) {
        let default = arg.default.as_ref().map_or(String::new(), |value| format!("; default: {value}"));
        facts.push((arg.name.clone(), formatted(&format!("{}{default}", arg.help))));
    }
    facts.push(("for example".to_owned(), Text::new().code(header.example.clone())));
    let risk = match header.risk {
        Risk::Read => "read: answers immediately and changes nothing",
        Risk::Write => "write: runs immediately and is recorded",
        Risk::Danger => "danger: runs after a second person has approved exactly what it will do",
    };
    facts.push(("risk".to_owned(), risk.into()));
    if let Some(names) = only_in(call, command) {
        facts.push(("you can run it in".to_owned(), names.into()));
    }
    let mut blocks = vec![verdict(Severity::Neutral, format!("{}.", header.summary)), Block::Facts(facts)];
    blocks.extend(header.details.as_deref().map(|details| Block::Text(formatted(details))));
    Ok(answer(blocks))
}
