//! What a secret, a name or an invisible character looks like. No SQL and no message grammar here.

use crate::sql_lexer::is_invisible;

/// Parts of a name that announce a secret. A help for unquoted text only: quoted literals go whatever stands
/// around.
const SENSITIVE: [&str; 15] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "identified",
    "credential",
    "api_key",
    "apikey",
    "access_key",
    "accesskey",
    "accountkey",
    "private_key",
    "sharedaccess",
];

/// Prefixes of tokens that services hand out.
const ISSUED: [&str; 16] = [
    "eyJ",
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xapp-",
    "sk_live_",
    "sk_test_",
    "SCRAM-SHA-256$",
    "SG.",
];

/// Shorter words that begin like an issued token are names.
const MIN_ISSUED: usize = 16;

/// An MD5 sum, the shortest hash in use, in hexadecimal digits.
const MIN_HASH: usize = 32;

/// Shorter mixtures of letters and digits are names.
const MIN_MIXTURE: usize = 20;

/// Object names are cut to NAMEDATALEN - 1 bytes, so anything longer is no name.
const MAX_NAME: usize = 63;

/// Whether `word` is one of the words of a list, which are separated by spaces.
pub(super) fn listed(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|listed| listed == word)
}

/// The text on one line, without what cannot be seen.
pub(super) fn visible(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    spaced.filter(|c| !is_invisible(*c)).collect()
}

/// Whether a word announces a secret, such as `password` or `some.secret`.
pub(super) fn is_sensitive(word: &str) -> bool {
    sensitive_end(word).is_some()
}

/// The byte behind the first part of `word` that announces a secret.
pub(super) fn sensitive_end(word: &str) -> Option<usize> {
    let lower = word.to_ascii_lowercase();
    SENSITIVE.iter().filter_map(|part| lower.find(part).map(|at| at + part.len())).min()
}

/// A token of a known issuer, or a hash.
pub(super) fn is_issued(word: &str) -> bool {
    let issued = word.len() >= MIN_ISSUED && ISSUED.iter().any(|prefix| word.starts_with(prefix));
    let digits = word.strip_prefix("md5").unwrap_or(word);
    issued
        || digits.len() >= MIN_HASH
            && digits.bytes().all(|b| b.is_ascii_hexdigit())
            && digits.bytes().any(|b| b.is_ascii_digit())
}

/// [`is_issued`], or a long mixture of capitals, small letters and digits as generators make them.
pub(super) fn is_secret(text: &str) -> bool {
    is_issued(text) || text.split(|c: char| !(c.is_ascii_alphanumeric() || "+=".contains(c))).any(is_mixture)
}

fn is_mixture(word: &str) -> bool {
    let mut digit_runs = 0;
    let mut in_digits = false;
    for byte in word.bytes() {
        digit_runs += usize::from(byte.is_ascii_digit() && !in_digits);
        in_digits = byte.is_ascii_digit();
    }
    let has = |test: fn(&u8) -> bool| word.bytes().any(|b| test(&b));
    word.len() >= MIN_MIXTURE
        && (is_issued(word) || digit_runs >= 3 && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase))
}

/// Whether the inside of double quotes can be the name of an object rather than a value in the wrong quotes.
pub(super) fn is_name(inside: &str) -> bool {
    inside.len() <= MAX_NAME && !inside.contains(['@', '=']) && !inside.contains("://") && !is_issued(inside)
}
