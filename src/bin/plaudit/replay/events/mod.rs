//! CSV text to batches of events, with the exact place of everything that is not an event.
//!
//! Nothing here knows the rest of the command, but for how numbers are written: so the fuzzer can read rows without it.

use std::io::Read;
use std::ops::RangeInclusive;

use csv::{ByteRecord, ErrorKind};
use plaudit::MAX_KEY_BYTES;

use crate::human::{counted, grouped};

mod lines;
mod refusal;

pub(crate) use self::refusal::Refusal;

use self::lines::{Lines, MAX_ROW_BYTES};
use self::refusal::COLUMNS;

/// What a bad value is cut to in a message, in bytes.
const SHOWN_BYTES: usize = 40;

/// Consecutive events: their keys in one arena, so that a batch costs two allocations and a row none.
pub(crate) struct EventBatch {
    /// The lines that the events were read from.
    pub(crate) lines: RangeInclusive<u64>,
    /// That of the reader after the last of them.
    pub(crate) fingerprint: u32,
    keys: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    key_end: usize,
    delta: i64,
}

impl EventBatch {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The key and the delta of each event, in the order of the source.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let mut start = 0;
        self.rows.iter().map(move |row| {
            let key = &self.keys[start..row.key_end];
            start = row.key_end;
            (key, row.delta)
        })
    }
}

/// Reads events. Every failure is final.
pub(crate) struct EventReader<R> {
    csv: csv::Reader<Lines<R>>,
    record: ByteRecord,
    file: String,
    fingerprint: u32,
}

impl<R: Read> EventReader<R> {
    /// Reads and checks the header. `file` is the name in error messages.
    pub(crate) fn new(file: &str, text: R) -> Result<Self, Refusal> {
        let csv = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(Lines::new(text));
        let mut reader = Self { csv, record: ByteRecord::new(), file: file.to_owned(), fingerprint: 0 };
        let read = reader.read_record()?;
        if !read || reader.record.iter().ne(COLUMNS.map(str::as_bytes)) {
            let fields: Vec<&[u8]> = reader.record.iter().collect();
            let found = if read { shown(&fields.join(&b","[..])) } else { "the end of the file".to_owned() };
            return Err(reader.bad(None, format!("the header {}", COLUMNS.join(",")), found));
        }
        Ok(reader)
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
    pub(crate) fn next_batch(&mut self, size: usize) -> Result<Option<EventBatch>, Refusal> {
        let mut batch = EventBatch { lines: 0..=0, fingerprint: 0, keys: Vec::new(), rows: Vec::new() };
        // A huge batch size must not reserve memory for a small file.
        batch.rows.reserve(size.min(4_096));
        batch.keys.reserve(size.min(4_096) * 24);
        let mut first_line = 0;
        while batch.rows.len() < size && self.read_row()? {
            let delta = self.delta()?;
            batch.keys.extend_from_slice(&self.record[1]);
            batch.rows.push(Row { key_end: batch.keys.len(), delta });
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
            let lengths = [0, 1, 2].map(length);
            for bytes in [self.record.as_slice(), lengths.as_flattened()] {
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

    /// Checks the record's columns and answers the event's delta.
    fn delta(&self) -> Result<i64, Refusal> {
        if self.record.len() != COLUMNS.len() {
            return Err(self.wrong_number_of_columns());
        }
        if parse(&self.record[0]).is_none() {
            return Err(self.bad_value(0, "a time in milliseconds as a whole number of 64 bits".to_owned()));
        }
        let key = &self.record[1];
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            let expected = format!("a key of 1 to {}", counted(MAX_KEY_BYTES, "byte"));
            return Err(self.bad(Some(1), expected, counted(key.len(), "byte")));
        }
        parse(&self.record[2]).ok_or_else(|| self.bad_value(2, "a whole number of 64 bits".to_owned()))
    }

    fn wrong_number_of_columns(&self) -> Refusal {
        match COLUMNS.get(self.record.len()) {
            Some(missing) => self.bad(Some(self.record.len()), format!("a {missing}"), "the end of the row".into()),
            None => self.bad_value(COLUMNS.len(), "the end of the row".to_owned()),
        }
    }

    fn bad_value(&self, column: usize, expected: String) -> Refusal {
        self.bad(Some(column), expected, shown(self.record.get(column).unwrap_or_default()))
    }

    fn bad(&self, column: Option<usize>, expected: String, found: String) -> Refusal {
        let (file, lines) = (self.file.clone(), self.csv.get_ref());
        // Whatever else is wrong with the row follows from a quote that is not closed.
        if let Some((line, column)) = lines.open_quote() {
            let (expected, found) = ("a closing quote".to_owned(), "none".to_owned());
            return Refusal::BadRow { file, line, column: Some(column), expected, found };
        }
        Refusal::BadRow { file, line: lines.row_line().max(1), column, expected, found }
    }
}

fn parse(field: &[u8]) -> Option<i64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// A value in quotes, escaped, and cut when it is long.
fn shown(value: &[u8]) -> String {
    match value.get(..SHOWN_BYTES) {
        Some(start) if value.len() > SHOWN_BYTES => format!("\"{}...\"", start.escape_ascii()),
        _ => format!("\"{}\"", value.escape_ascii()),
    }
}
