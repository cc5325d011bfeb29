//! Mistakes in the syntax of TOML: the parser's words, and what to write instead.

use super::{Problem, Source};
use toml::de::Error;

/// Problems shown: what follows the first may be its consequence.
const MAX_SHOWN: usize = 5;

const ONE_LINE: &str = "a line is `key = value`, or a section such as `[slack]`";
const QUOTED: &str = "put text in straight double quotes, such as \"30s\"";

/// A part of the parser's message, and what to write instead.
const ADVICE: [(&str, &str); 11] = [
    (
        "duplicate key",
        "set each key once; where there are several of a kind, begin each with double brackets, such as `[[people]]`",
    ),
    ("carriage return", "save the file with the line ends of Unix or Windows"),
    ("escape", "in \"…\" a backslash is written twice; in '…' it stays as it is"),
    ("basic string", "text begins and ends with a straight double quote, on one line"),
    ("array", "separate the values by commas, and end the list with `]`"),
    ("key-value pairs", "separate the pairs by commas, and end `{` with `}` on the same line"),
    ("inline table", "separate the pairs by commas, and end the table with `}`"),
    ("string values must be quoted", QUOTED),
    ("invalid float", QUOTED),
    ("invalid integer", QUOTED),
    ("key", ONE_LINE),
];

/// The first problem of each line, in the order of the text.
pub(super) fn problems(source: Source<'_>, errors: &[Error]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = errors.iter().map(|error| problem(source, error)).collect();
    problems.sort_by_key(|problem| problem.at);
    problems.dedup_by_key(|problem| problem.at.map(|at| at.line));
    problems.truncate(MAX_SHOWN);
    problems
}

fn problem(source: Source<'_>, error: &Error) -> Problem {
    let offset = error.span().map_or(source.toml.len(), |span| span.start);
    let message = error.message();
    let advice = ADVICE.iter().find(|(words, _)| message.contains(words));
    let message = match advice {
        Some((_, advice)) => format!("{message}: {advice}"),
        None => message.to_owned(),
    };
    source.problem(source.start + offset, message)
}
