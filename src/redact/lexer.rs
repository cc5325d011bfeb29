//! Cuts query text into tokens the way PostgreSQL's `scan.l` does (11 to 18), in one forward pass.
//!
//! The content of literals and comments never leaves this file: a literal is a bare marker and a comment is
//! a space. Wherever two readings of the text are possible (truncation, `standard_conforming_strings`,
//! server versions that disagree) the lexer answers [`Token::Cut`] and stops; it never guesses and never
//! goes back.

use super::patterns;

/// One token, without the whitespace and comments before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An unquoted identifier or keyword.
    Word(&'a str),
    /// A quoted identifier with its quotes and its `U&`, if any.
    Quoted(&'a str),
    /// A string, bit string or dollar-quoted literal, continuation lines included.
    Literal,
    /// A numeric literal, together with letters that touch it.
    Number(&'a str),
    /// `$1`
    Param(&'a str),
    /// Any other visible ASCII character; operators come one character at a time.
    Symbol(char),
    /// From here on the text cannot be read with certainty. Always the last token.
    Cut,
}

/// A token and whether whitespace or a comment stood before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lexed<'a> {
    pub token: Token<'a>,
    pub space: bool,
}

/// How a backslash reads inside quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backslash {
    /// Plain, `N''`, `B''`, `X''`: depends on a setting nobody shows us.
    Unknown,
    /// `E''`: escapes the next character.
    Escapes,
    /// `U&''`: a code point follows, never a quote.
    CodePoint,
}

pub(super) struct Lexer<'a> {
    src: &'a str,
    at: usize,
    space: bool,
    doubtful: bool,
}

/// The longest local part of an e-mail address (RFC 5321, 4.5.3.1.1), which bounds the look ahead.
const MAX_LOCAL_PART: usize = 64;

impl<'a> Lexer<'a> {
    pub(super) fn new(src: &'a str) -> Self {
        Lexer { src, at: 0, space: false, doubtful: false }
    }

    /// Bytes read so far. Never decreases: that is what makes the pass linear.
    #[cfg(test)]
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.src.as_bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    fn rest(&self) -> &'a str {
        self.src.get(self.at..).unwrap_or("")
    }

    fn take(&mut self, len: usize) -> &'a str {
        let taken = self.src.get(self.at..self.at + len).unwrap_or("");
        self.at += len;
        taken
    }

    fn cut(&mut self) -> Token<'a> {
        self.at = self.src.len();
        Token::Cut
    }

    /// Skips whitespace and comments. True if they may stand between the lines of one continued literal:
    /// at least one newline, and no block comment.
    fn skip_trivia(&mut self) -> bool {
        let (mut newline, mut other) = (false, false);
        loop {
            match self.byte(0) {
                b'\n' | b'\r' => newline = true,
                b' ' | b'\t' | 0x0c => {}
                b'-' if self.byte(1) == b'-' => {
                    let rest = self.rest();
                    self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
                    self.space = true;
                    continue;
                }
                b'/' if self.byte(1) == b'*' => {
                    self.skip_block_comment();
                    self.space = true;
                    other = true;
                    continue;
                }
                // Vertical tab is whitespace from 16 on; other control characters are in no valid statement.
                0x01..=0x1f | 0x7f => other = true,
                _ => return newline && !other,
            }
            self.space = true;
            self.at += 1;
        }
    }

    /// Block comments nest. An unterminated one makes the end of the text doubtful.
    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.src.len() {
            match (self.byte(0), self.byte(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.doubtful = true;
    }

    fn token(&mut self) -> Token<'a> {
        match (self.byte(0), self.byte(1)) {
            (b'\'', _) => self.literal(Backslash::Unknown),
            (b'e' | b'E', b'\'') => self.prefixed(1, Backslash::Escapes),
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'') => self.prefixed(1, Backslash::Unknown),
            (b'u' | b'U', b'&') if self.byte(2) == b'\'' => self.prefixed(2, Backslash::CodePoint),
            (b'u' | b'U', b'&') if self.byte(2) == b'"' => self.quoted(2),
            (b'"', _) => self.quoted(0),
            (b'$', _) => self.dollar(),
            (b'0'..=b'9', _) if !self.email_ahead() => self.number(),
            (b'.', b'0'..=b'9') if !self.in_range() => self.number(),
            (b'A'..=b'Z' | b'a'..=b'z' | b'_' | 0x80.., _) if !self.email_ahead() => self.word(),
            (c, _) if c.is_ascii_graphic() && c != b'\\' && !c.is_ascii_alphanumeric() => {
                self.at += 1;
                Token::Symbol(char::from(c))
            }
            _ => self.cut(),
        }
    }

    fn prefixed(&mut self, len: usize, backslash: Backslash) -> Token<'a> {
        self.at += len;
        self.literal(backslash)
    }

    /// From the opening quote. Literals separated by a newline are one, and keep the reading of the first.
    fn literal(&mut self, backslash: Backslash) -> Token<'a> {
        loop {
            self.at += 1;
            if !self.skip_to_closing_quote(backslash) {
                return self.cut();
            }
            self.space = false;
            if !(self.skip_trivia() && self.byte(0) == b'\'') {
                return Token::Literal;
            }
        }
    }

    /// Steps over the body and the closing quote; false if there is none or it cannot be told.
    fn skip_to_closing_quote(&mut self, backslash: Backslash) -> bool {
        while self.at < self.src.len() {
            match (self.byte(0), self.byte(1)) {
                (b'\'', b'\'') => self.at += 2,
                (b'\'', _) => {
                    self.at += 1;
                    return true;
                }
                (b'\\', next) => match backslash {
                    Backslash::Escapes => self.at += 2,
                    Backslash::CodePoint if next != b'\'' => self.at += 1,
                    _ => return false,
                },
                (0, _) => return false,
                _ => self.at += 1,
            }
        }
        false
    }

    fn quoted(&mut self, prefix: usize) -> Token<'a> {
        let mut len = prefix + 1;
        loop {
            match self.src.get(self.at + len..).and_then(|rest| rest.find('"')) {
                None => return self.cut(),
                Some(offset) => len += offset + 1,
            }
            if self.byte(len) != b'"' {
                break;
            }
            len += 1;
        }
        Token::Quoted(self.take(len))
    }

    /// `$1`, or `$tag$ … $tag$`. Any other dollar sign is no SQL, or the tag was truncated.
    fn dollar(&mut self) -> Token<'a> {
        let after = self.rest().get(1..).unwrap_or("");
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            return match after.get(digits..).and_then(|rest| rest.chars().next()) {
                Some(next) if starts_identifier(next) => self.cut(),
                _ => Token::Param(self.take(1 + digits)),
            };
        }
        let tag = identifier_length(after, |c| c != '$');
        if after.as_bytes().get(tag) != Some(&b'$') {
            return self.cut();
        }
        let delimiter = self.take(tag + 2);
        match self.rest().find(delimiter) {
            None => self.cut(),
            Some(body) => {
                self.at += body + delimiter.len();
                Token::Literal
            }
        }
    }

    /// Digits, a point, digits, and every letter that touches them: hexadecimal, exponents, underscores,
    /// junk.
    fn number(&mut self) -> Token<'a> {
        let rest = self.rest();
        let digits = |from: usize| rest.bytes().skip(from).take_while(u8::is_ascii_digit).count();
        let mut len = digits(0);
        if self.byte(len) == b'.' && self.byte(len + 1) != b'.' {
            len += 1;
            len += digits(len);
        }
        let junk = identifier_length(rest.get(len..).unwrap_or(""), |_| true);
        let text = self.take(len + junk);
        // Before 15, `1e5$a$` was a number and the start of a literal; since then it is an error.
        if text.contains('$') { self.cut() } else { Token::Number(text) }
    }

    /// An identifier may hold a dollar sign. Two of them look like a dollar quote that lacks a space before
    /// it.
    fn word(&mut self) -> Token<'a> {
        let len = identifier_length(self.rest(), |_| true);
        let text = self.take(len);
        if text.is_empty() || text.matches('$').count() > 1 { self.cut() } else { Token::Word(text) }
    }

    /// The second point of `1..10`, which is one operator.
    fn in_range(&self) -> bool {
        self.at > 0 && self.src.as_bytes().get(self.at - 1) == Some(&b'.')
    }

    /// An e-mail address somebody forgot to quote.
    fn email_ahead(&self) -> bool {
        let run = self.rest().bytes().take(MAX_LOCAL_PART + 1);
        let local =
            run.take_while(|b| b.is_ascii_alphanumeric() || b"._%+-".contains(b) || *b >= 0x80).count();
        let word = |c: char| c.is_ascii_digit() || starts_identifier(c);
        let (before, after) = self.rest().split_at_checked(local).unwrap_or_default();
        before.ends_with(word) && after.strip_prefix('@').is_some_and(|domain| domain.starts_with(word))
    }
}

/// `ident_start` of scan.l: every byte above ASCII counts as a letter. We leave out what cannot be seen.
fn starts_identifier(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (!c.is_ascii() && !patterns::is_odd(c))
}

/// Length in bytes of the identifier at the start of `text`, 0 if none starts there.
fn identifier_length(text: &str, allowed: impl Fn(char) -> bool) -> usize {
    if !text.starts_with(starts_identifier) {
        return 0;
    }
    let inside = |c: char| (starts_identifier(c) || c.is_ascii_digit() || c == '$') && allowed(c);
    text.find(|c| !inside(c)).unwrap_or(text.len())
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Lexed<'a>;

    fn next(&mut self) -> Option<Lexed<'a>> {
        self.skip_trivia();
        if self.at >= self.src.len() {
            let space = self.space;
            return std::mem::take(&mut self.doubtful).then_some(Lexed { token: Token::Cut, space });
        }
        let space = std::mem::take(&mut self.space);
        Some(Lexed { token: self.token(), space })
    }
}
