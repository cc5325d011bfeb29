//! Text of a person or a database, made harmless: what a terminal would obey, or what would hide or reorder text, is shown
//! escaped, as `\x1b` or `\u{202e}`.

use crate::chat::render::text::is_deceptive;

/// One line: line ends and tabs are escaped too.
pub fn line(text: &str) -> String {
    escaped(text, false)
}

/// Several lines: line ends stay, tabs become blanks.
pub fn lines(text: &str) -> String {
    escaped(&text.replace("\r\n", "\n").replace('\t', "    "), true)
}

/// JSON text: what JSON itself leaves unescaped becomes its `\u009b`, which means the same to every reader.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_obeyed(c) {
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
            c if is_obeyed(c) && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_obeyed(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Control characters (a UTF-8 terminal obeys those of C1, too), and what would hide or reorder text.
fn is_obeyed(c: char) -> bool {
    c.is_control() || is_deceptive(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\r\n\te\u{7f}\u{7}";

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(line(EVIL), r"a\x1b[2Jb\x9b31mc\u{202e}d\r\n\te\x7f\x07");
        assert_eq!(lines(EVIL), "a\\x1b[2Jb\\x9b31mc\\u{202e}d\n    e\\x7f\\x07");
        assert_eq!(line("Grüße, 🎉 日本"), "Grüße, 🎉 日本");
    }

    #[test]
    fn json_stays_the_same_value() {
        let text = serde_json::to_string(EVIL).unwrap_or_default();
        let inert = json(&text);
        assert!(!inert.chars().any(is_obeyed), "{inert:?}");
        assert_eq!(serde_json::from_str::<String>(&inert).ok().as_deref(), Some(EVIL));
    }
}
