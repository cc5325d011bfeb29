//! Text. A `TextRun` shows what it is given: Teams reads no Markdown in it, so that text of a person or a database stays inert.
//! Only a `TextBlock` can ping, and it reads Markdown: it holds names and harmless words, nothing else.

use crate::chat::render::text::{TextPiece, TextRules, clean, pieces};
use crate::model::{Person, Severity, Span};
use serde_json::{Value, json};

pub(super) const RULES: TextRules = TextRules { units_of: json_bytes, clean: legible, pingable };

fn json_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\t' => 2,
        c => c.len_utf8(),
    }
}

/// Clean, and with its lines as they were: a client joins spaces and drops those that begin a line, so these become such
/// as stay. What a client would take for a mention or replace by a date is broken by an invisible character.
fn legible(text: &str) -> String {
    let text = clean(text);
    let mut out = String::with_capacity(text.len());
    let mut before = ':';
    for (at, c) in text.char_indices() {
        out.push(match c {
            '\t' => '\u{2003}',
            ' ' if [' ', '\n', '\t'].contains(&before) => '\u{a0}',
            c => c,
        });
        let rest = &text[at + c.len_utf8()..];
        let begins = |tag: &str| rest.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
        let is_live = match c {
            '<' => begins("at") || begins("/at"),
            '{' => begins("{date(") || begins("{time("),
            _ => false,
        };
        if is_live {
            out.push('\u{2060}');
        }
        before = c;
    }
    out
}

/// The same where a line begins with clean text.
pub(super) fn indented(text: &str) -> String {
    text.strip_prefix(' ').map_or_else(|| text.to_owned(), |rest| format!("\u{a0}{rest}"))
}

/// The account to ping, if the person has one: an Entra object id. Something of their name must be harmless, for it is shown where
/// Markdown is read.
fn pingable(person: &Person) -> Option<&str> {
    let account = person.account.as_deref()?;
    let is_object_id = account.len() == 36
        && account.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    let has_name = !mention_name(person).is_empty() && person.id.len() <= 100;
    (is_object_id && has_name).then_some(account)
}

/// `true` if neither Markdown nor a linkifier nor a mention changes the words.
fn is_harmless(words: &str) -> bool {
    let mut after = words.chars().skip(1).chain([' ']);
    words.chars().all(|c| {
        let next = after.next().unwrap_or(' ');
        match c {
            '.' | ':' => next == ' ' || next.is_ascii_digit(),
            ' ' | ',' | ';' | '?' | '!' | '\'' | '%' | '-' | '·' => true,
            c => c.is_alphanumeric(),
        }
    })
}

/// The style of an inline text. It has no colour: the colours of a host are not all legible on its background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextStyle {
    pub bold: bool,
    pub mono: bool,
    pub small: bool,
}

impl TextStyle {
    pub const PLAIN: TextStyle = TextStyle { bold: false, mono: false, small: false };
    pub const BOLD: TextStyle = TextStyle { bold: true, ..TextStyle::PLAIN };
    pub const CODE: TextStyle = TextStyle { mono: true, ..TextStyle::PLAIN };
    /// Small print.
    pub const SMALL: TextStyle = TextStyle { small: true, ..TextStyle::PLAIN };

    fn apply_to(self, element: &mut Value) {
        if self.bold {
            element["weight"] = json!("Bolder");
        }
        if self.mono {
            element["fontType"] = json!("Monospace");
        }
        if self.small {
            element["size"] = json!("Small");
            element["isSubtle"] = json!(true);
        }
    }
}

/// Clean text with its times as functions, which Teams shows in each reader's zone.
/// Source: <https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features#date-and-time-formatting>.
fn with_dates(text: &str) -> String {
    let piece = |piece: TextPiece<'_>| match piece {
        TextPiece::Words(words) => words.to_owned(),
        TextPiece::Time { at, .. } => format!("{{{{DATE({at}, SHORT)}}}} {{{{TIME({at})}}}}"),
    };
    pieces(text).into_iter().map(piece).collect()
}

/// An inline of clean text. Times in code stay as they are.
pub(super) fn inline(text: &str, style: TextStyle) -> Value {
    let text = if style.mono { text.to_owned() } else { with_dates(text) };
    if style == TextStyle::PLAIN {
        return json!(text);
    }
    let mut inline = json!({ "type": "TextRun", "text": text });
    style.apply_to(&mut inline);
    inline
}

pub(super) fn block(inlines: Vec<Value>) -> Value {
    json!({ "type": "RichTextBlock", "inlines": inlines })
}

/// A block of one inline.
pub(super) fn line(text: &str, style: TextStyle) -> Value {
    block(vec![inline(text, style)])
}

/// Spans as inlines; people are bold.
pub(super) fn inlines(spans: &[Span], style: TextStyle) -> Vec<Value> {
    let span_inline = |span: &Span| match span {
        Span::Plain(words) => inline(words, style),
        Span::Code(words) => inline(words, TextStyle { mono: true, ..style }),
        Span::Strong(words) => inline(words, TextStyle { bold: true, ..style }),
        Span::Person(person) | Span::Ping(person) => inline(&person.id, TextStyle { bold: true, ..style }),
    };
    spans.iter().map(span_inline).collect()
}

/// A paragraph behind its mark.
pub(super) fn paragraph(spans: &[Span], mark: &str, style: TextStyle) -> Vec<Value> {
    if let Some(block) = pinging_paragraph(spans, mark, style) {
        return vec![block];
    }
    let mut inlines = inlines(spans, style);
    if !mark.is_empty() {
        inlines.insert(0, inline(mark, style));
    }
    let text = (!inlines.is_empty()).then(|| block(inlines));
    text.into_iter().chain(mentions(spans)).collect()
}

/// The paragraph as one `TextBlock`, if it pings a person and all its words are harmless.
fn pinging_paragraph(spans: &[Span], mark: &str, style: TextStyle) -> Option<Value> {
    let mut text = String::new();
    let mut words = String::new();
    let mut pinged = Vec::new();
    for span in spans {
        match span {
            Span::Ping(person) => {
                text.push_str(&mention(person));
                words.push('x');
                pinged.push(person);
            }
            Span::Strong(_) if !style.bold => return None,
            Span::Plain(plain) | Span::Strong(plain) => {
                text.push_str(plain);
                words.push_str(plain);
            }
            Span::Code(_) | Span::Person(_) => return None,
        }
    }
    // A digit or a dash at the start of a line makes a list.
    let is_list = mark.is_empty() && text.trim_start().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    (!pinged.is_empty() && is_harmless(&words) && !is_list)
        .then(|| text_block(&format!("{mark}{text}"), style, &pinged))
}

/// A line that pings the people whom the text itself can't ping; `None` if there are none.
pub(super) fn mentions(spans: &[Span]) -> Option<Value> {
    let pinged = spans.iter().filter_map(|span| match span {
        Span::Ping(person) => Some(person),
        _ => None,
    });
    let pinged: Vec<&Person> = pinged.collect();
    let names: Vec<String> = pinged.iter().map(|person| mention(person)).collect();
    (!pinged.is_empty()).then(|| text_block(&names.join(", "), TextStyle::PLAIN, &pinged))
}

fn mention(person: &Person) -> String {
    format!("<at>{}</at>", mention_name(person))
}

/// A person's name as a mention shows it: what Markdown, a linkifier or a tag would take is a space.
fn mention_name(person: &Person) -> String {
    let name: String =
        person.id.chars().map(|c| if c == '-' || c.is_alphanumeric() { c } else { ' ' }).collect();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The key of a block's mentions until the card is put together: till then they count as the block's own size.
const MENTIONS: &str = "entities";

fn text_block(text: &str, style: TextStyle, pinged: &[&Person]) -> Value {
    let entity = |person: &&Person| {
        let mentioned = json!({ "id": pingable(person), "name": mention_name(person) });
        json!({ "type": "mention", "text": mention(person), "mentioned": mentioned })
    };
    let entities: Vec<Value> = pinged.iter().map(entity).collect();
    let mut block = json!({ "type": "TextBlock", "wrap": true, "text": text, MENTIONS: entities });
    style.apply_to(&mut block);
    block
}

/// Blocks on a background of their severity's colour: the text keeps the host's own colour, which is legible on each of its
/// backgrounds.
pub(super) fn coloured(severity: Severity, blocks: Vec<Value>) -> Vec<Value> {
    let style = match severity {
        _ if blocks.is_empty() => return blocks,
        Severity::Neutral => return blocks,
        Severity::Ok => "good",
        Severity::Warning => "warning",
        Severity::Critical => "attention",
    };
    vec![json!({ "type": "Container", "style": style, "items": blocks })]
}

/// Moves the mentions out of the blocks, each once: the card names them in one place.
pub(super) fn take_mentions(body: &mut [Value]) -> Vec<Value> {
    let mut mentions: Vec<Value> = Vec::new();
    for block in body.iter_mut().filter_map(Value::as_object_mut) {
        let mut entities = match block.get_mut("items") {
            Some(Value::Array(items)) => take_mentions(items),
            _ => Vec::new(),
        };
        if let Some(Value::Array(own)) = block.remove(MENTIONS) {
            entities.extend(own);
        }
        for entity in entities {
            if !mentions.contains(&entity) {
                mentions.push(entity);
            }
        }
    }
    mentions
}
