//! Makes the checksums, chains and places of any bytes right, so that a fuzzer gets behind them.
//!
//! What is repaired is for the bytes to say: each bit of the highest byte of a frame's time, which a real one has at
//! zero, leaves one thing as it is. So a hostile length with a right checksum is as close to a real frame as a flipped
//! bit is.

use super::{
    FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, Kind, Place, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader,
    VERSION, frame, frame_checksum, frame_len, get, get_u64, put, segment,
};
use crate::log::Seal;

/// The highest byte of a frame's time.
const LEFT: usize = frame::TIME_MS + 7;
const LEFT_LENGTH: u8 = 1;
const LEFT_ZEROS: u8 = 1 << 1;
const LEFT_CHAIN: u8 = 1 << 2;
const LEFT_BODY_CRC: u8 = 1 << 3;
const LEFT_PADDING: u8 = 1 << 4;
const LEFT_KIND: u8 = 1 << 5;
const LEFT_EPOCH: u8 = 1 << 6;

/// What a segment was made to be.
#[derive(Debug, Default)]
pub(in crate::log) struct Repaired {
    /// Whether it is as a writer would have written it, so that a reader must accept it.
    pub(in crate::log) is_sound: bool,
    /// Its epochs, with their bodies.
    pub(in crate::log) epochs: Vec<(u64, Vec<u8>)>,
    /// Where its last frame begins and ends.
    pub(in crate::log) last_frame: u64,
    pub(in crate::log) end: u64,
    /// The chain value there.
    pub(in crate::log) chain: u32,
    pub(in crate::log) last_epoch: u64,
    pub(in crate::log) sealed: bool,
}

impl Repaired {
    /// The close seal that it ends with.
    pub(in crate::log) fn seal(&self) -> Option<Seal> {
        self.sealed.then_some(Seal { end: self.end, epoch: self.last_epoch, chain: self.chain })
    }
}

/// Makes a segment of the bytes. `None` when they are too few for its header. Without a chain value to go on from, the
/// header's own is taken.
pub(in crate::log) fn repair_segment(
    bytes: &mut [u8],
    store_id: u64,
    number: u64,
    chain: Option<u32>,
) -> Option<Repaired> {
    let len = bytes.len() as u64;
    let (header, frames) = bytes.split_first_chunk_mut::<SEGMENT_HEADER_BYTES>()?;
    // One byte of each field that has only one right value is left to the fuzzer.
    put(header, segment::MAGIC, SEGMENT_MAGIC);
    put(header, segment::VERSION, VERSION.to_le_bytes().first_chunk::<3>().copied()?);
    put(header, segment::STORE_ID, store_id.to_le_bytes());
    put(header, segment::NUMBER, number.to_le_bytes());
    put(header, segment::CAPACITY, len.to_le_bytes().first_chunk::<7>().copied()?);
    if let Some(chain) = chain {
        put(header, segment::PREV_CHAIN, chain.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&header[..segment::CHECKSUM]);
    put(header, segment::CHECKSUM, checksum.to_le_bytes());
    let decoded = SegmentHeader::decode(header).ok();
    let prev_chain = u32::from_le_bytes(get(header, segment::PREV_CHAIN));
    let first_epoch = get_u64(header, segment::FIRST_EPOCH);
    let place = Place { store_id, segment: number, offset: SEGMENT_HEADER_BYTES as u64 };
    let mut repaired = repair_frames(frames, place, prev_chain, first_epoch);
    repaired.is_sound &= decoded.is_some_and(|header| header.capacity == len);
    Some(repaired)
}

/// Makes frames of the bytes, one after another, up to a seal or to where there is nothing but zeros.
pub(in crate::log) fn repair_frames(bytes: &mut [u8], place: Place, chain: u32, first_epoch: u64) -> Repaired {
    let base = place.offset;
    let last_epoch = first_epoch.saturating_sub(1);
    let mut repaired =
        Repaired { is_sound: true, last_frame: base, end: base, chain, last_epoch, ..Repaired::default() };
    let mut at = 0;
    while let Some((header, rest)) = bytes[at..].split_first_chunk_mut::<FRAME_HEADER_BYTES>() {
        if *header == [0; FRAME_HEADER_BYTES] {
            break;
        }
        let left = header[LEFT];
        let last_epoch = repaired.last_epoch;
        repair_fields(header, rest.len() as u64, last_epoch, repaired.chain);
        let body_len = get_u64(header, frame::BODY_LEN);
        let len = frame_len(body_len).filter(|&len| len - FRAME_HEADER_BYTES as u64 <= rest.len() as u64);
        if let Some(len) = len {
            let (body, padding) = rest[..len as usize - FRAME_HEADER_BYTES].split_at_mut(body_len as usize);
            if left & LEFT_PADDING == 0 {
                padding.fill(0);
            }
            if left & LEFT_BODY_CRC == 0 {
                put(header, frame::BODY_CRC, crc32c::crc32c(body).to_le_bytes());
            }
        }
        let place = Place { offset: base + at as u64, ..place };
        let checksum = frame_checksum(header, place);
        put(header, frame::CHECKSUM, checksum.to_le_bytes());
        // What was left as it is may be right all the same, but nobody has to accept it.
        repaired.is_sound &= left == 0;
        let (Some(len), Ok((decoded, chain))) = (len, FrameHeader::decode(header)) else {
            repaired.is_sound = false;
            return repaired;
        };
        repaired.is_sound &= decoded.epoch > last_epoch || (decoded.kind == Kind::Close && decoded.epoch == last_epoch);
        repaired.last_frame = place.offset;
        repaired.end = place.offset + len;
        repaired.chain = chain;
        repaired.last_epoch = decoded.epoch;
        at += len as usize;
        if decoded.kind == Kind::Close {
            repaired.sealed = true;
            return repaired;
        }
        repaired.epochs.push((decoded.epoch, rest[..body_len as usize].to_vec()));
    }
    repaired.is_sound &= bytes[at..].iter().all(|&byte| byte == 0);
    repaired
}

/// Makes the fields of a header right but for the checksums, as far as they do not say that they are to be left.
fn repair_fields(header: &mut [u8; FRAME_HEADER_BYTES], room: u64, last_epoch: u64, chain: u32) {
    let left = header[LEFT];
    put(header, frame::MAGIC, FRAME_MAGIC);
    let [kind] = get::<1>(header, frame::KIND);
    let kind = Kind::from_byte(kind).unwrap_or(Kind::Epoch);
    if left & LEFT_KIND == 0 {
        put(header, frame::KIND, [kind.to_byte()]);
    }
    if left & LEFT_ZEROS == 0 {
        put(header, frame::KIND_ZEROS, [0; 3]);
        put(header, frame::ZEROS, [0; 4]);
    }
    if left & LEFT_LENGTH == 0 {
        let most = if kind == Kind::Close { 0 } else { room / super::ALIGNMENT as u64 * super::ALIGNMENT as u64 };
        let len = get_u64(header, frame::BODY_LEN);
        let fitting = if len <= most { len } else { len % (most + 1) };
        put(header, frame::BODY_LEN, fitting.to_le_bytes());
    }
    if left & LEFT_EPOCH == 0 && get_u64(header, frame::EPOCH) <= last_epoch {
        let next = if kind == Kind::Close { last_epoch } else { last_epoch.saturating_add(1) };
        put(header, frame::EPOCH, next.to_le_bytes());
    }
    if left & LEFT_CHAIN == 0 {
        put(header, frame::PREV_CHAIN, chain.to_le_bytes());
    }
}
