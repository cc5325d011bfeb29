//! All problems of a file, one line each, with file, line and column.

use std::fmt;

/// A place in a text: lines and columns begin at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePosition {
    pub line: usize,
    pub column: usize,
}

impl SourcePosition {
    /// The start of a text.
    pub const START: SourcePosition = SourcePosition { line: 1, column: 1 };
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the person named it.
    pub file: String,
    /// Absent when the file as a whole is the problem.
    pub at: Option<SourcePosition>,
    /// The mistake and its correction; never a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(SourcePosition { line, column }) => {
                write!(f, "{}:{line}:{column}: {}", self.file, self.message)
            }
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// All mistakes, in the order of the file; `Display` gives one line each.
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

    /// True without any problem.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The problems in their order.
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
