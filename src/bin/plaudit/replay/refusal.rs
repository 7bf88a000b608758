//! What can be wrong with a source, and where.

use std::fmt;

use crate::human::{counted, grouped};

/// The columns of an event, in order.
pub(super) const COLUMNS: [&str; 3] = ["time_ms", "key", "delta"];

/// A row that is not an event.
#[derive(Debug, thiserror::Error)]
#[error("{file}, line {line}{}: expected {expected}, found {found}", Column(*column))]
pub(crate) struct BadRow {
    pub(super) file: String,
    pub(super) line: u64,
    /// The column's index, where one column is to blame.
    pub(super) column: Option<usize>,
    pub(super) expected: String,
    pub(super) found: String,
}

/// The source ends before the position that the store has for it.
#[derive(Debug, thiserror::Error)]
#[error("{file} has {}, and the store has already counted {} of it: is it another file?",
    counted(*events, "event"), grouped(*position))]
pub(crate) struct SourceTooShort {
    pub(super) file: String,
    pub(super) events: u64,
    pub(super) position: u64,
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
