//! The marks of formatting that a copy from a chat keeps around words, around a part of the line and around the line: code, bold,
//! italic, crossed-out.

use super::characters::{LIGHT_MARKS, MARKS};
use super::tokenize::TypedWord;

/// A name, a number or an option's value without marks of italic or crossed-out text around it.
pub(super) fn without_light_marks(name: &str) -> &str {
    let inside = name.trim_matches(LIGHT_MARKS);
    if inside.is_empty() { name } else { inside }
}

impl TypedWord {
    /// The mark that the word begins with, outside of quotes.
    fn first_mark(&self, marks: &[char]) -> Option<char> {
        self.unquoted().0.chars().next().filter(|c| marks.contains(c))
    }

    /// The mark that the word ends with, outside of quotes.
    fn last_mark(&self, marks: &[char]) -> Option<char> {
        self.unquoted().1.chars().next_back().filter(|c| marks.contains(c))
    }

    /// The mark that opens at the word. A name may begin with a light one; an option and text in quotes don't.
    fn opening_mark(&self, is_first: bool) -> Option<char> {
        self.first_mark(&MARKS).or_else(|| {
            let behind = self.text.trim_start_matches(MARKS).trim_start_matches(LIGHT_MARKS);
            let is_name =
                !is_first && !self.begins_quoted(&[MARKS, LIGHT_MARKS].concat()) && !behind.starts_with('-');
            self.first_mark(&LIGHT_MARKS).filter(|_| !is_name)
        })
    }
}

/// Strips the marks of formatting around words, and around the line.
pub(super) fn strip_marks(words: &mut Vec<TypedWord>) {
    for (at, word) in words.iter_mut().enumerate() {
        while let Some(mark) = word.opening_mark(at == 0)
            && word.text.len() > mark.len_utf8()
            && word.last_mark(&[mark]).is_some()
        {
            word.strip_first(mark);
            word.text.pop();
        }
    }
    for at in 0..words.len() {
        while let Some(mark) = words[at].opening_mark(at == 0) {
            let is_end = |behind: &usize| words[*behind].last_mark(&[mark]).is_some();
            let Some(behind) = (at + 1..words.len()).find(is_end) else { break };
            words[at].strip_first(mark);
            words[behind].text.pop();
        }
    }
    if let [first, .., last] = &mut words[..] {
        while let Some(mark) =
            first.first_mark(&LIGHT_MARKS).filter(|mark| last.last_mark(&[*mark]).is_some())
        {
            first.strip_first(mark);
            last.text.pop();
        }
    }
    // No name holds a backtick, so one without its partner is left from a copy.
    for word in words.iter_mut() {
        while word.first_mark(&['`']).is_some() {
            word.strip_first('`');
        }
        while word.last_mark(&['`']).is_some() {
            word.text.pop();
        }
    }
    words.retain(|word| !word.is_empty());
}
