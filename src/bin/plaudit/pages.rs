//! Lists that are printed a page at a time.

use std::ffi::OsStr;

/// `--limit`, for every subcommand that prints a page.
#[derive(clap::Args)]
pub(crate) struct LimitArg {
    /// At most so many; fewer are the last page
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
}

/// Both halves of the place where a page begins, `WHAT@TIME_MS`.
pub(crate) fn split(place: &OsStr) -> Option<(&[u8], u64)> {
    let bytes = place.as_encoded_bytes();
    let at = bytes.iter().rposition(|byte| *byte == b'@')?;
    let time_ms = std::str::from_utf8(&bytes[at + 1..]).ok()?.parse().ok()?;
    Some((&bytes[..at], time_ms))
}
