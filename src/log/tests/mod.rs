//! The writer and the reader together, on real files.

mod faults;
mod reading;
mod writing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;

use super::format::{FRAME_HEADER_BYTES, FrameHeader, Kind, Place, SEGMENT_HEADER_BYTES};
use super::reader::SegmentEnd;
use super::*;
use crate::storage::{Entry, RealStorage, Storage, StorageFile, StorageLock};
use crate::{Error, Result};

const STORE: u64 = 0x0102_0304_0506_0708;
const SEGMENT_BYTES: u64 = 4096;
const LAST: Position = Position::Last { seal: None };
const EMPTY: LogEnd = LogEnd { next_segment: 1, chain: 0, last_epoch: 0, last: None };

/// Epoch, time, body.
type Frame = (u64, u64, Vec<u8>);

fn real() -> RealStorage {
    RealStorage::new()
}

fn writer_at(dir: &Path, end: LogEnd) -> LogWriter {
    LogWriter::new(Arc::new(real()), dir.to_owned(), STORE, end, SEGMENT_BYTES)
}

fn append(writer: &mut LogWriter, epoch: u64, body: &[u8]) {
    if !writer.has_room(body.len()) {
        writer.create_segment(epoch, body.len(), Reserve::TheBody).unwrap();
    }
    writer.write_frame(epoch, 1000 + epoch, body).unwrap();
    writer.sync().unwrap();
}

fn expected(number: u64, position: Position) -> Expected {
    Expected { store_id: STORE, number, chain: None, last_epoch: 0, position }
}

fn read_as(path: &Path, expected: &Expected) -> Result<(Vec<Frame>, SegmentEnd)> {
    read_from(&real(), path, expected)
}

fn read_from(storage: &dyn Storage, path: &Path, expected: &Expected) -> Result<(Vec<Frame>, SegmentEnd)> {
    let mut frames = Vec::new();
    let end = read_segment(storage, path, expected, &mut |frame| {
        frames.push((frame.epoch, frame.time_ms, frame.body.to_vec()));
        Ok(())
    })?;
    Ok((frames, end))
}

fn read(path: &Path, position: Position) -> Result<(Vec<Frame>, SegmentEnd)> {
    read_as(path, &expected(1, position))
}

/// Reads a log of segments 1 to `last`, as recovery does.
fn read_log(dir: &Path, last: u64) -> Result<(Vec<Frame>, LogEnd, u64)> {
    let (mut frames, mut log_end, mut dropped) = (Vec::new(), EMPTY, 0);
    for number in 1..=last {
        let position = if number == last {
            LAST
        } else {
            let next = read_segment_header(&real(), &segment_path(dir, number + 1), STORE, number + 1)?;
            Position::Before { next_chain: next.prev_chain }
        };
        let (chain, last_epoch) = (Some(log_end.chain), log_end.last_epoch);
        let expected = Expected { store_id: STORE, number, chain, last_epoch, position };
        let (more, end) = read_as(&segment_path(dir, number), &expected)?;
        frames.extend(more);
        let SegmentEnd { last_frame, end, chain, sealed, last_epoch, dropped_bytes, .. } = end;
        let last = Some(LastSegment { number, last_frame, end, sealed });
        log_end = LogEnd { next_segment: number + 1, chain, last_epoch, last };
        dropped += dropped_bytes;
    }
    Ok((frames, log_end, dropped))
}

fn three_bodies() -> [Vec<u8>; 3] {
    [b"first".to_vec(), (0..100).collect(), b"the third body".to_vec()]
}

/// A log of one segment with three frames.
struct Example {
    dir: TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    end: SegmentEnd,
    third: usize,
}

impl Example {
    fn new(close: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer_at(dir.path(), EMPTY);
        for (body, epoch) in three_bodies().iter().zip(1..) {
            append(&mut writer, epoch, body);
        }
        let path = segment_path(dir.path(), 1);
        let (_, open) = read(&path, LAST).unwrap();
        if close {
            writer.close(2000).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let (frames, end) = read(&path, LAST).unwrap();
        assert_eq!(frames.len(), 3);
        Self { dir, path, bytes, frames, end, third: open.last_frame as usize }
    }

    fn read_with(&self, bytes: &[u8], position: Position) -> Result<(Vec<Frame>, SegmentEnd)> {
        read_from(&OneFile(bytes.into()), &self.path, &expected(1, position))
    }

    fn before(&self) -> Position {
        Position::Before { next_chain: self.end.chain }
    }

    /// Flips every bit, and hands what was read to `check` with the byte's offset.
    fn flip_every_bit(&self, position: Position, mut check: impl FnMut(usize, Result<(Vec<Frame>, SegmentEnd)>)) {
        let mut bytes = self.bytes.clone();
        for offset in 0..bytes.len() {
            for bit in 0..8 {
                bytes[offset] ^= 1 << bit;
                check(offset, self.read_with(&bytes, position));
                bytes[offset] ^= 1 << bit;
            }
        }
    }
}

/// A disk whose only file, of whatever name, has these bytes and cannot be changed. It is what makes it cheap to
/// read thousands of damaged copies, and it shows that reading changes nothing.
#[derive(Debug, Clone)]
struct OneFile(Arc<[u8]>);

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Storage for OneFile {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        refused()
    }

    fn create(&self, _: &Path) -> io::Result<Box<dyn StorageFile>> {
        refused()
    }

    fn open(&self, _: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(self.clone()))
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn try_lock(&self, _: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        refused()
    }
}

impl StorageFile for OneFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = self.0.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        refused()
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }
}

fn is_corrupt<T>(result: &Result<T>) -> bool {
    result.as_ref().is_err_and(Error::is_corrupt)
}

#[test]
fn a_segment_has_the_bytes_that_the_grammar_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer_at(dir.path(), LogEnd { chain: 0xaabb_ccdd, last_epoch: 6, ..EMPTY });
    append(&mut writer, 7, b"hello");
    append(&mut writer, 9, b"12345678");
    let bytes = std::fs::read(segment_path(dir.path(), 1)).unwrap();
    let hex: Vec<String> =
        bytes[..64 + 56 + 56].chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    assert_eq!(hex, GOLDEN);
    assert_eq!(bytes.len(), 4096);
    assert!(bytes[176..].iter().all(|&byte| byte == 0));
    assert_eq!(writer.bytes_written(), 176);
}

/// Computed by another program from the grammar.
const GOLDEN: [&str; 11] = [
    "504c4155444c4f470100000000000000",
    "08070605040302010100000000000000",
    "00100000000000000700000000000000",
    "ddccbbaa0000000000000000a9579df0",
    "f745504f010000000500000000000000",
    "0700000000000000ef03000000000000",
    "4cbb719addccbbaa00000000ee1e91e9",
    "68656c6c6f000000f745504f01000000",
    "08000000000000000900000000000000",
    "f1030000000000009a808760ee1e91e9",
    "0000000019691c433132333435363738",
];

#[test]
fn names_of_segments_are_told_from_others() {
    let path = segment_path(Path::new("log"), 42);
    assert_eq!(path, Path::new("log/00000000000000000042.log"));
    assert_eq!(parse_segment_name("00000000000000000042.log"), Some(42));
    assert_eq!(parse_segment_name("18446744073709551615.log"), Some(u64::MAX));
    for other in ["42.log", "18446744073709551616.log", "+0000000000000000042.log", "00000000000000000042.log.tmp"] {
        assert_eq!(parse_segment_name(other), None, "{other}");
    }
}
