//! Text one line at a time, with the lines counted and the row at hand kept for the error messages.

use std::io::{self, BufRead, BufReader, Read};

/// The longest row in bytes. It leaves room for the longest key with every byte of it a quote, doubled;
/// without a limit, one quote that is never closed would gather the rest of the file in memory.
pub(super) const MAX_ROW_BYTES: usize = 4 * plaudit::MAX_KEY_BYTES;

const BUFFER_BYTES: usize = 1 << 18;

/// Hands out text one line at a time. A parser that asks for more only when it has used up what it got is
/// therefore always in the line counted last; the csv crate's own count is late after `\r\n` and early after
/// empty lines.
pub(super) struct Lines<R> {
    inner: BufReader<R>,
    line: u64,
    at_line_start: bool,
    /// What was handed out of the row, and the line that it begins in.
    row: Vec<u8>,
    row_line: u64,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(inner: R) -> Self {
        let inner = BufReader::with_capacity(BUFFER_BYTES, inner);
        Self { inner, line: 0, at_line_start: true, row: Vec::new(), row_line: 0 }
    }

    /// The number of the line handed out last, from 1; 0 before the first.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Starts a row, to be measured against [`MAX_ROW_BYTES`].
    pub(super) fn start_row(&mut self) {
        self.row.clear();
    }

    /// The line that the row begins in.
    pub(super) fn row_line(&self) -> u64 {
        // A row that a lone carriage return separates from the one before was handed out with it.
        if self.row.is_empty() { self.line } else { self.row_line }
    }

    /// Whether the row has outgrown [`MAX_ROW_BYTES`]; reading on is refused then.
    pub(super) fn row_is_too_long(&self) -> bool {
        self.row.len() > MAX_ROW_BYTES
    }

    /// The line and the index of the column that begin with a quote which the row does not close.
    pub(super) fn open_quote(&self) -> Option<(u64, usize)> {
        let (start, column) = open_quote(&self.row)?;
        let breaks = self.row[..start].iter().filter(|byte| **byte == b'\n').count();
        Some((self.row_line + breaks as u64, column))
    }
}

/// Where the quoted column begins that the text ends in, and its index.
fn open_quote(text: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut column) = (0, 0);
    loop {
        let start = at;
        if text.get(at) == Some(&b'"') {
            let Some(end) = end_of_quotes(text, at + 1) else { return Some((start, column)) };
            at = end;
        }
        at += text[at..].iter().position(|byte| b",\r\n".contains(byte))?;
        column = if text[at] == b',' { column + 1 } else { 0 };
        at += 1;
    }
}

/// Behind the quote that closes the column; two quotes are one in the text.
fn end_of_quotes(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += text[at..].iter().position(|byte| *byte == b'"')? + 1;
        if text.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.row_is_too_long() {
            return Err(io::Error::other("the row is too long"));
        }
        let available = self.inner.fill_buf()?;
        let window = &available[..available.len().min(buffer.len())];
        let ending = window.iter().position(|byte| *byte == b'\n');
        let length = ending.map_or(window.len(), |at| at + 1);
        buffer[..length].copy_from_slice(&window[..length]);
        self.inner.consume(length);
        if self.at_line_start && length > 0 {
            self.line += 1;
            self.at_line_start = false;
        }
        self.at_line_start |= ending.is_some();
        // Empty lines between rows are not part of any row.
        let text = &buffer[..length];
        if !self.row.is_empty() || !text.iter().all(|byte| b"\r\n".contains(byte)) {
            if self.row.is_empty() {
                self.row_line = self.line;
            }
            self.row.extend_from_slice(text);
        }
        Ok(length)
    }
}
