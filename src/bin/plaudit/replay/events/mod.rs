//! CSV text to batches of events, with the exact place of everything that is not an event.
//!
//! Nothing here knows the rest of the command, but for how numbers are written: so the fuzzer can read rows without it.

use std::io::Read;
use std::ops::RangeInclusive;

use csv::{ByteRecord, ErrorKind};
use plaudit::{MAX_KEY_BYTES, ViewerIds};

use crate::human::{counted, grouped};

mod kinds;
mod lines;
mod refusal;

pub(crate) use self::kinds::{Change, Kind, Like};
pub(crate) use self::refusal::Refusal;

use self::kinds::Unexpected;
use self::lines::{Lines, MAX_ROW_BYTES};
use self::refusal::Column;

/// What a bad value is cut to in a message, in bytes.
const SHOWN_BYTES: usize = 40;

/// Consecutive events: their keys in one arena, so that a batch costs two allocations and a row none.
pub(crate) struct EventBatch<C> {
    /// The lines that the events were read from.
    pub(crate) lines: RangeInclusive<u64>,
    /// That of the reader after the last of them.
    pub(crate) fingerprint: u32,
    keys: Vec<u8>,
    rows: Vec<Row<C>>,
}

struct Row<C> {
    key_end: usize,
    change: C,
}

impl<C: Change> EventBatch<C> {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The key of each event and what it does to it, in the order of the source.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], C)> {
        let mut start = 0;
        self.rows.iter().map(move |row| {
            let key = &self.keys[start..row.key_end];
            start = row.key_end;
            (key, row.change)
        })
    }
}

/// Reads events. Every failure is final.
pub(crate) struct EventReader<R> {
    csv: csv::Reader<Lines<R>>,
    record: ByteRecord,
    file: String,
    kind: Kind,
    viewers: ViewerIds,
    fingerprint: u32,
}

impl<R: Read> EventReader<R> {
    /// Reads the header, which tells the kind of the events. `file` is the name in error messages.
    pub(crate) fn new(file: &str, text: R) -> Result<Self, Refusal> {
        let csv = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(Lines::new(text));
        let (file, kind, viewers) = (file.to_owned(), Kind::Counts, ViewerIds::U128);
        let mut reader = Self { csv, record: ByteRecord::new(), file, kind, viewers, fingerprint: 0 };
        let read = reader.read_record()?;
        let is_header = |kind: &Kind| reader.record.iter().eq(kind.columns().iter().map(|name| name.as_bytes()));
        match Kind::ALL.into_iter().find(is_header) {
            Some(kind) => reader.kind = kind,
            None => {
                let fields: Vec<&[u8]> = reader.record.iter().collect();
                let found = if read { shown(&fields.join(&b","[..])) } else { "the end of the file".to_owned() };
                let expected = format!("the header {}", Kind::ALL.map(Kind::header).join(" or "));
                return Err(reader.bad(None, expected, found));
            }
        }
        Ok(reader)
    }

    /// What kind of events there are, each to be read as the [`Change`] of that kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Refuses viewers that are none of these.
    pub(crate) fn only_viewers(&mut self, viewers: ViewerIds) {
        self.viewers = viewers;
    }

    /// Stands for all rows after the header that were read so far, and for where each of their columns ends. It is the
    /// same however the text is compressed and quoted, and however its lines end.
    pub(crate) fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// Passes over so many rows, and answers how many there were.
    pub(crate) fn skip(&mut self, rows: u64) -> Result<u64, Refusal> {
        for row in 0..rows {
            if !self.read_row()? {
                return Ok(row);
            }
        }
        Ok(rows)
    }

    /// The next `size` events, fewer at the end, and none after it.
    pub(crate) fn next_batch<C: Change>(&mut self, size: usize) -> Result<Option<EventBatch<C>>, Refusal> {
        let mut batch = EventBatch { lines: 0..=0, fingerprint: 0, keys: Vec::new(), rows: Vec::new() };
        // A huge batch size must not reserve memory for a small file.
        batch.rows.reserve(size.min(4_096));
        batch.keys.reserve(size.min(4_096) * 24);
        let mut first_line = 0;
        while batch.rows.len() < size && self.read_row()? {
            let change = self.change()?;
            batch.keys.extend_from_slice(&self.record[1]);
            batch.rows.push(Row { key_end: batch.keys.len(), change });
            if batch.rows.len() == 1 {
                first_line = self.csv.get_ref().row_line();
            }
        }
        batch.lines = first_line..=self.csv.get_ref().line();
        batch.fingerprint = self.fingerprint;
        Ok((!batch.rows.is_empty()).then_some(batch))
    }

    fn read_row(&mut self) -> Result<bool, Refusal> {
        let read = self.read_record()?;
        if read {
            // The lengths tell rows apart that have the same bytes in other columns.
            let length = |column| (self.record.get(column).map_or(0, <[u8]>::len) as u64).to_le_bytes();
            let lengths = [0, 1, 2, 3].map(length);
            for bytes in [self.record.as_slice(), lengths[..self.kind.columns().len()].as_flattened()] {
                self.fingerprint = crc32c::crc32c_append(self.fingerprint, bytes);
            }
        }
        Ok(read)
    }

    fn read_record(&mut self) -> Result<bool, Refusal> {
        self.csv.get_mut().start_row();
        self.csv.read_byte_record(&mut self.record).map_err(|error| self.cannot_read(error))
    }

    fn cannot_read(&self, error: csv::Error) -> Refusal {
        let lines = self.csv.get_ref();
        if lines.row_is_too_long() {
            let expected = format!("a row of at most {}", counted(MAX_ROW_BYTES, "byte"));
            return self.bad(None, expected, "a longer one".to_owned());
        }
        let name = format!("{} after line {}", self.file, grouped(lines.line()));
        match error.into_kind() {
            ErrorKind::Io(source) => Refusal::Unreadable { name, source },
            other => Refusal::Unreadable { name, source: std::io::Error::other(format!("{other:?}")) },
        }
    }

    /// Checks the record's columns and answers what the event does.
    fn change<C: Change>(&self) -> Result<C, Refusal> {
        if self.record.len() != C::KIND.columns().len() {
            return Err(self.wrong_number_of_columns());
        }
        let key = &self.record[1];
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            let expected = format!("{} of 1 to {}", with_article(C::KIND.columns()[1]), counted(MAX_KEY_BYTES, "byte"));
            return Err(self.bad(Some(1), expected, counted(key.len(), "byte")));
        }
        let change = C::read(&self.record, self.viewers);
        change.map_err(|Unexpected { column, expected }| self.bad_value(column, expected))
    }

    fn wrong_number_of_columns(&self) -> Refusal {
        let columns = self.kind.columns();
        match columns.get(self.record.len()) {
            Some(missing) => self.bad(Some(self.record.len()), with_article(missing), "the end of the row".into()),
            None => self.bad_value(columns.len(), "the end of the row".to_owned()),
        }
    }

    fn bad_value(&self, column: usize, expected: String) -> Refusal {
        self.bad(Some(column), expected, shown(self.record.get(column).unwrap_or_default()))
    }

    fn bad(&self, column: Option<usize>, expected: String, found: String) -> Refusal {
        let (file, lines) = (self.file.clone(), self.csv.get_ref());
        let named = |index| Column { index, name: self.kind.columns().get(index).copied() };
        // Whatever else is wrong with the row follows from a quote that is not closed.
        if let Some((line, column)) = lines.open_quote() {
            let (expected, found) = ("a closing quote".to_owned(), "none".to_owned());
            return Refusal::BadRow { file, line, column: Some(named(column)), expected, found };
        }
        Refusal::BadRow { file, line: lines.row_line().max(1), column: column.map(named), expected, found }
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// A value in quotes, escaped, and cut when it is long.
fn shown(value: &[u8]) -> String {
    match value.get(..SHOWN_BYTES) {
        Some(start) if value.len() > SHOWN_BYTES => format!("\"{}...\"", start.escape_ascii()),
        _ => format!("\"{}\"", value.escape_ascii()),
    }
}
