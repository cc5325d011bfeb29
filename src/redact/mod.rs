//! Query text and error messages fit for a chat: literals, comments, secrets and long numbers never leave.
//!
//! Total functions. Text that cannot be read with certainty is cut and replaced by `…`: showing too little is
//! a nuisance, showing too much is a leak. Escaping for a chat platform and shortening are the renderer's.

mod message;
pub mod patterns;
#[cfg(test)]
mod property_tests;
mod statement;
#[cfg(test)]
mod tests;

/// The SQL of `sql` on one line, without its data.
///
/// Every string becomes `'?'`, every number of four or more digits `?`, every comment a space. The text may
/// be cut anywhere, as `pg_stat_activity` cuts it at `track_activity_query_size`: a literal or comment
/// without an end, or one whose end depends on `standard_conforming_strings`, takes all that follows with
/// it. Applying it twice changes nothing. <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>
pub fn query(sql: &str) -> String {
    statement::redact(sql)
}

/// An error message of PostgreSQL or of a tool such as `pg_dump`, without data, connection strings and
/// secrets.
///
/// Names in double quotes stay where the message says what they name (`relation "users"`); values in quotes,
/// in `Key (email)=(…)` and in `Failing row contains (…)` go. A statement within a message is treated by
/// [`query`]. Lines stay lines.
pub fn text(message: &str) -> String {
    message::redact(message)
}

/// A message that is too long for memory, read in parts that each end with a line. A value in quotes that one part leaves open is
/// hidden in the next parts, too, up to a line that begins with a label such as `ERROR:`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stream {
    open: bool,
}

impl Stream {
    /// Redacts the next part as [`text`] would.
    pub fn text(&mut self, part: &str) -> String {
        message::redact_part(part, &mut self.open)
    }

    /// Skips a part, which may have left a value open.
    pub fn skip(&mut self) {
        self.open = true;
    }
}
