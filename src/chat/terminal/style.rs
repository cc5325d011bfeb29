//! Text of a person or a database, made harmless: what a terminal would obey, or what would hide or reorder text, is shown
//! escaped, as `\x1b` or `\u{202e}`. Then characters with their style: wrapped and padded by the columns that they take,
//! coloured at the very end. A colour only adds to words.

use crate::chat::render::text::is_deceptive;
use unicode_width::UnicodeWidthChar;

/// The look of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Strong,
    Code,
    /// Small print.
    Faint,
    Ok,
    Warning,
    Critical,
}

impl Style {
    /// The parameters of "select graphic rendition" (ECMA-48, 8.3.117).
    fn sgr_parameters(self) -> &'static str {
        match self {
            Style::Plain => "0",
            Style::Strong => "1",
            Style::Code => "36",
            Style::Faint => "2",
            Style::Ok => "1;32",
            Style::Warning => "1;33",
            Style::Critical => "1;31",
        }
    }
}

pub type StyledText = Vec<(char, Style)>;

/// Escaped text in one style.
pub fn styled(text: &str, style: Style) -> StyledText {
    text.chars().map(|c| (c, style)).collect()
}

/// Columns that a line takes.
pub fn display_width(line: &[(char, Style)]) -> usize {
    line.iter().map(|(c, _)| c.width().unwrap_or(0)).sum()
}

/// Fills a line with spaces, before it or behind it.
pub fn padded(mut line: StyledText, width: usize, align_right: bool) -> StyledText {
    let spaces = styled(&" ".repeat(width.saturating_sub(display_width(&line))), Style::Plain);
    let at = if align_right { 0 } else { line.len() };
    line.splice(at..at, spaces);
    line
}

/// Breaks text into lines of so many columns, between words where it can be.
pub fn wrapped(text: &[(char, Style)], width: usize) -> Vec<StyledText> {
    text.split(|(c, _)| *c == '\n').flat_map(|paragraph| paragraph_lines(paragraph, width.max(1))).collect()
}

fn paragraph_lines(text: &[(char, Style)], width: usize) -> Vec<StyledText> {
    let mut lines = Vec::new();
    let mut line = StyledText::new();
    for word in text.split_inclusive(|(c, _)| *c == ' ') {
        let space = usize::from(word.last().is_some_and(|(c, _)| *c == ' '));
        if display_width(&line) + display_width(word) - space > width && !line.is_empty() {
            lines.push(trimmed(std::mem::take(&mut line)));
        }
        for letter in word {
            if display_width(&line) + letter.0.width().unwrap_or(0) > width && letter.0 != ' ' {
                lines.push(trimmed(std::mem::take(&mut line)));
            }
            line.push(*letter);
        }
    }
    lines.push(trimmed(line));
    lines
}

/// Removes the spaces at the end.
pub fn trimmed(mut line: StyledText) -> StyledText {
    let end = line.iter().rposition(|(c, _)| *c != ' ').map_or(0, |at| at + 1);
    line.truncate(end);
    line
}

/// At most so many lines; "…" stands for the rest.
pub fn cut(mut lines: Vec<StyledText>, max: usize, width: usize) -> Vec<StyledText> {
    if lines.len() <= max {
        return lines;
    }
    lines.truncate(max);
    if let Some(last) = lines.last_mut() {
        while display_width(last) + 1 > width && !last.is_empty() {
            last.pop();
        }
        last.push(('…', Style::Plain));
    }
    lines
}

/// Breaks long code with backslashes, as in a shell, so that it can be copied.
pub fn break_code(text: &str, width: usize) -> Vec<StyledText> {
    let mut lines = Vec::new();
    let mut rest = styled(text, Style::Code);
    while display_width(&rest) > width {
        // One character at least, and a column for the backslash.
        let fits = |end: &usize| display_width(&rest[..*end]) < width;
        let end = (2..=rest.len()).take_while(fits).last().unwrap_or(1);
        let space = rest[..end].iter().rposition(|(c, _)| *c == ' ');
        let tail = rest.split_off(space.map_or(end, |at| at + 1));
        rest.push(('\\', Style::Faint));
        lines.push(std::mem::replace(&mut rest, tail));
    }
    lines.push(rest);
    lines
}

/// The line as text; with colours, its styles as escape sequences.
pub fn to_ansi(line: &[(char, Style)], colours: bool) -> String {
    let mut out = String::new();
    let mut current = Style::Plain;
    for (c, style) in line {
        if colours && *style != current {
            out.push_str("\x1b[0m");
            if *style != Style::Plain {
                out.push_str(&format!("\x1b[{}m", style.sgr_parameters()));
            }
            current = *style;
        }
        out.push(*c);
    }
    if current != Style::Plain {
        out.push_str("\x1b[0m");
    }
    out
}

/// One line: line ends and tabs are escaped too.
pub fn escaped_line(text: &str) -> String {
    escaped(text, false)
}

/// Several lines: line ends stay, tabs become blanks.
pub fn escaped_lines(text: &str) -> String {
    escaped(&text.replace("\r\n", "\n").replace('\t', "    "), true)
}

/// JSON text: characters that JSON leaves unescaped are escaped as `\u…`, which means the same to every reader.
pub fn escaped_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !must_escape(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

fn escaped(text: &str, keep_line_ends: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' if keep_line_ends => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if must_escape(c) && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if must_escape(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Control characters (a UTF-8 terminal obeys those of C1, too), and what would hide or reorder text.
fn must_escape(c: char) -> bool {
    c.is_control() || is_deceptive(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(lines: &[StyledText]) -> Vec<String> {
        lines.iter().map(|line| to_ansi(line, false)).collect()
    }

    #[test]
    fn lines_break_between_words_and_by_columns() {
        assert_eq!(words(&wrapped(&styled("one two three", Style::Plain), 7)), ["one two", "three"]);
        assert_eq!(words(&wrapped(&styled("a\n\nb", Style::Plain), 7)), ["a", "", "b"]);
        assert_eq!(words(&wrapped(&styled("abcdefghij", Style::Plain), 4)), ["abcd", "efgh", "ij"]);
        // Each of these takes two columns.
        assert_eq!(words(&wrapped(&styled("日本日本", Style::Plain), 5)), ["日本", "日本"]);
        assert_eq!(words(&cut(wrapped(&styled("abcdefghij", Style::Plain), 4), 2, 4)), ["abcd", "efg…"]);
    }

    #[test]
    fn broken_code_is_the_same_code() {
        let code = "psql \"host=db.example.com port=5432 dbname=asset_service_db\" --set=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let lines = words(&break_code(code, 30));
        assert!(lines.iter().all(|line| line.chars().count() <= 30), "{lines:#?}");
        assert_eq!(lines.join("\n").replace("\\\n", ""), code);
    }

    #[test]
    fn colours_end_with_their_line() {
        let line = [styled("CRITICAL:", Style::Critical), styled(" now", Style::Plain)].concat();
        assert_eq!(to_ansi(&line, true), "\x1b[0m\x1b[1;31mCRITICAL:\x1b[0m now");
        assert_eq!(to_ansi(&line, false), "CRITICAL: now");
    }

    const EVIL: &str = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\r\n\te\u{7f}\u{7}";

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(escaped_line(EVIL), r"a\x1b[2Jb\x9b31mc\u{202e}d\r\n\te\x7f\x07");
        assert_eq!(escaped_lines(EVIL), "a\\x1b[2Jb\\x9b31mc\\u{202e}d\n    e\\x7f\\x07");
        assert_eq!(escaped_line("Grüße, 🎉 日本"), "Grüße, 🎉 日本");
    }

    #[test]
    fn json_stays_the_same_value() {
        let text = serde_json::to_string(EVIL).unwrap_or_default();
        let inert = escaped_json(&text);
        assert!(!inert.chars().any(must_escape), "{inert:?}");
        assert_eq!(serde_json::from_str::<String>(&inert).ok().as_deref(), Some(EVIL));
    }
}
