//! Everything that is wrong with a file, said at once: one line each, with file, line and column. Also the words that
//! all of them share: quoting a value, and "did you mean". What a key means is no business of this file.

use std::fmt;

/// A place in a text: lines and columns begin at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    /// Where a text begins.
    pub const START: Position = Position { line: 1, column: 1 };
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the person named it.
    pub file: String,
    /// Absent when the file as a whole is the problem.
    pub at: Option<Position>,
    /// What is wrong and what would be right; never a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(Position { line, column }) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// All that is wrong, in the order of the file; `Display` gives one line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// A single problem.
    pub fn one(problem: Problem) -> Self {
        Problems(vec![problem])
    }

    /// Adds a problem to the end.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds another file's problems to the end.
    pub fn extend(&mut self, others: Problems) {
        self.0.extend(others.0);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Into the order of the text; problems of one place stay in the order in which they were found.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|problem| problem.at);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Characters of a value that a message repeats: enough to find it by.
const QUOTED: usize = 60;

/// A value in backticks, fit for one line: control characters escaped, cut at [`QUOTED`] characters.
pub fn quoted(value: &str) -> String {
    let shown: String = value.chars().take(QUOTED).flat_map(char::escape_debug).collect();
    let more = if value.chars().nth(QUOTED).is_some() { "…" } else { "" };
    format!("`{shown}{more}`")
}

/// The candidate that a misspelt word most likely means: a third of its letters may be wrong, and at least one.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// "; did you mean `x`?", or what there is to choose from.
pub(crate) fn suggestion<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("; did you mean `{candidate}`?"),
        None if candidates.is_empty() => String::new(),
        None => format!("; known here: {}", candidates.join(", ")),
    }
}
