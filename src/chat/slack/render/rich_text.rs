//! Rich text elements. Their `text` is shown as it is: Slack parses no mentions, links, emoji names or formatting in it, so
//! that text of a person or a database stays inert without being changed.

use crate::chat::render::text::{TextRules, clean};
use crate::model::{Person, Span};
use serde_json::{Value, json};

pub const RULES: TextRules = TextRules { units: char::len_utf16, clean, pingable };

pub fn plain(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

pub fn bold(text: &str) -> Value {
    json!({ "type": "text", "text": text, "style": { "bold": true } })
}

/// A block of one paragraph.
pub fn section(elements: Vec<Value>) -> Value {
    rich_text(vec![json!({ "type": "rich_text_section", "elements": elements })])
}

/// A block of fixed-width text, below a title.
pub fn preformatted(title: Option<&str>, text: &str) -> Value {
    let title = title.map(|title| json!({ "type": "rich_text_section", "elements": [bold(title)] }));
    let lines = json!({ "type": "rich_text_preformatted", "elements": [plain(text)] });
    rich_text(title.into_iter().chain([lines]).collect())
}

fn rich_text(elements: Vec<Value>) -> Value {
    json!({ "type": "rich_text", "elements": elements })
}

/// Text that Slack shows as it is, in the places that take no rich text. `emoji: false` leaves `:names:` as they are.
pub fn plain_text(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

/// A block of small print.
pub fn context(text: &str) -> Value {
    json!({ "type": "context", "elements": [plain_text(text)] })
}

/// The Slack account to ping, if the person speaks from one.
fn pingable(person: &Person) -> Option<&str> {
    let account = person.account.as_deref()?;
    let is_slack_id = account.starts_with(['U', 'W'])
        && account.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        && account.len() <= 32;
    is_slack_id.then_some(account)
}

pub fn element(span: &Span) -> Value {
    match span {
        Span::Plain(words) => plain(words),
        Span::Strong(words) => bold(words),
        Span::Code(words) => json!({ "type": "text", "text": words, "style": { "code": true } }),
        Span::Person(person) | Span::Ping(person) => match pingable(person) {
            Some(account) => json!({ "type": "user", "user_id": account }),
            None => bold(&person.id),
        },
    }
}
