//! `:'name'` → `$n::text`, outside strings, quoted identifiers, comments and dollar quotes. No other text is replaced.

/// A statement with positional parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    pub sql: String,
    /// Each use in order, with its byte offset in the source.
    pub names: Vec<(String, usize)>,
    /// Where `sql` and the source part: an offset in each, from which on they go side by side.
    partings: Vec<(usize, usize)>,
}

impl Bound {
    /// The byte offset in the source of what stands there in `sql`.
    pub fn origin(&self, at: usize) -> usize {
        let parting = self.partings.iter().rev().find(|(bound, _)| *bound <= at);
        parting.map_or(at, |(bound, source)| source + (at - bound))
    }
}

/// The names in order of their `$n`.
pub fn distinct(names: &[(String, usize)]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for (name, _) in names {
        if !seen.contains(name) {
            seen.push(name.clone());
        }
    }
    seen
}

/// Binds the names of one statement.
///
/// # Errors
/// Offset and reason: something is not closed, or a second statement follows.
pub fn bind_names(source: &str) -> Result<Bound, (usize, String)> {
    let mut bound =
        Bound { sql: String::with_capacity(source.len()), names: Vec::new(), partings: Vec::new() };
    let mut rest = source;
    let mut ended = None;
    while !rest.is_empty() {
        let at = source.len() - rest.len();
        if let Some(length) = opaque(rest).map_err(|why| (at, why))? {
            bound.sql.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if let Some((name, length)) = named(rest) {
            bound.names.push((name.to_owned(), at));
            bound.partings.push((bound.sql.len(), at));
            let position = distinct(&bound.names).iter().position(|known| known == name).unwrap_or_default();
            bound.sql.push_str(&format!("${}::text", position + 1));
            bound.partings.push((bound.sql.len(), at + length));
            rest = &rest[length..];
            continue;
        }
        let Some(first) = rest.chars().next() else { break };
        match (first, ended) {
            (';', _) => {
                ended = Some(at);
                bound.partings.push((bound.sql.len(), at + 1));
            }
            (c, Some(end)) if !c.is_whitespace() => {
                return Err((end, "one statement under each title".to_owned()));
            }
            _ => bound.sql.push(first),
        }
        rest = &rest[first.len_utf8()..];
    }
    Ok(bound)
}

/// `:'name'` at the start of `rest`: its name and length.
fn named(rest: &str) -> Option<(&str, usize)> {
    let inner = rest.strip_prefix(":'")?;
    let end = inner.find('\'')?;
    let name = &inner[..end];
    let fine = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    fine.then_some((name, end + 3))
}

/// The length of what stands at the start of `rest` and may not be looked into.
pub(super) fn opaque(rest: &str) -> Result<Option<usize>, String> {
    let to = |close: &str, from: usize, what: &str| {
        rest[from..]
            .find(close)
            .map(|at| Some(from + at + close.len()))
            .ok_or_else(|| format!("{what} is not closed"))
    };
    if rest.starts_with("--") {
        return Ok(Some(rest.find('\n').unwrap_or(rest.len())));
    }
    if rest.starts_with("/*") {
        return to("*/", 2, "a comment");
    }
    if rest.starts_with('\'') {
        return to("'", 1, "a string");
    }
    if rest.starts_with('"') {
        return to("\"", 1, "a quoted name");
    }
    if let Some(tail) = rest.strip_prefix('$')
        && let Some(end) = tail.find('$')
        && tail[..end].chars().all(|c| c.is_alphanumeric() || c == '_')
        && !tail.starts_with(|c: char| c.is_ascii_digit())
    {
        let tag = &rest[..end + 2];
        return to(tag, tag.len(), "a dollar quote");
    }
    Ok(None)
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
        assert_eq!(distinct(&bound.names), ["a", "b"]);
        for found in ["::int", "$q$ :'q'", "-- :'c'", "/* :'d'"] {
            let (here, there) = (bound.sql.find(found).unwrap(), source.find(found).unwrap());
            assert_eq!(bound.origin(here), there, "{found}");
        }
    }

    #[test]
    fn a_second_statement_and_open_ends_are_mistakes() {
        assert!(bind_names("SELECT 1; DROP TABLE x").is_err());
        assert!(bind_names("SELECT 'open").is_err());
        assert!(bind_names("SELECT 1; -- done\n").is_ok());
    }
}
