//! The card of an incident, and the messages in its thread.

use crate::command_line::as_word;
use crate::incident::QUIET;
use crate::incident::{Incident, IncidentMessage, with_severity};
use crate::model::{Block, Run, Severity, Text};
use crate::sql::{duration, minute};
use jiff::Timestamp;

/// Findings that a line names: more would not be read on a phone.
const MAX_NAMED: usize = 8;

/// The card's blocks: what lasts, before the newest answer, or that it is over.
pub(super) fn card_blocks(run: &Run, incident: &Incident) -> Vec<Block> {
    if let Some(run) = incident.continued_by {
        let text = Text::from(format!("What lasts is told with #{run} now: ")).code(format!("show {run}"));
        return vec![Block::Verdict { severity: Severity::Neutral, text: text.plain(".") }];
    }
    if let Some(ended_at) = incident.ended_at() {
        let lasted = duration(ended_at.duration_since(incident.since()).as_secs_f64());
        let text = format!("Over since {}, after {lasted}.", minute(ended_at));
        let parts = with_severity(incident.findings.iter().map(|known| &known.finding));
        return vec![
            Block::Verdict { severity: Severity::Ok, text: text.into() },
            Block::Text(line("It was", parts).into()),
        ];
    }
    let newest = run.events.last().and_then(|event| event.texts.get("outcome"));
    let newest: Option<(Text, Vec<Block>)> = newest.and_then(|stored| serde_json::from_str(stored).ok());
    let mut open = open_lines(incident).into_iter();
    let (verdict, answer) = newest.unwrap_or_else(|| (open.next().unwrap_or_default().into(), Vec::new()));
    let mut blocks = vec![Block::Verdict { severity: incident.severity(), text: verdict }];
    blocks.extend(open.map(|line| Block::Text(line.into())));
    let over = incident.findings.iter().filter_map(|known| {
        let lasted = known.ended_at?.duration_since(known.since).as_secs_f64();
        Some(format!("{}, after {}", known.finding, duration(lasted)))
    });
    let over: Vec<String> = over.collect();
    if !over.is_empty() {
        blocks.push(Block::Text(line("Over", over).into()));
    }
    blocks.extend(answer);
    blocks.push(Block::Note(format!("As of {}.", minute(incident.looked_at)).into()));
    let worst = incident.open_findings().map(|known| &known.finding).max_by_key(|finding| finding.severity);
    blocks.extend(worst.map(|finding| {
        let line = format!("{QUIET} {} 2h", as_word(&finding.to_string()));
        Block::Note(Text::from("To hear nothing more of it for two hours: ").code(line))
    }));
    blocks
}

/// "Open since 12:01: …" for each time at which findings began, the first first.
fn open_lines(incident: &Incident) -> Vec<String> {
    let mut times: Vec<Timestamp> = incident.open_findings().map(|known| known.since).collect();
    times.sort_unstable();
    times.dedup();
    let lines = times.into_iter().map(|since| {
        let open = incident.open_findings().filter(|known| known.since == since);
        line(&format!("Open since {}", minute(since)), with_severity(open.map(|known| &known.finding)))
    });
    lines.collect()
}

/// The blocks of a message in the thread.
pub(super) fn message_blocks(incident: &Incident, message: &IncidentMessage) -> Vec<Block> {
    if message.is_reminder {
        let lasts = duration(incident.looked_at.duration_since(incident.since()).as_secs_f64());
        let open = with_severity(incident.open_findings().map(|known| &known.finding));
        let text = line(&format!("Still open after {lasts}"), open).into();
        return vec![Block::Verdict { severity: incident.severity(), text }];
    }
    let mut lines = message.lines().into_iter();
    let first = lines.next().unwrap_or_default();
    let verdict = Block::Verdict { severity: message.severity(), text: first.into() };
    std::iter::once(verdict).chain(lines.map(|line| Block::Text(line.into()))).collect()
}

/// "Open: a; b."
fn line(title: &str, mut parts: Vec<String>) -> String {
    let more = parts.len().saturating_sub(MAX_NAMED);
    parts.truncate(MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{title}: {}{more}.", parts.join("; "))
}
