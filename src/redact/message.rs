//! Reads error messages of PostgreSQL and its tools, forward and once, and writes them without data and
//! secrets.
//!
//! A message is prose: where a value ends is often a guess. Every guess here hides too much rather than too
//! little, up to the next line that begins with a label such as `HINT:` or `pg_dump:`, or to the end. No SQL
//! is read here.

use super::{patterns, query};

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

/// The expectation of a secret in the next chunk.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Expected {
    #[default]
    Nothing,
    /// `password` was read: an equals sign or a colon makes what follows a secret.
    Operator,
    Value,
}

struct MessageReader<'a> {
    src: &'a str,
    at: usize,
    out: String,
    last: &'a str,
    expect: Expected,
    /// The last hidden value reaches the end of the text, and may continue after it.
    open: bool,
}

pub(super) fn redact(message: &str) -> String {
    read(message).out
}

fn read(message: &str) -> MessageReader<'_> {
    let mut reader = MessageReader {
        src: message,
        at: 0,
        out: String::new(),
        last: "",
        expect: Expected::Nothing,
        open: false,
    };
    while let Some(next) = reader.rest().chars().next() {
        reader.step(next);
    }
    reader.out.truncate(reader.out.trim_end().len());
    reader
}

/// Redacts a part of a message that ends with a line. `open`: a value that the part before left open hides everything up to a
/// label. Afterwards: this part left a value open.
pub(super) fn redact_part(part: &str, open: &mut bool) -> String {
    let starts = std::iter::once(0).chain(part.match_indices('\n').map(|(newline, _)| newline + 1));
    let labelled = |at: &usize| part.get(*at..).is_some_and(begins_with_label);
    let start = if *open { starts.into_iter().find(labelled) } else { Some(0) };
    let Some(rest) = start.and_then(|start| part.get(start..)) else { return "…".to_owned() };
    let reader = read(rest);
    let hidden = if *open && rest.len() < part.len() { "…\n" } else { "" };
    *open = reader.open || reader.expect != Expected::Nothing;
    format!("{hidden}{}", reader.out)
}

impl<'a> MessageReader<'a> {
    fn rest(&self) -> &'a str {
        self.src.get(self.at..).unwrap_or("")
    }

    /// The rest of this line.
    fn line(&self) -> &'a str {
        let rest = self.rest();
        rest.get(..rest.find('\n').unwrap_or(rest.len())).unwrap_or("")
    }

    /// Length of the part, if a hidden value is seen to end in it. Otherwise the label may belong to the
    /// value, and all goes.
    fn part_if(&self, ended: impl Fn(&str) -> bool) -> usize {
        let part = self.part();
        if ended(part.trim_end()) { part.len() } else { self.rest().len() }
    }

    /// The rest of this word, quotes and parentheses included.
    fn run(&self) -> &'a str {
        let rest = self.rest();
        let blank = |c: char| c.is_whitespace() || c.is_control();
        rest.get(..rest.find(blank).unwrap_or(rest.len())).unwrap_or("")
    }

    /// Everything before the next line that begins with a label.
    fn part(&self) -> &'a str {
        let rest = self.rest();
        let starts = rest.match_indices('\n').map(|(newline, _)| newline);
        let end = starts.into_iter().find(|newline| rest.get(newline + 1..).is_some_and(begins_with_label));
        rest.get(..end.unwrap_or(rest.len())).unwrap_or("")
    }

    fn step(&mut self, next: char) {
        match next {
            '\n' => {
                self.out.truncate(self.out.trim_end_matches(' ').len());
                self.out.push('\n');
                self.at += 1;
                self.last = "";
            }
            _ if next.is_whitespace() || next.is_control() => {
                self.space();
                self.at += next.len_utf8();
            }
            '"' => self.double_quoted(),
            '\'' => self.single_quoted(),
            '(' => self.parenthesis(),
            _ => self.chunk(),
        }
    }

    fn space(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with([' ', '\n']) {
            self.out.push(' ');
        }
    }

    /// Writes `shown` for the next `len` bytes.
    fn replace(&mut self, len: usize, shown: &str) {
        self.out.push_str(shown);
        self.at += len;
        self.last = "";
        self.expect = Expected::Nothing;
        self.open = self.at >= self.src.len();
    }

    fn double_quoted(&mut self) {
        let inside = self.rest().get(1..).unwrap_or("");
        let close = inside.find(['"', '\n']).filter(|end| inside.as_bytes().get(*end) == Some(&b'"'));
        let name = close.and_then(|end| inside.get(..end)).unwrap_or("");
        let named =
            self.last.ends_with('.') || patterns::listed(NAMED, self.last.to_ascii_lowercase().as_str());
        let statement = self.out.ends_with("SQL statement ");
        if named
            && !statement
            && self.expect == Expected::Nothing
            && !name.is_empty()
            && patterns::is_name(name)
        {
            self.replace(name.len() + 2, &format!("\"{}\"", patterns::visible(name)));
            return;
        }
        // A value is not escaped: it may hold quotes and lines of its own.
        let to_the_end = statement || self.last.ends_with(':');
        let len = match self.line().rfind('"') {
            Some(end) if end > 0 && !to_the_end => end + 1,
            _ => self.part_if(|part| part.len() > 1 && part.ends_with('"') || part.contains("\"\n")),
        };
        self.replace(len, "\"?\"");
    }

    /// An apostrophe stands after a letter; a quote does not.
    fn single_quoted(&mut self) {
        if self.src.get(..self.at).is_some_and(|before| before.ends_with(char::is_alphanumeric)) {
            self.replace(1, "'");
            return;
        }
        let rest = self.rest();
        match closing_single_quote(rest) {
            Some(len) => self.replace(len, "'?'"),
            None => self.replace(rest.len(), "…"),
        }
    }

    fn parenthesis(&mut self) {
        if self.last.ends_with(")=") || self.out.ends_with(")=") || self.out.ends_with(") = ") {
            let part = self.part();
            let ending = KEY_ENDINGS.iter().filter_map(|ending| part.rfind(ending)).max();
            let len = ending.map_or_else(|| self.part_if(|part| part.ends_with(").")), |at| at + 1);
            self.replace(len, "(?)");
        } else if self.last == "contains" {
            self.replace(self.part_if(|part| part.ends_with(").")), "(?)");
        } else {
            self.out.push('(');
            self.at += 1;
            self.last = "";
        }
    }

    /// A run without whitespace, quotes and opening parentheses.
    fn chunk(&mut self) {
        let rest = self.rest();
        let outside = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '(');
        let chunk = rest.get(..rest.find(outside).unwrap_or(rest.len())).unwrap_or("");
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
        let run = self.run();
        let len = if run.contains(['\\', '"', '\'']) { self.part().len() } else { run.len() };
        self.replace(len, "?");
    }

    /// Keeps the scheme and the host. The path may be the secret, as in an incoming webhook.
    fn url(&mut self) {
        let run = self.run();
        let (scheme, rest) = run.split_once("://").unwrap_or(("", run));
        let (user, address) = rest.rsplit_once('@').map_or(("", rest), |(_, address)| ("?@", address));
        let host =
            address.get(..address.find(['/', '?', '#', '"', '\'']).unwrap_or(address.len())).unwrap_or("");
        let port = host
            .rsplit_once(':')
            .map_or("", |(_, port)| port.trim_end_matches([',', '.', ';', ')', ']', ':']));
        if patterns::is_secret(scheme)
            || patterns::is_sensitive(scheme)
            || port.contains(|c: char| !c.is_ascii_digit())
        {
            // It may be a user and the beginning of a password, whose end is unknown.
            self.replace(self.line().len(), "…");
            return;
        }
        let path = if host.len() < address.len() { "/…" } else { "" };
        self.replace(
            run.len(),
            &format!("{}://{user}{}{path}", patterns::visible(scheme), patterns::visible(host)),
        );
    }

    /// `password=…`, `token: …`, `Bearer …`: true if the beginning of the chunk was written here.
    fn secret(&mut self, chunk: &'a str) -> bool {
        let armed = std::mem::take(&mut self.expect) == Expected::Operator;
        let key_end = match patterns::sensitive_end(chunk) {
            None if chunk.to_ascii_lowercase().starts_with("authorization") => Some("authorization".len()),
            None if armed && chunk.starts_with(['=', ':']) => Some(0),
            end => end,
        };
        let after_key = chunk.get(key_end.unwrap_or(chunk.len())..).unwrap_or("");
        let Some(operator) = after_key.find(['=', ':']) else {
            self.expect = match key_end {
                Some(_) if chunk.starts_with("--") => Expected::Value,
                Some(_) => Expected::Operator,
                None if chunk.eq_ignore_ascii_case("bearer") => Expected::Value,
                None => Expected::Nothing,
            };
            return false;
        };
        let shown = chunk.get(..=chunk.len() - after_key.len() + operator).unwrap_or("");
        self.out.push_str(&if patterns::is_secret(shown) {
            "?=".to_owned()
        } else {
            patterns::visible(shown)
        });
        self.at += shown.len();
        let run = self.run();
        if run.is_empty() && shown.ends_with(':') {
            self.replace(self.line().len(), " ?");
        } else if run.is_empty() || run.starts_with('(') {
            self.expect = Expected::Value;
        } else {
            self.value();
        }
        true
    }

    fn plain(&mut self, chunk: &'a str) {
        self.out.push_str(&if patterns::is_secret(chunk) {
            "?".to_owned()
        } else {
            patterns::visible(chunk)
        });
        self.at += chunk.len();
        self.last = chunk;
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
        let len = if shown.ends_with('…') { self.rest().len() } else { part.len() };
        self.replace(len, &format!(" {shown}"));
    }

    /// `LINE 1: …`, `JSON data, line 1: …`: a piece from the middle, which cannot be read.
    fn excerpt(&mut self) {
        let rest = self.rest();
        let number = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b' ').count();
        if rest.as_bytes().get(number) == Some(&b':') {
            self.out.push_str(rest.get(..=number).unwrap_or(""));
            self.at += number + 1;
            self.replace(self.part().len(), " …");
        }
    }
}

/// Bytes from an opening quote to behind its closing one, which is neither doubled, nor escaped, nor within
/// a word.
fn closing_single_quote(text: &str) -> Option<usize> {
    let mut doubled = false;
    for (at, _) in text.match_indices('\'').skip(1) {
        let after = text.get(at + 1..).and_then(|rest| rest.chars().next());
        let escaped = text.get(..at).is_some_and(|before| before.ends_with('\\'));
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

fn begins_with_label(line: &str) -> bool {
    let Some((label, _)) =
        line.get(..line.find('\n').unwrap_or(line.len())).and_then(|line| line.split_once(':'))
    else {
        return false;
    };
    let tool = label.strip_prefix("pg_").is_some_and(|name| name.bytes().all(|b| b.is_ascii_lowercase()));
    tool || patterns::listed(LABELS, label) || label.ends_with("ommand was")
}
