//! Letters with their ink: wrapped and padded by the columns that they take, coloured at the very end. A colour only adds to
//! words.

use unicode_width::UnicodeWidthChar;

/// How a letter is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    Plain,
    Strong,
    Code,
    /// Small print.
    Faint,
    Good,
    Watch,
    Act,
}

impl Ink {
    /// The parameters of "select graphic rendition" (ECMA-48, 8.3.117).
    fn code(self) -> &'static str {
        match self {
            Ink::Plain => "0",
            Ink::Strong => "1",
            Ink::Code => "36",
            Ink::Faint => "2",
            Ink::Good => "1;32",
            Ink::Watch => "1;33",
            Ink::Act => "1;31",
        }
    }
}

/// A line of letters.
pub type Inked = Vec<(char, Ink)>;

/// Text that has been made inert, in one ink.
pub fn inked(text: &str, ink: Ink) -> Inked {
    text.chars().map(|c| (c, ink)).collect()
}

/// The columns that a line takes.
pub fn columns(line: &[(char, Ink)]) -> usize {
    line.iter().map(|(c, _)| c.width().unwrap_or(0)).sum()
}

/// Fills a line with blanks, before it or behind it.
pub fn padded(mut line: Inked, width: usize, right: bool) -> Inked {
    let blanks = inked(&" ".repeat(width.saturating_sub(columns(&line))), Ink::Plain);
    if right {
        [blanks, line].concat()
    } else {
        line.extend(blanks);
        line
    }
}

/// Breaks text into lines of so many columns, between words where it can be.
pub fn wrapped(text: &[(char, Ink)], width: usize) -> Vec<Inked> {
    text.split(|(c, _)| *c == '\n').flat_map(|paragraph| paragraph_lines(paragraph, width.max(1))).collect()
}

fn paragraph_lines(text: &[(char, Ink)], width: usize) -> Vec<Inked> {
    let mut lines = Vec::new();
    let mut line = Inked::new();
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

fn trimmed(mut line: Inked) -> Inked {
    while line.last().is_some_and(|(c, _)| *c == ' ') {
        line.pop();
    }
    line
}

/// At most so many lines; what is left out shows as "…".
pub fn cut(mut lines: Vec<Inked>, most: usize, width: usize) -> Vec<Inked> {
    if lines.len() <= most {
        return lines;
    }
    lines.truncate(most);
    if let Some(last) = lines.last_mut() {
        while columns(last) + 1 > width && !last.is_empty() {
            last.pop();
        }
        last.push(('…', Ink::Plain));
    }
    lines
}

/// Code that doesn't fit is continued as a shell continues it, so that copying it keeps it whole.
pub fn continued(text: &str, width: usize) -> Vec<Inked> {
    let mut lines = Vec::new();
    let mut rest = inked(text, Ink::Code);
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
        rest.push(('\\', Ink::Faint));
        lines.push(std::mem::replace(&mut rest, tail));
    }
    lines.push(rest);
    lines
}

/// The line as text; with colours, its inks as escape sequences.
pub fn written(line: &[(char, Ink)], colours: bool) -> String {
    let mut out = String::new();
    let mut now = Ink::Plain;
    for (c, ink) in line {
        if colours && *ink != now {
            out.push_str("\x1b[0m");
            if *ink != Ink::Plain {
                out.push_str(&format!("\x1b[{}m", ink.code()));
            }
            now = *ink;
        }
        out.push(*c);
    }
    if now != Ink::Plain {
        out.push_str("\x1b[0m");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(lines: &[Inked]) -> Vec<String> {
        lines.iter().map(|line| written(line, false)).collect()
    }

    #[test]
    fn lines_break_between_words_and_by_columns() {
        assert_eq!(words(&wrapped(&inked("one two three", Ink::Plain), 7)), ["one two", "three"]);
        assert_eq!(words(&wrapped(&inked("a\n\nb", Ink::Plain), 7)), ["a", "", "b"]);
        assert_eq!(words(&wrapped(&inked("abcdefghij", Ink::Plain), 4)), ["abcd", "efgh", "ij"]);
        // Each of these takes two columns.
        assert_eq!(words(&wrapped(&inked("日本日本", Ink::Plain), 5)), ["日本", "日本"]);
        assert_eq!(words(&cut(wrapped(&inked("abcdefghij", Ink::Plain), 4), 2, 4)), ["abcd", "efg…"]);
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
        let line = [inked("Act:", Ink::Act), inked(" now", Ink::Plain)].concat();
        assert_eq!(written(&line, true), "\x1b[0m\x1b[1;31mAct:\x1b[0m now");
        assert_eq!(written(&line, false), "Act: now");
    }
}
