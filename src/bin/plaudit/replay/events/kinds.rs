//! What a row can say: an amount that is added to a counter, or that a viewer liked or unliked an item.

use std::str::FromStr;

use csv::ByteRecord;
use plaudit::{MAX_TIME_MS, Viewer, ViewerIds};

use crate::human::grouped;

/// The kinds of events, told apart by the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counts,
    Likes,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Counts, Self::Likes];

    /// The columns of an event, in order. The second is the key.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Counts => &["time_ms", "key", "delta"],
            Self::Likes => &["time_ms", "item", "viewer", "action"],
        }
    }

    /// The header, as an error message names it.
    pub(super) fn header(self) -> String {
        self.columns().join(",")
    }
}

/// What an event does to its key.
pub(crate) trait Change: Copy {
    const KIND: Kind;

    /// Reads it from a row that has the columns of its kind. `viewers` is what a viewer can be.
    fn read(row: &ByteRecord, viewers: ViewerIds) -> Result<Self, Unexpected>;
}

/// What is wrong with a row.
pub(crate) struct Unexpected {
    /// The column's index.
    pub(super) column: usize,
    pub(super) expected: String,
}

impl Unexpected {
    fn new(column: usize, expected: impl Into<String>) -> Self {
        Self { column, expected: expected.into() }
    }
}

/// The amount that is added.
impl Change for i64 {
    const KIND: Kind = Kind::Counts;

    fn read(row: &ByteRecord, _: ViewerIds) -> Result<Self, Unexpected> {
        if parse::<i64>(&row[0]).is_none() {
            return Err(Unexpected::new(0, "a time in milliseconds as a whole number of 64 bits"));
        }
        parse(&row[2]).ok_or_else(|| Unexpected::new(2, "a whole number of 64 bits"))
    }
}

/// That a viewer liked an item, or unliked it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Like {
    pub(crate) time_ms: u64,
    pub(crate) viewer: Viewer,
    pub(crate) liked: bool,
}

impl Change for Like {
    const KIND: Kind = Kind::Likes;

    fn read(row: &ByteRecord, viewers: ViewerIds) -> Result<Self, Unexpected> {
        let time_ms = parse(&row[0])
            .filter(|time_ms| *time_ms <= MAX_TIME_MS)
            .ok_or_else(|| Unexpected::new(0, format!("a time in milliseconds from 0 to {}", grouped(MAX_TIME_MS))))?;
        let viewer: Viewer =
            parse(&row[2]).ok_or_else(|| Unexpected::new(2, "a viewer, as a number of 64 bits or a UUID"))?;
        if viewers == ViewerIds::U64 && viewer.as_u64().is_none() {
            return Err(Unexpected::new(2, "a viewer of 64 bits, for which the namespace was created"));
        }
        let liked = match &row[3] {
            b"like" => true,
            b"unlike" => false,
            _ => return Err(Unexpected::new(3, "like or unlike")),
        };
        Ok(Self { time_ms, viewer, liked })
    }
}

fn parse<T: FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}
