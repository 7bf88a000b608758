//! The log: every epoch once, in order, each durable before the next is written.
//!
//! A log is a row of *segments*, files that are preallocated and numbered without gaps. A segment holds
//! *frames*, a frame holds an epoch. [`format`] has the bytes of segments and frames, [`body`] those of an
//! epoch's changes; [`LogWriter`] appends, [`read_segment`] verifies and reads.
//!
//! What the reader relies on, and the writer keeps:
//!
//! - A frame is written only after the frame before it was synced. So a crash leaves at most one incomplete frame,
//!   and it is the last one.
//! - A segment is created only after everything before it was synced, and it names the chain value that it continues.
//! - A segment has its name only once its header is durable. After a crash the next frame goes to a new segment:
//!   nothing is appended behind a torn frame, and no segment number is used for two files that had frames.
//! - The last segment has its full length until it is sealed, so one that was cut short is noticed.
//! - A log that was closed ends with a [`Seal`], which the manifest keeps. An earlier state of the last segment is a
//!   sound log too, and only the manifest can tell that there was more.

use std::path::{Path, PathBuf};

mod body;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod reader;
mod writer;

pub(crate) use body::{BodyEncoder, Group, Record, decode_body};
pub(crate) use reader::{Expected, FrameView, Position, SegmentEnd, read_segment, read_segment_header};
pub(crate) use writer::{LastSegment, LogEnd, LogWriter, OpenSegment, Reserve};

/// The close seal that a log ends with. Its chain value covers all frames before it, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Where it ends in the last segment.
    pub(crate) end: u64,
    /// The last epoch of the log.
    pub(crate) epoch: u64,
    /// The chain value after it.
    pub(crate) chain: u32,
}

/// The file of a segment.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:0DIGITS$}{SUFFIX}"))
}

/// The number of the segment that a file name stands for; `None` for any other name.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Whether a file name is that of a segment in the making.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|name| parse_segment_name(name).is_some())
}

const SUFFIX: &str = ".log";
const DIGITS: usize = 20;

#[cfg(test)]
mod tests;
