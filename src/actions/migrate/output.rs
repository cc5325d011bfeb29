//! What a command writes, as people may see it: without secrets, data and control characters, and never more than fits a
//! card, however much is written. The beginning and the end are kept, and what lies between is counted.

use crate::actions::support::subprocess::OutputSink;
use crate::redact;
use crate::sql::bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// So much is read before it is made fit to be seen: a value that goes on over several lines is seen whole.
const BLOCK: usize = 32 * 1024;

/// Bytes that are kept of the beginning and of the end: together they fit a message beside a verdict.
const HEAD: usize = 1_000;
const TAIL: usize = 1_600;

/// Bytes of one line.
const LINE: usize = 500;

/// Without one of these, no value begins that goes on in the next line.
const OPENS: &[u8] = b"'\"(=:";

/// Stands around the number of a name while the rest is made fit to be seen: nobody's letter (Unicode's private use).
const NAME: char = '\u{e000}';

/// The output of a command while it is written, and afterwards.
#[derive(Clone)]
pub struct CapturedOutput(Arc<Mutex<OutputBuffer>>);

#[derive(Default)]
struct OutputBuffer {
    /// Hidden wherever they stand, longest first.
    secrets: Vec<String>,
    /// Names of migrations, which begin with a number as long as an account's: shown all the same, unless they stand in a value.
    names: Vec<String>,
    pending: Vec<u8>,
    /// The rest of a line that was too long to be read is passed over.
    passing: bool,
    stream: redact::Stream,
    lines: HeadTail,
}

/// Lines that are fit to be seen.
#[derive(Default, Clone)]
struct HeadTail {
    head: Vec<String>,
    head_bytes: usize,
    /// The beginning is over.
    full: bool,
    tail: VecDeque<String>,
    tail_bytes: usize,
    left_out: u64,
}

impl OutputSink for CapturedOutput {
    fn hear(&mut self, bytes: &[u8]) {
        self.kept(|kept| kept.hear(bytes));
    }
}

impl CapturedOutput {
    /// What was passed to the command is hidden by its value, in whatever form it is given here; names may be seen.
    pub fn new(secrets: Vec<String>, names: Vec<String>) -> CapturedOutput {
        let longest_first = |mut words: Vec<String>| {
            words.retain(|word| !word.is_empty());
            words.sort_by_key(|word| std::cmp::Reverse(word.len()));
            words.dedup();
            words
        };
        let (secrets, names) = (longest_first(secrets), longest_first(names));
        CapturedOutput(Arc::new(Mutex::new(OutputBuffer { secrets, names, ..OutputBuffer::default() })))
    }

    fn kept<T>(&self, work: impl FnOnce(&mut OutputBuffer) -> T) -> T {
        work(&mut self.0.lock())
    }

    /// The last lines so far that say something.
    pub fn last(&self, lines: usize) -> Vec<String> {
        let seen = self.kept(|kept| kept.so_far());
        let all = seen.head.iter().chain(&seen.tail).filter(|line| !line.trim().is_empty());
        let all: Vec<&String> = all.collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).clone()).collect()
    }

    /// All of it, once nothing more comes; empty if nothing was written.
    pub fn whole(&self) -> String {
        let seen = self.kept(|kept| {
            kept.flush();
            kept.lines.clone()
        });
        let mut text = seen.head.join("\n");
        if seen.left_out > 0 {
            text.push_str(&format!("\n[{} left out]", bytes(seen.left_out as f64)));
        }
        for line in &seen.tail {
            text.push('\n');
            text.push_str(line);
        }
        text.trim_matches('\n').to_owned()
    }

    /// A text that doesn't come from the command itself, as its output would be shown.
    pub fn hide(&self, text: &str) -> String {
        self.kept(|kept| kept.named(redact::text(&kept.plain(text.as_bytes()))))
    }
}

impl OutputBuffer {
    fn hear(&mut self, mut bytes: &[u8]) {
        if self.passing {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let passed = &bytes[..end.unwrap_or(bytes.len())];
            self.lines.left_out += passed.len() as u64;
            if passed.iter().any(|byte| OPENS.contains(byte)) {
                self.stream.skip();
            }
            let Some(end) = end else { return };
            self.passing = false;
            bytes = &bytes[end + 1..];
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() < BLOCK {
            return;
        }
        match self.pending.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                let rest = self.pending.split_off(end + 1);
                let block = std::mem::replace(&mut self.pending, rest);
                self.read(&block);
            }
            None => self.pass_over(),
        }
    }

    /// One line without an end: its beginning is enough.
    fn pass_over(&mut self) {
        let line = std::mem::take(&mut self.pending);
        let mut text = self.plain(&line);
        // A secret that is cut off at the end is not found by its value.
        while let Some(part) = self.secrets.iter().find_map(|secret| beginning_of(secret, &text)) {
            text.truncate(text.len() - part);
        }
        let shown = self.stream.text(&text);
        let shown = self.named(shown);
        self.lines.left_out += line.len().saturating_sub(LINE) as u64;
        self.lines.push(&shown);
        self.lines.full = true;
        self.passing = true;
    }

    /// Lines that are whole.
    fn read(&mut self, block: &[u8]) {
        let text = self.stream.text(&self.plain(block));
        let text = self.named(text);
        self.lines.push(&text);
    }

    fn flush(&mut self) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.read(&rest);
        }
    }

    /// What has been written, as far as its lines are whole.
    fn so_far(&mut self) -> HeadTail {
        let mut lines = self.lines.clone();
        if let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') {
            let text = self.plain(&self.pending[..=end]);
            let mut stream = self.stream;
            lines.push(&self.named(stream.text(&text)));
        }
        lines
    }

    /// As text, without escape sequences and other controls but the ends of lines, and without the secrets.
    fn plain(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let mut plain = String::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(next) = chars.next() {
            match next {
                // "ESC [ … letter", a colour or a movement.
                '\u{1b}' if chars.peek() == Some(&'[') => {
                    chars.next();
                    while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
                '\r' if chars.peek() == Some(&'\n') => {}
                '\n' | '\r' => plain.push('\n'),
                '\t' => plain.push(' '),
                NAME => {}
                _ if next.is_control() => {}
                _ => plain.push(next),
            }
        }
        let hidden = self.secrets.iter().fold(plain, |text, secret| text.replace(secret.as_str(), "…"));
        let names = self.names.iter().enumerate();
        names.fold(hidden, |text, (at, name)| text.replace(name.as_str(), &format!("{NAME}{at}{NAME}")))
    }

    /// Puts the names back that were not hidden as a part of something.
    fn named(&self, text: String) -> String {
        let names = self.names.iter().enumerate();
        names.fold(text, |text, (at, name)| text.replace(&format!("{NAME}{at}{NAME}"), name))
    }
}

/// How many bytes of a secret's beginning the text ends with.
fn beginning_of(secret: &str, text: &str) -> Option<usize> {
    let parts = secret.char_indices().skip(1).map(|(at, _)| at);
    parts.filter(|at| text.ends_with(&secret[..*at])).max()
}

impl HeadTail {
    fn push(&mut self, text: &str) {
        for line in text.lines() {
            let mut end = line.len().min(LINE);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            self.left_out += (line.len() - end) as u64;
            let cut = if end < line.len() { "…" } else { "" };
            self.push_line(format!("{}{cut}", &line[..end]));
        }
    }

    fn push_line(&mut self, line: String) {
        if !self.full && self.head_bytes + line.len() <= HEAD {
            self.head_bytes += line.len();
            self.head.push(line);
            return;
        }
        self.full = true;
        self.tail_bytes += line.len();
        self.tail.push_back(line);
        while self.tail_bytes > TAIL
            && let Some(oldest) = self.tail.pop_front()
        {
            self.tail_bytes -= oldest.len();
            self.left_out += oldest.len() as u64 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(secrets: &[&str], pieces: &[&[u8]]) -> CapturedOutput {
        let mut heard =
            CapturedOutput::new(secrets.iter().map(|secret| (*secret).to_owned()).collect(), Vec::new());
        pieces.iter().for_each(|piece| heard.hear(piece));
        heard
    }

    #[test]
    fn a_secret_is_hidden_by_its_value_also_where_it_comes_in_pieces() {
        let heard =
            heard(&["hu/sh", "hu%2Fsh"], &[b"using h", b"u/sh and \x1b[31mhu%2F", b"sh\x1b[0m\r\nfine\n"]);
        assert_eq!(heard.whole(), "using … and …\nfine");
    }

    #[test]
    fn a_line_that_is_not_whole_is_not_shown_yet() {
        let heard = heard(&["hush"], &[b"one\ntwo hus"]);
        assert_eq!(heard.last(3), ["one"]);
        assert_eq!(heard.whole(), "one\ntwo hus");
    }

    #[test]
    fn a_migrations_name_is_shown_and_other_long_numbers_are_not() {
        let mut heard = CapturedOutput::new(Vec::new(), vec!["20250101000000_init".to_owned()]);
        heard.hear(b"Applying `20250101000000_init`, not 4111111111111111 nor \xee\x80\x800\xee\x80\x80\n");
        heard.hear(b"DETAIL: Failing row contains (20250101000000_init).\n");
        assert_eq!(
            heard.whole(),
            "Applying `20250101000000_init`, not ? nor 0\nDETAIL: Failing row contains (?)"
        );
    }

    #[test]
    fn many_lines_keep_their_beginning_and_their_end() {
        let mut heard = CapturedOutput::new(Vec::new(), Vec::new());
        for number in 0..100_000 {
            heard.hear(format!("line {number}\n").as_bytes());
        }
        let shown = heard.whole();
        assert!(
            shown.starts_with("line 0\nline 1\n") && shown.ends_with("line 99998\nline 99999"),
            "{shown}"
        );
        assert!(shown.contains("\n[1.0 MiB left out]\n") && shown.len() < 3_500, "{shown}");
        assert_eq!(heard.last(2), ["line 99998", "line 99999"]);
    }

    #[test]
    fn one_line_of_a_megabyte_is_cut_and_what_it_may_have_opened_stays_hidden() {
        let mut heard = CapturedOutput::new(vec!["hush".to_owned()], Vec::new());
        let long = [b"xyz ".repeat(250_000), b" 'and hu".to_vec(), b"sh".repeat(20)].concat();
        long.chunks(7_000).for_each(|piece| heard.hear(piece));
        heard.hear(b"\nstill Jane Doe\nERROR: it ends\n");
        let shown = heard.whole();
        assert!(shown.starts_with("xyz xyz ") && shown.len() < 3_500, "{shown}");
        assert!(shown.contains("KiB left out]") && shown.ends_with("ERROR: it ends"), "{shown}");
        assert!(!shown.contains("Jane") && !shown.contains("hu"), "{shown}");
        let kept = heard.kept(|kept| kept.pending.capacity());
        assert!(kept <= 4 * BLOCK, "{kept} bytes are held");
    }

    #[test]
    fn a_value_over_more_lines_than_are_read_at_once_stays_hidden() {
        let mut heard = CapturedOutput::new(Vec::new(), Vec::new());
        heard.hear(b"ERROR: no\nDETAIL: Failing row contains (1, Jane\n");
        for _ in 0..3_000 {
            heard.hear(b"Jane Doe, Main Street\n");
        }
        heard.hear(b"ERROR: the end\nfine\n");
        let shown = heard.whole();
        assert!(!shown.contains("Jane") && shown.ends_with("ERROR: the end\nfine"), "{shown}");
    }
}
