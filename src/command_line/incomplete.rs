//! Commands that are not complete: the values so far, checked as in a complete line.

use super::{ArgSpec, KnownNames, ParsedCommand, Values, bind_words, canonical, fill_in_defaults, parse};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::model::TypedText;
use std::collections::BTreeMap;

/// Parses a line whose command is known; required values may be missing, and defaults are left out. `None` for any other line.
///
/// # Errors
/// [`Error::User`] for a value that doesn't fit.
pub fn parse_incomplete<'c>(
    catalog: &'c Catalog,
    typed: &TypedText,
    known: &KnownNames,
) -> Result<Option<ParsedCommand<'c>>> {
    let line = parse(typed, catalog, known)?;
    let Some(command) = catalog.find(&line.command) else { return Ok(None) };
    let values = bind_words(&command.header.args, &line, known, &command.usage())?;
    Ok(Some(ParsedCommand { command, values, line }))
}

/// Checks the values of a form's fields like typed words, each by itself, and adds the defaults. The error has the mistake of each
/// argument by name.
pub fn bind_fields(
    specs: &[ArgSpec],
    fields: &Values,
    known: &KnownNames,
) -> std::result::Result<Values, BTreeMap<String, String>> {
    let (mut values, mut mistakes) = (Values::new(), BTreeMap::new());
    for spec in specs {
        let Some(word) = fields.get(&spec.name).map(|word| word.trim()).filter(|word| !word.is_empty())
        else {
            continue;
        };
        if spec.switch {
            values.extend((word == "true").then(|| (spec.name.clone(), word.to_owned())));
            continue;
        }
        match on_one_line(&spec.name, word).and_then(|word| canonical(spec, &word, known)) {
            Ok(value) => drop(values.insert(spec.name.clone(), value)),
            Err(error) => drop(mistakes.insert(spec.name.clone(), error.to_string())),
        }
    }
    let missing = specs.iter().filter(|spec| spec.is_missing(&values));
    for spec in missing {
        mistakes.entry(spec.name.clone()).or_insert_with(|| format!("Missing: {}.", spec.help));
    }
    if mistakes.is_empty()
        && let Err(error) = fill_in_defaults(specs, &mut values, known)
    {
        mistakes.insert(String::new(), error.to_string());
    }
    if mistakes.is_empty() { Ok(values) } else { Err(mistakes) }
}

/// A text on one line: a field with several has line breaks.
///
/// # Errors
/// [`Error::User`] for a control character.
pub fn on_one_line(name: &str, word: &str) -> Result<String> {
    let line: String = word.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    if line.chars().any(char::is_control) {
        return Err(Error::user(format!("The {name} has an invisible character.")));
    }
    Ok(line)
}
