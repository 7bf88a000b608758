//! What can be wrong with the events, and where.

use std::fmt;

/// Why there are no more events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A row that is not an event.
    #[error("{file}, line {line}{}: expected {expected}, found {found}", Place(column.as_ref()))]
    BadRow {
        file: String,
        line: u64,
        /// Where one column is to blame.
        column: Option<Column>,
        expected: String,
        found: String,
    },

    #[error("cannot read {name}")]
    Unreadable { name: String, source: std::io::Error },
}

/// A column of a row.
#[derive(Debug)]
pub(crate) struct Column {
    /// From 0.
    pub(super) index: usize,
    /// None behind those that an event has.
    pub(super) name: Option<&'static str>,
}

/// The column's place in a message.
struct Place<'a>(Option<&'a Column>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(Column { index, name: Some(name) }) => write!(f, ", column {} ({name})", index + 1),
            Some(Column { index, name: None }) => write!(f, ", column {}", index + 1),
        }
    }
}
