//! The writer and the reader together, on real files.

use super::reader::SegmentEnd;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;

use super::format::{FRAME_HEADER_BYTES, FrameHeader, Kind, Place, SEGMENT_HEADER_BYTES};
use super::*;
use crate::storage::{Entry, RealStorage, Storage, StorageFile, StorageLock};
use crate::{Error, Result};

const STORE: u64 = 0x0102_0304_0506_0708;
const SEGMENT_BYTES: u64 = 4096;
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
            Position::Last
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
        let (_, open) = read(&path, Position::Last).unwrap();
        if close {
            writer.close(2000).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let (frames, end) = read(&path, Position::Last).unwrap();
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

#[test]
fn a_flipped_bit_in_an_open_last_segment_costs_the_last_frame_at_most_and_is_reported() {
    let example = Example::new(false);
    let end = example.end.end as usize;
    example.flip_every_bit(Position::Last, |offset, result| match result {
        Err(error) => assert!(error.is_corrupt() && offset < end, "byte {offset}: {error}"),
        Ok((frames, found)) if offset >= end => {
            assert_eq!((frames, found.end), (example.frames.clone(), example.end.end), "byte {offset}");
            assert!(found.dropped_bytes >= FRAME_HEADER_BYTES as u64, "byte {offset}");
        }
        Ok((frames, found)) => {
            assert!(offset >= example.third, "byte {offset} of an earlier frame was not noticed");
            assert_eq!(frames, example.frames[..2], "byte {offset}");
            assert_eq!(found.dropped_bytes as usize, end - 2 - example.third, "byte {offset}");
        }
    });
}

#[test]
fn a_flipped_bit_in_an_earlier_segment_is_corrupt_or_behind_its_end() {
    for close in [false, true] {
        let example = Example::new(close);
        example.flip_every_bit(example.before(), |offset, result| match result {
            Err(error) => assert!(error.is_corrupt() && offset < example.end.end as usize, "byte {offset}: {error}"),
            Ok(read) => {
                assert!(offset >= example.end.end as usize, "byte {offset} was not noticed");
                assert_eq!(read, (example.frames.clone(), example.end));
            }
        });
    }
}

#[test]
fn a_flipped_bit_in_a_closed_last_segment_is_always_corrupt() {
    let example = Example::new(true);
    assert_eq!(example.bytes.len() as u64, example.end.end);
    example.flip_every_bit(Position::Last, |offset, result| {
        assert!(is_corrupt(&result), "byte {offset}: {result:?}");
    });
}

#[test]
fn a_flipped_bit_never_costs_a_frame_of_a_sealed_segment_that_was_not_cut_yet() {
    let mut example = Example::new(true);
    example.bytes.resize(SEGMENT_BYTES as usize, 0);
    let seal = example.end.last_frame as usize;
    example.flip_every_bit(Position::Last, |offset, result| match result {
        Err(error) => assert!(error.is_corrupt() && offset < seal, "byte {offset}: {error}"),
        Ok((frames, end)) => {
            assert!(offset >= seal, "byte {offset} was not noticed");
            assert_eq!(frames, example.frames);
            assert_eq!(end.sealed, end.dropped_bytes == 0);
        }
    });
}

#[test]
fn a_segment_that_was_cut_short_is_corrupt_unless_only_unused_room_is_missing() {
    for close in [false, true] {
        let example = Example::new(close);
        for len in 0..example.bytes.len() {
            let bytes = &example.bytes[..len];
            let result = example.read_with(bytes, Position::Last);
            assert!(is_corrupt(&result), "last, {len} bytes: {result:?}");
            let result = example.read_with(bytes, example.before());
            if len < example.end.end as usize {
                assert!(is_corrupt(&result), "earlier, {len} bytes: {result:?}");
            } else {
                assert_eq!(result.unwrap(), (example.frames.clone(), example.end));
            }
        }
        let longer = [&example.bytes[..], &[0; 8]].concat();
        assert!(is_corrupt(&example.read_with(&longer, Position::Last)));
    }
}

#[test]
fn a_torn_last_frame_is_dropped_in_whatever_subset_of_sectors_it_arrived() {
    const SECTOR: usize = 512;
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 1);
    let mut writer = writer_at(dir.path(), EMPTY);
    append(&mut writer, 1, b"one");
    append(&mut writer, 2, &[2; 400]);
    let before = std::fs::read(&path).unwrap();
    let (two, _) = read(&path, Position::Last).unwrap();
    append(&mut writer, 3, &[3; 2500]);
    let after = std::fs::read(&path).unwrap();
    let (three, end) = read(&path, Position::Last).unwrap();

    let sectors: Vec<usize> = (end.last_frame as usize / SECTOR..(end.end as usize).div_ceil(SECTOR)).collect();
    for subset in 0..1u32 << sectors.len() {
        let mut bytes = before.clone();
        for (_, sector) in sectors.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            bytes[range.clone()].copy_from_slice(&after[range]);
        }
        std::fs::write(&path, &bytes).unwrap();
        let (frames, end) = read(&path, Position::Last).unwrap();
        if bytes == after {
            assert_eq!((&frames, end.dropped_bytes), (&three, 0));
        } else {
            assert_eq!(frames, two);
            assert_eq!(end.dropped_bytes > 0, bytes != before, "subset {subset:b}");
        }
    }
}

#[test]
fn garbage_behind_the_end_is_a_dropped_tail_with_its_length() {
    let example = Example::new(false);
    let end = example.end.end as usize;
    for (from, to) in [(0, 1), (0, 200), (300, 301), (1000, 4096 - end)] {
        let mut bytes = example.bytes.clone();
        bytes[end + from..end + to].fill(0xf7);
        let (frames, found) = example.read_with(&bytes, Position::Last).unwrap();
        assert_eq!(frames, example.frames);
        assert_eq!(found.dropped_bytes as usize, to.max(FRAME_HEADER_BYTES));
    }
}

#[test]
fn a_frame_that_was_moved_or_repeated_does_not_count_as_one() {
    let example = Example::new(false);
    let (third, end) = (example.third, example.end.end as usize);
    let mut bytes = example.bytes.clone();
    bytes.copy_within(third..end, end);
    let (frames, found) = example.read_with(&bytes, Position::Last).unwrap();
    assert_eq!((frames.len(), found.dropped_bytes > 0), (3, true));
}

#[test]
fn a_frame_that_was_zeroed_is_corrupt_where_it_was_when_a_later_one_stands() {
    let example = Example::new(false);
    let second = SEGMENT_HEADER_BYTES + 56;
    let mut bytes = example.bytes.clone();
    bytes[second..example.third].fill(0);
    let error = example.read_with(&bytes, Position::Last).unwrap_err();
    assert!(matches!(error, Error::Corrupt { offset, .. } if offset == second as u64), "{error}");
}

#[test]
fn a_later_frame_is_found_also_across_two_steps_of_the_search() {
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 1);
    for shift in [0, 8, 24, 40, 48, 56] {
        let mut writer = LogWriter::new(Arc::new(real()), dir.path().to_owned(), STORE, EMPTY, 3 << 20);
        append(&mut writer, 1, &vec![1; (1 << 20) - 2 * FRAME_HEADER_BYTES + shift]);
        append(&mut writer, 2, b"two");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SEGMENT_HEADER_BYTES] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(is_corrupt(&read(&path, Position::Last)), "shift {shift}");
    }
}

#[test]
fn a_frame_of_another_chain_is_corrupt() {
    let example = Example::new(false);
    let offset = example.end.end;
    let (body_crc, prev_chain) = (crc32c::crc32c(b""), example.end.chain ^ 1);
    let header = FrameHeader { kind: Kind::Epoch, body_len: 0, epoch: 4, time_ms: 0, body_crc, prev_chain };
    let (bytes, _) = header.encode(Place { store_id: STORE, segment: 1, offset });
    let mut file = example.bytes.clone();
    file[offset as usize..][..FRAME_HEADER_BYTES].copy_from_slice(&bytes);
    assert!(is_corrupt(&example.read_with(&file, Position::Last)));
}

#[test]
fn epochs_that_do_not_ascend_are_corrupt() {
    let example = Example::new(true);
    let late = |last_epoch| Expected { last_epoch, ..expected(1, Position::Last) };
    assert!(read_as(&example.path, &late(0)).is_ok());
    assert!(is_corrupt(&read_as(&example.path, &late(1))));
}

#[test]
fn a_segment_of_another_store_number_chain_or_version_is_refused() {
    let example = Example::new(false);
    let right = expected(1, Position::Last);
    let refused = |expected| read_as(&example.path, &expected);
    assert!(is_corrupt(&refused(Expected { store_id: STORE + 1, ..right })));
    assert!(is_corrupt(&refused(Expected { number: 2, ..right })));
    assert!(is_corrupt(&refused(Expected { chain: Some(1), ..right })));
    assert!(refused(Expected { chain: Some(0), ..right }).is_ok());

    let mut newer = example.bytes.clone();
    newer[8] = 2;
    assert!(is_corrupt(&example.read_with(&newer, Position::Last)));
    let checksum = crc32c::crc32c(&newer[..SEGMENT_HEADER_BYTES - 4]);
    newer[SEGMENT_HEADER_BYTES - 4..SEGMENT_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    let error = example.read_with(&newer, Position::Last).unwrap_err();
    assert!(matches!(error, Error::UnsupportedVersion { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn an_error_of_the_visitor_comes_back() {
    let example = Example::new(false);
    let refuse = &mut |frame: FrameView<'_>| Err(Error::corrupt(&example.path, frame.body_offset(), "body"));
    let error = read_segment(&real(), &example.path, &expected(1, Position::Last), refuse).unwrap_err();
    assert!(matches!(error, Error::Corrupt { offset: 112, .. }), "{error}");
}

#[test]
fn a_frame_larger_than_a_segment_gets_a_segment_of_its_size_with_room_for_the_seal() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer_at(dir.path(), EMPTY);
    let large = vec![7; 3_000_000];
    append(&mut writer, 1, b"small");
    append(&mut writer, 2, &large);
    assert!(!writer.has_room(5000));
    writer.close(0).unwrap();
    let (frames, end, dropped) = read_log(dir.path(), 2).unwrap();
    assert_eq!(frames.iter().map(|frame| frame.2.len()).collect::<Vec<_>>(), [5, 3_000_000]);
    assert!(end.last.unwrap().sealed && dropped == 0);
    assert_eq!(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), 64 + 56);
}

#[test]
fn a_segment_keeps_room_for_the_seal() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer_at(dir.path(), EMPTY);
    assert!(!writer.has_room(0));
    writer.create_segment(1, 0, Reserve::TheBody).unwrap();
    let room = SEGMENT_BYTES as usize - SEGMENT_HEADER_BYTES - 2 * FRAME_HEADER_BYTES;
    assert!(writer.has_room(room) && !writer.has_room(room + 1) && !writer.has_room(usize::MAX));
    assert!(writer.write_frame(1, 0, &vec![0; room + 1]).is_err());
    append(&mut writer, 1, &vec![1; room]);
    writer.close(0).unwrap();
    assert_eq!(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), SEGMENT_BYTES);
    assert!(read_log(dir.path(), 1).unwrap().1.last.unwrap().sealed);
}

#[test]
fn damaged_padding_never_costs_an_intact_last_frame() {
    let example = Example::new(false);
    let mut bytes = example.bytes.clone();
    let last = example.end.end as usize - 1;
    bytes[last] = 1;
    let error = example.read_with(&bytes, Position::Last).unwrap_err();
    assert!(matches!(error, Error::Corrupt { offset, .. } if offset == last as u64 - 1), "{error}");
}

#[test]
fn a_log_goes_on_after_a_crash_with_a_torn_tail_and_after_a_close() {
    let example = Example::new(false);
    let dir = example.dir.path();
    let mut torn = example.bytes.clone();
    torn[example.third + FRAME_HEADER_BYTES] ^= 1;
    std::fs::write(&example.path, &torn).unwrap();

    let (frames, end, dropped) = read_log(dir, 1).unwrap();
    assert_eq!((frames.len(), end.last_epoch, dropped > 0), (2, 2, true));
    let mut writer = writer_at(dir, end);
    assert!(!writer.has_room(1) && writer.next_segment() == 2);
    append(&mut writer, 3, b"again");
    writer.close(0).unwrap();
    writer.close(0).unwrap();

    let (_, end, dropped) = read_log(dir, 2).unwrap();
    assert!(end.last.unwrap().sealed && dropped == 0);
    let mut writer = writer_at(dir, end);
    append(&mut writer, 4, b"and again");
    let (frames, end, _) = read_log(dir, 3).unwrap();
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(!end.last.unwrap().sealed);
}

#[test]
fn a_close_seals_a_segment_that_recovery_found_open_over_its_torn_tail() {
    let example = Example::new(false);
    let dir = example.dir.path();
    let mut torn = example.bytes.clone();
    torn[example.third] ^= 1;
    std::fs::write(&example.path, &torn).unwrap();
    let (_, end, _) = read_log(dir, 1).unwrap();
    writer_at(dir, end).close(0).unwrap();
    let (frames, end, dropped) = read_log(dir, 1).unwrap();
    assert_eq!((frames.len(), end.last_epoch, dropped), (2, 2, 0));
    assert!(end.last.unwrap().sealed);
}

#[test]
fn a_close_seals_a_segment_without_frames_and_one_that_was_ended() {
    let dir = tempfile::tempdir().unwrap();
    writer_at(dir.path(), EMPTY).close(0).unwrap();
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    let mut writer = writer_at(dir.path(), LogEnd { last_epoch: 6, ..EMPTY });
    writer.create_segment(7, 0, Reserve::TheBody).unwrap();
    writer.end_segment();
    assert!(!writer.has_room(0));
    writer.close(0).unwrap();
    let (frames, end, _) = read_log(dir.path(), 1).unwrap();
    assert_eq!((frames.len(), end.last_epoch, end.last.unwrap().sealed), (0, 6, true));
    let later = Expected { last_epoch: 7, ..expected(1, Position::Last) };
    assert!(is_corrupt(&read_as(&segment_path(dir.path(), 1), &later)));
}

/// A disk that notes every change, and fails the chosen one some times.
#[derive(Debug, Default, Clone)]
struct Disk(Arc<Mutex<Faults>>);

#[derive(Debug, Default)]
struct Faults {
    calls: Vec<&'static str>,
    fail: Option<(&'static str, u32)>,
}

impl Disk {
    fn call(&self, name: &'static str) -> io::Result<()> {
        let mut faults = self.0.lock();
        faults.calls.push(name);
        match &mut faults.fail {
            Some((failing, left)) if *failing == name && *left > 0 => {
                *left -= 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn fail(&self, name: &'static str) {
        self.fail_times(name, 1);
    }

    fn fail_times(&self, name: &'static str, times: u32) {
        self.0.lock().fail = Some((name, times));
    }

    fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().calls)
    }

    fn writer(&self, dir: &Path, end: LogEnd) -> LogWriter {
        LogWriter::new(Arc::new(self.clone()), dir.to_owned(), STORE, end, SEGMENT_BYTES)
    }
}

impl Storage for Disk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        real().create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        real().list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        self.call("create")?;
        Ok(Box::new(DiskFile { disk: self.clone(), file: real().create(path)? }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(DiskFile { disk: self.clone(), file: real().open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename")?;
        real().rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call("remove")?;
        real().remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        real().remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync dir")?;
        real().sync_dir(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        real().try_lock(path)
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    file: Box<dyn StorageFile>,
}

impl StorageFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let outcome = self.disk.call("write");
        // The worst case: all of it arrives, and the caller hears of a failure.
        self.file.write_all_at(bytes, offset)?;
        outcome
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.call("allocate")?;
        self.file.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.call("truncate")?;
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call("sync")?;
        self.file.sync()
    }
}

#[test]
fn a_segment_is_durable_before_it_has_its_name_and_the_one_before_is_cut_after_its_first_frame() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut writer = disk.writer(dir.path(), EMPTY);
    writer.create_segment(1, 0, Reserve::TheBody).unwrap();
    assert_eq!(disk.take_calls(), ["create", "allocate", "write", "sync", "rename", "sync dir"]);
    writer.create_segment(1, 0, Reserve::TheBody).unwrap();
    assert_eq!(disk.take_calls(), ["create", "allocate", "write", "sync", "rename", "sync dir"]);
    writer.write_frame(1, 0, b"one").unwrap();
    assert_eq!(disk.take_calls(), ["write"]);
    writer.sync().unwrap();
    assert_eq!(disk.take_calls(), ["sync", "truncate"]);
    writer.close(0).unwrap();
    assert_eq!(disk.take_calls(), ["write", "sync", "truncate"]);
}

#[test]
fn a_failed_creation_changes_nothing_and_leaves_no_file() {
    for step in ["create", "allocate", "write", "sync", "rename"] {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
        let mut writer = disk.writer(dir.path(), EMPTY);
        append(&mut writer, 1, b"one");
        // Also the second try, with the least room.
        disk.fail_times(step, 2);
        assert!(writer.create_segment(2, 0, Reserve::TheBody).unwrap_err().is_storage_full(), "{step}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{step}");
        assert!(writer.has_room(3) && writer.next_segment() == 2);
        assert_eq!(writer.create_segment(2, 0, Reserve::TheBody).unwrap(), 2);
        append(&mut writer, 2, b"two");
        assert_eq!(read_log(dir.path(), 2).unwrap().0.len(), 2, "{step}");
    }
}

#[test]
fn a_failed_write_is_repeated_without_a_trace() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut writer = disk.writer(dir.path(), EMPTY);
    append(&mut writer, 1, b"one");
    disk.fail("write");
    assert!(writer.write_frame(2, 0, b"two").unwrap_err().is_storage_full());
    writer.sync().unwrap();
    writer.write_frame(2, 0, b"two").unwrap();
    writer.sync().unwrap();
    append(&mut writer, 3, b"three");
    let (frames, _, dropped) = read_log(dir.path(), 1).unwrap();
    assert_eq!((frames.len(), dropped), (3, 0));
}

#[test]
fn a_frame_that_failed_and_went_to_another_segment_is_in_the_log_once() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut writer = disk.writer(dir.path(), EMPTY);
    append(&mut writer, 1, b"one");
    disk.fail("write");
    writer.write_frame(2, 0, b"two").unwrap_err();
    writer.end_segment();
    disk.fail("truncate");
    append(&mut writer, 2, b"two");
    let (frames, ..) = read_log(dir.path(), 2).unwrap();
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_failed_sync_is_never_taken_for_a_full_disk_and_advances_nothing() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut writer = disk.writer(dir.path(), EMPTY);
    append(&mut writer, 1, b"one");
    let written = writer.bytes_written();
    writer.write_frame(2, 0, b"two").unwrap();
    disk.fail("sync");
    assert!(!writer.sync().unwrap_err().is_storage_full());
    assert_eq!(writer.bytes_written(), written);
    disk.fail("sync dir");
    let mut writer = disk.writer(tempfile::tempdir().unwrap().path(), EMPTY);
    assert!(writer.create_segment(1, 0, Reserve::TheBody).is_err_and(|error| !error.is_storage_full()));
}

#[test]
fn what_recovery_found_is_written_again_and_synced_before_anything_builds_on_it() {
    let example = Example::new(false);
    let (dir, disk) = (example.dir.path(), Disk::default());
    let (_, end, _) = read_log(dir, 1).unwrap();
    let mut writer = disk.writer(dir, end.clone());
    writer.settle().unwrap();
    assert_eq!(disk.take_calls(), ["write", "sync"]);
    assert_eq!(std::fs::read(&example.path).unwrap(), example.bytes);
    writer.settle().unwrap();
    assert!(disk.take_calls().is_empty());
    let mut writer = disk.writer(dir, end.clone());
    writer.create_segment(4, 0, Reserve::TheBody).unwrap();
    assert_eq!(disk.take_calls()[..3], ["write", "sync", "create"]);
    std::fs::write(&example.path, &example.bytes[..example.third]).unwrap();
    assert!(is_corrupt(&disk.writer(dir, end).settle()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_log_comes_back(
        steps in prop::collection::vec((1u64..5, prop::collection::vec(any::<u8>(), 0..3000), 0u8..12), 1..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, mut written) = (writer_at(dir.path(), EMPTY), Vec::new());
        let mut epoch = 0;
        for (ahead, body, event) in steps {
            epoch += ahead;
            append(&mut writer, epoch, &body);
            written.push((epoch, 1000 + epoch, body));
            match event {
                0 => writer.end_segment(),
                1 | 2 => {
                    if event == 2 {
                        writer.close(epoch).unwrap();
                    }
                    let (_, end, _) = read_log(dir.path(), writer.next_segment() - 1).unwrap();
                    writer = writer_at(dir.path(), end);
                }
                _ => {}
            }
        }
        let (frames, end, dropped) = read_log(dir.path(), writer.next_segment() - 1).unwrap();
        prop_assert_eq!((frames, end.last_epoch, dropped), (written, epoch, 0));
    }
}
