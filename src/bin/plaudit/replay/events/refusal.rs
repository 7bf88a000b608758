//! What can be wrong with the events, and where.

use std::fmt;

/// The columns of an event, in order.
pub(super) const COLUMNS: [&str; 3] = ["time_ms", "key", "delta"];

/// Why there are no more events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A row that is not an event.
    #[error("{file}, line {line}{}: expected {expected}, found {found}", Column(*column))]
    BadRow {
        file: String,
        line: u64,
        /// The column's index, where one column is to blame.
        column: Option<usize>,
        expected: String,
        found: String,
    },

    #[error("cannot read {name}")]
    Unreadable { name: String, source: std::io::Error },
}

/// The column's place in a message.
struct Column(Option<usize>);

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => Ok(()),
            Some(index) => match COLUMNS.get(index) {
                Some(name) => write!(f, ", column {} ({name})", index + 1),
                None => write!(f, ", column {}", index + 1),
            },
        }
    }
}
