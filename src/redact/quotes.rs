//! Quotes of the languages that people write and servers translate their messages to.

const DOUBLE: &[char] = &[
    '"', '“', '”', '„', '‟', '❝', '❞', '❠', '〝', '〞', '〟', '〃', '＂', '″', '‶', '˝', 'ˮ', '״', '⹂', '🙶',
    '🙷', '🙸',
];
const SINGLE: &[char] =
    &['\'', '‘', '’', '‚', '‛', '❛', '❜', '❟', '＇', '´', '′', '‵', 'ʹ', 'ʻ', 'ʼ', 'ʽ', '׳'];
const GUILLEMETS: &[char] = &['«', '»', '《', '》', '⟪', '⟫'];
const SINGLE_GUILLEMETS: &[char] = &['‹', '›', '〈', '〉', '⟨', '⟩', '❮', '❯'];
const CORNERS: &[char] = &['」', '』', '｣', '﹂', '﹄'];

/// A pair of quotes. Of most, either one opens: German writes »…« where French writes «…».
#[derive(Debug, Clone, Copy)]
pub struct Quotes {
    closing: &'static [char],
    /// An apostrophe inside of it looks like its end.
    pub single: bool,
    /// Its language writes blanks inside of it.
    pub spaced: bool,
}

impl Quotes {
    /// The quotes that this character opens.
    pub fn opened_by(open: char) -> Option<Quotes> {
        let quotes = |closing, single, spaced| Some(Quotes { closing, single, spaced });
        match open {
            '「' | '『' | '｢' | '﹁' | '﹃' => quotes(CORNERS, false, false),
            open if GUILLEMETS.contains(&open) => quotes(GUILLEMETS, false, true),
            open if SINGLE_GUILLEMETS.contains(&open) => quotes(SINGLE_GUILLEMETS, false, true),
            open if DOUBLE.contains(&open) => quotes(DOUBLE, false, false),
            open if SINGLE.contains(&open) => quotes(SINGLE, true, false),
            _ => None,
        }
    }

    pub fn is_closed_by(self, c: char) -> bool {
        self.closing.contains(&c)
    }
}

/// True for a character that opens or closes quotes.
pub fn is_quote(c: char) -> bool {
    Quotes::opened_by(c).is_some() || CORNERS.contains(&c)
}

/// True for a double quote of any keyboard.
pub fn is_double_quote(c: char) -> bool {
    DOUBLE.contains(&c)
}
