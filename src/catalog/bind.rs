//! `:'name'` → `$n::text`, outside strings, quoted names, comments and dollar quotes. No other text is replaced.

use crate::sql_lexer::{self, SqlError, SqlToken, TokenKind};

/// A statement with positional parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    pub sql: String,
    /// Each use in order, with its byte offset in the source.
    pub names: Vec<(String, usize)>,
    shifts: Vec<Shift>,
}

/// Offsets of the same text in `sql` and in the source: a pair for each place from which on both agree again.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shift {
    bound: usize,
    source: usize,
}

impl Bound {
    /// The byte offset in the source of that offset in `sql`.
    pub fn source_offset(&self, at: usize) -> usize {
        let shift = self.shifts.iter().rev().find(|shift| shift.bound <= at);
        shift.map_or(at, |shift| shift.source + (at - shift.bound))
    }
}

/// The names in order of their `$n`.
pub fn parameter_order(names: &[(String, usize)]) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for (name, _) in names {
        if !order.contains(name) {
            order.push(name.clone());
        }
    }
    order
}

/// Binds the names of one statement.
///
/// # Errors
/// A quote or a comment is not closed, or a second statement follows.
pub fn bind_names(source: &str) -> Result<Bound, SqlError> {
    let mut bound = Bound { sql: String::with_capacity(source.len()), names: Vec::new(), shifts: Vec::new() };
    let mut end = None;
    let mut tokens = sql_lexer::scan(source).peekable();
    while let Some(token) = tokens.next() {
        if let Some(error) = token.unclosed() {
            return Err(error);
        }
        if token.is_symbol(";") {
            end = Some(token.at);
            bound.shifts.push(Shift { bound: bound.sql.len(), source: token.at + 1 });
            continue;
        }
        if let Some(end) = end.filter(|_| !token.is_trivia()) {
            return Err(SqlError::new(end, "one statement under each title"));
        }
        let name = if token.is_symbol(":") { tokens.peek().and_then(parameter_name) } else { None };
        let Some(name) = name else {
            bound.sql.push_str(token.text);
            continue;
        };
        tokens.next();
        bound.names.push((name.to_owned(), token.at));
        let position =
            parameter_order(&bound.names).iter().position(|known| known == name).unwrap_or_default();
        bound.shifts.push(Shift { bound: bound.sql.len(), source: token.at });
        bound.sql.push_str(&format!("${}::text", position + 1));
        bound.shifts.push(Shift { bound: bound.sql.len(), source: token.at + ":''".len() + name.len() });
    }
    Ok(bound)
}

/// The name in the string that follows a colon, if it is one.
fn parameter_name<'a>(token: &SqlToken<'a>) -> Option<&'a str> {
    let name = token.text.strip_prefix('\'')?.strip_suffix('\'')?;
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (token.kind == TokenKind::String && !name.is_empty() && name.chars().all(valid)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_positions_and_nothing_else_changes() {
        let source =
            "SELECT :'a'::int, ':''no''', \"x:'n'\", $q$ :'q' $q$, $1 -- :'c'\n/* :'d' */ , :'b', :'a' ;";
        let bound = bind_names(source).unwrap();
        let expected = "SELECT $1::text::int, ':''no''', \"x:'n'\", $q$ :'q' $q$, $1 -- :'c'\n/* :'d' */ , $2::text, $1::text ";
        assert_eq!(bound.sql, expected);
        assert_eq!(parameter_order(&bound.names), ["a", "b"]);
        for found in ["::int", "$q$ :'q'", "-- :'c'", "/* :'d'"] {
            let (in_sql, in_source) = (bound.sql.find(found).unwrap(), source.find(found).unwrap());
            assert_eq!(bound.source_offset(in_sql), in_source, "{found}");
        }
    }

    #[test]
    fn a_second_statement_and_open_ends_are_mistakes() {
        assert!(bind_names("SELECT 1; DROP TABLE x").is_err());
        assert!(bind_names("SELECT 'open").is_err());
        assert!(bind_names("SELECT 1; -- done\n").is_ok());
    }
}
