//! The bytes of a segment, apart from any I/O.
//!
//! Integers are little-endian, checksums are CRC-32C.
//!
//! ```text
//! segment = segment-header frame* zero*
//!
//! segment-header (64 bytes)
//!   magic        8 bytes   "PLAUDLOG"
//!   version      u32       1. Checked after the magic, and believed only when the checksum is right; every
//!                          version keeps the magic, the version and the checksum where they are
//!   reserved     u32       zero
//!   store id     u64       the same in all files of a store
//!   number       u64       the number in the file's name
//!   capacity     u64       the file's length at its creation
//!   first epoch  u64       no frame of the segment has an epoch before it
//!   prev chain   u32       the chain value that ended the segment before; 0 in the first segment of a store
//!   zeros        8 bytes
//!   checksum     u32       of the 60 bytes before
//!
//! frame = frame-header body zero*      zeros up to the next multiple of 8
//!
//! frame-header (48 bytes)
//!   magic        4 bytes   f7 "EPO"
//!   kind         u8        1: an epoch, its changes in the body; 2: the close seal, without a body
//!   zeros        3 bytes
//!   body length  u64
//!   epoch        u64       in a seal the last epoch of the log
//!   time         u64       wall-clock milliseconds since 1970-01-01 UTC
//!   body crc     u32       of the body
//!   prev chain   u32       the chain value before this frame
//!   zeros        4 bytes
//!   checksum     u32       of store id u64, segment number u64, the frame's offset in the file u64, and the 44
//!                          bytes before
//! ```
//!
//! The chain value after a segment header is its `prev chain`, so that the first frame repeats it; after a frame
//! it is the frame's checksum. Through it every checksum covers the whole history, and through its place the
//! bytes of a frame verify at one offset of one segment of one store only.

#[cfg(feature = "fuzzing")]
pub(super) mod repair;

/// The newest version that this crate reads, and the one that it writes.
pub(crate) const VERSION: u32 = 1;

/// How long a segment header is.
pub(crate) const SEGMENT_HEADER_BYTES: usize = segment::CHECKSUM + 4;

/// How long a frame header is, and a close seal with it.
pub(crate) const FRAME_HEADER_BYTES: usize = frame::CHECKSUM + 4;

/// Every frame begins at a multiple of this.
pub(crate) const ALIGNMENT: usize = 8;

/// How a frame begins. Its first byte occurs in no UTF-8 text, so keys do not look like it.
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"\xf7EPO";

const SEGMENT_MAGIC: [u8; 8] = *b"PLAUDLOG";

/// Offsets in a segment header.
pub(crate) mod segment {
    pub(super) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = MAGIC + 8;
    pub(super) const RESERVED: usize = VERSION + 4;
    pub(crate) const STORE_ID: usize = RESERVED + 4;
    pub(crate) const NUMBER: usize = STORE_ID + 8;
    pub(super) const CAPACITY: usize = NUMBER + 8;
    pub(super) const FIRST_EPOCH: usize = CAPACITY + 8;
    pub(crate) const PREV_CHAIN: usize = FIRST_EPOCH + 8;
    pub(super) const ZEROS: usize = PREV_CHAIN + 4;
    pub(super) const CHECKSUM: usize = ZEROS + 8;
}

/// Offsets in a frame header.
mod frame {
    pub(super) const MAGIC: usize = 0;
    pub(super) const KIND: usize = MAGIC + 4;
    pub(super) const KIND_ZEROS: usize = KIND + 1;
    pub(super) const BODY_LEN: usize = KIND_ZEROS + 3;
    pub(super) const EPOCH: usize = BODY_LEN + 8;
    pub(super) const TIME_MS: usize = EPOCH + 8;
    pub(super) const BODY_CRC: usize = TIME_MS + 8;
    pub(super) const PREV_CHAIN: usize = BODY_CRC + 4;
    pub(super) const ZEROS: usize = PREV_CHAIN + 4;
    pub(super) const CHECKSUM: usize = ZEROS + 4;
}

const _: () = assert!(SEGMENT_HEADER_BYTES == 64);
const _: () = assert!(FRAME_HEADER_BYTES == 48);
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(ALIGNMENT));

/// The length of a frame with its header and padding. `None` when it does not fit 64 bits.
pub(crate) fn frame_len(body_len: u64) -> Option<u64> {
    body_len.checked_next_multiple_of(ALIGNMENT as u64)?.checked_add(FRAME_HEADER_BYTES as u64)
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The store that it belongs to.
    pub(crate) store_id: u64,
    /// Its place among the segments.
    pub(crate) number: u64,
    /// The file's length at its creation.
    pub(crate) capacity: u64,
    /// No frame of the segment has an epoch before this one.
    pub(crate) first_epoch: u64,
    /// The chain value that ended the segment before.
    pub(crate) prev_chain: u32,
}

/// Why bytes are not a segment header that this version reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// They are not what a version of this crate wrote.
    Damaged {
        /// Where, from the file's start.
        offset: usize,
        /// What was found.
        what: &'static str,
    },
    /// They are sound and of a newer version.
    Newer {
        /// That version.
        version: u32,
    },
}

impl SegmentHeader {
    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        put(&mut bytes, segment::MAGIC, SEGMENT_MAGIC);
        put(&mut bytes, segment::VERSION, VERSION.to_le_bytes());
        put(&mut bytes, segment::STORE_ID, self.store_id.to_le_bytes());
        put(&mut bytes, segment::NUMBER, self.number.to_le_bytes());
        put(&mut bytes, segment::CAPACITY, self.capacity.to_le_bytes());
        put(&mut bytes, segment::FIRST_EPOCH, self.first_epoch.to_le_bytes());
        put(&mut bytes, segment::PREV_CHAIN, self.prev_chain.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..segment::CHECKSUM]);
        put(&mut bytes, segment::CHECKSUM, checksum.to_le_bytes());
        bytes
    }

    /// Reads a header. Whether it is the expected one is for the caller to compare.
    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, HeaderError> {
        let damaged = |offset, what| Err(HeaderError::Damaged { offset, what });
        if get::<8>(bytes, segment::MAGIC) != SEGMENT_MAGIC {
            return damaged(segment::MAGIC, "the segment header does not begin with the magic bytes");
        }
        let version = get_u32(bytes, segment::VERSION);
        if get_u32(bytes, segment::CHECKSUM) != crc32c::crc32c(&bytes[..segment::CHECKSUM]) {
            return damaged(segment::CHECKSUM, "the segment header's checksum does not match");
        }
        if version > VERSION {
            return Err(HeaderError::Newer { version });
        }
        if version != VERSION {
            return damaged(segment::VERSION, "the segment header has a version that never was");
        }
        if get_u32(bytes, segment::RESERVED) != 0 || get_u64(bytes, segment::ZEROS) != 0 {
            return damaged(segment::RESERVED, "the segment header's reserved bytes are not zero");
        }
        Ok(Self {
            store_id: get_u64(bytes, segment::STORE_ID),
            number: get_u64(bytes, segment::NUMBER),
            capacity: get_u64(bytes, segment::CAPACITY),
            first_epoch: get_u64(bytes, segment::FIRST_EPOCH),
            prev_chain: get_u32(bytes, segment::PREV_CHAIN),
        })
    }
}

/// Where a frame stands. Its checksum covers it, so that no frame verifies anywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The store.
    pub(crate) store_id: u64,
    /// The segment's number.
    pub(crate) segment: u64,
    /// Where the frame begins in the segment's file.
    pub(crate) offset: u64,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An epoch, with its changes in the body.
    Epoch,
    /// The end of a log that was closed; nothing follows it in its segment.
    Close,
}

impl Kind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Epoch => 1,
            Self::Close => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Epoch),
            2 => Some(Self::Close),
            _ => None,
        }
    }
}

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// What it is.
    pub(crate) kind: Kind,
    /// How many bytes of body follow.
    pub(crate) body_len: u64,
    /// Its epoch; in a seal the log's last one.
    pub(crate) epoch: u64,
    /// When it was written, on the wall clock.
    pub(crate) time_ms: u64,
    /// The body's checksum.
    pub(crate) body_crc: u32,
    /// The chain value before it.
    pub(crate) prev_chain: u32,
}

impl FrameHeader {
    /// The header's bytes, and the chain value after the frame.
    pub(crate) fn encode(&self, place: Place) -> ([u8; FRAME_HEADER_BYTES], u32) {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        put(&mut bytes, frame::MAGIC, FRAME_MAGIC);
        put(&mut bytes, frame::KIND, [self.kind.to_byte()]);
        put(&mut bytes, frame::BODY_LEN, self.body_len.to_le_bytes());
        put(&mut bytes, frame::EPOCH, self.epoch.to_le_bytes());
        put(&mut bytes, frame::TIME_MS, self.time_ms.to_le_bytes());
        put(&mut bytes, frame::BODY_CRC, self.body_crc.to_le_bytes());
        put(&mut bytes, frame::PREV_CHAIN, self.prev_chain.to_le_bytes());
        let checksum = frame_checksum(&bytes, place);
        put(&mut bytes, frame::CHECKSUM, checksum.to_le_bytes());
        (bytes, checksum)
    }

    /// Reads a header that [`verifies`](frame_header_verifies), and the chain value after the frame.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<(Self, u32), &'static str> {
        let [byte] = get(bytes, frame::KIND);
        let kind = Kind::from_byte(byte).ok_or("the frame is of an unknown kind")?;
        if get::<3>(bytes, frame::KIND_ZEROS) != [0; 3] || get_u32(bytes, frame::ZEROS) != 0 {
            return Err("the frame header's reserved bytes are not zero");
        }
        let header = Self {
            kind,
            body_len: get_u64(bytes, frame::BODY_LEN),
            epoch: get_u64(bytes, frame::EPOCH),
            time_ms: get_u64(bytes, frame::TIME_MS),
            body_crc: get_u32(bytes, frame::BODY_CRC),
            prev_chain: get_u32(bytes, frame::PREV_CHAIN),
        };
        if kind == Kind::Close && header.body_len != 0 {
            return Err("the close seal has a body");
        }
        Ok((header, get_u32(bytes, frame::CHECKSUM)))
    }
}

/// Whether the bytes are a frame header that was written for this place.
pub(crate) fn frame_header_verifies(bytes: &[u8; FRAME_HEADER_BYTES], place: Place) -> bool {
    get(bytes, frame::MAGIC) == FRAME_MAGIC && get_u32(bytes, frame::CHECKSUM) == frame_checksum(bytes, place)
}

fn frame_checksum(bytes: &[u8; FRAME_HEADER_BYTES], place: Place) -> u32 {
    let mut salt = [0; 24];
    put(&mut salt, 0, place.store_id.to_le_bytes());
    put(&mut salt, 8, place.segment.to_le_bytes());
    put(&mut salt, 16, place.offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&salt), &bytes[..frame::CHECKSUM])
}

fn put<const N: usize, const LEN: usize>(bytes: &mut [u8; LEN], offset: usize, field: [u8; N]) {
    bytes[offset..offset + N].copy_from_slice(&field);
}

fn get<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[offset + index])
}

fn get_u32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(get(bytes, offset))
}

fn get_u64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(get(bytes, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentHeader =
        SegmentHeader { store_id: 0x1122_3344_5566_7788, number: 3, capacity: 4096, first_epoch: 9, prev_chain: 77 };

    const PLACE: Place = Place { store_id: 5, segment: 3, offset: 64 };

    const FRAME: FrameHeader =
        FrameHeader { kind: Kind::Epoch, body_len: 5, epoch: 9, time_ms: 1000, body_crc: 1, prev_chain: 77 };

    fn resealed(mut bytes: [u8; SEGMENT_HEADER_BYTES], offset: usize, byte: u8) -> [u8; SEGMENT_HEADER_BYTES] {
        bytes[offset] = byte;
        let checksum = crc32c::crc32c(&bytes[..segment::CHECKSUM]);
        put(&mut bytes, segment::CHECKSUM, checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn headers_come_back() {
        assert_eq!(SegmentHeader::decode(&SEGMENT.encode()), Ok(SEGMENT));
        let (bytes, chain) = FRAME.encode(PLACE);
        assert!(frame_header_verifies(&bytes, PLACE));
        assert_eq!(FrameHeader::decode(&bytes), Ok((FRAME, chain)));
    }

    #[test]
    fn a_newer_version_is_told_from_a_damaged_one() {
        let newer = resealed(SEGMENT.encode(), segment::VERSION, 2);
        assert_eq!(SegmentHeader::decode(&newer), Err(HeaderError::Newer { version: 2 }));
        let mut damaged = SEGMENT.encode();
        damaged[segment::VERSION] = 2;
        assert!(matches!(SegmentHeader::decode(&damaged), Err(HeaderError::Damaged { .. })));
    }

    #[test]
    fn sound_checksums_over_impossible_fields_are_refused() {
        for offset in [segment::VERSION, segment::RESERVED, segment::ZEROS + 7] {
            let byte = if offset == segment::VERSION { 0 } else { 1 };
            let bytes = resealed(SEGMENT.encode(), offset, byte);
            assert!(matches!(SegmentHeader::decode(&bytes), Err(HeaderError::Damaged { .. })), "byte {offset}");
        }
        for (offset, byte) in [(frame::KIND, 0), (frame::KIND, 2), (frame::KIND_ZEROS, 1), (frame::ZEROS + 3, 1)] {
            let (mut bytes, _) = FRAME.encode(PLACE);
            bytes[offset] = byte;
            assert!(FrameHeader::decode(&bytes).is_err(), "byte {offset}");
        }
    }

    #[test]
    fn a_frame_verifies_at_its_own_place_only() {
        let (bytes, _) = FRAME.encode(PLACE);
        assert!(!frame_header_verifies(&bytes, Place { store_id: 6, ..PLACE }));
        assert!(!frame_header_verifies(&bytes, Place { segment: 4, ..PLACE }));
        assert!(!frame_header_verifies(&bytes, Place { offset: 72, ..PLACE }));
    }

    #[test]
    fn a_frame_length_that_does_not_fit_is_refused() {
        assert_eq!(frame_len(0), Some(48));
        assert_eq!(frame_len(1), Some(56));
        assert_eq!(frame_len(8), Some(56));
        assert_eq!(frame_len(u64::MAX), None);
        assert_eq!(frame_len(u64::MAX - 7), None);
    }
}
