//! Rows as values of Rust. Text is bytes in the encoding of whoever wrote it: `pg_stat_activity.query` has those of another
//! session's database, and SQL_ASCII promises nothing at all. So no text is ever an error: what is no UTF-8 is shown as U+FFFD.
//! Any other mismatch is an error, and never a panic.

use crate::error::Error;
use std::error::Error as StdError;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Column, Row};

/// A row of a result.
#[derive(Debug)]
pub struct PgRow(Row);

/// A value that has not the type that its reader expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("gave a value that can't be read: {column} has the type {type_name}")]
pub struct ColumnError {
    pub column: String,
    pub type_name: String,
}

impl From<ColumnError> for Error {
    fn from(error: ColumnError) -> Error {
        Error::Internal(anyhow::Error::new(error).context("reading a row"))
    }
}

impl From<Row> for PgRow {
    fn from(row: Row) -> PgRow {
        PgRow(row)
    }
}

impl PgRow {
    pub fn columns(&self) -> &[Column] {
        self.0.columns()
    }

    /// The value of a column, by its name or its index from 0.
    ///
    /// # Errors
    /// No such column, another type than the column's, or NULL where `T` is no [`Option`].
    pub fn get<T: ColumnValue>(&self, index: impl RowIndex + std::fmt::Display) -> Result<T, ColumnError> {
        let read = self.0.try_get::<_, T::Wire>(&index);
        read.map(T::from_wire).map_err(|_| self.column_error(&index.to_string()))
    }

    /// True if the column says so: not for NULL, and not if it can't be read.
    pub fn is_true(&self, column: &str) -> bool {
        self.value(column).unwrap_or(false)
    }

    /// The value of a column, for display: `None` for NULL, and if it can't be read.
    pub fn value<T: ColumnValue>(&self, index: impl RowIndex + std::fmt::Display) -> Option<T> {
        self.get::<Option<T>>(index).ok().flatten()
    }

    fn column_error(&self, index: &str) -> ColumnError {
        let is_named = |(at, column): &(usize, &Column)| column.name() == index || at.to_string() == index;
        let column = self.columns().iter().enumerate().find(is_named);
        ColumnError {
            column: column.map_or(index, |(_, column)| column.name()).to_owned(),
            type_name: column.map_or("none", |(_, column)| column.type_().name()).to_owned(),
        }
    }
}

/// Text as the server sent it.
pub struct WireText(String);

impl<'a> FromSql<'a> for WireText {
    fn from_sql(sql_type: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        // Types such as ltree have a byte before their text, which this knows.
        let text = <&str as FromSql>::from_sql(sql_type, bytes);
        Ok(WireText(text.map_or_else(|_| String::from_utf8_lossy(bytes).into_owned(), str::to_owned)))
    }

    fn accepts(sql_type: &Type) -> bool {
        <&str as FromSql>::accepts(sql_type)
    }
}

/// A type that a column can be read as.
pub trait ColumnValue {
    /// The type that tokio-postgres decodes.
    type Wire: for<'a> FromSql<'a>;

    fn from_wire(wire: Self::Wire) -> Self;
}

macro_rules! same_on_the_wire {
    ($($type:ty),*) => {$(
        impl ColumnValue for $type {
            type Wire = $type;

            fn from_wire(wire: $type) -> $type {
                wire
            }
        }
    )*};
}

same_on_the_wire!(bool, i16, i32, i64, u32, f32, f64, jiff::Timestamp);

impl ColumnValue for String {
    type Wire = WireText;

    fn from_wire(wire: WireText) -> String {
        wire.0
    }
}

impl<T: ColumnValue> ColumnValue for Option<T> {
    type Wire = Option<T::Wire>;

    fn from_wire(wire: Option<T::Wire>) -> Option<T> {
        wire.map(T::from_wire)
    }
}

impl<T: ColumnValue> ColumnValue for Vec<T> {
    type Wire = Vec<T::Wire>;

    fn from_wire(wire: Vec<T::Wire>) -> Vec<T> {
        wire.into_iter().map(T::from_wire).collect()
    }
}
