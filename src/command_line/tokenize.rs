//! A typed line → words and options: the one place where the text of every door is read. Characters that keyboards and copies put
//! in place of others are understood (`characters`); what can't be read is named with its place.

use super::LONGEST_LINE;
use super::characters::{
    LIGHT_MARKS, MARKS, Quotes, fold, is_before_command, is_decoration, is_double_quote, is_invisible,
    is_long_dash, is_vowel_sign,
};
use super::marks::{strip_marks, without_light_marks};
use crate::error::{Error, Result};
use crate::model::TypedText;
use crate::suggest::shown;
use std::ops::Range;

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
    /// The command stands behind [`BREAK_GLASS_PREFIX`].
    pub break_glass: bool,
    /// Words directly behind an option's text that has no quotes.
    pub tail: Option<UnquotedTail>,
}

impl TypedLine {
    /// True if the line has an option that every command takes, other than the environment.
    pub fn has_options(&self) -> bool {
        self.reason.is_some() || self.private || self.dry_run || self.break_glass
    }
}

/// A value as one typed word, which [`split`] reads back: in quotes where it would be read otherwise without. A value with a blank and
/// both kinds of quotes loses its double ones, without which names of tables are found too.
pub fn as_word(value: &str) -> String {
    let read = tokenize(value, &mut std::iter::empty()).unwrap_or_default();
    let is_plain =
        matches!(&read[..], [word] if word.text == value && word.quoted.is_none() && !value.starts_with('-'));
    let has = |quote: char| {
        Quotes::opened_by(quote).is_some_and(|quotes| value.chars().any(|c| quotes.is_closed_by(c)))
    };
    match (is_plain, has('"'), has('\'')) {
        (true, ..) => value.to_owned(),
        (_, false, _) => format!("\"{value}\""),
        (_, _, false) => format!("'{value}'"),
        _ => format!("\"{}\"", value.replace(is_double_quote, "")),
    }
}

/// Words that may belong to the text of the option before them, which has no quotes: `--reason blocks the deploy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnquotedTail {
    pub option: String,
    /// "blocks the deploy".
    pub text: String,
    /// Index of the first of these words in [`TypedLine::words`].
    pub first: usize,
}

/// The kinds of option, as far as the splitting of a line depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// Takes no value.
    Switch,
    /// Takes any text.
    Text,
    /// Takes one word: a name, a number.
    Word,
}

/// Tells the kind of a command's option, given the command's name and the option's; `None` for an unknown option.
pub type OptionKinds<'a> = dyn Fn(&str, &str) -> Option<OptionKind> + 'a;

/// The word before a command that runs without approval.
pub const BREAK_GLASS_PREFIX: &str = "break-glass";

/// Splits the line behind the slash command.
///
/// # Errors
/// [`Error::User`] for an open quote, a repeated or empty option, a line that is too long.
pub fn split(typed: &str, kinds: &OptionKinds<'_>) -> Result<TypedLine> {
    parse(tokenize(typed, &mut std::iter::empty())?, kinds)
}

/// The words of a text. Each [`TypedText::MENTION`] in it is replaced by the next of the names, as a part of its word.
///
/// # Errors
/// [`Error::User`] for an open quote, a control character in quotes, a text that is too long.
pub(super) fn tokenize(typed: &str, names: &mut dyn Iterator<Item = &str>) -> Result<Vec<TypedWord>> {
    let length = typed.chars().count();
    if length > LONGEST_LINE {
        return Err(Error::instead(
            format!("That line has {length} characters; a command has {LONGEST_LINE} at most."),
            "Leave out what was pasted, and give the long part as `--reason` in a sentence.",
        ));
    }
    let mut words = words(typed, names)?;
    strip_marks(&mut words);
    // No command has a blank in its name: the whole line is in quotes.
    if let [word] = &words[..]
        && word.quoted == Some(0..word.text.len())
        && word.text.contains(char::is_whitespace)
    {
        words = self::words(&word.text.clone(), &mut std::iter::empty())?;
    }
    Ok(words)
}

/// Sorts the words of a line.
///
/// # Errors
/// [`Error::User`] for a repeated or empty option.
pub(super) fn parse(words: Vec<TypedWord>, kinds: &OptionKinds<'_>) -> Result<TypedLine> {
    let mut words = words.into_iter().skip_while(TypedWord::is_before_command);
    let mut line = TypedLine::default();
    let mut command = words.next().map_or(String::new(), |word| word.command());
    let mut words: Vec<TypedWord> = words.collect();
    if command == BREAK_GLASS_PREFIX
        && let Some(at) = command_behind_options(&words)
    {
        line.break_glass = true;
        command = words.remove(at).command();
    }
    let mut words = words.into_iter().peekable();
    let kind_of = |name: &str| common_kind(name).or_else(|| kinds(&command, name));
    let is_known = |name: &str| kind_of(name).is_some();
    // An option's text without quotes, while nothing but words has followed it.
    let mut open: Option<(String, String)> = None;
    while let Some(word) = words.next() {
        let Some(option) = word.option(&is_known) else {
            if open.is_some() || word.quoted.is_some() || !is_decoration(&word.text) {
                line.push(word.text, open.as_ref());
            }
            continue;
        };
        let (name, inline) = match option.split_once('=') {
            Some((name, value)) => (name.to_lowercase(), Some(value.to_owned())),
            None => (option.to_lowercase(), None),
        };
        let kind = kind_of(&name);
        let takes_value = kind != Some(OptionKind::Switch) && inline.is_none();
        let following = words.next_if(|next| takes_value && next.option(&is_known).is_none());
        let is_open = |word: &TypedWord| kind == Some(OptionKind::Text) && word.quoted.is_none();
        let unquoted = match &inline {
            Some(value) => Some(value).filter(|_| is_open(&word)),
            None => following.as_ref().filter(|next| is_open(next)).map(|next| &next.text),
        };
        open = unquoted.map(|text| (name.clone(), text.clone()));
        line.set(name, inline.or(following.map(|next| next.text)))?;
    }
    line.command = command;
    Ok(line)
}

/// The kind of an option that every command takes.
fn common_kind(name: &str) -> Option<OptionKind> {
    match name {
        "private" | "dry-run" => Some(OptionKind::Switch),
        "reason" => Some(OptionKind::Text),
        "env" => Some(OptionKind::Word),
        _ => None,
    }
}

/// Index of the command's name behind [`BREAK_GLASS_PREFIX`]: options that every command takes, with their values, may come before it.
fn command_behind_options(words: &[TypedWord]) -> Option<usize> {
    let is_known = |name: &str| common_kind(name).is_some();
    let mut takes_value = false;
    for (at, word) in words.iter().enumerate() {
        match word.option(&is_known) {
            Some(option) => {
                let kind = common_kind(&option.to_lowercase());
                takes_value = kind.is_some_and(|kind| kind != OptionKind::Switch);
            }
            None if takes_value => takes_value = false,
            None if word.quoted.is_none() && is_decoration(&word.text) => {}
            None => return Some(at),
        }
    }
    None
}

impl TypedLine {
    /// Adds a word. `open` is the option's text without quotes that it may belong to.
    fn push(&mut self, word: String, open: Option<&(String, String)>) {
        if let Some((option, value)) = open {
            let first = self.words.len();
            match &mut self.tail {
                Some(tail) if tail.option == *option => tail.text.push_str(&format!(" {word}")),
                tail => {
                    let text = format!("{value} {word}");
                    *tail = Some(UnquotedTail { option: option.clone(), text, first });
                }
            }
        }
        self.words.push(word);
    }

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
            "env" => self.environment = Some(without_light_marks(&non_empty(value)?).to_owned()),
            "reason" => self.reason = Some(non_empty(value)?.trim().to_owned()),
            "private" => self.private = true,
            "dry-run" => self.dry_run = true,
            "" => return Err(Error::instead("A lone `--` means nothing here.", "Leave it out.")),
            _ if self.options.iter().any(|(known, _)| *known == name) => return Err(repeated()),
            _ => self.options.push((name, value)),
        }
        Ok(())
    }
}

/// A word of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TypedWord {
    pub text: String,
    /// The bytes of the text that were in quotes.
    quoted: Option<Range<usize>>,
}

impl TypedWord {
    /// The word as a command's name: phones begin with a capital, chats with a slash, and people put signs around it.
    pub(super) fn command(&self) -> String {
        let name = self.text.trim_matches(|c: char| !c.is_alphanumeric());
        if name.is_empty() { self.text.clone() } else { name.to_lowercase() }
    }

    /// True for a word that stands before a command and is none.
    pub(super) fn is_before_command(&self) -> bool {
        self.quoted.is_none() && is_before_command(&self.text)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.quoted.is_none()
    }

    /// True if nothing but such marks is before what is in quotes.
    pub(super) fn begins_quoted(&self, marks: &[char]) -> bool {
        self.quoted.as_ref().is_some_and(|quoted| self.text[..quoted.start].trim_matches(marks).is_empty())
    }

    /// The option's name and value, if it is one: behind two hyphens, or behind one where the name is known.
    fn option(&self, is_known: &dyn Fn(&str) -> bool) -> Option<&str> {
        if self.quoted.as_ref().is_some_and(|quoted| quoted.start == 0) {
            return None;
        }
        let option = self.text.strip_prefix('-')?;
        let name = option.split('=').next().unwrap_or_default().to_lowercase();
        (option.starts_with('-') || is_known(&name)).then(|| option.trim_start_matches('-'))
    }

    /// The part of the text before what is in quotes, and the part behind it.
    pub(super) fn unquoted(&self) -> (&str, &str) {
        match &self.quoted {
            Some(quoted) => (&self.text[..quoted.start], &self.text[quoted.end..]),
            None => (&self.text, &self.text),
        }
    }

    pub(super) fn strip_first(&mut self, mark: char) {
        self.text.drain(..mark.len_utf8());
        if let Some(quoted) = &mut self.quoted {
            *quoted = quoted.start - mark.len_utf8()..quoted.end - mark.len_utf8();
        }
    }

    /// True where a quote may open: at the beginning of the word, or of an option's value.
    fn may_open(&self) -> bool {
        let is_mark = |c: char| MARKS.contains(&c) || LIGHT_MARKS.contains(&c);
        let before = self.text.trim_end_matches(is_mark);
        self.quoted.is_none() && (before.is_empty() || before.ends_with('='))
    }

    fn push(&mut self, c: char) {
        let is_mark = |c: char| MARKS.contains(&c) || LIGHT_MARKS.contains(&c);
        let begins = self.quoted.is_none() && self.text.chars().all(is_mark);
        if begins && is_long_dash(c) {
            self.text.push('-');
        }
        let is_dash = is_vowel_sign(c) && (begins || self.text.ends_with(|c: char| c.is_ascii()));
        self.text.push(if is_dash { '-' } else { fold(c) });
    }

    fn push_quoted(&mut self, inside: &str) {
        let start = self.quoted.as_ref().map_or(self.text.len(), |quoted| quoted.start);
        self.text.push_str(inside);
        self.quoted = Some(start..self.text.len());
    }
}

fn words(typed: &str, names: &mut dyn Iterator<Item = &str>) -> Result<Vec<TypedWord>> {
    let mut words = Vec::new();
    let mut current: Option<TypedWord> = None;
    let mut rest = typed;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        // Before the blanks: two of these are blanks, too.
        if is_invisible(c) {
            continue;
        }
        if c.is_whitespace() || c.is_control() {
            words.extend(current.take());
            continue;
        }
        let word = current.get_or_insert_default();
        // An apostrophe inside a word is a letter: it's.
        match Quotes::opened_by(c).filter(|_| word.may_open()) {
            _ if c == TypedText::MENTION => word.text.push_str(names.next().unwrap_or_default()),
            None => word.push(c),
            Some(quotes) => {
                let (inside, is_doubled) = behind_second(rest, quotes);
                rest = inside;
                let end = closing(rest, quotes).ok_or_else(|| unclosed(rest))?;
                word.push_quoted(&quoted_text(&rest[..end.start], quotes, names)?);
                rest = &rest[end.end..];
                if is_doubled {
                    rest = rest.strip_prefix(|c| quotes.is_closed_by(c)).unwrap_or(rest);
                }
            }
        }
    }
    words.extend(current);
    Ok(words)
}

/// The text behind a second single quote, and true if there is one: two of them are a double one.
fn behind_second(text: &str, quotes: Quotes) -> (&str, bool) {
    let second = text.strip_prefix(|c| quotes.single && quotes.is_closed_by(c));
    let second = second.filter(|text| text.starts_with(|c: char| c.is_alphanumeric()));
    second.map_or((text, false), |text| (text, true))
}

/// The bytes of the closing quote. An apostrophe between two letters closes nothing.
fn closing(text: &str, quotes: Quotes) -> Option<Range<usize>> {
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        let is_letter = |c: char| c.is_alphanumeric();
        let is_apostrophe =
            quotes.single && is_letter(before) && text[end..].chars().next().is_some_and(is_letter);
        if quotes.is_closed_by(c) && !is_apostrophe {
            return Some(at..end);
        }
        before = c;
    }
    None
}

/// The text in quotes, with its mentions in words.
fn quoted_text(inside: &str, quotes: Quotes, names: &mut dyn Iterator<Item = &str>) -> Result<String> {
    let mut text = String::with_capacity(inside.len());
    for c in inside.chars() {
        match c {
            TypedText::MENTION => text.push_str(names.next().unwrap_or_default()),
            c if c.is_control() && !c.is_whitespace() => return Err(unprintable(&text, c)),
            c => text.push(c),
        }
    }
    Ok(if quotes.spaced { text.trim().to_owned() } else { text })
}

fn unclosed(text: &str) -> Error {
    let text = text.replace(TypedText::MENTION, "@…");
    Error::instead(
        format!("The quote in “{}” isn't closed.", shown(&text)),
        "Close it with another quote, or leave it out.",
    )
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

    fn kinds(_: &str, name: &str) -> Option<OptionKind> {
        match name {
            "failed" => Some(OptionKind::Switch),
            "find" => Some(OptionKind::Text),
            "over" => Some(OptionKind::Word),
            _ => None,
        }
    }

    fn line_of(typed: &str) -> TypedLine {
        split(typed, &kinds).unwrap_or_else(|error| panic!("{typed}: {error}"))
    }

    #[test]
    fn other_keyboards_mean_the_same() {
        let plain = line_of("kill 4711 --env production --reason \"stuck report, it's ana's\" --dry-run");
        assert_eq!(plain.reason.as_deref(), Some("stuck report, it's ana's"));
        assert!(plain.dry_run);
        for typed in [
            "kill 4711 —env production –reason “stuck report, it's ana's” —dry-run",
            "Kill ４７１１ －－env production ‑‑reason „stuck report, it's ana's“ --dry‑run",
            "kill 4711 -env=production --reason «\u{a0}stuck report, it's ana's\u{a0}» -dry-run",
            "kill 4711 --env production --reason ‘stuck report, it’s ana’s’ --dry-run"
                .replace('’', "'")
                .as_str(),
            "`kill 4711 --env production --reason \"stuck report, it's ana's\" --dry-run`",
            "*kill* `4711` --env *production* --reason *\"stuck report, it's ana's\"* `--dry-run`",
            "```\nkill 4711 --env production --reason \"stuck report, it's ana's\" --dry-run\n```",
            "_kill 4711 --env production --reason \"stuck report, it's ana's\" --dry-run_",
            "\u{200b}kill\u{2060} \u{200e}4711 --env prod\u{ad}uction --reason \u{feff}\"stuck report, it's ana's\" --dry-run",
        ] {
            assert_eq!(plain, line_of(typed), "{typed}");
        }
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
    fn text_in_quotes_is_kept() {
        for (typed, reason) in [
            ("“a – b”", "a – b"),
            ("\"*a* `b`\"", "*a* `b`"),
            ("\"a\u{200b}b\"", "a\u{200b}b"),
            ("‘ana’s report’", "ana’s report"),
            ("'ana's report'", "ana's report"),
            ("\"«quoted»\"", "«quoted»"),
            ("「stuck」", "stuck"),
            ("＂ｗｉｄｅ＂", "ｗｉｄｅ"),
        ] {
            assert_eq!(line_of(&format!("x --reason {typed}")).reason.as_deref(), Some(reason), "{typed}");
        }
        assert_eq!(line_of("settings work_* *_mem").words, ["work_*", "*_mem"], "no marks around a word");
        assert_eq!(line_of("analyze x _tmp_").words, ["x", "_tmp_"], "a table's name");
    }

    #[test]
    fn words_behind_a_text_without_quotes_are_remembered() {
        let tail = line_of("kill 4711 --reason blocks the deploy --env staging").tail;
        let text = "blocks the deploy".to_owned();
        assert_eq!(tail, Some(UnquotedTail { option: "reason".to_owned(), text, first: 1 }));
        assert_eq!(line_of("kill 4711 --reason \"blocks\" the deploy").tail, None);
        assert_eq!(line_of("kill 4711 --reason blocks --env staging x").tail, None);
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
            assert!(split(wrong, &|_, _| None).is_err(), "{wrong}");
        }
        assert!(split(&"x".repeat(40_000), &|_, _| None).is_err());
        assert_eq!(line_of(""), TypedLine::default());
    }
}
