//! A neutral reply as JSON, for programs. Keys are only ever added; a change of what is there raises `version`.
//!
//! ```json
//! {
//!   "version": 1,
//!   "who": "ana",
//!   "asked": "health",
//!   "environment": { "name": "production", "production": true },
//!   "run": 128,
//!   "verdict": { "tone": "warning", "text": "5 sessions wait for a lock." },
//!   "blocks": [
//!     { "kind": "table", "title": "Server", "columns": [{ "title": "pid", "align": "right" }],
//!       "rows": [{ "cells": [{ "text": "4711", "tone": "plain" }], "type": ["countersign run kill 4711"] }], "total": 1 }
//!   ]
//! }
//! ```
//!
//! `who`, `environment`, `run` and `verdict` may be null. A tone is `plain`, `good`, `watch` or `act`. `align` is `left`,
//! `right` or `query`. `blocks` has everything in the order in which a person reads it, the verdict too; the other kinds are
//! `verdict` (`tone`, `text`), `text` and `note` (`text`), `facts` (`facts`: `name`, `value`), `code` (`title`, `text`),
//! `progress` (`percent`, `label`) and `buttons` (`type`: lines to type). Texts are for people: their wording may change.

use super::{Lines, escape};
use crate::model::{Block, Button, Reply, Severity, Shape, Table, Text};
use serde_json::{Value, json};

/// The reply as JSON text of several lines. `lines` tells what its buttons stand for; their tokens are nobody's business.
pub fn render(reply: &Reply, lines: &Lines) -> String {
    let verdict = reply.blocks.iter().find_map(|block| match block {
        Block::Verdict { tone, text } => Some(json!({ "tone": tone_word(*tone), "text": text.words() })),
        _ => None,
    });
    let environment = reply.heading.environment.as_ref();
    let whole = json!({
        "version": 1,
        "who": reply.heading.who.as_ref().map(|who| &who.id),
        "asked": reply.heading.asked,
        "environment": environment.map(|e| json!({ "name": e.name, "production": e.production })),
        "run": reply.heading.run,
        "verdict": verdict,
        "blocks": reply.blocks.iter().map(|block| self::block(block, lines)).collect::<Vec<_>>(),
    });
    escape::json(&serde_json::to_string_pretty(&whole).unwrap_or_default()) + "\n"
}

fn tone_word(tone: Severity) -> &'static str {
    match tone {
        Severity::Neutral => "neutral",
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn block(block: &Block, lines: &Lines) -> Value {
    let prose = |kind: &str, text: &Text| json!({ "kind": kind, "text": text.words() });
    match block {
        Block::Verdict { tone, text } => {
            json!({ "kind": "verdict", "tone": tone_word(*tone), "text": text.words() })
        }
        Block::Text(text) => prose("text", text),
        Block::Note(text) => prose("note", text),
        Block::Facts(facts) => {
            let facts = facts.iter().map(|(name, value)| json!({ "name": name, "value": value.words() }));
            json!({ "kind": "facts", "facts": facts.collect::<Vec<_>>() })
        }
        Block::Table(found) => table(found, lines),
        Block::Code { title, text } => json!({ "kind": "code", "title": title, "text": text }),
        Block::Progress { percent, label } => {
            json!({ "kind": "progress", "percent": percent, "label": label })
        }
        Block::Buttons(buttons) => json!({ "kind": "buttons", "type": typed(buttons, lines) }),
    }
}

fn typed<'a>(buttons: &[Button], lines: &'a Lines) -> Vec<&'a String> {
    buttons.iter().filter_map(|button| lines.get(&button.token)).collect()
}

fn table(table: &Table, lines: &Lines) -> Value {
    let columns = table.columns.iter().map(|column| {
        let align = match column.shape {
            Shape::Left => "left",
            Shape::Right => "right",
            Shape::Query => "query",
        };
        json!({ "title": column.title, "align": align })
    });
    let rows = table.rows.iter().map(|row| {
        let cells = row.cells.iter().map(|cell| json!({ "text": cell.text, "tone": tone_word(cell.tone) }));
        json!({ "cells": cells.collect::<Vec<_>>(), "type": typed(&row.buttons, lines) })
    });
    json!({
        "kind": "table",
        "title": table.title,
        "columns": columns.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
        "total": table.total,
    })
}
