//! Rich text elements. Their `text` is shown as it is: Slack parses no mentions, links, emoji names or formatting in it, so
//! that text of a person or a database stays inert without being changed.

use crate::chat::render::text::TextRules;
use crate::model::{Person, Span, Text};
use serde_json::{Value, json};

pub use crate::chat::render::text::{clean, grouped, left_out, mark};

/// Slack's own way with text.
pub const MANNER: TextRules = TextRules { units: char::len_utf16, clean, pingable };

/// At most `max` units, the last of them an ellipsis if something was left out.
pub fn shorten(text: &str, max: usize) -> (String, bool) {
    MANNER.shorten(text, max)
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
    let (spans, missing) = MANNER.spans(text, max);
    let bolder = |span: &Span| match span {
        Span::Plain(words) if strong => bold(words),
        span => element(span),
    };
    (spans.iter().map(bolder).collect(), missing)
}

/// A span as it is.
pub fn element(span: &Span) -> Value {
    match span {
        Span::Plain(words) => plain(words),
        Span::Strong(words) => bold(words),
        Span::Code(words) => code(words),
        Span::Person(person) | Span::Ping(person) => match pingable(person) {
            Some(account) => json!({ "type": "user", "user_id": account }),
            None => bold(&person.id),
        },
    }
}
