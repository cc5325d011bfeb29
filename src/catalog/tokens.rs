//! A statement in PostgreSQL's own tokens, as far as it takes to see every call and every verb. It refuses what two readers could
//! read differently, since what is checked here is read again by a parser, and then by the server.

use super::bind::opaque;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A keyword or a name, unquoted.
    Word,
    /// A name in double quotes.
    Quoted,
    /// A literal or a parameter.
    Value,
    /// One character of an operator, a bracket, a comma.
    Sign,
}

/// A token and its byte offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlToken<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    pub at: usize,
}

impl SqlToken<'_> {
    /// Whether it is that keyword; `word` in lower case.
    pub fn is(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether it is that bracket, comma or period.
    pub fn sign(&self, sign: &str) -> bool {
        self.kind == TokenKind::Sign && self.text == sign
    }

    /// The name that PostgreSQL makes of it: folded unless quoted. `None` for what is no name.
    pub fn name(&self) -> Option<String> {
        match self.kind {
            TokenKind::Word => Some(self.text.to_ascii_lowercase()),
            TokenKind::Quoted => Some(self.text[1..self.text.len() - 1].to_owned()),
            _ => None,
        }
    }
}

/// A place and what is wrong there.
pub type LexError = (usize, String);

/// Reads a statement.
///
/// # Errors
/// The first thing that can be read in two ways.
pub fn read(sql: &str) -> Result<Vec<SqlToken<'_>>, LexError> {
    let mut tokens: Vec<SqlToken<'_>> = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let (length, kind) = match opaque(rest).map_err(|why| (at, why))? {
            Some(length) => (length, closed(&rest[..length], before(sql, at)).map_err(|why| (at, why))?),
            None => open(rest, first).map_err(|why| (at, why.to_owned()))?,
        };
        if let Some(kind) = kind {
            tokens.push(SqlToken { kind, text: &rest[..length], at });
        }
        at += length;
    }
    Ok(tokens)
}

/// The character that stands directly before that place.
fn before(sql: &str, at: usize) -> Option<char> {
    sql[..at].chars().next_back()
}

/// A comment, a string, a quoted name or a dollar quote; `None` is nothing.
fn closed(text: &str, before: Option<char>) -> Result<Option<TokenKind>, String> {
    let glued = before.is_some_and(|c| c.is_alphanumeric() || "_$&".contains(c));
    match text.as_bytes().first() {
        Some(b'-') if text.strip_suffix('\r').unwrap_or(text).contains('\r') => {
            Err("a carriage return ends a comment for PostgreSQL, and for others it doesn't".to_owned())
        }
        Some(b'/') if text[2..].contains("/*") => Err("a comment inside a comment is refused".to_owned()),
        Some(b'-' | b'/') => Ok(None),
        Some(b'\'') if glued => {
            Err("E'', B'', X'', N'' and U&'' are refused: write a plain string".to_owned())
        }
        Some(b'\'') => Ok(Some(TokenKind::Value)),
        Some(b'"') if glued || before == Some('"') => {
            Err("U&\"\" and names with a quote in them are refused".to_owned())
        }
        Some(b'"') => Ok(Some(TokenKind::Quoted)),
        _ => Err("a dollar quote is refused: write a plain string".to_owned()),
    }
}

/// What stands in the open: its length, and what it is.
fn open(rest: &str, first: char) -> Result<(usize, Option<TokenKind>), &'static str> {
    let run = |fits: fn(char) -> bool| rest.find(|c: char| !fits(c)).unwrap_or(rest.len());
    match first {
        ' ' | '\t' | '\n' | '\r' => Ok((1, None)),
        'a'..='z' | 'A'..='Z' | '_' => {
            Ok((run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$'), Some(TokenKind::Word)))
        }
        '0'..='9' => number(rest).map(|length| (length, Some(TokenKind::Value))),
        '$' => match rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1) {
            0 => Err("a `$` stands alone"),
            digits => Ok((1 + digits, Some(TokenKind::Value))),
        },
        '\\' | '`' | '{' | '}' => Err("this character is not PostgreSQL's"),
        c if c.is_ascii_graphic() => Ok((1, Some(TokenKind::Sign))),
        _ => Err("letters beyond a to z, and unusual blanks, stand in quotes or not at all"),
    }
}

/// A number's length. Servers before 15 read `1x` as two tokens, later ones refuse it.
fn number(rest: &str) -> Result<usize, &'static str> {
    let mut length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    if let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let count = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if count > 0 {
            length = rest.len() - digits.len() + count;
        }
    }
    match rest[length..].starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
        true => Err("a blank is missing behind the number"),
        false => Ok(length),
    }
}
