//! Where the events come from: a file or standard input, decompressed by the file's ending, with the bytes
//! counted for the progress bar.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::Failure;

/// The name that stands for standard input.
pub(crate) const STANDARD_INPUT: &str = "-";

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
