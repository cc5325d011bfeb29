//! Words that every platform shares, and the cutting of text at characters. A platform counts text in its own units.

use crate::model::{Block, EnvironmentTag, Heading, Person, Reply, Severity, Span, Table, Text};
use jiff::Timestamp;

/// Units of a heading's command: the parsed command, with its `--reason`.
pub const MAX_HEADING_COMMAND: usize = 1_000;
const MAX_HEADING_NAME: usize = 100;

/// A platform's units of text, and its preparation of text.
#[derive(Debug, Clone, Copy)]
pub struct TextRules {
    /// Units of a character, at least one.
    pub units_of: fn(char) -> usize,
    /// [`clean`], and the platform's own needs.
    pub clean: fn(&str) -> String,
    /// The account to ping, if the person has one on this platform.
    pub pingable: fn(&Person) -> Option<&str>,
}

impl TextRules {
    pub fn length(&self, text: &str) -> usize {
        text.chars().map(self.units_of).sum()
    }

    /// The longest beginning within `max` units, and the number of characters left out. A character and the marks that join it
    /// are never cut apart.
    fn split_at_units<'a>(&self, text: &'a str, max: usize) -> (&'a str, usize) {
        let mut end = 0;
        let mut units = 0;
        for (at, c) in text.char_indices() {
            units += (self.units_of)(c);
            if units > max {
                let is_joined = joins_previous(c) || text[..end].ends_with('\u{200d}');
                let head = if is_joined { without_last_character(&text[..end]) } else { &text[..end] };
                return (head, text[head.len()..].chars().count());
            }
            end = at + c.len_utf8();
        }
        (text, 0)
    }

    /// The longest beginning of the clean text within `max` units, and the number of characters left out.
    pub fn truncate(&self, text: &str, max: usize) -> (String, usize) {
        let (head, rest) = head(text, max);
        let head = (self.clean)(head);
        let (truncated, missing) = self.split_at_units(&head, max);
        (truncated.to_owned(), missing + rest.chars().count())
    }

    /// At most `max` units, the last of them an ellipsis if something was left out.
    pub fn shorten(&self, text: &str, max: usize) -> (String, bool) {
        let (head, rest) = head(text, max);
        let head = (self.clean)(head);
        if rest.is_empty() && self.length(&head) <= max {
            return (head, false);
        }
        let (prefix, _) = self.split_at_units(&head, max.saturating_sub((self.units_of)('…')));
        (format!("{prefix}…"), true)
    }

    /// A text's spans, clean, `max` units of them, and the number of characters left out. People are plain words, and those who
    /// can't be pinged strong ones.
    pub fn spans(&self, text: &Text, max: usize) -> (Vec<Span>, usize) {
        let mut kept = Vec::new();
        let mut room = max;
        let mut missing = 0;
        for span in &text.0 {
            let (words, style): (&str, fn(String) -> Span) = match span {
                Span::Plain(words) => (words, Span::Plain),
                Span::Strong(words) => (words, Span::Strong),
                Span::Code(words) => (words, Span::Code),
                Span::Person(person) => (&person.id, Span::Plain),
                Span::Ping(person) if (self.pingable)(person).is_some() => {
                    kept.push(span.clone());
                    continue;
                }
                Span::Ping(person) => (&person.id, Span::Strong),
            };
            let (words, cut) = self.truncate(words, room);
            missing += cut;
            // Once text is cut, nothing may follow the cut.
            room = if cut > 0 { 0 } else { room - self.length(&words) };
            if !words.is_empty() {
                kept.push(style(words));
            }
        }
        if missing > 0 {
            kept.push(Span::Plain(cut_note(missing)));
        }
        (kept, missing)
    }

    /// "ana requested `kill 4711` on 🔴 PRODUCTION · #128", and whether something of it had to be cut.
    pub fn heading(&self, heading: &Heading) -> (Vec<Span>, bool) {
        let mut spans = Vec::new();
        let mut cut = false;
        let mut add = |text: &str, style: fn(String) -> Span, max: usize| {
            let (text, shortened) = self.shorten(text, max);
            cut |= shortened;
            spans.extend((!text.is_empty()).then(|| style(text)));
        };
        if let Some(requester) = &heading.requester {
            add(&requester.id, Span::Strong, MAX_HEADING_NAME);
            add(" requested ", Span::Plain, MAX_HEADING_NAME);
        }
        add(&heading.command, Span::Code, MAX_HEADING_COMMAND);
        if let Some(environment) = &heading.environment {
            let (mark, name) = environment_mark(environment);
            add(" on ", Span::Plain, MAX_HEADING_NAME);
            add(mark, Span::Plain, MAX_HEADING_NAME);
            add(&name, Span::Strong, MAX_HEADING_NAME);
        }
        if let Some(run) = heading.run {
            add(&format!(" · #{run}"), Span::Plain, MAX_HEADING_NAME);
        }
        (spans, cut)
    }
}

/// The sign before a judged value; the words beside it say the same.
pub fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Neutral => "",
        Severity::Ok => "✅ ",
        Severity::Warning => "⚠️ ",
        Severity::Critical => "🔴 ",
    }
}

/// An environment's sign and name: production can't be mistaken.
fn environment_mark(environment: &EnvironmentTag) -> (&'static str, String) {
    if environment.production {
        ("🔴 ", environment.name.to_uppercase())
    } else {
        ("🟢 ", environment.name.clone())
    }
}

/// Makes visible what could hide or reorder text. What joins the parts of one character stays.
pub fn clean(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() || is_deceptive(c) => '\u{fffd}',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(visible).collect()
}

/// Direction overrides, line separators, and characters that nobody sees, tags among them.
pub fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// `true` if the character belongs to the one before it: combining marks, variation selectors, joiners, skin tones.
fn joins_previous(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
}

/// Leaves out the last character, with all that joins it. A sequence of joiners only is left as it is.
fn without_last_character(text: &str) -> &str {
    let mut kept = text;
    while let Some((at, c)) = kept.char_indices().next_back() {
        kept = &kept[..at];
        if !joins_previous(c) && !kept.ends_with('\u{200d}') {
            return kept;
        }
    }
    text
}

/// A prefix with at least `max` units if the text has them, and the rest, which needn't be looked at: values may be megabytes long.
fn head(text: &str, max: usize) -> (&str, &str) {
    text.split_at(text.char_indices().nth(max + 1).map_or(text.len(), |(at, _)| at))
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum TextPiece<'a> {
    Words(&'a str),
    /// A time as [`crate::clock`] writes it, to the minute or to the second.
    Time {
        at: Timestamp,
        has_seconds: bool,
        words: &'a str,
    },
}

/// Splits a text at its times, "2026-11-22 18:57:03 UTC", which a platform shows in each reader's zone.
pub fn pieces(text: &str) -> Vec<TextPiece<'_>> {
    let mut pieces = Vec::new();
    let mut shown = 0;
    for (at, _) in text.match_indices(" UTC") {
        let Some(time) = [19, 16].into_iter().find_map(|length| time_before(&text[shown..at], length)) else {
            continue;
        };
        let (start, has_seconds, moment) = time;
        let (start, end) = (shown + start, at + " UTC".len());
        pieces.extend((start > shown).then(|| TextPiece::Words(&text[shown..start])));
        pieces.push(TextPiece::Time { at: moment, has_seconds, words: &text[start..end] });
        shown = end;
    }
    pieces.extend((shown < text.len()).then(|| TextPiece::Words(&text[shown..])));
    pieces
}

/// The time that ends a text, in so many bytes: its place, `true` if it has seconds, and itself.
fn time_before(text: &str, length: usize) -> Option<(usize, bool, Timestamp)> {
    let start = text.len().checked_sub(length)?;
    let time = text.get(start..)?;
    let follows_digit = text[..start].ends_with(|c: char| c.is_ascii_digit());
    let has_seconds = length == 19;
    let second = if has_seconds { "" } else { ":00" };
    let shape = time.char_indices().all(|(at, c)| match at {
        4 | 7 => c == '-',
        10 => c == ' ',
        13 | 16 => c == ':',
        _ => c.is_ascii_digit(),
    });
    let moment = format!("{}T{}{second}Z", time.get(..10)?, time.get(11..)?).parse().ok()?;
    (shape && !follows_digit).then_some((start, has_seconds, moment))
}

/// Digits in groups: "14,210".
pub fn with_thousands_separators(number: usize) -> String {
    crate::sql::grouped(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A note in place of text that was left out.
pub fn cut_note(characters: usize) -> String {
    format!("… cut, {} more characters", with_thousands_separators(characters))
}

/// The whole reply as lines of text, clean, for a platform that takes nothing else: buttons and links are left out.
pub fn whole(reply: &Reply) -> String {
    let run = reply.heading.run.map(|run| format!(" · #{run}")).unwrap_or_default();
    let mut lines = vec![format!("{}{run}", request(&reply.heading))];
    for block in &reply.blocks {
        match block {
            Block::Verdict { severity, text } => lines.push(format!("{}{}", mark(*severity), text.words())),
            Block::Text(text) | Block::Note(text) => lines.push(text.words()),
            Block::Facts(facts) => {
                lines.extend(facts.iter().map(|(label, value)| format!("{label}: {}", value.words())));
            }
            Block::Table(table) => lines.extend(table_lines(table)),
            Block::Code { title, text } => lines.extend(title.iter().chain([text]).cloned()),
            Block::Progress { percent, label } => {
                let percent = percent.map(|percent| format!("{percent} % · ")).unwrap_or_default();
                lines.push(format!("{percent}{label}"));
            }
            Block::Buttons(_) | Block::Links(_) => {}
        }
    }
    clean(&lines.join("\n"))
}

fn table_lines(table: &Table) -> Vec<String> {
    let titles: Vec<&str> = table.columns.iter().map(|column| column.title.as_str()).collect();
    let rows = table.rows.iter().map(|row| {
        let cells: Vec<&str> = row.cells.iter().map(|cell| cell.text.as_str()).collect();
        cells.join(" | ")
    });
    let empty = table.empty.clone().filter(|_| table.rows.is_empty());
    let header = (!table.rows.is_empty()).then(|| titles.join(" | "));
    table.title.clone().into_iter().chain(header).chain(rows).chain(empty).collect()
}

/// "ana requested kill 4711 on PRODUCTION".
fn request(heading: &Heading) -> String {
    let mut words = String::new();
    if let Some(requester) = &heading.requester {
        words.push_str(&format!("{} requested ", requester.id));
    }
    words.push_str(&heading.command);
    if let Some(environment) = &heading.environment {
        words.push_str(&format!(" on {}", environment_mark(environment).1));
    }
    words
}

/// The words of a notification, clean: who asked what of which environment, and the verdicts.
pub fn summary(reply: &Reply) -> String {
    let mut words = request(&reply.heading);
    let verdicts = reply.blocks.iter().filter_map(|block| match block {
        Block::Verdict { severity, text } => Some(format!("{}{}", mark(*severity), text.words())),
        _ => None,
    });
    let verdicts: Vec<String> = verdicts.take(5).collect();
    if !verdicts.is_empty() {
        words.push_str(&format!(": {}", verdicts.join(" · ")));
    }
    clean(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_split_at_its_times() {
        let words = |text: &str| -> Vec<String> {
            let piece = |piece| match piece {
                TextPiece::Words(words) => words.to_owned(),
                TextPiece::Time { at, has_seconds, words } => format!("<{at} {has_seconds} {words}>"),
            };
            pieces(text).into_iter().map(piece).collect()
        };
        assert_eq!(
            words("at 2026-11-22 18:57:03 UTC."),
            ["at ", "<2026-11-22T18:57:03Z true 2026-11-22 18:57:03 UTC>", ".",]
        );
        assert_eq!(words("2026-11-22 18:57 UTC"), ["<2026-11-22T18:57:00Z false 2026-11-22 18:57 UTC>"]);
        let two = "2026-11-22 18:57 UTC2026-11-22 18:58 UTC";
        assert_eq!(words(two).len(), 2);
        for other in [
            "",
            " UTC",
            "18:57 UTC",
            "2026-13-22 18:57 UTC",
            "92026-11-22 18:57 UTC",
            "ä 2026-11-22T18:57 UTC",
            "2026-11-22 18:57:03 utc",
        ] {
            assert_eq!(words(other).concat(), other);
        }
    }
}
