//! A command's output for people: without secrets, data and control characters, and at most what fits a card. The beginning and
//! the end are kept; the bytes between them are counted.

use crate::actions::support::subprocess::OutputSink;
use crate::redact;
use crate::sql::bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that are redacted at once: a value of several lines is seen whole.
const BLOCK_BYTES: usize = 32 * 1024;

/// Bytes kept of the beginning and of the end: together they fit a message beside a verdict.
const HEAD_BYTES: usize = 1_000;
const TAIL_BYTES: usize = 1_600;

const LINE_BYTES: usize = 500;

/// Bytes that can begin a value of several lines.
const VALUE_OPENERS: &[u8] = b"'\"(=:";

/// Marks the index of a migration's name during redaction: a character of Unicode's private use.
const NAME_MARK: char = '\u{e000}';

#[derive(Clone)]
pub struct CapturedOutput(Arc<Mutex<OutputBuffer>>);

#[derive(Default)]
struct OutputBuffer {
    /// Hidden wherever they appear, longest first.
    secrets: Vec<String>,
    /// Names of migrations. They begin with a number that redaction would hide; they are shown unless they are part of a value.
    names: Vec<String>,
    pending: Vec<u8>,
    /// The rest of an overlong line is being skipped.
    skipping: bool,
    stream: redact::Stream,
    lines: HeadTail,
}

#[derive(Default, Clone)]
struct HeadTail {
    head: Vec<String>,
    head_bytes: usize,
    /// The head is complete; further lines go to the tail.
    full: bool,
    tail: VecDeque<String>,
    tail_bytes: usize,
    left_out: u64,
}

impl OutputSink for CapturedOutput {
    fn receive(&mut self, bytes: &[u8]) {
        self.0.lock().receive(bytes);
    }
}

impl CapturedOutput {
    /// A buffer that hides the secrets in every form given here, and shows the names.
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

    /// The last lines so far that are not empty.
    pub fn last(&self, count: usize) -> Vec<String> {
        let HeadTail { mut head, tail, .. } = self.0.lock().current_lines();
        head.extend(tail);
        head.retain(|line| !line.trim().is_empty());
        head.split_off(head.len().saturating_sub(count))
    }

    /// The whole output after the command's end; empty if there was none.
    pub fn whole(&self) -> String {
        let mut buffer = self.0.lock();
        let rest = std::mem::take(&mut buffer.pending);
        if !rest.is_empty() {
            let text = buffer.plain(&rest);
            buffer.show(&text);
        }
        let mut lines = buffer.lines.head.clone();
        if buffer.lines.left_out > 0 {
            lines.push(format!("[{} left out]", bytes(buffer.lines.left_out as f64)));
        }
        lines.extend(buffer.lines.tail.iter().cloned());
        lines.join("\n").trim_matches('\n').to_owned()
    }

    /// Redacts another text like the command's output.
    pub fn hide(&self, text: &str) -> String {
        let buffer = self.0.lock();
        buffer.restore_names(redact::text(&buffer.plain(text.as_bytes())))
    }
}

impl OutputBuffer {
    fn receive(&mut self, mut bytes: &[u8]) {
        if self.skipping {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let passed = &bytes[..end.unwrap_or(bytes.len())];
            self.lines.left_out += passed.len() as u64;
            if passed.iter().any(|byte| VALUE_OPENERS.contains(byte)) {
                self.stream.skip();
            }
            let Some(end) = end else { return };
            self.skipping = false;
            bytes = &bytes[end + 1..];
        }
        self.pending.extend_from_slice(bytes);
        if self.pending.len() < BLOCK_BYTES {
            return;
        }
        match self.pending.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                let rest = self.pending.split_off(end + 1);
                let block = std::mem::replace(&mut self.pending, rest);
                self.show(&self.plain(&block));
            }
            None => self.skip_line(),
        }
    }

    fn skip_line(&mut self) {
        let line = std::mem::take(&mut self.pending);
        let mut text = self.plain(&line);
        // A secret that is cut off at the end would not be found by its value.
        while let Some(part) = self.secrets.iter().find_map(|secret| beginning_of(secret, &text)) {
            text.truncate(text.len() - part);
        }
        self.lines.left_out += line.len().saturating_sub(LINE_BYTES) as u64;
        self.show(&text);
        self.lines.full = true;
        self.skipping = true;
    }

    /// Keeps a part without secrets, redacted.
    fn show(&mut self, plain: &str) {
        let text = self.stream.text(plain);
        let text = self.restore_names(text);
        self.lines.push(&text);
    }

    fn current_lines(&mut self) -> HeadTail {
        let mut lines = self.lines.clone();
        if let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') {
            let text = self.plain(&self.pending[..=end]);
            let mut stream = self.stream;
            lines.push(&self.restore_names(stream.text(&text)));
        }
        lines
    }

    /// Decodes bytes, without control characters other than line ends, and without secrets.
    fn plain(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let mut plain = String::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(next) = chars.next() {
            match next {
                // "ESC [ … letter": a colour or a cursor movement.
                '\u{1b}' if chars.peek() == Some(&'[') => {
                    chars.next();
                    while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
                '\r' if chars.peek() == Some(&'\n') => {}
                '\n' | '\r' => plain.push('\n'),
                '\t' => plain.push(' '),
                NAME_MARK => {}
                _ if next.is_control() => {}
                _ => plain.push(next),
            }
        }
        let hidden = self.secrets.iter().fold(plain, |text, secret| text.replace(secret.as_str(), "…"));
        let names = self.names.iter().enumerate();
        names.fold(hidden, |text, (at, name)| text.replace(name.as_str(), &mark(at)))
    }

    fn restore_names(&self, text: String) -> String {
        let names = self.names.iter().enumerate();
        names.fold(text, |text, (at, name)| text.replace(&mark(at), name))
    }
}

fn mark(index: usize) -> String {
    format!("{NAME_MARK}{index}{NAME_MARK}")
}

/// Length in bytes of the longest beginning of a secret that the text ends with.
fn beginning_of(secret: &str, text: &str) -> Option<usize> {
    let parts = secret.char_indices().skip(1).map(|(at, _)| at);
    parts.filter(|at| text.ends_with(&secret[..*at])).max()
}

impl HeadTail {
    fn push(&mut self, text: &str) {
        for line in text.lines() {
            let end = line.floor_char_boundary(LINE_BYTES);
            self.left_out += (line.len() - end) as u64;
            let cut = if end < line.len() { "…" } else { "" };
            self.push_line(format!("{}{cut}", &line[..end]));
        }
    }

    fn push_line(&mut self, line: String) {
        if !self.full && self.head_bytes + line.len() <= HEAD_BYTES {
            self.head_bytes += line.len();
            self.head.push(line);
            return;
        }
        self.full = true;
        self.tail_bytes += line.len();
        self.tail.push_back(line);
        while self.tail_bytes > TAIL_BYTES
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

    fn output(secrets: &[&str], pieces: &[&[u8]]) -> CapturedOutput {
        let secrets = secrets.iter().map(ToString::to_string).collect();
        let mut output = CapturedOutput::new(secrets, Vec::new());
        pieces.iter().for_each(|piece| output.receive(piece));
        output
    }

    #[test]
    fn a_secret_is_hidden_by_its_value_also_where_it_comes_in_pieces() {
        let output =
            output(&["hu/sh", "hu%2Fsh"], &[b"using h", b"u/sh and \x1b[31mhu%2F", b"sh\x1b[0m\r\nfine\n"]);
        assert_eq!(output.whole(), "using … and …\nfine");
    }

    #[test]
    fn a_line_that_is_not_whole_is_not_shown_yet() {
        let output = output(&["hush"], &[b"one\ntwo hus"]);
        assert_eq!(output.last(3), ["one"]);
        assert_eq!(output.whole(), "one\ntwo hus");
    }

    #[test]
    fn a_migrations_name_is_shown_and_other_long_numbers_are_not() {
        let mut output = CapturedOutput::new(Vec::new(), vec!["20250101000000_init".to_owned()]);
        output
            .receive(b"Applying `20250101000000_init`, not 4111111111111111 nor \xee\x80\x800\xee\x80\x80\n");
        output.receive(b"DETAIL: Failing row contains (20250101000000_init).\n");
        assert_eq!(
            output.whole(),
            "Applying `20250101000000_init`, not ? nor 0\nDETAIL: Failing row contains (?)"
        );
    }

    #[test]
    fn many_lines_keep_their_beginning_and_their_end() {
        let mut output = CapturedOutput::new(Vec::new(), Vec::new());
        for number in 0..100_000 {
            output.receive(format!("line {number}\n").as_bytes());
        }
        let shown = output.whole();
        assert!(
            shown.starts_with("line 0\nline 1\n") && shown.ends_with("line 99998\nline 99999"),
            "{shown}"
        );
        assert!(shown.contains("\n[1.0 MiB left out]\n") && shown.len() < 3_500, "{shown}");
        assert_eq!(output.last(2), ["line 99998", "line 99999"]);
    }

    #[test]
    fn one_line_of_a_megabyte_is_cut_and_what_it_may_have_opened_stays_hidden() {
        let mut output = CapturedOutput::new(vec!["hush".to_owned()], Vec::new());
        let long = [b"xyz ".repeat(250_000), b" 'and hu".to_vec(), b"sh".repeat(20)].concat();
        long.chunks(7_000).for_each(|piece| output.receive(piece));
        output.receive(b"\nstill Jane Doe\nERROR: it ends\n");
        let shown = output.whole();
        assert!(shown.starts_with("xyz xyz ") && shown.len() < 3_500, "{shown}");
        assert!(shown.contains("KiB left out]") && shown.ends_with("ERROR: it ends"), "{shown}");
        assert!(!shown.contains("Jane") && !shown.contains("hu"), "{shown}");
        let capacity = output.0.lock().pending.capacity();
        assert!(capacity <= 4 * BLOCK_BYTES, "{capacity} bytes are held");
    }

    #[test]
    fn a_value_over_more_lines_than_are_read_at_once_stays_hidden() {
        let mut output = CapturedOutput::new(Vec::new(), Vec::new());
        output.receive(b"ERROR: no\nDETAIL: Failing row contains (1, Jane\n");
        for _ in 0..3_000 {
            output.receive(b"Jane Doe, Main Street\n");
        }
        output.receive(b"ERROR: the end\nfine\n");
        let shown = output.whole();
        assert!(!shown.contains("Jane") && shown.ends_with("ERROR: the end\nfine"), "{shown}");
    }
}
