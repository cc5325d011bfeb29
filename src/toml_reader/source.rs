//! A text, and the positions of its bytes in their file.

use super::SourcePosition;

/// A text to read: a whole file, or a header inside one.
#[derive(Debug, Clone, Copy)]
pub struct Source<'t> {
    name: &'t str,
    text: &'t str,
    start: SourcePosition,
}

impl<'t> Source<'t> {
    /// A whole file.
    pub fn new(name: &'t str, text: &'t str) -> Self {
        Source { name, text, start: SourcePosition::START }
    }

    /// Sets the position of the text's first character in its file.
    pub fn starting_at(self, start: SourcePosition) -> Self {
        Source { start, ..self }
    }

    pub(super) fn name(&self) -> &'t str {
        self.name
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// The position in the file of a byte of the text.
    pub(super) fn position(&self, offset: usize) -> SourcePosition {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let indent = if line == 0 { self.start.column } else { SourcePosition::START.column };
        SourcePosition { line: self.start.line + line, column: column + indent }
    }
}

/// A value and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub at: SourcePosition,
}
