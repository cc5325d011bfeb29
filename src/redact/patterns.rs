//! The shapes of secrets and names. No SQL and no message grammar here.

use crate::sql_lexer::is_invisible;
use regex::bytes::{RegexSet, RegexSetBuilder};
use std::sync::LazyLock;

/// Parts of a name that announce a secret. A help for unquoted text only: quoted literals go whatever stands around.
const SENSITIVE: &str = "\
    password passwd passphrase pwd secret token identified credential api_key apikey access_key accesskey \
    accountkey private_key sharedaccess";

/// A shape of text that gives a secret or a person's data away.
pub struct Pattern {
    pub name: &'static str,
    /// The document that describes the shape.
    pub source: &'static str,
    /// `.` is any byte. A message is given word by word, so `^` is the start of a word.
    pub regex: &'static str,
    /// Hides unquoted words and quoted names of a statement, too, not only words of a message.
    pub in_names: bool,
    pub examples: &'static [&'static str],
    /// Similar texts that stay readable.
    pub near_misses: &'static [&'static str],
}

/// The known shapes. A prefix of an issued token counts from 16 characters on: shorter words that begin like one are names.
pub static PATTERNS: [Pattern; 14] = [
    Pattern {
        name: "JSON Web Token",
        source: "https://www.rfc-editor.org/rfc/rfc7519#section-3.1",
        regex: "^eyJ.{13}",
        in_names: true,
        examples: &["eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"],
        near_misses: &["eyJ_short", "keyJournalEntriesByDate"],
    },
    Pattern {
        name: "AWS access key id",
        source: "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html",
        regex: "^A[KS]IA.{12}",
        in_names: true,
        examples: &["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"],
        near_misses: &["AKIA", "sales_ASIA_by_country"],
    },
    Pattern {
        name: "JSON Web Token or AWS access key id as part of a word",
        source: "https://www.rfc-editor.org/rfc/rfc7519#section-3.1",
        regex: "[^0-9A-Za-z+=](?:eyJ[0-9A-Za-z+=]|A[KS]IA)[0-9A-Za-z+=]{16}",
        in_names: false,
        examples: &["jwt/eyJhbGciOiJIUzI1NiJ9", "id_AKIAIOSFODNN7EXAMPLE"],
        near_misses: &["jwt/eyJ_short", "sales_ASIA_by_country"],
    },
    Pattern {
        name: "GitHub token",
        source: "https://github.blog/engineering/behind-githubs-new-authentication-token-formats",
        regex: "^(?:gh[oprsu]_.{12}|github_pat_.{5})",
        in_names: true,
        examples: &["ghp_abcdefghijklmnop", "ghs_abcdefghijklmnop", "github_pat_11ABCDE"],
        near_misses: &["ghp_names", "github_path"],
    },
    Pattern {
        name: "GitLab token",
        source: "https://docs.gitlab.com/security/tokens/#token-prefixes",
        regex: "^glpat-.{10}",
        in_names: true,
        examples: &["glpat-abcdefghijklmnopqrst"],
        near_misses: &["glpat-short"],
    },
    Pattern {
        name: "Slack token",
        source: "https://docs.slack.dev/authentication/tokens",
        regex: "^(?:xox[abeoprs]-|xapp-).{11}",
        in_names: true,
        examples: &["xoxb-123456789012-abcdef", "xoxp-123456789012-abcdef", "xapp-1-A0123456789-abc"],
        near_misses: &["xoxb-short", "xapp-server"],
    },
    Pattern {
        name: "Stripe key",
        source: "https://docs.stripe.com/keys",
        regex: "^[rs]k_(?:live|test)_.{8}",
        in_names: true,
        examples: &["sk_live_abcdefgh", "sk_test_abcdefgh", "rk_live_abcdefgh"],
        near_misses: &["sk_live_x", "task_test_results_table"],
    },
    Pattern {
        name: "SendGrid key",
        source: "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys",
        regex: r"^SG\..{13}",
        in_names: true,
        examples: &["SG.abcdefghijklmnopqrstuv.wxyz"],
        near_misses: &["SG.orders", "MSG.abcdefghijklmnopqrstuv"],
    },
    Pattern {
        name: "PostgreSQL password verifier",
        source: "https://www.postgresql.org/docs/current/catalog-pg-authid.html",
        regex: r"^SCRAM-SHA-256\$.{2}",
        in_names: true,
        examples: &["SCRAM-SHA-256$4096:c2FsdA==$a:b"],
        near_misses: &["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"],
    },
    Pattern {
        name: "hash in hexadecimal digits: MD5, the shortest in use, or longer",
        source: "https://www.rfc-editor.org/rfc/rfc1321#section-3.5",
        regex: "^(?:md5)?[0-9A-Fa-f]{32,}$",
        in_names: true,
        examples: &["5d41402abc4b2a76b9719d911017c592", "md55d41402abc4b2a76b9719d911017c592"],
        near_misses: &["5d41402abc4b2a76", "5d41402abc4b2a76b9719d911017c59z"],
    },
    Pattern {
        name: "hash as part of a word",
        source: "https://www.rfc-editor.org/rfc/rfc1321#section-3.5",
        regex: "(?:^|[^0-9A-Za-z+=])(?:md5)?[0-9A-Fa-f]{32,}(?:$|[^0-9A-Za-z+=])",
        in_names: false,
        examples: &["etag/5d41402abc4b2a76b9719d911017c592.gz"],
        near_misses: &["550e8400-e29b-41d4-a716-446655440000"],
    },
    Pattern {
        name: "payment card number, and any other number of 13 digits or more",
        source: "https://www.iso.org/standard/70484.html",
        regex: "[0-9]{13}",
        in_names: false,
        examples: &["4111111111111111", "card:4111111111111111;"],
        near_misses: &["123456789012", "20241218T120000Z"],
    },
    Pattern {
        name: "e-mail address",
        source: "https://www.rfc-editor.org/rfc/rfc5321#section-4.1.2",
        regex: r"^[^@]*(?u:[\p{Alphabetic}\p{N}._%+-]@[\p{Alphabetic}\p{N}])",
        in_names: false,
        examples: &["jane.doe@example.com", "mailto:jane+x@münchen.de"],
        near_misses: &["“@ben”", "a @> b", "user@"],
    },
    Pattern {
        name: "URL, which may contain a password",
        source: "https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1",
        regex: "://",
        in_names: true,
        examples: &["postgres://user:secret@host/database"],
        near_misses: &["a::text", "http:"],
    },
];

/// The patterns of [`PATTERNS`] in their order. `None` hides everything; a test compiles them.
static COMPILED: LazyLock<Option<RegexSet>> = LazyLock::new(|| {
    let regexes = PATTERNS.iter().map(|pattern| pattern.regex);
    RegexSetBuilder::new(regexes).unicode(false).dot_matches_new_line(true).build().ok()
});

/// The shortest word that a pattern of an issued token or a hash matches.
const MIN_ISSUED: usize = 16;

/// Shorter mixtures of letters and digits are names.
const MIN_MIXTURE: usize = 20;

/// Words of a page's address are shorter.
const MIN_RANDOM: usize = 20;

/// Object names are cut to NAMEDATALEN - 1 bytes, so anything longer is no name.
const MAX_NAME: usize = 63;

/// True for a word of a list, which has spaces between its words.
pub(super) fn listed(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|listed| listed == word)
}

/// The text on one line, without what cannot be seen.
pub(super) fn visible(text: &str) -> String {
    let after_blank = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    after_blank.filter(|c| !is_invisible(*c)).collect()
}

/// True for a word that announces a secret, such as `password` or `some.secret`.
pub(super) fn is_sensitive(word: &str) -> bool {
    sensitive_end(word).is_some()
}

/// The byte behind the first part of `word` that announces a secret.
pub(super) fn sensitive_end(word: &str) -> Option<usize> {
    let lower = word.to_ascii_lowercase();
    SENSITIVE.split_ascii_whitespace().filter_map(|part| Some(lower.find(part)? + part.len())).min()
}

fn matches(text: &str, in_names: bool) -> bool {
    let Some(compiled) = &*COMPILED else { return true };
    let found = compiled.matches(text.as_bytes());
    PATTERNS.iter().zip(0..).any(|(pattern, index)| found.matched(index) && (pattern.in_names || !in_names))
}

/// True for a word or a name of a statement that has the shape of a secret.
pub(super) fn is_secret_word(word: &str) -> bool {
    word.len() >= MIN_ISSUED && matches(word, true)
}

/// True for a text that has the shape of a secret, or contains a long mixture of capitals, small letters and digits as generators
/// make them.
pub(super) fn is_secret(text: &str) -> bool {
    matches(text, false)
        || text.split(|c: char| !(c.is_ascii_alphanumeric() || "+=".contains(c))).any(is_mixture)
}

/// True for a part of an address's path that looks like a secret: also where it is only long, and no words.
pub(super) fn is_secret_segment(segment: &str) -> bool {
    // Slack's links to messages end so: https://slack.com/help/articles/203274767.
    let is_message =
        segment.strip_prefix('p').is_some_and(|ts| ts.len() == 16 && ts.bytes().all(|b| b.is_ascii_digit()));
    let is_random = |word: &str| {
        word.len() >= MIN_RANDOM && word.contains(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase())
    };
    !is_message && (is_secret(segment) || segment.split(|c: char| !c.is_ascii_alphanumeric()).any(is_random))
}

fn is_mixture(word: &str) -> bool {
    let digit_runs = word.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()).count();
    word.len() >= MIN_MIXTURE
        && digit_runs >= 3
        && word.contains(|c: char| c.is_ascii_uppercase())
        && word.contains(|c: char| c.is_ascii_lowercase())
}

/// True where the inside of double quotes can be the name of an object rather than a value in the wrong quotes.
pub(super) fn is_name(inside: &str) -> bool {
    inside.len() <= MAX_NAME && !inside.contains(['@', '=']) && !matches(inside, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_matches_its_examples_and_not_its_near_misses() {
        let compiled = COMPILED.as_ref().expect("the patterns compile");
        for (index, pattern) in PATTERNS.iter().enumerate() {
            let name = pattern.name;
            let matches = |text: &str| compiled.matches(text.as_bytes()).matched(index);
            assert!(pattern.source.starts_with("https://"), "{name}");
            assert!(!pattern.examples.is_empty() && !pattern.near_misses.is_empty(), "{name}");
            for example in pattern.examples {
                assert!(matches(example) && is_secret(example), "{name}: {example}");
                assert_eq!(is_secret_word(example), pattern.in_names, "{name}: {example}");
            }
            for near_miss in pattern.near_misses {
                assert!(!matches(near_miss), "{name}: {near_miss}");
            }
        }
    }
}
