//! Reads error messages of PostgreSQL and its tools, forward and once, and writes them without data and secrets.
//!
//! A message is prose: where a value ends is often a guess. Every guess here hides too much rather than too little, up to the
//! next line that begins with a label such as `HINT:` or `pg_dump:`, or to the end. No SQL is read here.

use super::numbers::{card_length, without_long_numbers};
use super::quotes::{self, Quotes};
use super::web::link;
use super::{patterns, query};
use crate::sql_lexer::is_invisible;

/// Words after which double quotes hold a name. After any other word they hold a value.
const NAMED: &str = "\
    relation table column constraint index schema database role user group function procedure routine \
    aggregate type domain enum sequence view extension parameter server tablespace publication subscription \
    slot trigger policy rule cursor partition language operator collation member library file directory host \
    name encoding conversion family class wrapper dictionary savepoint portal program object reference method \
    statistics at statement";

/// Labels that begin a new part of a message, so that a hidden value has ended.
const LABELS: &str = "\
    ERROR FATAL PANIC WARNING NOTICE INFO LOG DEBUG DETAIL HINT CONTEXT STATEMENT QUERY LOCATION psql \
    createdb dropdb vacuumdb reindexdb initdb clusterdb";

/// Words before a whole statement.
const STATEMENT_INTROS: [&str; 4] = ["STATEMENT:", "QUERY:", "uery was:", "ommand was:"];

/// Endings of the value in `Key (…)=(…)`.
const KEY_ENDINGS: [&str; 5] = [
    ") already exists",
    ") is not present in",
    ") is still referenced",
    ") is duplicated",
    ") conflicts with ",
];

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Expected {
    #[default]
    Nothing,
    /// `password` was read: an equals sign or a colon makes what follows a secret.
    Operator,
    Value,
}

#[derive(Default)]
struct MessageReader<'a> {
    src: &'a str,
    /// The text that is not read yet.
    rest: &'a str,
    out: String,
    last_word: &'a str,
    expect: Expected,
    /// The last hidden value reaches the end of the text, and may continue after it.
    open: bool,
    kind: TextKind,
}

/// The kind of a text, which tells what may be a value in it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum TextKind {
    /// A server's or a tool's message: values are in quotes or in parentheses.
    #[default]
    Message,
    /// A person's own words: addresses of the web keep their paths, and quotes of a keyboard with them hold words.
    Note,
    /// Names of objects and sentences about them: quotes belong to names, a number in front of a migration's name is its time, and
    /// addresses of the web keep their paths.
    Name,
    /// As [`TextKind::Name`], of a value that has to be told apart exactly: addresses of people, digests and numbers stay.
    Identity,
}

impl TextKind {
    /// True for texts that nobody wrote in sentences: their blanks stay, too.
    fn is_name(self) -> bool {
        matches!(self, TextKind::Name | TextKind::Identity)
    }
}

/// An error message of PostgreSQL or of a tool such as `pg_dump`, without data, connection strings and secrets.
///
/// Names in double quotes stay where the message says what they name (`relation "users"`); values in quotes, in `Key
/// (email)=(…)` and in `Failing row contains (…)` go. A statement within a message is treated by [`query`]. Lines stay lines.
pub fn text(message: &str) -> String {
    redact(message, TextKind::Message)
}

/// A text that an application raised, as [`text`], and without numbers of four or more digits: nothing in it tells its values from
/// its words.
pub fn raised(message: &str) -> String {
    without_long_numbers(&text(message))
}

/// A name that a client or an owner chose, such as an `application_name` or a slot's, or a sentence with such names: without secrets
/// and what can't be seen. Quotes stay, since they belong to names.
pub fn name(name: &str) -> String {
    redact(name, TextKind::Name)
}

/// A value that identifies an object, such as a role, exact but for secrets: a role may be named like a person's address, and a digest
/// is a long number.
pub fn identity(value: &str) -> String {
    redact(value, TextKind::Identity)
}

/// Text that a person wrote, such as a reason: as [`text`], but the address of a web page keeps its path, so that others can open
/// it. Its user, its query and its fragment go, and what looks like a secret in the path.
pub fn note(written: &str) -> String {
    redact(written, TextKind::Note)
}

/// A message that is too long for memory, read in parts that each end with a line. A value in quotes that one part leaves open is
/// hidden in the next parts, too, up to a line that begins with a label such as `ERROR:`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stream {
    open: bool,
}

impl Stream {
    /// Redacts the next part as [`text`] would.
    pub fn text(&mut self, part: &str) -> String {
        let start = if !self.open || begins_with_label(part) { Some(0) } else { labelled_line(part) };
        let Some(start) = start else { return "…".to_owned() };
        let visible = visible_lines(&part[start..]);
        let reader = read(&visible, TextKind::Message);
        self.open = reader.open || reader.expect != Expected::Nothing;
        format!("{}{}", if start > 0 { "…\n" } else { "" }, reader.out)
    }

    /// Skips a part, which may have left a value open.
    pub fn skip(&mut self) {
        self.open = true;
    }
}

fn redact(text: &str, kind: TextKind) -> String {
    if kind.is_name() {
        let visible: String = text.chars().filter(|c| c.is_whitespace() || !is_invisible(*c)).collect();
        let shown = read(&visible, kind).out;
        // A name without a secret is the same for whoever reads it: what can't be seen in it is the renderer's.
        return if shown == visible { text.to_owned() } else { shown };
    }
    read(&visible_lines(text), kind).out
}

/// The text without characters that can't be seen, which would tear a secret's word apart. Lines stay lines.
fn visible_lines(text: &str) -> String {
    text.chars().filter(|c| is_blank(*c) || !is_invisible(*c)).collect()
}

fn read(src: &str, kind: TextKind) -> MessageReader<'_> {
    let mut reader = MessageReader { src, rest: src, kind, ..MessageReader::default() };
    while let Some(next) = reader.rest.chars().next() {
        let left = reader.rest.len();
        reader.step(next);
        if reader.rest.len() == left {
            // A text must neither be read for ever nor be shown unread.
            reader.replace(left, "…");
        }
    }
    if !kind.is_name() {
        reader.out.truncate(reader.out.trim_end().len());
    }
    reader
}

impl<'a> MessageReader<'a> {
    fn line(&self) -> &'a str {
        before(self.rest, |c| c == '\n')
    }

    /// The rest of this word, quotes and parentheses included.
    fn word(&self) -> &'a str {
        before(self.rest, is_blank)
    }

    /// Everything before the next line that begins with a label.
    fn part(&self) -> &'a str {
        labelled_line(self.rest).map_or(self.rest, |start| &self.rest[..start - 1])
    }

    /// Length of the part, if a hidden value is seen to end in it. Otherwise the label may belong to the value, and all goes.
    fn part_if(&self, ended: impl Fn(&str) -> bool) -> usize {
        let part = self.part();
        if ended(part.trim_end()) { part.len() } else { self.rest.len() }
    }

    fn step(&mut self, next: char) {
        match next {
            _ if is_blank(next) && self.kind.is_name() => {
                self.out.push(next);
                self.skip(next.len_utf8());
            }
            '\n' => {
                self.out.truncate(self.out.trim_end_matches(' ').len());
                self.copy("\n");
                self.last_word = "";
            }
            _ if is_blank(next) => {
                if !self.out.is_empty() && !self.out.ends_with([' ', '\n']) {
                    self.out.push(' ');
                }
                self.skip(next.len_utf8());
            }
            _ if self.kind.is_name() && is_delimiter(next) => self.delimiter(next),
            '"' => self.double_quoted(),
            '\'' => self.single_quoted(),
            '(' => self.parenthesis(),
            _ => match Quotes::opened_by(next) {
                Some(_) if self.kind == TextKind::Note => self.delimiter(next),
                Some(quotes) => self.quoted(next, quotes),
                // A closing quote whose opening one is missing.
                None if is_delimiter(next) => self.delimiter(next),
                None => self.chunk(),
            },
        }
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or("");
    }

    /// Writes the next bytes, which are `shown`, as they are.
    fn copy(&mut self, shown: &str) {
        self.out.push_str(shown);
        self.skip(shown.len());
    }

    /// Writes the next bytes, which are `word`, or the mask if they have the shape of a secret.
    fn copy_or_mask(&mut self, word: &str, mask: &str) {
        let is_secret = match self.kind {
            TextKind::Identity => patterns::is_secret_identity(word),
            TextKind::Name => patterns::is_secret(patterns::behind_timestamp(word)),
            TextKind::Message | TextKind::Note => patterns::is_secret(word),
        };
        let shown = if is_secret { mask } else { &patterns::visible(word) };
        self.out.push_str(shown);
        self.skip(word.len());
    }

    /// Writes `shown` for the next `len` bytes.
    fn replace(&mut self, len: usize, shown: &str) {
        self.out.push_str(shown);
        self.skip(len);
        self.last_word = "";
        self.expect = Expected::Nothing;
        self.open = self.rest.is_empty();
    }

    /// Writes a quote or a parenthesis that says nothing about what is in it.
    fn delimiter(&mut self, delimiter: char) {
        if self.expect == Expected::Value {
            return self.value();
        }
        self.copy(&self.rest[..delimiter.len_utf8()]);
        self.last_word = "";
    }

    fn double_quoted(&mut self) {
        let statement = self.out.ends_with("SQL statement ");
        let inside = &self.rest[1..];
        let name = before(inside, |c| matches!(c, '"' | '\n'));
        let closed = !name.is_empty() && inside[name.len()..].starts_with('"');
        let is_named =
            self.last_word.ends_with('.') || patterns::listed(NAMED, &self.last_word.to_ascii_lowercase());
        if is_named && closed && !statement && self.expect == Expected::Nothing && patterns::is_name(name) {
            return self.replace(name.len() + 2, &format!("\"{}\"", patterns::visible(name)));
        }
        // A value is not escaped: it may hold quotes and lines of its own.
        let to_the_end = statement || self.last_word.ends_with(':');
        let len = match self.line().rfind('"') {
            Some(end) if end > 0 && !to_the_end => end + 1,
            _ => self.part_if(|part| part.len() > 1 && part.ends_with('"') || part.contains("\"\n")),
        };
        self.replace(len, "\"?\"");
    }

    /// Quotes of a translated message, such as `»…«`. Which of them hold a name is told by words of that language, so all are
    /// values here: up to the last closing quote of the part.
    fn quoted(&mut self, open: char, quotes: Quotes) {
        if quotes.single && self.follows_letter() {
            return self.copy(&self.rest[..open.len_utf8()]);
        }
        let inside = &self.part()[open.len_utf8()..];
        let last = inside.char_indices().rev().find(|(_, c)| quotes.is_closed_by(*c));
        match last {
            Some((at, close)) => {
                let len = open.len_utf8() + at + close.len_utf8();
                self.replace(len, &format!("{open}?{close}"));
            }
            None => self.replace(self.rest.len(), "…"),
        }
    }

    fn follows_letter(&self) -> bool {
        self.src[..self.src.len() - self.rest.len()].ends_with(char::is_alphanumeric)
    }

    /// An apostrophe stands after a letter; a quote does not.
    fn single_quoted(&mut self) {
        if self.follows_letter() {
            return self.replace(1, "'");
        }
        match closing_single_quote(self.rest) {
            Some(len) => self.replace(len, "'?'"),
            None => self.replace(self.rest.len(), "…"),
        }
    }

    fn parenthesis(&mut self) {
        let ends_row = |part: &str| part.ends_with(").");
        if self.last_word.ends_with(")=") || self.out.ends_with(")=") || self.out.ends_with(") = ") {
            let part = self.part();
            let ending = KEY_ENDINGS.iter().filter_map(|ending| part.rfind(ending)).max();
            let len = ending.map_or_else(|| self.part_if(ends_row), |at| at + 1);
            self.replace(len, "(?)");
        } else if self.last_word == "contains" {
            self.replace(self.part_if(ends_row), "(?)");
        } else {
            self.copy("(");
            self.last_word = "";
        }
    }

    /// A piece without whitespace, quotes and opening parentheses.
    fn chunk(&mut self) {
        let chunk = before(self.rest, |c| is_blank(c) || is_delimiter(c));
        if self.expect == Expected::Value {
            self.value();
        } else if chunk.contains("://") {
            self.url();
        } else if !self.secret(chunk) {
            self.plain(chunk);
        }
    }

    /// A password that is quoted or escaped may go on in the next word.
    fn value(&mut self) {
        let word = self.word();
        let len = if word.contains(['\\', '"', '\'']) { self.part().len() } else { word.len() };
        self.replace(len, "?");
    }

    /// Keeps the scheme and the host. The path may be the secret, as in an incoming webhook.
    fn url(&mut self) {
        let word = self.word();
        if let Some(link) = Some(word).filter(|_| self.kind != TextKind::Message).and_then(link) {
            return self.replace(word.len(), &link);
        }
        let (scheme, rest) = word.split_once("://").unwrap_or(("", word));
        let (user, address) = rest.rsplit_once('@').map_or(("", rest), |(_, address)| ("?@", address));
        let host = before(address, |c| matches!(c, '/' | '?' | '#' | '"' | '\''));
        let port = host.rsplit_once(':').map_or("", |(_, port)| port);
        let port = port.trim_end_matches([',', '.', ';', ')', ']', ':']);
        if patterns::is_secret(scheme)
            || patterns::is_sensitive(scheme)
            || port.contains(|c: char| !c.is_ascii_digit())
        {
            // It may be a user and the beginning of a password, whose end is unknown.
            return self.replace(self.line().len(), "…");
        }
        let path = if host.len() < address.len() { "/…" } else { "" };
        let (scheme, host) = (patterns::visible(scheme), patterns::visible(host));
        self.replace(word.len(), &format!("{scheme}://{user}{host}{path}"));
    }

    /// `password=…`, `token: …`, `Bearer …`: true if the beginning of the chunk was written here.
    fn secret(&mut self, chunk: &'a str) -> bool {
        let after_key_word = std::mem::take(&mut self.expect) == Expected::Operator;
        let key_end = match patterns::sensitive_end(chunk) {
            None if after_key_word && chunk.starts_with(['=', ':']) => Some(0),
            None => patterns::sensitive_key_end(chunk),
            end => end,
        };
        let operator = key_end.and_then(|end| Some(end + chunk.get(end..)?.find(['=', ':'])?));
        let Some(operator) = operator else {
            self.expect = match key_end {
                Some(_) if chunk.trim_start_matches('`').starts_with("--") => Expected::Value,
                Some(_) => Expected::Operator,
                None if chunk.eq_ignore_ascii_case("bearer") => Expected::Value,
                None => Expected::Nothing,
            };
            return false;
        };
        let shown = &chunk[..=operator];
        self.copy_or_mask(shown, "?=");
        let word = self.word();
        if word.is_empty() && shown.ends_with(':') {
            self.replace(self.line().len(), " ?");
        } else if word.is_empty() || word.starts_with('(') {
            self.expect = Expected::Value;
        } else {
            self.value();
        }
        true
    }

    fn plain(&mut self, chunk: &'a str) {
        if let Some(len) = card_length(self.rest).filter(|_| self.kind != TextKind::Identity) {
            return self.replace(len, "?");
        }
        self.copy_or_mask(chunk, "?");
        self.last_word = chunk;
        if STATEMENT_INTROS.iter().any(|intro| self.out.ends_with(intro)) {
            self.statement();
        } else if self.out.ends_with("LINE") || self.out.ends_with("JSON data, line") {
            self.excerpt();
        }
    }

    /// A statement up to the next label. If its end is in doubt, so is the label.
    fn statement(&mut self) {
        let part = self.part();
        let shown = query(part);
        let len = if shown.ends_with('…') { self.rest.len() } else { part.len() };
        self.replace(len, &format!(" {shown}"));
    }

    /// `LINE 1: …`, `JSON data, line 1: …`: a piece from the middle, which cannot be read.
    fn excerpt(&mut self) {
        let number = before(self.rest, |c| !(c.is_ascii_digit() || c == ' '));
        if self.rest[number.len()..].starts_with(':') {
            self.copy(&self.rest[..=number.len()]);
            self.replace(self.part().len(), " …");
        }
    }
}

/// The text before the first such character.
pub(super) fn before(text: &str, end: impl Fn(char) -> bool) -> &str {
    text.split(end).next().unwrap_or("")
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// True for a character that ends a chunk: a quote of any language, or the beginning of a row.
fn is_delimiter(c: char) -> bool {
    c == '(' || quotes::is_quote(c)
}

/// Bytes from an opening quote to behind its closing one, which is neither doubled, nor escaped, nor within a word.
fn closing_single_quote(text: &str) -> Option<usize> {
    let mut doubled = false;
    for (at, _) in text.match_indices('\'').skip(1) {
        let after = text[at + 1..].chars().next();
        let escaped = text[..at].ends_with('\\');
        if std::mem::take(&mut doubled) || escaped || after.is_some_and(char::is_alphanumeric) {
            continue;
        }
        if after != Some('\'') {
            return Some(at + 1);
        }
        doubled = true;
    }
    None
}

/// The start of the first line that begins with a label, after the first line.
fn labelled_line(text: &str) -> Option<usize> {
    let mut starts = text.match_indices('\n').map(|(newline, _)| newline + 1);
    starts.find(|start| begins_with_label(&text[*start..]))
}

fn begins_with_label(text: &str) -> bool {
    let Some((label, _)) = before(text, |c| c == '\n').split_once(':') else { return false };
    let tool = label.strip_prefix("pg_").is_some_and(|name| name.bytes().all(|b| b.is_ascii_lowercase()));
    tool || patterns::listed(LABELS, label) || label.ends_with("ommand was")
}
