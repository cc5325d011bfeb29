//! The shapes of secrets and names, those of known kinds in `patterns.toml`. No SQL and no message grammar here.

use crate::sql_lexer::is_invisible;
use regex::bytes::{RegexSet, RegexSetBuilder};
use serde::Deserialize;
use std::sync::LazyLock;

/// Parts of a name that announce a secret. A help for unquoted text only: quoted literals go whatever stands around.
const SENSITIVE: &str = "\
    password passwd passphrase passcode pwd secret token identified credential api_key api-key apikey access_key \
    access-key accesskey account_key account-key accountkey private_key private-key auth_key auth-key authkey \
    sharedaccess";

/// Keys that announce a secret if they are the whole word before `=` or `:`. As a part of a name they mean something else.
const SENSITIVE_KEYS: &str = "auth authorization bearer jwt pass passw pin pw sig signature";

/// A shape of text that gives a secret or a person's data away: an entry of `patterns.toml`, which explains its keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(test), expect(dead_code, reason = "a test reads the examples"))]
struct Pattern {
    name: String,
    source: String,
    regex: String,
    in_names: bool,
    examples: Vec<String>,
    near_misses: Vec<String>,
}

#[derive(Deserialize)]
struct Patterns {
    pattern: Vec<Pattern>,
}

/// The patterns, and their expressions in the same order. `None` hides everything; a test compiles them.
static PATTERNS: LazyLock<Option<(Vec<Pattern>, RegexSet)>> = LazyLock::new(|| {
    let Patterns { pattern: patterns } = toml::from_str(include_str!("patterns.toml")).ok()?;
    let regexes = patterns.iter().map(|pattern| &pattern.regex);
    let compiled = RegexSetBuilder::new(regexes).unicode(false).dot_matches_new_line(true).build().ok()?;
    Some((patterns, compiled))
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

/// The byte behind a whole key before `=` or `:` that announces a secret, as in `pass=…` and `x;sig=…`.
pub(super) fn sensitive_key_end(word: &str) -> Option<usize> {
    let key = |end: usize| word[..end].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next();
    let mut ends = word.match_indices(['=', ':']).map(|(end, _)| end);
    ends.find(|end| key(*end).is_some_and(|key| listed(SENSITIVE_KEYS, &key.to_ascii_lowercase())))
}

/// A migration's name behind the time in it, `20241218120000_`: so many digits would be taken for a card's.
pub(super) fn behind_timestamp(word: &str) -> &str {
    let is_time = |time: &str| {
        (time.starts_with("19") || time.starts_with("20"))
            && [(4, 1, 12), (6, 1, 31), (8, 0, 23), (10, 0, 59), (12, 0, 59)].iter().all(
                |(at, least, most)| {
                    time.get(*at..at + 2)
                        .and_then(|two| two.parse::<u8>().ok())
                        .is_some_and(|two| (*least..=*most).contains(&two))
                },
            )
    };
    match word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).split_once('_') {
        Some((time, rest)) if time.len() == 14 && is_time(time) => rest,
        _ => word,
    }
}

fn matches(text: &str, in_names: bool) -> bool {
    let Some((patterns, compiled)) = &*PATTERNS else { return true };
    let found = compiled.matches(text.as_bytes());
    patterns.iter().zip(0..).any(|(pattern, index)| found.matched(index) && (pattern.in_names || !in_names))
}

/// True for a word or a name of a statement that has the shape of a secret.
pub(super) fn is_secret_word(word: &str) -> bool {
    word.len() >= MIN_ISSUED && matches(word, true)
}

/// True for a value that has the shape of an issued secret. A digest may be an identity.
pub(super) fn is_secret_identity(word: &str) -> bool {
    is_secret_word(word) && !word.bytes().all(|b| b.is_ascii_hexdigit())
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
        let (patterns, compiled) = PATTERNS.as_ref().expect("the patterns compile");
        for (index, pattern) in patterns.iter().enumerate() {
            let name = &pattern.name;
            let matches = |text: &str| compiled.matches(text.as_bytes()).matched(index);
            assert!(pattern.source.starts_with("https://"), "{name}");
            assert!(!pattern.examples.is_empty() && !pattern.near_misses.is_empty(), "{name}");
            for example in &pattern.examples {
                assert!(matches(example) && is_secret(example), "{name}: {example}");
                assert_eq!(is_secret_word(example), pattern.in_names, "{name}: {example}");
            }
            for near_miss in &pattern.near_misses {
                assert!(!matches(near_miss), "{name}: {near_miss}");
            }
        }
    }
}
