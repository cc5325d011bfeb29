//! The reference of the configuration: the page and the schema are made from it, and the reader holds to it. Each fault that a reader of
//! the page can make, for each key, is told with its line.

use super::all_set;
use countersign::config::Config;
use countersign::config::reference::{ConfigKey, ConfigSection, KeyType, SECTIONS, markdown, schema};
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A configuration with every section and the keys that each needs.
const EVERYTHING: &str = include_str!("everything.toml");

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The line of a section's header, from 1; the top of the file begins at 1.
fn header_line(section: &ConfigSection) -> usize {
    if section.path.is_empty() {
        return 1;
    }
    let line = EVERYTHING.lines().position(|line| line == section.header());
    line.unwrap_or_else(|| panic!("{} is not in everything.toml", section.header())) + 1
}

/// The configuration with a key's line replaced, or added below its section's header; and the line's number. `None` removes the line.
fn with_line(section: &ConfigSection, key: &str, line: Option<&str>) -> (String, usize) {
    let mut lines: Vec<&str> = EVERYTHING.lines().collect();
    let start = if section.path.is_empty() { 0 } else { header_line(section) };
    let end =
        lines[start..].iter().position(|line| line.starts_with('[')).map_or(lines.len(), |at| start + at);
    let present = lines[start..end].iter().position(|line| line.starts_with(&format!("{key} = ")));
    let at = present.map_or(start, |at| start + at);
    if present.is_some() {
        lines.remove(at);
    }
    if let Some(line) = line {
        lines.insert(at, line);
    }
    (lines.join("\n"), at + 1)
}

fn mistakes(text: &str) -> Vec<String> {
    let directory = root().join("tests/config/x.toml");
    match Config::parse(&directory.to_string_lossy(), text, &all_set) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    }
}

/// A mistake at that line that has all of the words.
fn is_told(text: &str, line: usize, words: &[&str], fault: &str) {
    let found = mistakes(text);
    let place = format!("x.toml:{line}:");
    let is_it = |told: &String| told.contains(&place) && words.iter().all(|words| told.contains(words));
    assert!(found.iter().any(is_it), "{fault}: line {line}, {words:?}: {found:#?}");
}

/// A value of another type.
fn other_type(key: &ConfigKey) -> &'static str {
    match key.kind {
        KeyType::Count(_) | KeyType::Boolean => "\"seven\"",
        KeyType::Secret => "\"the secret itself\"",
        _ => "7",
    }
}

#[test]
fn each_fault_of_each_key_is_told_with_its_line() {
    assert_eq!(mistakes(EVERYTHING), Vec::<String>::new());
    for section in SECTIONS {
        for key in section.keys {
            let ConfigKey { name, kind, is_required, .. } = key;
            let fault = format!("{} {name}", section.header());
            let (text, line) = with_line(section, name, Some(&format!("{name} = {}", other_type(key))));
            is_told(&text, line, &[&format!("`{name}`")], &fault);

            let misspelt = format!("{}x{}", &name[..1], &name[1..]);
            let (text, line) = with_line(section, name, Some(&format!("{misspelt} = 7")));
            is_told(
                &text,
                line,
                &[&format!("unknown key `{misspelt}`"), &format!("did you mean `{name}`?")],
                &fault,
            );

            let outside: Vec<String> = match kind {
                KeyType::Duration(longest) => {
                    vec!["\"0s\"".to_owned(), format!("\"{}s\"", longest.as_secs() + 1)]
                }
                KeyType::Pause(longest) => vec![format!("\"{}s\"", longest.as_secs() + 1)],
                KeyType::Count(most) => vec!["0".to_owned(), (u64::from(*most) + 1).to_string()],
                KeyType::Choice(_) => vec!["\"perhaps\"".to_owned()],
                _ => Vec::new(),
            };
            for value in outside {
                let (text, line) = with_line(section, name, Some(&format!("{name} = {value}")));
                is_told(&text, line, &[&format!("`{name}`")], &format!("{fault} = {value}"));
            }
            if let KeyType::Pause(_) = kind {
                let line = format!("{name} = \"0s\"");
                assert_eq!(
                    mistakes(&with_line(section, name, Some(&line)).0),
                    Vec::<String>::new(),
                    "{fault}"
                );
            }
            if let KeyType::Duration(longest) | KeyType::Pause(longest) = kind {
                let line = format!("{name} = \"{}s\"", longest.as_secs());
                assert_eq!(
                    mistakes(&with_line(section, name, Some(&line)).0),
                    Vec::<String>::new(),
                    "{fault}"
                );
            }
            if *is_required {
                let (text, _) = with_line(section, name, None);
                let line = header_line(section);
                is_told(&text, line, &[&format!("`{name}`")], &format!("{fault} is missing"));
            } else {
                let absent = mistakes(&with_line(section, name, None).0);
                let others_need_it = section.path.ends_with("migrate")
                    || section.path == "approval.rules"
                    || section.path == "access"
                    || section.path == "people";
                assert!(absent.is_empty() || others_need_it, "{fault} is optional: {absent:?}");
            }
        }
    }
}

/// The keys that the reader's sources ask for, by name.
#[test]
fn the_reference_has_every_key_that_the_reader_asks_for() {
    let call = Regex::new(r#"(?:table|root|service|entry|limit)\s*(?:\.(?:string|opt_string|opt_integer|opt_number|boolean|flag|opt_duration|choice|opt_choice|strings|checked_strings|located_strings|map|table|opt_table|opt_table_like|tables|tables_like|has|needs_entry)\(|, )"([a-z_]+)""#).unwrap();
    let mut asked = BTreeSet::new();
    let entries = std::fs::read_dir(root().join("src/config")).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&path).unwrap();
        asked.extend(call.captures_iter(&text).map(|found| found[1].to_owned()));
    }
    let keys = SECTIONS.iter().flat_map(|section| section.keys).map(|key| key.name);
    let sections = SECTIONS.iter().flat_map(|section| section.path.split('.'));
    let known: BTreeSet<&str> = keys.chain(sections).collect();
    // Parts of a secret and of a limit.
    let parts = ["env", "file", "optional", "warning", "critical"];
    let unknown: Vec<&String> =
        asked.iter().filter(|key| !known.contains(key.as_str()) && !parts.contains(&key.as_str())).collect();
    assert!(asked.len() > 50 && unknown.is_empty(), "add to src/config/reference/mod.rs: {unknown:?}");
}

#[test]
fn the_page_and_the_schema_are_current() {
    let page = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let (_, tables) = page.split_once("<!-- countersign config-reference -->\n").expect("the tables");
    assert_eq!(tables.trim(), markdown().trim(), "run `cargo run -- config-reference` and paste its tables");
    let file = std::fs::read_to_string(root().join("deploy/countersign.schema.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file, schema(), "run `cargo run -- config-schema > deploy/countersign.schema.json`");
}

/// The mistakes that an editor would show: of the keywords that the schema uses.
fn violations(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let kind = match value {
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        _ => "integer",
    };
    let types = &schema["type"];
    if !(types == kind || types.as_array().is_some_and(|types| types.iter().any(|allowed| allowed == kind))) {
        found.push(format!("{place} is of type {kind}, not {types}"));
        return;
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        found.push(format!("{place} is none of {}", schema["enum"]));
    }
    let number = value.as_i64().unwrap_or_default();
    if schema["minimum"].as_i64().is_some_and(|least| number < least)
        || schema["maximum"].as_i64().is_some_and(|most| number > most)
    {
        found.push(format!("{place} is out of bounds"));
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        violations(&schema["items"], item, &format!("{place}[{at}]"), found);
    }
    let Some(table) = value.as_object() else { return };
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !table.contains_key(key) {
            found.push(format!("{place} has no {key}"));
        }
    }
    for (key, value) in table {
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => found.push(format!("{place}.{key} is unknown")),
            (Value::Null, rest) if rest.is_object() => {
                violations(rest, value, &format!("{place}.{key}"), found)
            }
            (Value::Null, _) => {}
            (known, _) => violations(known, value, &format!("{place}.{key}"), found),
        }
    }
}

fn editor_shows(text: &str) -> Vec<String> {
    let value: toml::Table = text.parse().unwrap();
    let mut found = Vec::new();
    violations(&schema(), &serde_json::to_value(value).unwrap(), "", &mut found);
    found
}

#[test]
fn the_schema_accepts_what_the_reader_accepts() {
    let example = std::fs::read_to_string(root().join("deploy/countersign.example.toml")).unwrap();
    for text in [&example, EVERYTHING, super::MINIMAL] {
        assert_eq!(editor_shows(text), Vec::<String>::new());
    }
    for section in SECTIONS {
        for key in section.keys {
            for line in [format!("{} = {}", key.name, other_type(key)), format!("{}_x = 7", key.name)] {
                let shown = editor_shows(&with_line(section, key.name, Some(&line)).0);
                assert!(!shown.is_empty(), "{} {line}", section.header());
            }
        }
    }
}
