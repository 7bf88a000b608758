//! Reads segments, and tells a frame that a crash left incomplete from damage.
//!
//! A frame is synced before the next one is written. So only the one frame at the very end of the last segment can
//! be incomplete, and it can have been acknowledged to nobody. Everything else that does not verify is damage, and an
//! error: in an earlier segment because the next one names the chain value that must be reached, in the last one
//! when a frame header further back verifies, or when the frame's own header does and anything is behind its end.
//! A log that was closed must end with the very seal of that close. Nothing here modifies a file.

use std::ops::Range;
use std::path::Path;

use super::Seal;
use super::format::{
    ALIGNMENT, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, HeaderError, Kind, Place, SEGMENT_HEADER_BYTES,
    SegmentHeader, VERSION, frame_header_verifies, frame_len, segment,
};
use crate::storage::{Storage, StorageFile};
use crate::{Error, Result};

/// What a segment must be to continue what was read before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The store that it belongs to.
    pub(crate) store_id: u64,
    /// Its number.
    pub(crate) number: u64,
    /// The chain value that ended the segment before; `None` for the first one read, whose own word is taken.
    pub(crate) chain: Option<u32>,
    /// The last epoch before the segment; its frames have greater ones.
    pub(crate) last_epoch: u64,
    /// Where it stands in the log.
    pub(crate) position: Position,
}

/// Where a segment stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// No segment follows.
    Last {
        /// What it must end with, if the log was closed.
        seal: Option<Seal>,
    },
    /// Another segment follows.
    Before {
        /// The chain value that its header names.
        next_chain: u32,
    },
}

/// An epoch in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameView<'a> {
    /// The epoch's number.
    pub(crate) epoch: u64,
    /// When it was written, on the wall clock.
    pub(crate) time_ms: u64,
    /// Where the frame begins in the file.
    pub(crate) offset: u64,
    /// Its body, whose checksum was right.
    pub(crate) body: &'a [u8],
}

impl FrameView<'_> {
    /// Where the body begins in the file.
    pub(crate) fn body_offset(&self) -> u64 {
        self.offset + FRAME_HEADER_BYTES as u64
    }
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    /// Where its last frame, be it a seal, begins; `end` when it has none.
    pub(crate) last_frame: u64,
    /// Where its last frame ends.
    pub(crate) end: u64,
    /// The chain value there.
    pub(crate) chain: u32,
    /// Whether the last frame is a close seal.
    pub(crate) sealed: bool,
    /// The last epoch so far; the expected one when the segment has no frame.
    pub(crate) last_epoch: u64,
    /// How many epochs it holds.
    pub(crate) frames: u64,
    /// How many bytes from `end` on are an incomplete frame that a crash left. It was never acknowledged.
    pub(crate) dropped_bytes: u64,
}

impl SegmentEnd {
    /// The close seal that it ends with.
    fn seal(&self) -> Option<Seal> {
        let Self { end, chain, last_epoch: epoch, .. } = *self;
        self.sealed.then_some(Seal { end, epoch, chain })
    }
}

/// Reads the header of a segment and checks that it is the one of this store and number.
pub(crate) fn read_segment_header(
    storage: &dyn Storage,
    path: &Path,
    store_id: u64,
    number: u64,
) -> Result<SegmentHeader> {
    Window::open(storage, path)?.segment_header(store_id, number)
}

/// Reads a segment, verifies every byte that matters, and hands its epochs to `visit` in order. After an error
/// what was visited is not to be used.
pub(crate) fn read_segment(
    storage: &dyn Storage,
    path: &Path,
    expected: &Expected,
    visit: &mut dyn FnMut(FrameView<'_>) -> Result<()>,
) -> Result<SegmentEnd> {
    let mut window = Window::open(storage, path)?;
    let header = window.segment_header(expected.store_id, expected.number)?;
    if expected.chain.is_some_and(|chain| chain != header.prev_chain) {
        let what = "the segment does not continue the one before it";
        return Err(window.corrupt(segment::PREV_CHAIN as u64, what));
    }
    let start = SEGMENT_HEADER_BYTES as u64;
    let mut reader = SegmentReader {
        window,
        header,
        state: SegmentEnd {
            last_frame: start,
            end: start,
            chain: header.prev_chain,
            sealed: false,
            last_epoch: expected.last_epoch,
            frames: 0,
            dropped_bytes: 0,
        },
    };
    let stopped = reader.read_frames(visit)?;
    match (expected.position, stopped) {
        (Position::Before { next_chain }, stopped) => reader.check_chain(next_chain, stopped)?,
        (Position::Last { .. }, None) => reader.check_sealed_len()?,
        (Position::Last { .. }, Some(unverified)) => reader.judge_tail(unverified)?,
    }
    if let Position::Last { seal: Some(seal) } = expected.position {
        reader.check_seal(seal)?;
    }
    Ok(reader.state)
}

/// The first bytes of a segment that are not a frame of it.
#[derive(Debug, Clone, Copy)]
struct Unverified {
    what: &'static str,
    /// Where the fault is.
    offset: u64,
    /// Whether an incomplete write can have left it so.
    may_be_torn: bool,
    /// Where the frame ends, when its header is known to be whole.
    frame_end: Option<u64>,
}

struct SegmentReader<'a> {
    window: Window<'a>,
    header: SegmentHeader,
    state: SegmentEnd,
}

impl SegmentReader<'_> {
    /// Reads frames up to a seal (`None`) or to what does not verify.
    fn read_frames(&mut self, visit: &mut dyn FnMut(FrameView<'_>) -> Result<()>) -> Result<Option<Unverified>> {
        loop {
            let offset = self.state.end;
            let (frame, chain, end) = match self.verify_frame(offset)? {
                Ok(verified) => verified,
                Err(unverified) => return Ok(Some(unverified)),
            };
            self.check_epoch(&frame)?;
            if frame.kind == Kind::Epoch {
                let body = self.window.slice(offset + FRAME_HEADER_BYTES as u64, frame.body_len)?;
                visit(FrameView { epoch: frame.epoch, time_ms: frame.time_ms, offset, body })?;
                self.state.frames += 1;
            }
            self.state.last_frame = offset;
            self.state.end = end;
            self.state.chain = chain;
            self.state.last_epoch = frame.epoch;
            if frame.kind == Kind::Close {
                self.state.sealed = true;
                return Ok(None);
            }
        }
    }

    /// The header of the frame at `offset`, the chain value after it and where it ends, when all of it verifies.
    fn verify_frame(&mut self, offset: u64) -> Result<std::result::Result<(FrameHeader, u32, u64), Unverified>> {
        let header_len = FRAME_HEADER_BYTES as u64;
        let torn = |what, frame_end| Ok(Err(Unverified { what, offset, may_be_torn: true, frame_end }));
        let wrong = |what, offset| Ok(Err(Unverified { what, offset, may_be_torn: false, frame_end: None }));
        let left = self.window.len - offset;
        if left < header_len {
            return torn("no room is left for a frame header", None);
        }
        let place = self.place(offset);
        let bytes = self.window.frame_header(offset)?;
        if !frame_header_verifies(&bytes, place) {
            return torn("the frame header does not verify", None);
        }
        // From here on the header is known to be what was written at this place, whole.
        let (header, chain) = match FrameHeader::decode(&bytes) {
            Ok(decoded) => decoded,
            Err(what) => return wrong(what, offset),
        };
        if header.prev_chain != self.state.chain {
            return wrong("the frame does not continue the one before it", offset);
        }
        let Some(len) = frame_len(header.body_len).filter(|&len| len <= left) else {
            return wrong("the frame is longer than the file", offset);
        };
        let padded = self.window.slice(offset + header_len, len - header_len)?;
        // The body is not longer than its padded form, which is in memory.
        let (body, padding) = padded.split_at(header.body_len as usize);
        if crc32c::crc32c(body) != header.body_crc {
            return torn("the frame's body does not match its checksum", Some(offset + len));
        }
        if padding.iter().any(|&byte| byte != 0) {
            // Zeros were there before the frame was, so no incomplete write leaves anything else.
            return wrong("the frame's padding is not zero", offset + header_len + header.body_len);
        }
        Ok(Ok((header, chain, offset + len)))
    }

    fn check_epoch(&self, frame: &FrameHeader) -> Result<()> {
        let last = self.state.last_epoch;
        let in_order = match frame.kind {
            Kind::Epoch => frame.epoch > last && frame.epoch >= self.header.first_epoch,
            Kind::Close => frame.epoch >= last,
        };
        if in_order {
            return Ok(());
        }
        let what = format!("a frame of epoch {} follows epoch {last}", frame.epoch);
        Err(self.window.corrupt(self.state.end, what))
    }

    /// An earlier segment must end where the next one goes on. What lies behind was dropped by a recovery.
    fn check_chain(&self, next_chain: u32, stopped: Option<Unverified>) -> Result<()> {
        if self.state.chain == next_chain {
            return Ok(());
        }
        let (what, offset) = stopped.map_or(("the log was closed here", self.state.end), |it| (it.what, it.offset));
        Err(self.window.corrupt(offset, format!("{what}, and the next segment continues from a later frame")))
    }

    /// A log that was closed must end as the close left it: an older state of its last segment is a sound one.
    fn check_seal(&self, seal: Seal) -> Result<()> {
        if self.state.seal() == Some(seal) {
            return Ok(());
        }
        let SegmentEnd { end, chain, last_epoch, .. } = self.state;
        let Seal { end: at, epoch, chain: of_seal } = seal;
        let what = format!(
            "the log ends here with epoch {last_epoch} and chain value {chain:08x}, and the store was closed with \
             epoch {epoch} and chain value {of_seal:08x} at byte {at}"
        );
        Err(self.window.corrupt(end, what))
    }

    /// A seal is written at the full length, and the file then cut behind it.
    fn check_sealed_len(&self) -> Result<()> {
        let len = self.window.len;
        if len == self.state.end || len == self.header.capacity { Ok(()) } else { Err(self.wrong_len()) }
    }

    /// Decides what the end of the last segment is, when it has no seal.
    fn judge_tail(&mut self, unverified: Unverified) -> Result<()> {
        let Unverified { what, offset, may_be_torn, frame_end } = unverified;
        if !may_be_torn {
            return Err(self.window.corrupt(offset, what));
        }
        let tail = self.scan_tail()?;
        if let Some(later) = tail.later_frame {
            let what = format!("{what}, and it is not the last: a frame at byte {later} does");
            return Err(self.window.corrupt(offset, what));
        }
        // Another frame was begun behind it, however little of that is there. So this one had been synced.
        if frame_end.zip(tail.content_end).is_some_and(|(frame_end, content_end)| content_end > frame_end) {
            return Err(self.window.corrupt(offset, format!("{what}, and it is not the last: bytes follow it")));
        }
        if self.window.len != self.header.capacity {
            return Err(self.wrong_len());
        }
        if let Some(content_end) = tail.content_end {
            let content = content_end - self.state.end;
            let left = self.window.len - self.state.end;
            self.state.dropped_bytes = content.max(FRAME_HEADER_BYTES as u64).min(left);
        }
        Ok(())
    }

    /// Looks through everything from the end on for bytes that are not zero, and for frame headers. The chain is
    /// not followed, as what would lead to it is damaged; the place and the checksum are proof enough.
    fn scan_tail(&mut self) -> Result<Tail> {
        let end = self.state.end;
        let mut tail = Tail { content_end: None, later_frame: None };
        let mut at = end;
        while at < self.window.len {
            // One header more than the step, so that one across two steps is seen whole.
            let len = (self.window.len - at).min((WINDOW_BYTES + FRAME_HEADER_BYTES) as u64);
            let place = self.place(at);
            let bytes = self.window.slice(at, len)?;
            for (index, word) in bytes.chunks(ALIGNMENT).enumerate().take(WINDOW_BYTES / ALIGNMENT) {
                if word == &[0; ALIGNMENT][..word.len()] {
                    continue;
                }
                let ahead = index * ALIGNMENT;
                let offset = at + ahead as u64;
                let trailing = word.iter().rev().take_while(|&&byte| byte == 0).count();
                tail.content_end = Some(offset + (word.len() - trailing) as u64);
                if offset == end || !word.starts_with(&FRAME_MAGIC) {
                    continue;
                }
                let header = bytes[ahead..].first_chunk();
                if header.is_some_and(|header| frame_header_verifies(header, Place { offset, ..place })) {
                    tail.later_frame = Some(offset);
                    return Ok(tail);
                }
            }
            at += WINDOW_BYTES as u64;
        }
        Ok(tail)
    }

    fn place(&self, offset: u64) -> Place {
        Place { store_id: self.header.store_id, segment: self.header.number, offset }
    }

    fn wrong_len(&self) -> Error {
        let (len, capacity) = (self.window.len, self.header.capacity);
        let what = if self.state.sealed {
            format!("the file has {len} bytes, and neither ends with its seal nor has its full {capacity}")
        } else {
            format!("the file has {len} bytes, and a segment without a seal has its full {capacity}")
        };
        self.window.corrupt(len.min(self.state.end), what)
    }
}

/// What follows the last frame that verifies.
#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Behind the last byte that is not zero.
    content_end: Option<u64>,
    /// A frame header that verifies, apart from one at the very beginning.
    later_frame: Option<u64>,
}

/// How much is read at once, when no frame is longer.
const WINDOW_BYTES: usize = 1 << 20;

const _: () = assert!(WINDOW_BYTES.is_multiple_of(ALIGNMENT));

/// A part of a file in memory.
struct Window<'a> {
    path: &'a Path,
    file: Box<dyn StorageFile>,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn open(storage: &dyn Storage, path: &'a Path) -> Result<Self> {
        let file = storage.open(path).map_err(|error| Error::io("open", path, error))?;
        let len = file.len().map_err(|error| Error::io("read", path, error))?;
        Ok(Self { path, file, len, start: 0, bytes: Vec::new() })
    }

    fn segment_header(&mut self, store_id: u64, number: u64) -> Result<SegmentHeader> {
        if self.len < SEGMENT_HEADER_BYTES as u64 {
            return Err(self.corrupt(self.len, "the file ends within the segment header"));
        }
        let bytes = self.slice(0, SEGMENT_HEADER_BYTES as u64)?.first_chunk().copied();
        let header = match SegmentHeader::decode(&bytes.ok_or_else(|| self.ended_early(0))?) {
            Ok(header) => header,
            Err(HeaderError::Damaged { offset, what }) => return Err(self.corrupt(offset as u64, what)),
            Err(HeaderError::Newer { version: found }) => {
                return Err(Error::UnsupportedVersion { file: self.path.to_owned(), found, supported: VERSION });
            }
        };
        if header.store_id != store_id {
            return Err(self.corrupt(segment::STORE_ID as u64, "the segment belongs to another store"));
        }
        if header.number != number {
            let what = format!("the segment has number {}, and its name says {number}", header.number);
            return Err(self.corrupt(segment::NUMBER as u64, what));
        }
        Ok(header)
    }

    fn frame_header(&mut self, offset: u64) -> Result<[u8; FRAME_HEADER_BYTES]> {
        let header = self.slice(offset, FRAME_HEADER_BYTES as u64)?.first_chunk().copied();
        header.ok_or_else(|| self.ended_early(offset))
    }

    /// These bytes of the file. Never more is allocated than the file holds.
    fn slice(&mut self, offset: u64, len: u64) -> Result<&[u8]> {
        let range = match self.range_in_window(offset, len) {
            Some(range) => range,
            None => {
                self.fill(offset, len)?;
                self.range_in_window(offset, len).ok_or_else(|| self.ended_early(offset))?
            }
        };
        Ok(&self.bytes[range])
    }

    fn range_in_window(&self, offset: u64, len: u64) -> Option<Range<usize>> {
        let begin = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        let end = begin.checked_add(usize::try_from(len).ok()?)?;
        (end <= self.bytes.len()).then_some(begin..end)
    }

    fn fill(&mut self, offset: u64, wanted: u64) -> Result<()> {
        let left = self.len.saturating_sub(offset);
        let len = wanted.max(WINDOW_BYTES as u64).min(left);
        let len = usize::try_from(len).map_err(|_| self.corrupt(offset, "a frame does not fit in memory"))?;
        self.start = offset;
        self.bytes.resize(len, 0);
        let read = self.file.read_at(&mut self.bytes, offset).map_err(|error| Error::io("read", self.path, error))?;
        self.bytes.truncate(read);
        Ok(())
    }

    fn ended_early(&self, offset: u64) -> Error {
        self.corrupt(offset, "the file ended before its length")
    }

    fn corrupt(&self, offset: u64, what: impl Into<String>) -> Error {
        Error::corrupt(self.path, offset, what)
    }
}
