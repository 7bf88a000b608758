//! What must hold of any bytes that are read as frames, and of any file that is read as a segment.

use std::path::Path;

use arbitrary::Unstructured;

use super::Seal;
use super::body::{BodyEncoder, Group, Record, decode_body};
use super::format::repair::{Repaired, repair_frames, repair_segment};
use super::format::{ALIGNMENT, FRAME_HEADER_BYTES, FrameHeader, Place, frame_header_verifies, frame_len};
use super::reader::{Expected, Position, SegmentEnd, read_segment};
use crate::edge::{Content, Stamp, ViewerWidth};
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::storage::sim::SimDisk;

const STORE_ID: u64 = 7;
const NUMBER: u64 = 3;

/// Reads the bytes as a body and as frames one after another, as they are and with the right checksums.
pub fn frames(data: &[u8]) {
    check_body(data);
    check_frames(data);
    let mut repaired = data.to_vec();
    let place = Place { store_id: STORE_ID, segment: NUMBER, offset: 0 };
    repair_frames(&mut repaired, place, 0, 1);
    check_frames(&repaired);
}

/// A body with likes and unlikes, an edge that is gone and an item that was cleared, by viewers of 64 bits or of 128.
#[must_use]
pub fn body_of_likes(wide: bool) -> Vec<u8> {
    let (width, viewer) =
        if wide { (ViewerWidth::Bits128, u128::MAX / 3) } else { (ViewerWidth::Bits64, u128::from(u64::MAX / 3)) };
    let mut encoder = BodyEncoder::default();
    encoder.begin_group(1, 2);
    encoder.push(Record::NamedSet { slot: 3, key: b"video", value: 2 });
    encoder.push(Record::NamedRemoved { slot: 4, key: b"gone" });
    encoder.end_group();
    encoder.begin_likes(1, 2, width);
    let at = |time_ms, liked| Some(Stamp::new(time_ms, liked));
    encoder.push_item(
        3,
        false,
        [(1, at(1_700_000_000_000, true)), (viewer, at(1_700_000_000_100, false)), (300, None)],
    );
    encoder.push_item(4, true, []);
    encoder.push_item(70_000, true, [(2, at(1_699_999_999_999, true))]);
    encoder.end_likes();
    encoder.as_bytes().to_vec()
}

fn check_frames(bytes: &[u8]) {
    let mut at = 0;
    while let Some(header_bytes) = bytes[at..].first_chunk::<FRAME_HEADER_BYTES>() {
        let place = Place { store_id: STORE_ID, segment: NUMBER, offset: at as u64 };
        let Ok((header, chain)) = FrameHeader::decode(header_bytes) else { return };
        if frame_header_verifies(header_bytes, place) {
            assert_eq!(header.encode(place), (*header_bytes, chain), "a frame header has one encoding");
        }
        let Some(len) = frame_len(header.body_len) else { return };
        assert!(len > header.body_len && len.is_multiple_of(ALIGNMENT as u64));
        let body_at = at + FRAME_HEADER_BYTES;
        let body = usize::try_from(header.body_len).ok().and_then(|len| bytes[body_at..].get(..len));
        let Some(body) = body else { return };
        check_body(body);
        at += len as usize;
        if at > bytes.len() {
            return;
        }
    }
}

/// The records of a body, encoded again, come back.
fn check_body(body: &[u8]) {
    let mut records = Vec::new();
    let read = decode_body(body, |group, record| {
        records.push((group, record));
        Ok(())
    });
    assert!(records.len() <= body.len(), "a record takes a byte at least");
    if let Err(malformed) = read {
        return assert!(malformed.offset <= body.len());
    }
    let mut encoder = BodyEncoder::default();
    groups(&records).into_iter().for_each(|group| encode(&mut encoder, group));
    let mut again = Vec::new();
    let read = decode_body(encoder.as_bytes(), |group, record| {
        again.push((group, record));
        Ok(())
    });
    assert_eq!((read, again.len()), (Ok(()), records.len()));
    assert!(again == records, "the records of a body that was encoded again are the same");
}

fn encode(encoder: &mut BodyEncoder, records: &[(Group, Record<'_>)]) {
    let Group { namespace, shard, kind } = records[0].0;
    match kind {
        Content::Counters => {
            let mut by_slot = records.to_vec();
            by_slot.sort_by_key(|(_, record)| record.slot());
            encoder.begin_group(namespace, shard);
            by_slot.iter().for_each(|(_, record)| encoder.push(*record));
            encoder.end_group();
        }
        Content::Edges(width) => {
            encoder.begin_likes(namespace, shard, width);
            for item in records.chunk_by(|(_, a), (_, b)| a.slot() == b.slot()) {
                let cleared = matches!(item[0].1, Record::Cleared { .. });
                let edges = item.iter().filter_map(|(_, record)| match *record {
                    Record::Edge { viewer, stamp, .. } => Some((viewer, stamp)),
                    _ => None,
                });
                encoder.push_item(item[0].1.slot(), cleared, edges);
            }
            encoder.end_likes();
        }
    }
}

/// Cuts records where an encoder has to begin a group: at another shard or content, and where what one group has in
/// order is not.
fn groups<'a, 'b>(records: &'a [(Group, Record<'b>)]) -> Vec<&'a [(Group, Record<'b>)]> {
    let mut slots = std::collections::HashSet::new();
    let mut groups = Vec::new();
    let mut start = 0;
    for (at, (group, record)) in records.iter().enumerate() {
        let goes_on = at.checked_sub(1).is_some_and(|before| {
            let (group_before, before) = &records[before];
            group_before == group && follows(before, record)
        });
        // A group has a counter in one of its lists, and an item with all its edges.
        let is_new = group.kind != Content::Counters || slots.insert(record.slot());
        if at > start && !(goes_on && is_new) {
            groups.push(&records[start..at]);
            start = at;
            slots = std::iter::once(record.slot()).collect();
        }
    }
    groups.extend((start < records.len()).then(|| &records[start..]));
    groups
}

/// Whether a group can have one record right behind another.
fn follows(before: &Record<'_>, record: &Record<'_>) -> bool {
    let list = |record: &Record<'_>| match record {
        Record::Set { .. } => 0,
        Record::NamedSet { .. } => 1,
        Record::Removed { .. } => 2,
        Record::NamedRemoved { .. } => 3,
        Record::Cleared { .. } | Record::Edge { .. } => 4,
    };
    let is_of_same_item = before.slot() == record.slot() && matches!(record, Record::Edge { .. });
    (list(before), before.slot()) < (list(record), record.slot()) || is_of_same_item
}

/// Reads the bytes as a segment: as they are; with the right checksums; and with one byte damaged after that.
pub fn segments(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(script) = input.arbitrary::<[u8; 6]>() else { return };
    let [zeros_low, zeros_high, at_low, at_high, damage, raw] = script;
    let mut bytes = input.take_rest().to_vec();
    bytes.extend(vec![0; usize::from(u16::from_le_bytes([zeros_low, zeros_high]))]);
    if raw & 1 == 1 {
        for position in [Position::Last { seal: None }, Position::Before { next_chain: u32::from(raw) }] {
            let _ = read(&bytes, position);
        }
        return;
    }
    let Some(repaired) = repair_segment(&mut bytes, STORE_ID, NUMBER, None) else { return };
    check_repaired(&bytes, &repaired);
    if repaired.is_sound && damage != 0 {
        let at = usize::from(u16::from_le_bytes([at_low, at_high])) % bytes.len();
        bytes[at] ^= damage;
        check_damaged(&bytes, &repaired);
    }
}

/// An epoch, and its body.
type Epochs = Vec<(u64, Vec<u8>)>;

fn read(bytes: &[u8], position: Position) -> Result<(Epochs, SegmentEnd)> {
    let (disk, path) = (SimDisk::new(), Path::new("/segment"));
    disk.create(path).and_then(|file| file.write_all_at(bytes, 0)).expect("the disk has room");
    let expected = Expected { store_id: STORE_ID, number: NUMBER, chain: None, last_epoch: 0, position };
    let mut epochs = Epochs::new();
    let end = read_segment(&disk, path, &expected, &mut |frame| {
        assert_eq!(&bytes[frame.body_offset() as usize..][..frame.body.len()], frame.body);
        epochs.push((frame.epoch, frame.body.to_vec()));
        Ok(())
    });
    let len = bytes.len() as u64;
    match end {
        Ok(end) => {
            assert!(end.last_frame <= end.end && end.end + end.dropped_bytes <= len, "{end:?} of {len}");
            assert_eq!(end.frames, epochs.len() as u64);
            assert!(epochs.is_sorted_by(|a, b| a.0 < b.0), "epochs ascend");
            Ok((epochs, end))
        }
        Err(Error::Corrupt { offset, file, what }) => {
            assert!(offset <= len, "{what} at {offset} of {len}");
            Err(Error::Corrupt { offset, file, what })
        }
        Err(error @ Error::UnsupportedVersion { .. }) => Err(error),
        Err(error) => panic!("{error:?}"),
    }
}

/// A segment that was written as it should be is read whole.
fn check_repaired(bytes: &[u8], repaired: &Repaired) {
    let last = read(bytes, Position::Last { seal: repaired.seal() });
    let before = read(bytes, Position::Before { next_chain: repaired.chain });
    if !repaired.is_sound {
        return;
    }
    for found in [last, before] {
        let (epochs, end) = found.expect("a sound segment is read");
        assert!(epochs == repaired.epochs, "a sound segment is read whole");
        assert_eq!((end.sealed, end.chain, end.end), (repaired.sealed, repaired.chain, repaired.end));
        assert_eq!(end.dropped_bytes, 0);
    }
}

/// A segment of which one byte was changed is refused, or all of it is read; but for the last frame of the last one, if
/// the log was not closed.
fn check_damaged(bytes: &[u8], repaired: &Repaired) {
    if let Ok((epochs, _)) = read(bytes, Position::Before { next_chain: repaired.chain }) {
        assert!(epochs == repaired.epochs, "damage in an earlier segment is noticed");
    }
    if let (Some(seal), Ok((epochs, end))) = (repaired.seal(), read(bytes, Position::Last { seal: repaired.seal() })) {
        assert!(epochs == repaired.epochs && end.end == seal.end, "a log that was closed is read whole");
    }
    let Ok((epochs, end)) = read(bytes, Position::Last { seal: None }) else { return };
    if epochs == repaired.epochs && end.sealed == repaired.sealed {
        return;
    }
    assert!(end.dropped_bytes > 0, "what is dropped is reported");
    assert_eq!(end.end, repaired.last_frame, "no more than the last frame is dropped");
    assert!(repaired.epochs.starts_with(&epochs) && repaired.epochs.len() - epochs.len() <= 1);
}

/// Makes a segment of a whole store right, and answers the chain value that the next one goes on from, and the seal
/// that it ends with.
pub(crate) fn repair(bytes: &mut [u8], store_id: u64, number: u64, chain: Option<u32>) -> (Option<u32>, Option<Seal>) {
    let repaired = repair_segment(bytes, store_id, number, chain);
    (repaired.as_ref().map(|repaired| repaired.chain), repaired.as_ref().and_then(Repaired::seal))
}
