//! Text one line at a time, with the lines counted for the error messages.

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
    row_bytes: usize,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(inner: R) -> Self {
        let inner = BufReader::with_capacity(BUFFER_BYTES, inner);
        Self { inner, line: 0, at_line_start: true, row_bytes: 0 }
    }

    /// The number of the line handed out last, from 1; 0 before the first.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Starts to measure a row against [`MAX_ROW_BYTES`].
    pub(super) fn start_row(&mut self) {
        self.row_bytes = 0;
    }

    /// Whether the row has outgrown [`MAX_ROW_BYTES`]; reading on is refused then.
    pub(super) fn row_is_too_long(&self) -> bool {
        self.row_bytes > MAX_ROW_BYTES
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
        if length > 2 {
            self.row_bytes += length;
        }
        Ok(length)
    }
}
