//! Rich text elements. Their `text` is shown as it is: Slack parses no mentions, links, emoji names or formatting in it, so
//! that text of a person or a database stays inert without being changed.

use crate::chat::slack::limits::length;
use crate::message::{Person, Span, Text, Tone};
use serde_json::{Value, json};

/// The sign before a judged value; the words beside it say the same.
pub fn mark(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "",
        Tone::Good => "✅ ",
        Tone::Watch => "⚠️ ",
        Tone::Act => "🔴 ",
    }
}

/// Takes out what could hide or reorder text: control characters and direction overrides become visible.
pub fn clean(text: &str) -> String {
    let visible = |c: char| match c {
        '\n' | '\t' => c,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.replace("\r\n", "\n").chars().map(visible).collect()
}

/// The longest beginning within `max` units, and how many characters were left out. Never cuts within a character, nor
/// between a character and the marks that join it.
pub fn cut(text: &str, max: usize) -> (&str, usize) {
    let mut end = 0;
    let mut units = 0;
    for (at, c) in text.char_indices() {
        units += c.len_utf16();
        if units > max {
            let joined = joins(c) || text[..end].ends_with('\u{200d}');
            let kept = if joined { whole_characters(&text[..end]) } else { &text[..end] };
            return (kept, text[kept.len()..].chars().count());
        }
        end = at + c.len_utf8();
    }
    (text, 0)
}

/// Whether this character belongs to the one before it: combining marks, variation selectors, joiners, skin tones.
fn joins(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}')
}

/// Leaves out the last character, with all that joins it. A run of nothing but joiners is no character: it is left as it is.
fn whole_characters(text: &str) -> &str {
    let mut kept = text;
    while let Some((at, c)) = kept.char_indices().next_back() {
        kept = &kept[..at];
        if !joins(c) && !kept.ends_with('\u{200d}') {
            return kept;
        }
    }
    text
}

/// A beginning that is sure to hold `max` units, and the rest: values may be megabytes long, and only what can be shown is
/// worth a look.
fn head(text: &str, max: usize) -> (&str, &str) {
    text.split_at(text.char_indices().nth(max + 1).map_or(text.len(), |(at, _)| at))
}

/// Cleans and cuts: the longest beginning within `max` units, and how many characters were left out.
pub fn beginning(text: &str, max: usize) -> (String, usize) {
    let (head, rest) = head(text, max);
    let head = clean(head);
    let (kept, left) = cut(&head, max);
    (kept.to_owned(), left + rest.chars().count())
}

/// At most `max` units, the last of them an ellipsis if something was left out.
pub fn shorten(text: &str, max: usize) -> (String, bool) {
    let (head, rest) = head(text, max);
    let head = clean(head);
    if rest.is_empty() && length(&head) <= max {
        return (head, false);
    }
    let (kept, _) = cut(&head, max.saturating_sub(1));
    (format!("{kept}…"), true)
}

/// Digits in groups: "14,210".
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// What stands where text was left out.
pub fn left_out(characters: usize) -> String {
    format!("… cut, {} more characters", grouped(characters))
}

pub fn plain(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

pub fn bold(text: &str) -> Value {
    json!({ "type": "text", "text": text, "style": { "bold": true } })
}

pub fn code(text: &str) -> Value {
    json!({ "type": "text", "text": text, "style": { "code": true } })
}

pub fn section(elements: Vec<Value>) -> Value {
    json!({ "type": "rich_text_section", "elements": elements })
}

pub fn preformatted(text: &str) -> Value {
    json!({ "type": "rich_text_preformatted", "elements": [plain(text)] })
}

pub fn rich(elements: Vec<Value>) -> Value {
    json!({ "type": "rich_text", "elements": elements })
}

/// Text that Slack shows as it is, in the places that take no rich text. `emoji: false` leaves `:names:` alone.
pub fn plain_text(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

/// Small print.
pub fn context(text: &str) -> Value {
    json!({ "type": "context", "elements": [plain_text(text)] })
}

/// The Slack account to ping, if the person speaks from one.
pub fn pingable(person: &Person) -> Option<&str> {
    let account = person.account.as_deref()?;
    let known = account.starts_with(['U', 'W'])
        && account.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        && account.len() <= 32;
    known.then_some(account)
}

/// A text's elements, `max` units of it; how many characters were left out. With `strong`, plain runs are bold.
pub fn spans(text: &Text, max: usize, strong: bool) -> (Vec<Value>, usize) {
    let mut elements = Vec::new();
    let mut room = max;
    let mut missing = 0;
    for span in &text.0 {
        let (words, style): (&str, fn(&str) -> Value) = match span {
            Span::Plain(words) => (words, if strong { bold } else { plain }),
            Span::Strong(words) => (words, bold),
            Span::Code(words) => (words, code),
            Span::Person(person) => (&person.id, if strong { bold } else { plain }),
            Span::Ping(person) => match pingable(person) {
                Some(account) => {
                    elements.push(json!({ "type": "user", "user_id": account }));
                    continue;
                }
                None => (&person.id, bold),
            },
        };
        let (kept, left) = beginning(words, room);
        missing += left;
        // Once something is missing, nothing may follow as if it weren't.
        room = if left > 0 { 0 } else { room - length(&kept) };
        if !kept.is_empty() {
            elements.push(style(&kept));
        }
    }
    if missing > 0 {
        elements.push(plain(&left_out(missing)));
    }
    (elements, missing)
}
