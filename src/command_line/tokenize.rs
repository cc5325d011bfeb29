//! A typed line → words and options. Phones turn `--` into a dash and straight quotes into curly ones: both are accepted.

use super::LONGEST_LINE;
use crate::error::{Error, Result};
use crate::suggest::shown;

/// A line, split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypedLine {
    /// The command's name; empty if nothing was typed.
    pub command: String,
    /// The words that belong to no option, in order.
    pub words: Vec<String>,
    /// `--name value`, `--name=value` or `--name`, in order; never those that every command has.
    pub options: Vec<(String, Option<String>)>,
    pub environment: Option<String>,
    pub reason: Option<String>,
    pub private: bool,
    pub dry_run: bool,
}

/// A value as one typed word, which [`split`] reads back: in quotes where a blank, a quote or a dash makes them necessary. A value with
/// a blank and both kinds of quotes loses its double ones, without which names of tables are found too.
pub fn as_word(value: &str) -> String {
    let opens = |c: char| closing_quotes(c).is_some() || "-\u{2013}\u{2014}\u{2015}\u{2212}".contains(c);
    let is_plain = !value.is_empty() && !value.contains(char::is_whitespace) && !value.starts_with(opens);
    let has = |quotes: Option<&[char]>| quotes.is_some_and(|quotes| value.contains(quotes));
    match (is_plain, has(closing_quotes('"')), has(closing_quotes('\''))) {
        (true, ..) => value.to_owned(),
        (_, false, _) => format!("\"{value}\""),
        (_, _, false) => format!("'{value}'"),
        _ => format!("\"{}\"", value.replace(['"', '“', '”'], "")),
    }
}

/// Typed before a command to run it without approval (break-glass).
pub const BREAK_GLASS_PREFIX: &str = "break-glass";

/// Strips [`BREAK_GLASS_PREFIX`] from a line: true and the rest, or false and the line where nothing follows it.
pub fn strip_break_glass_prefix(typed: &str) -> (bool, &str) {
    let (first, rest) = typed.trim_start().split_once(char::is_whitespace).unwrap_or((typed, ""));
    if first.eq_ignore_ascii_case(BREAK_GLASS_PREFIX) && !rest.trim().is_empty() {
        return (true, rest);
    }
    (false, typed)
}

/// Splits the line behind the slash command. `is_switch` is true for the options of the command that take no value.
///
/// # Errors
/// [`Error::User`] for an open quote, a repeated or empty option, a line that is too long.
pub fn split(typed: &str, is_switch: &dyn Fn(&str, &str) -> bool) -> Result<TypedLine> {
    let length = typed.chars().count();
    if length > LONGEST_LINE {
        return Err(Error::instead(
            format!("That line has {length} characters; a command has {LONGEST_LINE} at most."),
            "Leave out what was pasted, and give the long part as `--reason` in a sentence.",
        ));
    }
    let mut words = words(typed)?.into_iter().peekable();
    let command = words.next().map_or(String::new(), |word| word.text.to_lowercase());
    let mut line = TypedLine { command, ..TypedLine::default() };
    while let Some(word) = words.next() {
        let Some(option) = word.option() else {
            line.words.push(word.text);
            continue;
        };
        let (name, inline) = match option.split_once('=') {
            Some((name, value)) => (name.to_lowercase(), Some(value.to_owned())),
            None => (option.to_lowercase(), None),
        };
        let takes_value = !matches!(name.as_str(), "private" | "dry-run") && !is_switch(&line.command, &name);
        let is_value = |next: &TypedWord| takes_value && inline.is_none() && next.option().is_none();
        let following = words.next_if(is_value).map(|next| next.text);
        line.set(name, inline.or(following))?;
    }
    Ok(line)
}

impl TypedLine {
    fn set(&mut self, name: String, value: Option<String>) -> Result<()> {
        let repeated =
            || Error::instead(format!("`--{}` is given twice.", shown(&name)), "Leave one of them out.");
        let non_empty = |value: Option<String>| {
            value.filter(|v| !v.trim().is_empty()).ok_or_else(|| {
                Error::instead(format!("`--{name}` needs a value."), format!("For example `--{name} …`."))
            })
        };
        match name.as_str() {
            "env" if self.environment.is_some() => return Err(repeated()),
            "reason" if self.reason.is_some() => return Err(repeated()),
            "env" => self.environment = Some(non_empty(value)?),
            "reason" => self.reason = Some(non_empty(value)?),
            "private" => self.private = true,
            "dry-run" => self.dry_run = true,
            "" => return Err(Error::instead("A lone `--` means nothing here.", "Leave it out.")),
            _ if self.options.iter().any(|(known, _)| *known == name) => return Err(repeated()),
            _ => self.options.push((name, value)),
        }
        Ok(())
    }
}

struct TypedWord {
    text: String,
    quoted: bool,
}

impl TypedWord {
    /// The option's name and value, if it is one: behind two hyphens or one dash of any length.
    fn option(&self) -> Option<&str> {
        if self.quoted {
            return None;
        }
        let text = self.text.as_str();
        text.strip_prefix("--")
            .or_else(|| text.strip_prefix(['\u{2013}', '\u{2014}', '\u{2015}', '\u{2212}']))
    }
}

/// The characters that close a quote.
fn closing_quotes(open: char) -> Option<&'static [char]> {
    match open {
        '"' | '“' | '”' | '„' => Some(&['"', '”', '“']),
        '\'' | '‘' | '’' | '‚' => Some(&['\'', '’', '‘']),
        _ => None,
    }
}

fn words(typed: &str) -> Result<Vec<TypedWord>> {
    let mut words = Vec::new();
    let mut current: Option<TypedWord> = None;
    let mut chars = typed.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() || c.is_control() {
            words.extend(current.take());
            continue;
        }
        // An apostrophe inside a word is a letter: it's.
        let opens =
            closing_quotes(c).filter(|_| current.as_ref().is_none_or(|word| word.text.ends_with('=')));
        let Some(quotes) = opens else {
            current.get_or_insert(TypedWord { text: String::new(), quoted: false }).text.push(c);
            continue;
        };
        let word = current.get_or_insert(TypedWord { text: String::new(), quoted: true });
        loop {
            match chars.next() {
                Some(next) if quotes.contains(&next) => break,
                Some(next) if next.is_control() && !next.is_whitespace() => {
                    return Err(unprintable(&word.text, next));
                }
                Some(next) => word.text.push(next),
                None => {
                    return Err(Error::instead(
                        format!("The quote in “{}” isn't closed.", shown(&word.text)),
                        "Close it with another quote, or leave it out.",
                    ));
                }
            }
        }
    }
    words.extend(current);
    Ok(words)
}

/// The error for a control character: PostgreSQL can't store NUL, and terminals execute the others.
fn unprintable(before: &str, character: char) -> Error {
    let (before, code) = (shown(before), u32::from(character));
    Error::instead(
        format!("“{before}” is followed by an invisible character (U+{code:04X})."),
        "Type it again without it: it came with what was pasted.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(typed: &str) -> TypedLine {
        split(typed, &|_, name| name == "failed").unwrap()
    }

    #[test]
    fn phones_dashes_and_quotes_mean_the_same() {
        let plain = line_of("kill 4711 --env production --reason \"stuck report, it's ana's\" --dry-run");
        assert_eq!(plain, line_of("kill 4711 —env production –reason “stuck report, it's ana's” —dry-run"));
        assert_eq!(plain.reason.as_deref(), Some("stuck report, it's ana's"));
        assert!(plain.dry_run);
        assert_eq!(line_of("history --failed kill").words, ["kill"]);
        assert_eq!(line_of("long --over=5m").options, [("over".to_owned(), Some("5m".to_owned()))]);
    }

    #[test]
    fn a_value_is_typed_back_as_one_word() {
        for value in
            ["User", "we\"ird", "Old stuff.User", "\"x y\"", "--x", "–x", "it's", "‘quoted", "Über", "a\"b c"]
        {
            let line = format!("vacuum shop {}", as_word(value));
            assert_eq!(line_of(&line).words, ["shop", value], "{line}");
        }
    }

    #[test]
    fn nothing_is_guessed() {
        for wrong in [
            "kill \"47\u{0}11\"",
            "x --reason \"\u{1b}[2J\"",
            "kill \"4711",
            "long --over 1m --over 2m",
            "kill 1 --",
            "x --reason",
            "x --env \"\"",
        ] {
            assert!(split(wrong, &|_, _| false).is_err(), "{wrong}");
        }
        assert!(split(&"x".repeat(40_000), &|_, _| false).is_err());
        assert_eq!(line_of(""), TypedLine::default());
    }
}
