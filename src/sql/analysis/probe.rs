//! A statement as PostgreSQL can analyse it without executing anything: literals and parameters become NULLs of the same type. Parse
//! analysis calls the input function of a literal's type, `'{x}'::some_domain[]`, and by it a domain's CHECK; it calls none for NULL.

use crate::sql_lexer::{self, SqlError, TokenKind};

/// A literal whose type PostgreSQL infers, as it does for a plain string.
const UNKNOWN_NULL: &str = "NULL::pg_catalog.unknown";

/// The end of type names that a literal may follow, `timestamp with time zone '…'`: types of pg_catalog, whose input functions only
/// compute. A literal behind any other word becomes NULL, which is a syntax error if the word was a type.
const TYPE_WORDS: &str = "bigint bit bool boolean bpchar bytea char character cidr date dec decimal double float float4 float8 inet
    int int2 int4 int8 integer interval json jsonb jsonpath macaddr money name numeric oid pg_lsn precision real regclass regnamespace
    regproc regrole regtype smallint text time timestamp timestamptz timetz tsquery tsvector uuid varbit varchar varying xml zone";

/// The statement with NULLs.
///
/// # Errors
/// A token that could be read in two ways.
pub fn without_values(sql: &str) -> Result<String, SqlError> {
    let tokens = sql_lexer::strict(sql)?;
    let mut probe = String::with_capacity(sql.len() * 2);
    let mut copied = 0;
    let mut keeps = false;
    for (at, token) in tokens.iter().enumerate() {
        let null = match token.kind {
            TokenKind::Parameter => "NULL",
            TokenKind::String => {
                let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
                let is_type = before(1).is_some_and(|token| {
                    token.kind == TokenKind::Word && TYPE_WORDS.split_whitespace().any(|word| token.is(word))
                });
                keeps = is_type && !before(2).is_some_and(|token| token.is_symbol("."));
                if keeps { continue } else { UNKNOWN_NULL }
            }
            TokenKind::Continuation if !keeps => "",
            _ => continue,
        };
        probe.push_str(&sql[copied..token.at]);
        probe.push_str(null);
        copied = token.at + token.text.len();
    }
    probe.push_str(&sql[copied..]);
    Ok(probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_parameters_become_nulls() {
        let unknown = UNKNOWN_NULL;
        for (sql, probe) in [
            ("SELECT 'a''b' /* 'c' */, $1::text", format!("SELECT {unknown} /* 'c' */, NULL::text")),
            ("SELECT 'a'\n'b' || 'c'", format!("SELECT {unknown}\n || {unknown}")),
            ("SELECT '{x}'::public.d[]", format!("SELECT {unknown}::public.d[]")),
            (
                "SELECT interval '1 day', DATE '2026-01-01'",
                "SELECT interval '1 day', DATE '2026-01-01'".to_owned(),
            ),
            ("SELECT public.date '2026-01-01'", format!("SELECT public.date {unknown}")),
            ("SELECT \"date\" '2026-01-01'", format!("SELECT \"date\" {unknown}")),
            ("SELECT a AT TIME ZONE 'UTC' FROM public.t WHERE b = 'c'", {
                format!("SELECT a AT TIME ZONE 'UTC' FROM public.t WHERE b = {unknown}")
            }),
        ] {
            assert_eq!(without_values(sql).unwrap(), probe, "{sql}");
        }
    }
}
