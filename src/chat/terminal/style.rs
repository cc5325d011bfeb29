//! Letters with their ink: wrapped and padded by the columns that they take, coloured at the very end. A colour only adds to
//! words.

use unicode_width::UnicodeWidthChar;

/// How a letter is shown.
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
    fn code(self) -> &'static str {
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

/// A line of letters.
pub type StyledText = Vec<(char, Style)>;

/// Text that has been made inert, in one ink.
pub fn inked(text: &str, ink: Style) -> StyledText {
    text.chars().map(|c| (c, ink)).collect()
}

/// The columns that a line takes.
pub fn columns(line: &[(char, Style)]) -> usize {
    line.iter().map(|(c, _)| c.width().unwrap_or(0)).sum()
}

/// Fills a line with blanks, before it or behind it.
pub fn padded(mut line: StyledText, width: usize, right: bool) -> StyledText {
    let blanks = inked(&" ".repeat(width.saturating_sub(columns(&line))), Style::Plain);
    if right {
        [blanks, line].concat()
    } else {
        line.extend(blanks);
        line
    }
}

/// Breaks text into lines of so many columns, between words where it can be.
pub fn wrapped(text: &[(char, Style)], width: usize) -> Vec<StyledText> {
    text.split(|(c, _)| *c == '\n').flat_map(|paragraph| paragraph_lines(paragraph, width.max(1))).collect()
}

fn paragraph_lines(text: &[(char, Style)], width: usize) -> Vec<StyledText> {
    let mut lines = Vec::new();
    let mut line = StyledText::new();
    for word in text.split_inclusive(|(c, _)| *c == ' ') {
        let blank = usize::from(word.last().is_some_and(|(c, _)| *c == ' '));
        if columns(&line) + columns(word) - blank > width && !line.is_empty() {
            lines.push(trimmed(std::mem::take(&mut line)));
        }
        for letter in word {
            if columns(&line) + letter.0.width().unwrap_or(0) > width && letter.0 != ' ' {
                lines.push(trimmed(std::mem::take(&mut line)));
            }
            line.push(*letter);
        }
    }
    lines.push(trimmed(line));
    lines
}

fn trimmed(mut line: StyledText) -> StyledText {
    while line.last().is_some_and(|(c, _)| *c == ' ') {
        line.pop();
    }
    line
}

/// At most so many lines; what is left out shows as "…".
pub fn cut(mut lines: Vec<StyledText>, most: usize, width: usize) -> Vec<StyledText> {
    if lines.len() <= most {
        return lines;
    }
    lines.truncate(most);
    if let Some(last) = lines.last_mut() {
        while columns(last) + 1 > width && !last.is_empty() {
            last.pop();
        }
        last.push(('…', Style::Plain));
    }
    lines
}

/// Code that doesn't fit is continued as a shell continues it, so that copying it keeps it whole.
pub fn continued(text: &str, width: usize) -> Vec<StyledText> {
    let mut lines = Vec::new();
    let mut rest = inked(text, Style::Code);
    while columns(&rest) > width {
        let mut end = 0;
        let mut taken = 0;
        while end < rest.len() {
            taken += rest[end].0.width().unwrap_or(0);
            if taken > width.saturating_sub(1) && end > 0 {
                break;
            }
            end += 1;
        }
        let blank = rest[..end].iter().rposition(|(c, _)| *c == ' ');
        let tail = rest.split_off(blank.map_or(end, |at| at + 1));
        rest.push(('\\', Style::Faint));
        lines.push(std::mem::replace(&mut rest, tail));
    }
    lines.push(rest);
    lines
}

/// The line as text; with colours, its inks as escape sequences.
pub fn written(line: &[(char, Style)], colours: bool) -> String {
    let mut out = String::new();
    let mut now = Style::Plain;
    for (c, ink) in line {
        if colours && *ink != now {
            out.push_str("\x1b[0m");
            if *ink != Style::Plain {
                out.push_str(&format!("\x1b[{}m", ink.code()));
            }
            now = *ink;
        }
        out.push(*c);
    }
    if now != Style::Plain {
        out.push_str("\x1b[0m");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(lines: &[StyledText]) -> Vec<String> {
        lines.iter().map(|line| written(line, false)).collect()
    }

    #[test]
    fn lines_break_between_words_and_by_columns() {
        assert_eq!(words(&wrapped(&inked("one two three", Style::Plain), 7)), ["one two", "three"]);
        assert_eq!(words(&wrapped(&inked("a\n\nb", Style::Plain), 7)), ["a", "", "b"]);
        assert_eq!(words(&wrapped(&inked("abcdefghij", Style::Plain), 4)), ["abcd", "efgh", "ij"]);
        // Each of these takes two columns.
        assert_eq!(words(&wrapped(&inked("日本日本", Style::Plain), 5)), ["日本", "日本"]);
        assert_eq!(words(&cut(wrapped(&inked("abcdefghij", Style::Plain), 4), 2, 4)), ["abcd", "efg…"]);
    }

    #[test]
    fn continued_code_is_the_same_code() {
        let code = "psql \"host=db.example.com port=5432 dbname=asset_service_db\" --set=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let lines = words(&continued(code, 30));
        assert!(lines.iter().all(|line| line.chars().count() <= 30), "{lines:#?}");
        assert_eq!(lines.join("\n").replace("\\\n", ""), code);
    }

    #[test]
    fn colours_end_with_their_line() {
        let line = [inked("CRITICAL:", Style::Critical), inked(" now", Style::Plain)].concat();
        assert_eq!(written(&line, true), "\x1b[0m\x1b[1;31mCRITICAL:\x1b[0m now");
        assert_eq!(written(&line, false), "CRITICAL: now");
    }
}
