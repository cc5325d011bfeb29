//! A neutral reply as JSON, for programs. Keys are only ever added; a change of what is there raises `version`.
//!
//! ```json
//! {
//!   "version": 1,
//!   "requester": "ana",
//!   "command": "health",
//!   "environment": { "name": "production", "production": true },
//!   "run": 128,
//!   "coverage": "whole",
//!   "verdict": { "tone": "warning", "text": "5 sessions wait for a lock." },
//!   "blocks": [
//!     { "kind": "table", "title": "Server", "columns": [{ "title": "pid", "align": "right" }],
//!       "rows": [{ "cells": [{ "text": "4711", "tone": "neutral" }], "commands": ["countersign run kill 4711"] }], "total": 1 }
//!   ]
//! }
//! ```
//!
//! `requester`, `environment`, `run` and `verdict` may be null. `coverage` is `whole`, `partial` where some targets or checks have no
//! answer, or `none`. A tone is `neutral`, `ok`, `warning` or `critical`. `align` is `left`,
//! `right` or `query`. `blocks` has everything in the order in which a person reads it, the verdict too; the other kinds are
//! `verdict` (`severity`, `text`), `text` and `note` (`text`), `facts` (`facts`: `name`, `value`), `code` (`title`, `text`),
//! `progress` (`percent`, `label`), `buttons` (`commands`: lines to type) and `links` (`links`: `label`, `url`). Texts are for people: their wording may change.

use super::ButtonLines;
use super::style::escaped_json;
use crate::model::{Block, Button, ColumnKind, Reply, Table};
use serde_json::{Value, json};

/// Renders the reply as JSON text of several lines. `button_lines` has the lines that its buttons stand for; their tokens are left out.
pub fn render(reply: &Reply, button_lines: &ButtonLines) -> String {
    let verdict = reply.blocks.iter().find_map(|block| match block {
        Block::Verdict { severity, text } => Some(json!({ "tone": severity, "text": text.words() })),
        _ => None,
    });
    let reply = json!({
        "version": 1,
        "requester": reply.heading.requester.as_ref().map(|person| &person.id),
        "command": reply.heading.command,
        "environment": reply.heading.environment,
        "run": reply.heading.run,
        "coverage": reply.coverage,
        "verdict": verdict,
        "blocks": reply.blocks.iter().map(|block| self::block(block, button_lines)).collect::<Vec<_>>(),
    });
    escaped_json(&serde_json::to_string_pretty(&reply).unwrap_or_default()) + "\n"
}

fn block(block: &Block, button_lines: &ButtonLines) -> Value {
    match block {
        Block::Verdict { severity, text } => {
            json!({ "kind": "verdict", "tone": severity, "text": text.words() })
        }
        Block::Text(text) => json!({ "kind": "text", "text": text.words() }),
        Block::Note(text) => json!({ "kind": "note", "text": text.words() }),
        Block::Facts(facts) => {
            let facts = facts.iter().map(|(name, value)| json!({ "name": name, "value": value.words() }));
            json!({ "kind": "facts", "facts": facts.collect::<Vec<_>>() })
        }
        Block::Table(table) => self::table(table, button_lines),
        Block::Code { title, text } => json!({ "kind": "code", "title": title, "text": text }),
        Block::Progress { percent, label } => {
            json!({ "kind": "progress", "percent": percent, "label": label })
        }
        Block::Buttons(buttons) => {
            json!({ "kind": "buttons", "commands": button_commands(buttons, button_lines) })
        }
        Block::Links(links) => json!({ "kind": "links", "links": links }),
    }
}

fn button_commands<'a>(buttons: &[Button], button_lines: &'a ButtonLines) -> Vec<&'a String> {
    buttons.iter().filter_map(|button| button_lines.get(&button.token)).collect()
}

fn table(table: &Table, button_lines: &ButtonLines) -> Value {
    let columns = table.columns.iter().map(|column| {
        let align = match column.kind {
            ColumnKind::Left => "left",
            ColumnKind::Right => "right",
            ColumnKind::Query => "query",
        };
        json!({ "title": column.title, "align": align })
    });
    let rows = table
        .rows
        .iter()
        .map(|row| json!({ "cells": row.cells, "commands": button_commands(&row.buttons, button_lines) }));
    json!({
        "kind": "table",
        "title": table.title,
        "columns": columns.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
        "total": table.total,
    })
}
