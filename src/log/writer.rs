//! Appends frames to the log and makes them durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    ALIGNMENT, FRAME_HEADER_BYTES, FrameHeader, Kind, Place, SEGMENT_HEADER_BYTES, SegmentHeader, frame_len,
};
use super::{Seal, segment_path};
use crate::reuse;
use crate::storage::{Storage, StorageFile};
use crate::{Error, Result};

/// Where the log ends, as recovery found it.
#[derive(Debug, Clone)]
pub(crate) struct LogEnd {
    /// The number that the next segment gets.
    pub(crate) next_segment: u64,
    /// The chain value after the last frame.
    pub(crate) chain: u32,
    /// The last epoch; the next frame's is greater.
    pub(crate) last_epoch: u64,
    /// The last segment, unless there is none.
    pub(crate) last: Option<LastSegment>,
}

/// The last segment of a log, as recovery found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastSegment {
    /// Its number.
    pub(crate) number: u64,
    /// Where its last frame begins; `end` when it has none.
    pub(crate) last_frame: u64,
    /// Where its last frame ends.
    pub(crate) end: u64,
    /// Whether its last frame is a close seal.
    pub(crate) sealed: bool,
}

/// How much room a new segment must reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// The usual length of a segment.
    Segment,
    /// What the next frame needs.
    TheBody,
}

/// Whether a segment is open for frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenSegment {
    /// The next frame goes to a new one.
    None,
    /// It has no frame yet.
    Empty,
    /// It has frames.
    InUse,
}

/// The writing end of the log.
///
/// After a failure that is not [temporary](Error::is_temporary) the state of the disk is unknown, and the writer must
/// not be used any more.
#[derive(Debug)]
pub(crate) struct LogWriter {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    store_id: u64,
    segment_bytes: u64,
    next_segment: u64,
    chain: u32,
    last_epoch: u64,
    /// What recovery found, until [`LogWriter::settle`] has made it durable.
    recovered: Option<LastSegment>,
    segment: Option<Segment>,
    /// The segment before the open one, while that has no durable frame: until then it may be what the manifest calls
    /// the last, which must have its full length.
    superseded: Option<Segment>,
    buffer: Vec<u8>,
    bytes_written: u64,
}

/// The last segment of the log.
#[derive(Debug)]
struct Segment {
    number: u64,
    path: PathBuf,
    file: Box<dyn StorageFile>,
    capacity: u64,
    end: u64,
    /// The next frame goes to a new segment; only a close seal may follow.
    ended: bool,
    sealed: bool,
    /// Whether a frame was begun at `end` and not synced.
    dirty: bool,
    written: Option<Written>,
}

/// A frame that was written whole and not synced.
#[derive(Debug, Clone, Copy)]
struct Written {
    end: u64,
    chain: u32,
    epoch: u64,
}

impl LogWriter {
    /// A writer that continues the log at `end`. It touches nothing on disk.
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: PathBuf, store_id: u64, end: LogEnd, segment_bytes: u64) -> Self {
        let LogEnd { next_segment, chain, last_epoch, last } = end;
        Self {
            storage,
            dir,
            store_id,
            segment_bytes,
            next_segment,
            chain,
            last_epoch,
            recovered: last,
            segment: None,
            superseded: None,
            buffer: Vec::new(),
            bytes_written: 0,
        }
    }

    /// Makes durable what recovery found at the log's end. Later frames chain to it, and it may so far be in the
    /// operating system's cache only: the process may have died before its sync, or because of a sync that failed,
    /// after which the system takes unwritten bytes for written. So the last frame is written again, with the same
    /// bytes, and synced. Only the last one, because a frame is synced before the next is written.
    ///
    /// Happens once, at the latest when something is to be appended; further calls do nothing.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let Some(last) = self.recovered else { return Ok(()) };
        let path = segment_path(&self.dir, last.number);
        let file = self.storage.open(&path).map_err(|error| Error::io("open", &path, error))?;
        let capacity = file.len().map_err(|error| Error::io("read", &path, error))?;
        let len = last.end.checked_sub(last.last_frame).filter(|_| last.end <= capacity);
        let len = len.and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or_else(|| Error::corrupt(&path, capacity, "the file became shorter after it was read"))?;
        self.buffer.clear();
        self.buffer.resize(len, 0);
        let read = file.read_at(&mut self.buffer, last.last_frame);
        if read.map_err(|error| Error::io("read", &path, error))? != len {
            return Err(Error::corrupt(&path, last.last_frame, "the file became shorter after it was read"));
        }
        file.write_all_at(&self.buffer, last.last_frame).map_err(|error| Error::io("write", &path, error))?;
        // Its name is durable already: the manifest names a segment only after that.
        file.sync().map_err(|error| Error::sync(&path, error))?;
        let LastSegment { number, end, sealed, .. } = last;
        let (ended, dirty, written) = (true, false, None);
        self.segment = Some(Segment { number, path, file, capacity, end, ended, sealed, dirty, written });
        self.recovered = None;
        Ok(())
    }

    /// Whether the open segment takes a frame with a body of this length, and a close seal after it.
    pub(crate) fn has_room(&self, body_len: usize) -> bool {
        let needed = frame_len(body_len as u64).and_then(|len| len.checked_add(FRAME_HEADER_BYTES as u64));
        let open = self.segment.as_ref().filter(|segment| !segment.ended);
        open.zip(needed).is_some_and(|(segment, needed)| needed <= segment.capacity.saturating_sub(segment.end))
    }

    /// The segment that takes the next frame, if there is one.
    pub(crate) fn open_segment(&self) -> OpenSegment {
        match &self.segment {
            Some(segment) if segment.ended => OpenSegment::None,
            Some(segment) if segment.end > SEGMENT_HEADER_BYTES as u64 => OpenSegment::InUse,
            Some(_) => OpenSegment::Empty,
            None => OpenSegment::None,
        }
    }

    /// The number that the next segment gets.
    pub(crate) fn next_segment(&self) -> u64 {
        self.next_segment
    }

    /// The number of the newest segment; 0 when there never was one.
    pub(crate) fn last_segment(&self) -> u64 {
        self.next_segment - 1
    }

    /// The newest epoch that is durable.
    pub(crate) fn last_epoch(&self) -> u64 {
        self.last_epoch
    }

    /// Creates the next segment, with room for a body of this length at least, and answers its number. Until it
    /// succeeds no number is used up, and after a temporary failure it may be called again, or the open segment goes
    /// on.
    ///
    /// `at_least` is the room that it must reserve; the usual length where the disk has that.
    pub(crate) fn create_segment(&mut self, first_epoch: u64, body_len: usize, at_least: Reserve) -> Result<u64> {
        self.settle()?;
        self.retract()?;
        let number = self.next_segment;
        let path = segment_path(&self.dir, number);
        let mut created = self.create_file(&path, first_epoch, body_len, self.segment_bytes);
        if at_least == Reserve::TheBody && created.as_ref().is_err_and(Error::is_storage_full) {
            // The room that a segment reserves must not be what keeps a frame out.
            created = self.create_file(&path, first_epoch, body_len, 0);
        }
        let (file, capacity) = created?;
        // The name cannot be taken back for sure once it is given, so a failure here is like a failed sync. Not so when
        // the directory could not even be opened: then the next attempt gives the name again.
        self.storage.sync_dir(&self.dir).map_err(|error| Error::sync(&self.dir, error))?;

        let end = SEGMENT_HEADER_BYTES as u64;
        let (ended, sealed, dirty, written) = (false, false, false, None);
        let segment = Segment { number, path, file, capacity, end, ended, sealed, dirty, written };
        self.superseded = self.segment.replace(segment).filter(|before| !before.sealed);
        self.next_segment = number.saturating_add(1);
        self.bytes_written += end;
        Ok(number)
    }

    /// Writes a frame at the log's end, which stays where it is until [`LogWriter::sync`]. After
    /// [`Error::StorageFull`] it may be called again with the same arguments.
    pub(crate) fn write_frame(&mut self, epoch: u64, time_ms: u64, body: &[u8]) -> Result<()> {
        debug_assert!(epoch > self.last_epoch, "epochs ascend");
        if !self.has_room(body.len()) {
            return Err(too_large(&segment_path(&self.dir, self.next_segment)));
        }
        self.write_at_end(Kind::Epoch, epoch, time_ms, body)
    }

    /// Makes the frame that was written durable; only now it belongs to the log. After a failure it must not be
    /// called again. A failure is never [`Error::StorageFull`], so that nobody takes it for one to retry.
    pub(crate) fn sync(&mut self) -> Result<()> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let Some(written) = segment.written else { return Ok(()) };
        segment.file.sync().map_err(|error| Error::sync(&segment.path, error))?;
        self.bytes_written += written.end - segment.end;
        segment.end = written.end;
        segment.dirty = false;
        segment.written = None;
        self.chain = written.chain;
        self.last_epoch = written.epoch;
        if let Some(before) = self.superseded.take() {
            // Only gives back room that will not be used: the reader takes either length, so that it may fail.
            let _ = before.file.truncate(before.end);
        }
        Ok(())
    }

    /// Lets the next frame go to a new segment.
    pub(crate) fn end_segment(&mut self) {
        if let Some(segment) = &mut self.segment {
            segment.ended = true;
        }
    }

    /// Ends the log with a close seal, and answers it once it is durable. A frame that was written and not synced is
    /// discarded by it. After [`Error::StorageFull`] it may be called again. Writes nothing when the last segment is
    /// sealed already; `None` when there is no segment.
    pub(crate) fn close(&mut self, time_ms: u64) -> Result<Option<Seal>> {
        self.settle()?;
        if self.segment.as_ref().is_some_and(|segment| !segment.sealed) {
            self.seal(time_ms)?;
        }
        let (epoch, chain) = (self.last_epoch, self.chain);
        Ok(self.segment.as_ref().map(|segment| Seal { end: segment.end, epoch, chain }))
    }

    fn seal(&mut self, time_ms: u64) -> Result<()> {
        self.write_at_end(Kind::Close, self.last_epoch, time_ms, &[])?;
        self.sync()?;
        let Some(segment) = &mut self.segment else { return Ok(()) };
        segment.ended = true;
        segment.sealed = true;
        // Only now, because only a sealed segment may be shorter than it was created. It only gives back room that will
        // not be used, and the reader takes either length, so it is not synced.
        let _ = segment.file.truncate(segment.end);
        Ok(())
    }

    /// How many bytes of headers and frames became durable through this writer.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Creates the file of a segment under a temporary name, and gives it its own once its header is durable. Answers
    /// the file and its length, which is at least `segment_bytes`.
    fn create_file(
        &self,
        path: &Path,
        first_epoch: u64,
        body_len: usize,
        segment_bytes: u64,
    ) -> Result<(Box<dyn StorageFile>, u64)> {
        let capacity = capacity_for(segment_bytes, body_len as u64).ok_or_else(|| too_large(path))?;
        let (store_id, number, prev_chain) = (self.store_id, self.next_segment, self.chain);
        let header = SegmentHeader { store_id, number, capacity, first_epoch, prev_chain };
        let temporary = &path.with_extension("log.tmp");
        let failed = |action| move |error: io::Error| Error::io(action, temporary, error);
        let create = || {
            let file = self.storage.create(temporary).map_err(failed("create"))?;
            file.allocate(capacity).map_err(failed("allocate"))?;
            file.write_all_at(&header.encode(), 0).map_err(failed("write"))?;
            file.sync().map_err(failed("sync"))?;
            self.storage.rename(temporary, path).map_err(failed("rename"))?;
            Ok((file, capacity))
        };
        create().inspect_err(|error: &Error| {
            if error.is_storage_full() {
                // It may be what fills the disk. When it cannot be removed, the next attempt overwrites it.
                let _ = self.storage.remove_file(temporary);
            }
        })
    }

    /// Makes sure that a frame that was begun and not synced does not verify, before the log goes on in another
    /// segment without it. Only the seal of a close comes to that: when its write finds no room the store stays open,
    /// and a compaction or a large epoch may need a new segment. An epoch is written again where it was begun.
    fn retract(&mut self) -> Result<()> {
        let Some(segment) = self.segment.as_mut().filter(|segment| segment.dirty) else { return Ok(()) };
        let Segment { file, path, end, .. } = segment;
        file.write_all_at(&[0; FRAME_HEADER_BYTES], *end).map_err(|error| Error::io("write", path, error))?;
        file.sync().map_err(|error| Error::sync(path, error))?;
        segment.written = None;
        segment.dirty = false;
        Ok(())
    }

    fn write_at_end(&mut self, kind: Kind, epoch: u64, time_ms: u64, body: &[u8]) -> Result<()> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let place = Place { store_id: self.store_id, segment: segment.number, offset: segment.end };
        let (body_len, body_crc) = (body.len() as u64, crc32c::crc32c(body));
        let header = FrameHeader { kind, body_len, epoch, time_ms, body_crc, prev_chain: self.chain };
        let (bytes, chain) = header.encode(place);
        // One buffer and one write: a system call costs more than a copy of the body.
        reuse::clear(&mut self.buffer);
        self.buffer.extend_from_slice(&bytes);
        self.buffer.extend_from_slice(body);
        self.buffer.resize(self.buffer.len().next_multiple_of(ALIGNMENT), 0);
        segment.written = None;
        segment.dirty = true;
        let written = segment.file.write_all_at(&self.buffer, segment.end);
        written.map_err(|error| Error::io("write", &segment.path, error))?;
        segment.written = Some(Written { end: segment.end + self.buffer.len() as u64, chain, epoch });
        Ok(())
    }
}

/// Segments are whole pages long.
const CAPACITY_UNIT: u64 = 4096;

/// The length of a segment that takes at least a frame with a body of this length, and a close seal.
fn capacity_for(segment_bytes: u64, body_len: u64) -> Option<u64> {
    let headers = (SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES) as u64;
    let needed = frame_len(body_len)?.checked_add(headers)?;
    needed.max(segment_bytes).checked_next_multiple_of(CAPACITY_UNIT)
}

fn too_large(path: &Path) -> Error {
    Error::io("write", path, io::Error::new(io::ErrorKind::InvalidInput, "no open segment has room for the frame"))
}
