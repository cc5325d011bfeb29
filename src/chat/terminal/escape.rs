//! Text of a person or a database, made harmless: what a terminal would obey, or what would hide or reorder text, is shown
//! escaped, as `\x1b` or `\u{202e}`.

/// One line: line ends and tabs are escaped too.
pub fn line(text: &str) -> String {
    escaped(text, &|_| false)
}

/// Several lines: line ends stay, tabs become blanks.
pub fn lines(text: &str) -> String {
    escaped(&text.replace("\r\n", "\n").replace('\t', "    "), &|c| c == '\n')
}

/// JSON text in which nothing but harmless characters stand as they are. What JSON itself leaves unescaped becomes its
/// `\u009b`, which means the same to whoever reads it.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if obeyed(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

fn escaped(text: &str, keep: &dyn Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if keep(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if obeyed(c) && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if obeyed(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Control characters (a UTF-8 terminal obeys those of C1, too), direction overrides, line separators, and tags, which are
/// letters that nobody sees.
fn obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
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
        assert!(!inert.chars().any(obeyed), "{inert:?}");
        assert_eq!(serde_json::from_str::<String>(&inert).ok().as_deref(), Some(EVIL));
    }
}
