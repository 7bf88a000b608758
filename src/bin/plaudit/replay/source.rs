//! Where the events come from: a file or standard input, decompressed by the file's ending, with the bytes
//! counted for the progress bar and the lines counted for the error messages.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::Failure;

/// The name that stands for standard input.
pub(crate) const STANDARD_INPUT: &str = "-";

/// The longest row in bytes. It leaves room for the longest key with every byte of it a quote, doubled;
/// without a limit, one quote that is never closed would gather the rest of the file in memory.
pub(crate) const MAX_ROW_BYTES: usize = 4 * plaudit::MAX_KEY_BYTES;

const BUFFER_BYTES: usize = 1 << 18;

/// An opened source of CSV text.
pub(crate) struct Source {
    /// What error messages call it.
    pub(crate) name: String,
    /// The decompressed text.
    pub(crate) text: Box<dyn Read + Send>,
    /// The size of the file as it lies on disk; none for standard input.
    pub(crate) size: Option<u64>,
    /// How many of those bytes were read so far.
    pub(crate) bytes_read: Arc<AtomicU64>,
}

impl Source {
    /// Opens the file, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        if path.as_os_str() == STANDARD_INPUT {
            let text = Box::new(Counted { inner: io::stdin(), bytes_read: Arc::clone(&bytes_read) });
            return Ok(Self { name: "standard input".to_owned(), text, size: None, bytes_read });
        }
        let name = path.display().to_string();
        let cannot = |action| {
            let name = name.clone();
            move |error| Failure::file(action, name, error)
        };
        let file = File::open(path).map_err(cannot("open"))?;
        let metadata = file.metadata().map_err(cannot("read"))?;
        let size = metadata.is_file().then_some(metadata.len());
        let counted = Counted { inner: file, bytes_read: Arc::clone(&bytes_read) };
        let text: Box<dyn Read + Send> = match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(counted)),
            Some("zst") => Box::new(zstd::Decoder::new(counted).map_err(cannot("decompress"))?),
            _ => Box::new(counted),
        };
        Ok(Self { name, text, size, bytes_read })
    }
}

/// Counts the bytes that pass.
struct Counted<R> {
    inner: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bytes_read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// Hands out text one line at a time. A parser that asks for more only when it has used up what it got is
/// therefore always in the line counted last; the csv crate's own count is late after `\r\n` and early after
/// empty lines.
pub(crate) struct Lines<R> {
    inner: BufReader<R>,
    line: u64,
    at_line_start: bool,
    row_bytes: usize,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(inner: R) -> Self {
        let inner = BufReader::with_capacity(BUFFER_BYTES, inner);
        Self { inner, line: 0, at_line_start: true, row_bytes: 0 }
    }

    /// The number of the line handed out last, from 1; 0 before the first.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Starts to measure a row against [`MAX_ROW_BYTES`].
    pub(crate) fn start_row(&mut self) {
        self.row_bytes = 0;
    }

    /// Whether the row has outgrown [`MAX_ROW_BYTES`]; reading on is refused then.
    pub(crate) fn row_is_too_long(&self) -> bool {
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
