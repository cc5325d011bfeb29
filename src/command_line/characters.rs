//! The characters that phones, keyboards of other languages and copies from a chat put in place of those that were meant: quotes,
//! dashes, marks of formatting, characters that can't be seen. Text in quotes keeps all of them.

pub(crate) use crate::redact::quotes::{Quotes, is_double_quote, is_quote};
use crate::sql_lexer;
use unicode_properties::{GeneralCategory, UnicodeEmoji, UnicodeGeneralCategory};

/// Marks around code and bold text, which a copy from a chat keeps.
pub(super) const MARKS: [char; 2] = ['`', '*'];

/// Marks of italic and crossed-out text. A name of PostgreSQL's may begin with one, but none of ours does.
pub(super) const LIGHT_MARKS: [char; 2] = ['_', '~'];

/// True for a character without a picture that is no control character: of format, a variation selector, or a blank letter; and for
/// the frame of a keycap, which is a digit.
pub(super) fn is_invisible(c: char) -> bool {
    sql_lexer::is_invisible(c) && !c.is_control() && !c.is_whitespace() || c == '\u{20e3}'
}

/// True for a dash longer than a hyphen: phones make one of two hyphens.
pub(super) fn is_long_dash(c: char) -> bool {
    matches!(
        c,
        '\u{2012}'..='\u{2015}' | '\u{2212}' | '\u{2e3a}' | '\u{2e3b}' | '\u{fe31}' | '\u{fe32}' | '\u{fe58}'
    )
}

/// True for every other hyphen, dash and minus sign, and for the lines of boxes that look like them.
fn is_hyphen(c: char) -> bool {
    c.general_category() == GeneralCategory::DashPunctuation
        || matches!(c, '\u{2d7}' | '\u{2043}' | '\u{207b}' | '\u{208b}' | '\u{2212}' | '\u{2796}')
        || matches!(c, '\u{23af}' | '\u{2500}' | '\u{2501}' | '\u{2574}' | '\u{10d6e}')
}

/// True for the sign of a long vowel: a Japanese keyboard writes it where a hyphen is meant. Inside a Japanese word it is a letter.
pub(super) fn is_vowel_sign(c: char) -> bool {
    matches!(c, 'ー' | 'ｰ')
}

/// The character meant by one outside of quotes: every dash is a hyphen, wide letters and digits of other scripts are ASCII's.
pub(super) fn fold(c: char) -> char {
    match c {
        c if c.is_ascii() => c,
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        c if is_hyphen(c) => '-',
        c => decimal_digit(c).unwrap_or(c),
    }
}

/// ASCII's digit for one of any script. Unicode has the ten of a script in a row, from zero on, and rows that follow each other.
/// Source: <https://www.unicode.org/versions/Unicode16.0.0/core-spec/chapter-4/#G124206>.
fn decimal_digit(c: char) -> Option<char> {
    let is_digit = |code: &u32| {
        char::from_u32(*code).is_some_and(|c| c.general_category() == GeneralCategory::DecimalNumber)
    };
    let code = u32::from(c);
    let before = (0..=code).rev().take_while(is_digit).count();
    char::from_digit(u32::try_from(before).ok()?.checked_sub(1)? % 10, 10)
}

/// True for a word that is decoration wherever it stands: an emoji, its code, a sign at the end of a sentence.
pub(super) fn is_decoration(word: &str) -> bool {
    let is_emoji = |c: char| !c.is_ascii() && c.is_emoji_char();
    let code = word.strip_prefix(':').and_then(|word| word.strip_suffix(':'));
    [".", ",", ";", "!", "?", "…", "。"].contains(&word)
        || !word.is_empty() && word.chars().all(is_emoji)
        || code.is_some_and(|code| code.contains(char::is_alphanumeric) && !code.contains('"'))
}

/// True for a word that stands before a command and is none: a decoration, a bullet, a number of a list, somebody's name or a
/// channel's.
pub(super) fn is_before_command(word: &str) -> bool {
    let number = word.strip_suffix(['.', ')']).unwrap_or_default();
    is_decoration(word)
        || word.starts_with(['@', '#'])
        || !word.contains(char::is_alphanumeric)
        || !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
}
