//! Command lines in every disguise of a keyboard, a client or a copy, and payloads with fields that are null or absent: for the
//! parsers of every chat.

use countersign::catalog::Catalog;
use countersign::command_line::{KnownNames, TypedLine, parse_command};
use countersign::model::TypedText;
use serde_json::Value;

pub const LINES: [&str; 6] = [
    "health",
    "health --env staging",
    "sizes asset-service --env production --private",
    "kill 4711 --env staging --reason \"blocks the deploy\"",
    "long --over 5m --env production",
    "break-glass kill 4711 --env production --reason \"ana's call\" --dry-run",
];

/// Reads lines as the bot does.
pub struct LineReader {
    catalog: Catalog,
    known: KnownNames,
}

impl LineReader {
    pub fn new() -> LineReader {
        let catalog = Catalog::built_in().unwrap_or_else(|why| panic!("the catalogue: {why:?}"));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let known = KnownNames {
            services: names(&["asset-service"]),
            environments: names(&["production", "staging"]),
            commands: catalog.iter().map(|command| command.name.clone()).collect(),
            slash_commands: names(&["db"]),
        };
        LineReader { catalog, known }
    }

    pub fn read(&self, typed: &TypedText) -> TypedLine {
        match parse_command(&self.catalog, typed, &self.known) {
            Ok(Some(parsed)) => parsed.line,
            Ok(None) => panic!("no command: {typed:?}"),
            Err(error) => panic!("{typed:?}: {error}"),
        }
    }
}

/// The line with something done to every character outside of its quotes.
fn unquoted(line: &str, change: impl Fn(&str) -> String) -> String {
    let parts = line.split('"').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 0 { change(part) } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("\"")
}

/// The line, and each of its disguises.
pub fn disguises(line: &str) -> Vec<String> {
    let mut all = vec![line.to_owned()];
    for invisible in [
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{1160}',
        '\u{180e}',
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2063}',
        '\u{2066}',
        '\u{2069}',
        '\u{2800}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{e0020}',
        '\u{e0101}',
    ] {
        all.push(format!("{invisible}{line}{invisible}"));
        all.push(unquoted(line, |part| part.replace(' ', &format!("{invisible} {invisible}"))));
        all.push(unquoted(line, |part| part.replace('a', &format!("a{invisible}"))));
    }
    for blank in ['\u{a0}', '\u{2002}', '\u{2009}', '\u{202f}', '\u{3000}', '\t', '\n'] {
        all.push(unquoted(line, |part| part.replace(' ', &blank.to_string())));
    }
    for hyphen in [
        '\u{5be}', '\u{1806}', '\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2212}', '\u{2e17}',
        '\u{30a0}', '\u{30fc}', '\u{ff70}', '\u{2500}', '\u{fe63}', '\u{ff0d}',
    ] {
        all.push(unquoted(line, |part| part.replace('-', &hyphen.to_string())));
    }
    for dash in ['\u{2013}', '\u{2014}', '\u{2015}', '-'] {
        all.push(unquoted(line, |part| part.replace("--", &dash.to_string())));
    }
    for (open, close) in [
        ("“", "”"),
        ("„", "“"),
        ("”", "”"),
        ("«", "»"),
        ("«\u{a0}", "\u{a0}»"),
        ("»", "«"),
        ("＂", "＂"),
        ("‘", "’"),
        ("‚", "‘"),
        ("'", "'"),
        ("‹", "›"),
        ("「", "」"),
        ("〝", "〞"),
        ("״", "״"),
        ("׳", "׳"),
        ("″", "″"),
        ("´", "´"),
        ("''", "''"),
        ("《", "》"),
        ("〈", "〉"),
        ("﹁", "﹂"),
        ("❮", "❯"),
    ] {
        let mut parts = line.split('"');
        let (before, inside, behind) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        all.extend(
            inside.map(|inside| format!("{before}{open}{inside}{close}{}", behind.unwrap_or_default())),
        );
    }
    for mark in ["`", "*", "```", "**", "_", "~", "*`"] {
        let closing: String = mark.chars().rev().collect();
        all.push(format!("{mark}{line}{closing}"));
    }
    for zero in ['٠', '۰', '०', '০', '๐', '០', '𝟎', '𝟢', '０'] {
        let digit = |c: char| match c.to_digit(10) {
            Some(digit) => char::from_u32(u32::from(zero) + digit).unwrap_or(c),
            None => c,
        };
        all.push(unquoted(line, |part| part.chars().map(digit).collect()));
    }
    for before in
        ["• ", "- ", "– ", "1. ", "🙂 ", ":wave: ", "👍🏽 ", "@here ", "#incident ", "→ ", "$ ", "!", "("]
    {
        all.push(format!("{before}{line}"));
    }
    for behind in [" 🙂", " :pray:", " ;", " ?", " :+1::skin-tone-3:"] {
        all.push(format!("{line}{behind}"));
    }
    for mark in ["_", "~", "__", "*_"] {
        let closing: String = mark.chars().rev().collect();
        all.push(line.replace("--env production", &format!("{mark}--env production{closing}")));
    }
    all.push(unquoted(line, |part| part.split(' ').map(marked).collect::<Vec<_>>().join(" ")));
    let mut letters = line.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    all.push(first.into_iter().chain(letters).collect());
    all.push(line.replace("--env", "--Env").replace("--reason", "--REASON"));
    for doubled in ["/db", "/DB", "db", "/db /db"] {
        all.push(format!("{doubled} {line}"));
    }
    all.push(format!("/{line}"));
    all
}

fn marked(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!("*{word}*") }
}

/// The payload with one of its fields set to null, and with that field left out; every field at every depth.
pub fn without_each_field(payload: &Value) -> Vec<(String, Value, Value)> {
    fn pointers(value: &Value, path: &str, found: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (key, child) in children {
            let path = format!("{path}/{key}");
            pointers(child, &path, found);
            if value.is_object() {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    pointers(payload, "", &mut found);
    let variant = |path: &String| {
        let (mut null, mut absent) = (payload.clone(), payload.clone());
        *null.pointer_mut(path)? = Value::Null;
        let (parent, key) = path.rsplit_once('/')?;
        absent.pointer_mut(parent)?.as_object_mut()?.remove(key);
        Some((path.clone(), null, absent))
    };
    found.iter().filter_map(variant).collect()
}
