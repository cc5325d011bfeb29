//! Reads error messages of PostgreSQL and its tools, forward and once, and writes them without data and secrets.
//!
//! A message is prose: where a value ends is often a guess. Every guess here hides too much rather than too little, up to the
//! next line that begins with a label such as `HINT:` or `pg_dump:`, or to the end. No SQL is read here.

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
    /// Addresses of the web keep their paths.
    links: bool,
}

/// An error message of PostgreSQL or of a tool such as `pg_dump`, without data, connection strings and secrets.
///
/// Names in double quotes stay where the message says what they name (`relation "users"`); values in quotes, in `Key
/// (email)=(…)` and in `Failing row contains (…)` go. A statement within a message is treated by [`query`]. Lines stay lines.
pub fn text(message: &str) -> String {
    read(message).out
}

/// Text that a person wrote, such as a reason: as [`text`], but the address of a web page keeps its path, so that others can open
/// it. Its user, its query and its fragment go, and what looks like a secret in the path.
pub fn note(written: &str) -> String {
    read_to_end(MessageReader { links: true, ..MessageReader::of(written) }).out
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
        let reader = read(&part[start..]);
        self.open = reader.open || reader.expect != Expected::Nothing;
        format!("{}{}", if start > 0 { "…\n" } else { "" }, reader.out)
    }

    /// Skips a part, which may have left a value open.
    pub fn skip(&mut self) {
        self.open = true;
    }
}

fn read(message: &str) -> MessageReader<'_> {
    read_to_end(MessageReader::of(message))
}

fn read_to_end(mut reader: MessageReader<'_>) -> MessageReader<'_> {
    while let Some(next) = reader.rest.chars().next() {
        reader.step(next);
    }
    reader.out.truncate(reader.out.trim_end().len());
    reader
}

impl<'a> MessageReader<'a> {
    fn of(src: &'a str) -> MessageReader<'a> {
        MessageReader { src, rest: src, ..MessageReader::default() }
    }

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
            '"' => self.double_quoted(),
            '\'' => self.single_quoted(),
            '(' => self.parenthesis(),
            _ => self.chunk(),
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
        let shown = if patterns::is_secret(word) { mask } else { &patterns::visible(word) };
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

    /// An apostrophe stands after a letter; a quote does not.
    fn single_quoted(&mut self) {
        if self.src[..self.src.len() - self.rest.len()].ends_with(char::is_alphanumeric) {
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
        let chunk = before(self.rest, |c| is_blank(c) || matches!(c, '"' | '\'' | '('));
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
        if let Some(link) = Some(word).filter(|_| self.links).and_then(web_link) {
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
            None if chunk.to_ascii_lowercase().starts_with("authorization") => Some("authorization".len()),
            None if after_key_word && chunk.starts_with(['=', ':']) => Some(0),
            end => end,
        };
        let operator = key_end.and_then(|end| Some(end + chunk.get(end..)?.find(['=', ':'])?));
        let Some(operator) = operator else {
            self.expect = match key_end {
                Some(_) if chunk.starts_with("--") => Expected::Value,
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

/// The address of a web page, without what can hold a secret; `None` if it isn't certainly one.
fn web_link(word: &str) -> Option<String> {
    let (scheme, rest) = word.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let authority = before(rest, |c| matches!(c, '/' | '?' | '#' | '"' | '\''));
    let address = &rest[authority.len()..];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let name_is_plain = name.chars().all(|c| c.is_alphanumeric() || "-._,;)".contains(c));
    // A slash in a password ends the authority too early.
    let is_certain = name_is_plain
        && !name.is_empty()
        && port.chars().all(|c| c.is_ascii_digit() || ",.;)".contains(c))
        && !(authority.contains(':') && address.contains('@'));
    if !is_certain {
        return None;
    }
    let path = before(address, |c| matches!(c, '?' | '#' | '"' | '\''));
    let more = if path.len() < address.len() { "?…" } else { "" };
    Some(format!(
        "{}://{}{}{more}",
        patterns::visible(scheme),
        patterns::visible(host),
        visible_path(name, path)
    ))
}

/// A path up to what looks like a secret. The paths of incoming webhooks are secrets.
fn visible_path(host: &str, path: &str) -> String {
    let is_webhook = |text: &str| text.to_ascii_lowercase().contains("hook");
    if is_webhook(host) || path.split('/').any(is_webhook) {
        return "/…".to_owned();
    }
    let is_open = |segment: &&str| !patterns::is_secret_segment(segment) && !patterns::is_sensitive(segment);
    let open: Vec<&str> = path.split('/').take_while(is_open).collect();
    let shown = patterns::visible(&open.join("/"));
    if open.len() < path.split('/').count() { format!("{shown}/…") } else { shown }
}

/// The text before the first such character.
fn before(text: &str, end: impl Fn(char) -> bool) -> &str {
    text.split(end).next().unwrap_or("")
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
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

#[cfg(test)]
mod tests {
    use super::note;

    #[test]
    fn what_a_person_writes_keeps_its_links_and_no_secret() {
        for (written, shown) in [
            ("see https://jira.example/browse/OPS-12", "see https://jira.example/browse/OPS-12"),
            ("(https://jira.example:8443/browse/OPS-12)", "(https://jira.example:8443/browse/OPS-12)"),
            (
                "the ticket (https://jira.example/browse/OPS-12).",
                "the ticket (https://jira.example/browse/OPS-12).",
            ),
            ("HTTPS://jira.example", "HTTPS://jira.example"),
            ("https://jane:hunter2@jira.example/browse/OPS-12", "https://jira.example/browse/OPS-12"),
            ("https://jira.example/browse/OPS-12?token=hunter2#x", "https://jira.example/browse/OPS-12?…"),
            ("https://jira.example/browse/OPS-12#hunter2", "https://jira.example/browse/OPS-12?…"),
            (
                "https://app.slack.example/archives/C012AB3CD/p1700000000000100",
                "https://app.slack.example/archives/C012AB3CD/p1700000000000100",
            ),
            ("https://hooks.slack.com/services/T0/B0/S3cr3t", "https://hooks.slack.com/…"),
            ("https://x.example/webhook/S3cr3t", "https://x.example/…"),
            ("https://x.example/reset/password/S3cr3t", "https://x.example/reset/…"),
            ("https://x.example/u/ghp_abcdefghijklmnop/y", "https://x.example/u/…"),
            ("https://x.example/u/AbCdEfGhIjKlMnOpQrStUv", "https://x.example/u/…"),
            ("https://x.example/u/4111111111111111", "https://x.example/u/…"),
            ("https://jane:hun/ter2@x.example/y", "https://?@x.example/…"),
            ("postgres://jane:hunter2@db.example/accounts", "postgres://?@db.example/…"),
            ("password=hunter2 for jane@example.com", "password=? for ?"),
        ] {
            assert_eq!(note(written), shown);
        }
    }
}
