//! The tokenizer of PostgreSQL's SQL, after the server's own `scan.l` (11 to 18): one forward pass, in linear time.
//!
//! [`scan`] cuts a text into tokens without gaps, and marks tokens that server versions, settings or other readers read differently.
//! [`strict`] refuses every mark, for SQL that will run. [`lenient`] ends at the first mark and keeps no literal's content, for SQL
//! that will be shown. The meaning of a token is its caller's business.

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Whitespace and control characters.
    Blank,
    /// A comment with its delimiters.
    Comment,
    /// A string or bit string with its quotes and its prefix. From [`lenient`]: any literal but a number.
    String,
    /// A string on a later line that continues the string before it.
    Continuation,
    /// `$tag$ … $tag$`
    DollarString,
    /// A keyword or an unquoted name.
    Word,
    /// A name in double quotes, with its `U&`, if any.
    QuotedName,
    /// A number, together with the letters that touch it.
    Number,
    /// `$1`
    Parameter,
    /// One character of an operator, a bracket, a comma.
    Symbol,
    /// A character that is never outside quotes. From [`lenient`]: the rest of the text.
    Unreadable,
}

/// The reason why a token's end is uncertain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The text ends inside the token.
    Unclosed,
    /// A backslash, which `standard_conforming_strings` gives its meaning.
    Backslash,
    /// Server versions differ, or a blank may be missing.
    Ambiguous,
}

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlToken<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// Byte offset in the text.
    pub at: usize,
    /// Follows a blank or a comment.
    pub after_blank: bool,
    pub doubt: Option<Doubt>,
}

impl SqlToken<'_> {
    /// True for that keyword, which is given in lower case.
    pub fn is(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// True for that bracket, comma, period or other sign.
    pub fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == TokenKind::Symbol && self.text == symbol
    }

    /// True for what PostgreSQL skips.
    pub fn is_trivia(&self) -> bool {
        matches!(self.kind, TokenKind::Blank | TokenKind::Comment)
    }

    /// The error of a token that the text ends in.
    pub fn unclosed(&self) -> Option<SqlError> {
        let name = match self.kind {
            _ if self.doubt != Some(Doubt::Unclosed) => return None,
            TokenKind::Comment => "comment",
            TokenKind::QuotedName => "quoted name",
            TokenKind::DollarString => "dollar quote",
            _ => "string",
        };
        Some(SqlError::new(self.at, format!("a {name} is not closed")))
    }

    /// The name that PostgreSQL makes of the token: folded unless quoted. `None` for what is no name.
    pub fn name(&self) -> Option<String> {
        match self.kind {
            TokenKind::Word => Some(self.text.to_ascii_lowercase()),
            TokenKind::QuotedName => self.text.get(1..self.text.len() - 1).map(str::to_owned),
            _ => None,
        }
    }
}

/// A mistake in a statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SqlError {
    /// Byte offset in the text.
    pub at: usize,
    pub reason: String,
}

impl SqlError {
    pub fn new(at: usize, reason: impl Into<String>) -> Self {
        SqlError { at, reason: reason.into() }
    }
}

/// Cuts a text into tokens, blanks and comments included.
pub fn scan(sql: &str) -> Scanner<'_> {
    Scanner { sql, at: 0, after_blank: false, continued_backslash: None, newline_after_string: false }
}

/// The tokens of a statement that will run, without blanks and comments. An error is the first token that could be read in two
/// ways, or that the callers' other parsers don't read as PostgreSQL does.
pub fn strict(sql: &str) -> Result<Vec<SqlToken<'_>>, SqlError> {
    let checked = scan(sql).map(|token| strict_error(sql, &token).map_or(Ok(token), Err));
    checked.filter(|token| !token.as_ref().is_ok_and(|token| token.is_trivia())).collect()
}

/// The tokens of a text that will be shown, without blanks, comments and the content of literals.
pub fn lenient(sql: &str) -> impl Iterator<Item = SqlToken<'_>> {
    let mut tokens = scan(sql).peekable();
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut token = tokens.find(|token| !token.is_trivia() || token.doubt.is_some())?;
        if token.kind == TokenKind::DollarString {
            (token.kind, token.text) = (TokenKind::String, "");
        } else if token.kind == TokenKind::String {
            token.text = "";
            let continues = |next: &SqlToken| {
                next.doubt.is_none() && next.is_trivia() || next.kind == TokenKind::Continuation
            };
            while let Some(part) = tokens.next_if(continues) {
                token.doubt = token.doubt.or(part.doubt);
            }
        }
        token.after_blank |= token.kind == TokenKind::Comment;
        if token.doubt.is_some() || token.kind == TokenKind::Unreadable {
            ended = true;
            (token.kind, token.text) = (TokenKind::Unreadable, "");
        }
        Some(token)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backslash {
    /// Plain, `N''`, `B''`, `X''`: depends on a setting.
    Setting,
    /// `E''`: escapes the next character.
    Escapes,
    /// `U&''`: a code point follows, never a quote.
    CodePoint,
}

/// The iterator of [`scan`].
pub struct Scanner<'a> {
    sql: &'a str,
    at: usize,
    after_blank: bool,
    /// How backslashes in the last string are read, while the string may continue.
    continued_backslash: Option<Backslash>,
    /// A newline separates the last string from here.
    newline_after_string: bool,
}

/// The kind of a token, its length in bytes, and its doubt.
type Scanned = (TokenKind, usize, Option<Doubt>);

impl<'a> Iterator for Scanner<'a> {
    type Item = SqlToken<'a>;

    fn next(&mut self) -> Option<SqlToken<'a>> {
        let rest = self.sql.get(self.at..)?;
        let (kind, len, doubt) = self.scan_one(rest, rest.chars().next()?);
        let text = rest.get(..len).unwrap_or(rest);
        let token = SqlToken { kind, text, at: self.at, after_blank: self.after_blank, doubt };
        self.after_blank = token.is_trivia();
        // A block comment or a control character between two strings separates them.
        let separates = match kind {
            TokenKind::Blank => text.contains(|c: char| !c.is_ascii_whitespace()),
            TokenKind::Comment => text.starts_with('/'),
            TokenKind::String | TokenKind::Continuation => false,
            _ => true,
        };
        if separates {
            self.continued_backslash = None;
        } else if kind == TokenKind::Blank {
            self.newline_after_string |= text.contains(['\n', '\r']);
        }
        self.at += text.len();
        Some(token)
    }
}

impl Scanner<'_> {
    fn scan_one(&mut self, rest: &str, first: char) -> Scanned {
        let byte = |at: usize| rest.as_bytes().get(at).copied().unwrap_or(0);
        match (byte(0), byte(1)) {
            (b'-', b'-') => (TokenKind::Comment, rest.find(['\n', '\r']).unwrap_or(rest.len()), None),
            (b'/', b'*') => block_comment(rest),
            (0x01..=b' ' | 0x7f, _) => {
                let blank = |byte: &u8| matches!(byte, 0x01..=b' ' | 0x7f);
                (TokenKind::Blank, rest.bytes().take_while(blank).count(), None)
            }
            (b'\'', _) => self.string(rest, 0, Backslash::Setting),
            (b'e' | b'E', b'\'') => self.string(rest, 1, Backslash::Escapes),
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'') => self.string(rest, 1, Backslash::Setting),
            (b'u' | b'U', b'&') if byte(2) == b'\'' => self.string(rest, 2, Backslash::CodePoint),
            (b'u' | b'U', b'&') if byte(2) == b'"' => quoted_name(rest, 2),
            (b'"', _) => quoted_name(rest, 0),
            (b'$', _) => dollar(rest),
            (b'0'..=b'9', _) => number(rest),
            // The second point of `1..10` belongs to an operator.
            (b'.', b'0'..=b'9') if !self.sql.get(..self.at).is_some_and(|before| before.ends_with('.')) => {
                number(rest)
            }
            _ if starts_identifier(first) => {
                let len = identifier_length(rest, |_| true);
                // Two dollar signs look like a dollar quote without a space before it.
                let dollars = rest.bytes().take(len).filter(|byte| *byte == b'$').count();
                (TokenKind::Word, len, ambiguous_if(dollars > 1))
            }
            _ if first.is_ascii_graphic() && first != '\\' => (TokenKind::Symbol, 1, None),
            _ => (TokenKind::Unreadable, first.len_utf8(), None),
        }
    }

    /// A string with a prefix of so many bytes. A continuation has the reading of the first string.
    fn string(&mut self, rest: &str, prefix: usize, backslash: Backslash) -> Scanned {
        let continued = self.continued_backslash.filter(|_| prefix == 0 && self.newline_after_string);
        let kind = if continued.is_some() { TokenKind::Continuation } else { TokenKind::String };
        let backslash = continued.unwrap_or(backslash);
        self.continued_backslash = Some(backslash);
        self.newline_after_string = false;
        let bytes = rest.as_bytes();
        let mut at = prefix + 1;
        while let Some(byte) = bytes.get(at) {
            at += match (byte, bytes.get(at + 1)) {
                (b'\'', Some(b'\'')) => 2,
                (b'\'', _) => return (kind, at + 1, string_doubt(&rest[..=at], backslash)),
                (b'\\', _) if backslash == Backslash::Escapes => 2,
                _ => 1,
            };
        }
        (kind, rest.len(), Some(Doubt::Unclosed))
    }
}

fn string_doubt(text: &str, backslash: Backslash) -> Option<Doubt> {
    match backslash {
        Backslash::Setting if text.contains('\\') => Some(Doubt::Backslash),
        Backslash::CodePoint if text.contains("\\'") => Some(Doubt::Backslash),
        _ => ambiguous_if(text.contains('\0')),
    }
}

fn ambiguous_if(ambiguous: bool) -> Option<Doubt> {
    ambiguous.then_some(Doubt::Ambiguous)
}

/// Block comments nest.
fn block_comment(rest: &str) -> Scanned {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(pair) = rest.as_bytes().get(at..at + 2) {
        at += 2;
        match pair {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return (TokenKind::Comment, at, None),
            b"*/" => depth -= 1,
            _ => at -= 1,
        }
    }
    (TokenKind::Comment, rest.len(), Some(Doubt::Unclosed))
}

fn quoted_name(rest: &str, prefix: usize) -> Scanned {
    let mut len = prefix + 1;
    while let Some(quote) = rest.get(len..).and_then(|rest| rest.find('"')) {
        len += quote + 1;
        if rest.as_bytes().get(len) != Some(&b'"') {
            return (TokenKind::QuotedName, len, None);
        }
        len += 1;
    }
    (TokenKind::QuotedName, rest.len(), Some(Doubt::Unclosed))
}

/// `$1` or `$tag$ … $tag$`. Any other dollar sign is no SQL.
fn dollar(rest: &str) -> Scanned {
    let after = rest.get(1..).unwrap_or("");
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 {
        let letter_follows = after.get(digits..).is_some_and(|next| next.starts_with(starts_identifier));
        return (TokenKind::Parameter, 1 + digits, ambiguous_if(letter_follows));
    }
    let tag = identifier_length(after, |c| c != '$');
    if after.as_bytes().get(tag) != Some(&b'$') {
        return (TokenKind::Unreadable, 1, None);
    }
    let (delimiter, body) = rest.split_at_checked(tag + 2).unwrap_or((rest, ""));
    match body.find(delimiter) {
        Some(close) => (TokenKind::DollarString, close + 2 * delimiter.len(), None),
        None => (TokenKind::DollarString, rest.len(), Some(Doubt::Unclosed)),
    }
}

/// Digits, a point, digits, and every letter that touches them: hexadecimal, exponents, underscores, junk.
fn number(rest: &str) -> Scanned {
    let mut after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if let Some(fraction) = after.strip_prefix('.').filter(|fraction| !fraction.starts_with('.')) {
        after = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let letters = identifier_length(after, |_| true);
    let text = &rest[..rest.len() - after.len() + letters];
    // Before 15, `1e5$a$` was a number and the start of a literal; since then it is an error.
    (TokenKind::Number, text.len(), ambiguous_if(text.contains('$')))
}

/// `ident_start` of scan.l: every byte above ASCII counts as a letter. Invisible characters are left out.
pub fn starts_identifier(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (!c.is_ascii() && !is_misleading(c))
}

/// Length in bytes of the identifier at the start of `text`, 0 if none starts there.
fn identifier_length(text: &str, allowed: impl Fn(char) -> bool) -> usize {
    if !text.starts_with(starts_identifier) {
        return 0;
    }
    let inside = |c: char| (starts_identifier(c) || c.is_ascii_digit() || c == '$') && allowed(c);
    text.find(|c| !inside(c)).unwrap_or(text.len())
}

/// True for characters that are refused outside quotes: invisible characters, unusual spaces, U+FFFD, and the `…` of redaction.
fn is_misleading(c: char) -> bool {
    is_invisible(c) || c.is_whitespace() || c == '\u{fffd}' || c == '…'
}

/// Controls, bidirectional and other format characters, fillers, variation selectors: drawn as nothing.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
            | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

const UNSUPPORTED_NAME: &str = "U&\"\" and names with a quote in them are refused";
const NOT_POSTGRES: &str = "this character is not PostgreSQL's";
const MISSING_BLANK: &str = "a blank is missing after the number";
const UNUSUAL: &str = "letters beyond a to z and unusual blanks are allowed in quotes only";

fn strict_error(sql: &str, token: &SqlToken) -> Option<SqlError> {
    let text = token.text;
    let after = &sql[token.at + text.len()..];
    let quote = text.find(['\'', '"']).unwrap_or(0);
    let prefixed = sql[..token.at + quote].ends_with(|c: char| c.is_alphanumeric() || "_$&".contains(c));
    let ambiguous = token.doubt == Some(Doubt::Ambiguous);
    let ends_at_return = after.len() > 1 && after.starts_with('\r') && !after.starts_with("\r\n");
    let (offset, reason) = match token.kind {
        TokenKind::Blank => (text.find(|c: char| !" \t\n\r".contains(c))?, UNUSUAL),
        TokenKind::Comment if text.starts_with("--") && ends_at_return => {
            (0, "a carriage return ends a comment for PostgreSQL, and for others it doesn't")
        }
        TokenKind::Comment if text.starts_with("/*") && text[2..].contains("/*") => {
            (0, "a comment inside a comment is refused")
        }
        TokenKind::String | TokenKind::Continuation if prefixed => {
            (quote, "E'', B'', X'', N'' and U&'' are refused: write a plain string")
        }
        TokenKind::QuotedName if prefixed => (quote, UNSUPPORTED_NAME),
        _ if token.doubt == Some(Doubt::Unclosed) => return token.unclosed(),
        TokenKind::QuotedName => (text[1..].find("\"\"")? + 2, UNSUPPORTED_NAME),
        TokenKind::DollarString => (0, "a dollar quote is refused: write a plain string"),
        TokenKind::String | TokenKind::Continuation if ambiguous => (0, "a string can't contain a NUL"),
        TokenKind::Word if ambiguous => (0, "this name looks like a dollar quote: write it in double quotes"),
        TokenKind::Word => (text.find(|c: char| !c.is_ascii())?, UNUSUAL),
        TokenKind::Number if ambiguous || !is_plain_number(text, after) => (0, MISSING_BLANK),
        TokenKind::Parameter if ambiguous => (0, MISSING_BLANK),
        TokenKind::Symbol if ["`", "{", "}"].contains(&text) => (0, NOT_POSTGRES),
        TokenKind::Unreadable if text == "\\" => (0, NOT_POSTGRES),
        TokenKind::Unreadable if text == "$" => (0, "a `$` without a number"),
        TokenKind::Unreadable => (0, UNUSUAL),
        _ => return None,
    };
    Some(SqlError::new(token.at + offset, reason))
}

/// Digits with a point or an exponent, which no letter touches. Servers before 15 read `1x` as two tokens, later ones refuse it.
fn is_plain_number(text: &str, after: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let letters = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    match letters.strip_prefix(['e', 'E']) {
        _ if after.starts_with(['.', '$']) => false,
        None => letters.is_empty(),
        Some("") => after.strip_prefix(['+', '-']).is_some_and(|exponent| {
            let letter = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            digits(exponent) > 0
                && !exponent.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(letter)
        }),
        Some(exponent) => digits(exponent) == exponent.len(),
    }
}
