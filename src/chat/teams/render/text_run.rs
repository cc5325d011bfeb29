//! Text. A `TextRun` shows what it is given: Teams reads no Markdown in it, so that text of a person or a database stays inert.
//! Only a `TextBlock` can ping, and it reads Markdown: it holds names and harmless words, nothing else.

use crate::chat::render::text::{TextRules, clean};
use crate::model::{Person, Severity, Span, Text};
use serde_json::{Value, json};

/// Teams' own way with text.
pub(super) const MANNER: TextRules = TextRules { units: in_json, clean: legible, pingable };

/// Bytes of a character in JSON.
fn in_json(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\t' => 2,
        c => c.len_utf8(),
    }
}

/// Clean, and with its lines as they were: a client puts spaces together and drops those that begin a line, so these become such
/// as stay. What a client would take for a mention or replace by a date is broken by a character that nobody sees.
fn legible(text: &str) -> String {
    let text = clean(text);
    let mut out = String::with_capacity(text.len());
    let mut before = ':';
    for (at, c) in text.char_indices() {
        let rest = &text[at + c.len_utf8()..];
        out.push(match c {
            '\t' => '\u{2003}',
            ' ' if [' ', '\n', '\t'].contains(&before) => '\u{a0}',
            c => c,
        });
        let live = match c {
            '<' => starts(rest, "at") || starts(rest, "/at"),
            '{' => starts(rest, "{date(") || starts(rest, "{time("),
            _ => false,
        };
        if live {
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

fn starts(text: &str, with: &str) -> bool {
    text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

/// The account to ping, if the person speaks from one: an Entra object id. Their name must be harmless, for it is shown where
/// Markdown is read.
fn pingable(person: &Person) -> Option<&str> {
    let account = person.account.as_deref()?;
    let shaped = account.len() == 36
        && account.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        });
    let named = !person.id.trim().is_empty() && person.id.len() <= 100 && harmless(&person.id);
    (shaped && named).then_some(account)
}

/// Whether Markdown, a linkifier or a mention can make nothing of it but what it says.
fn harmless(words: &str) -> bool {
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

/// How a run of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TextStyle {
    pub bold: bool,
    pub mono: bool,
    pub small: bool,
    pub tone: Severity,
}

impl TextStyle {
    pub const PLAIN: TextStyle =
        TextStyle { bold: false, mono: false, small: false, tone: Severity::Neutral };
    pub const BOLD: TextStyle = TextStyle { bold: true, ..TextStyle::PLAIN };
    pub const CODE: TextStyle = TextStyle { mono: true, ..TextStyle::PLAIN };
    /// Small print.
    pub const SMALL: TextStyle = TextStyle { small: true, ..TextStyle::PLAIN };

    fn put_on(self, element: &mut Value) {
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
        if let Some(color) = color(self.tone) {
            element["color"] = json!(color);
        }
    }
}

fn color(tone: Severity) -> Option<&'static str> {
    match tone {
        Severity::Neutral => None,
        Severity::Ok => Some("Good"),
        Severity::Warning => Some("Warning"),
        Severity::Critical => Some("Attention"),
    }
}

/// A run of clean text.
pub(super) fn run(text: &str, look: TextStyle) -> Value {
    if look == TextStyle::PLAIN {
        return json!(text);
    }
    let mut run = json!({ "type": "TextRun", "text": text });
    look.put_on(&mut run);
    run
}

pub(super) fn rich(inlines: Vec<Value>) -> Value {
    json!({ "type": "RichTextBlock", "inlines": inlines })
}

/// A line of clean text.
pub(super) fn line(text: &str, look: TextStyle) -> Value {
    rich(vec![run(text, look)])
}

/// Spans as runs; those who are pinged stand in bold.
pub(super) fn runs(spans: &[Span], look: TextStyle) -> Vec<Value> {
    let one = |span: &Span| match span {
        Span::Plain(words) => run(words, look),
        Span::Strong(words) => run(words, TextStyle { bold: true, ..look }),
        Span::Code(words) => run(words, TextStyle { mono: true, ..look }),
        Span::Person(person) | Span::Ping(person) => run(&person.id, TextStyle { bold: true, ..look }),
    };
    spans.iter().map(one).collect()
}

/// A paragraph behind its mark, `max` units of it, and how many characters were left out.
pub(super) fn paragraph(text: &Text, max: usize, (mark, look): (&str, TextStyle)) -> (Vec<Value>, usize) {
    let (spans, missing) = MANNER.spans(text, max);
    if let Some(block) = pinging(&spans, (mark, look)) {
        return (vec![block], missing);
    }
    let mut inlines = runs(&spans, look);
    if !mark.is_empty() {
        inlines.insert(0, run(mark, look));
    }
    let mut blocks = Vec::new();
    if !inlines.is_empty() {
        blocks.push(rich(inlines));
    }
    blocks.extend(mentions(&spans));
    (blocks, missing)
}

/// The whole paragraph as one that pings, if it has whom to ping and all its words are harmless.
fn pinging(spans: &[Span], (mark, look): (&str, TextStyle)) -> Option<Value> {
    let mut text = String::new();
    let mut pinged = Vec::new();
    for span in spans {
        match span {
            Span::Ping(person) => {
                text.push_str(&at(person));
                pinged.push(person);
            }
            Span::Plain(words) => text.push_str(words),
            Span::Strong(words) if look.bold => text.push_str(words),
            _ => return None,
        }
    }
    let words: Vec<&str> = spans
        .iter()
        .map(|span| match span {
            Span::Plain(words) | Span::Strong(words) => words.as_str(),
            _ => "x",
        })
        .collect();
    let words = words.concat();
    // A digit or a dash at the start of a line makes a list.
    let listed = mark.is_empty() && text.trim_start().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    (!pinged.is_empty() && harmless(&words) && !listed)
        .then(|| text_block(&format!("{mark}{text}"), look, &pinged))
}

/// A line that pings those who are pinged in a text that can't do so itself.
pub(super) fn mentions(spans: &[Span]) -> Option<Value> {
    let pinged = spans.iter().filter_map(|span| match span {
        Span::Ping(person) => Some(person),
        _ => None,
    });
    let pinged: Vec<&Person> = pinged.collect();
    let names: Vec<String> = pinged.iter().map(|person| at(person)).collect();
    (!pinged.is_empty()).then(|| text_block(&names.join(", "), TextStyle::PLAIN, &pinged))
}

fn at(person: &Person) -> String {
    format!("<at>{}</at>", person.id)
}

/// Where a block keeps whom it mentions until the card is put together: it counts as the block's own weight till then.
const MENTIONS: &str = "entities";

fn text_block(text: &str, look: TextStyle, pinged: &[&Person]) -> Value {
    let entity = |person: &&Person| {
        let mentioned = json!({ "id": pingable(person), "name": person.id });
        json!({ "type": "mention", "text": at(person), "mentioned": mentioned })
    };
    let entities: Vec<Value> = pinged.iter().map(entity).collect();
    let mut block = json!({ "type": "TextBlock", "wrap": true, "text": text, MENTIONS: entities });
    look.put_on(&mut block);
    block
}

/// Takes from the blocks whom they mention, each once: the card names them in one place.
pub(super) fn take_mentions(body: &mut [Value]) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for block in body.iter_mut().filter_map(Value::as_object_mut) {
        let Some(Value::Array(entities)) = block.remove(MENTIONS) else { continue };
        for entity in entities {
            if !all.contains(&entity) {
                all.push(entity);
            }
        }
    }
    all
}
