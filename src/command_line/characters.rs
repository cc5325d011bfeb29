//! The characters that phones, keyboards of other languages and copies from a chat put in place of those that were meant: quotes,
//! dashes, marks of formatting, characters that can't be seen. Text in quotes keeps all of them.

pub(crate) use crate::redact::quotes::{Quotes, is_double_quote, is_quote};
use crate::sql_lexer;

/// Marks around code and bold text, which a copy from a chat keeps.
pub(super) const MARKS: [char; 2] = ['`', '*'];

/// Marks of italic and crossed-out text. A name of PostgreSQL's may begin with one, but none of ours does.
pub(super) const LIGHT_MARKS: [char; 2] = ['_', '~'];

/// True for a character without a picture that is no control character: of format, a variation selector, or a blank letter.
pub(super) fn is_invisible(c: char) -> bool {
    sql_lexer::is_invisible(c) && !c.is_control() && !c.is_whitespace()
}

/// True for a dash longer than a hyphen: phones make one of two hyphens.
pub(super) fn is_long_dash(c: char) -> bool {
    matches!(
        c,
        '\u{2012}'..='\u{2015}' | '\u{2212}' | '\u{2e3a}' | '\u{2e3b}' | '\u{fe31}' | '\u{fe32}' | '\u{fe58}'
    )
}

/// True for hyphens and minus signs other than ASCII's.
fn is_hyphen(c: char) -> bool {
    matches!(
        c,
        '\u{58a}' | '\u{2d7}' | '\u{2010}' | '\u{2011}' | '\u{2043}' | '\u{207b}' | '\u{208b}' | '\u{fe63}'
    ) || matches!(c, '\u{ff0d}' | '\u{10ead}' | '\u{2796}')
}

/// The character meant by one outside of quotes: every dash is a hyphen, wide letters and digits of other scripts are ASCII's.
pub(super) fn fold(c: char) -> char {
    let digit = |zero: u32| char::from_digit(u32::from(c) - zero, 10).unwrap_or(c);
    match c {
        _ if is_long_dash(c) || is_hyphen(c) => '-',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{660}'..='\u{669}' => digit(0x660),
        '\u{6f0}'..='\u{6f9}' => digit(0x6f0),
        '\u{966}'..='\u{96f}' => digit(0x966),
        c => c,
    }
}
