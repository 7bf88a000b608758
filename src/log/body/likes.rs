//! A group of likes: items by slot, each with the edges that changed.

use super::{Decoder, Malformed, Record};
use crate::edge::{Stamp, ViewerWidth};
use crate::limits::MAX_TIME_MS;
use crate::reuse;
use crate::varint;

const STATE_BITS: u32 = 2;
const STATE_LIKE: u64 = 0;
const STATE_UNLIKE: u64 = 1;
const STATE_GONE: u64 = 2;

/// The items of a group that is being built.
#[derive(Debug, Default)]
pub(super) struct Items {
    bytes: Vec<u8>,
    count: u64,
    next_slot: u64,
    /// The time of the newest like or unlike that was added.
    time_ms: u64,
    /// The edges of one item, which their number is written before.
    edges: Vec<u8>,
}

impl Items {
    /// Gives up what is not appended yet. How much room to keep [`clear`](Self::clear) sees by what there was.
    pub(super) fn give_up(&mut self) {
        self.count = 0;
    }

    /// For the next group.
    pub(super) fn clear(&mut self) {
        reuse::clear(&mut self.bytes);
        self.count = 0;
        self.next_slot = 0;
        self.time_ms = 0;
    }

    pub(super) fn push(
        &mut self,
        width: ViewerWidth,
        slot: u32,
        cleared: bool,
        edges: impl IntoIterator<Item = (u128, Option<Stamp>)>,
    ) {
        debug_assert!(u64::from(slot) >= self.next_slot, "slots ascend strictly in a group");
        reuse::clear(&mut self.edges);
        let mut count = 0u64;
        for (viewer, stamp) in edges {
            put_viewer(&mut self.edges, width, viewer);
            let state = self.state(stamp);
            varint::put_u64(&mut self.edges, state);
            count += 1;
        }
        let extent = count << 1 | u64::from(cleared);
        if extent == 0 {
            return;
        }
        varint::put_u64(&mut self.bytes, u64::from(slot) - self.next_slot);
        varint::put_u64(&mut self.bytes, extent);
        self.bytes.extend_from_slice(&self.edges);
        self.next_slot = u64::from(slot) + 1;
        self.count += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn append_to(&self, body: &mut Vec<u8>) {
        varint::put_u64(body, self.count);
        body.extend_from_slice(&self.bytes);
    }

    fn state(&mut self, stamp: Option<Stamp>) -> u64 {
        let Some(stamp) = stamp else { return STATE_GONE };
        let difference = stamp.time_ms() as i64 - self.time_ms as i64;
        self.time_ms = stamp.time_ms();
        varint::zigzag(difference) << STATE_BITS | if stamp.is_like() { STATE_LIKE } else { STATE_UNLIKE }
    }
}

fn put_viewer(out: &mut Vec<u8>, width: ViewerWidth, viewer: u128) {
    match width {
        ViewerWidth::Bits64 => {
            debug_assert!(u64::try_from(viewer).is_ok(), "callers check the viewer");
            varint::put_u64(out, viewer as u64);
        }
        ViewerWidth::Bits128 => out.extend_from_slice(&viewer.to_le_bytes()),
    }
}

const _: () = assert!((MAX_TIME_MS << 1 | 1) >> (u64::BITS - STATE_BITS) == 0, "any difference fits beside the kind");

/// The fewest bytes that an item takes: a gap, an extent.
const MIN_ITEM_BYTES: u64 = 2;

/// The fewest bytes that an edge takes: a viewer, a state.
fn min_edge_bytes(width: ViewerWidth) -> u64 {
    match width {
        ViewerWidth::Bits64 => 2,
        ViewerWidth::Bits128 => width.bytes() as u64 + 1,
    }
}

/// Reads a group that began at `start`, from behind its shard on.
pub(super) fn decode<'a>(
    decoder: &mut Decoder<'a>,
    start: usize,
    width: ViewerWidth,
    visit: &mut impl FnMut(Record<'a>) -> Result<(), &'static str>,
) -> Result<(), Malformed> {
    let count = decoder.unsigned::<u64>("an item count is not 64 bits")?;
    if count == 0 {
        return Err(Malformed { offset: start, what: "a group has no items" });
    }
    if count.checked_mul(MIN_ITEM_BYTES).is_none_or(|needed| needed > decoder.left()) {
        return Err(Malformed { offset: start, what: "a group has more items than bytes" });
    }
    let (mut next_slot, mut time_ms) = (0, 0);
    for _ in 0..count {
        decoder.item(width, &mut next_slot, &mut time_ms, visit)?;
    }
    Ok(())
}

impl<'a> Decoder<'a> {
    fn item(
        &mut self,
        width: ViewerWidth,
        next_slot: &mut u64,
        time_ms: &mut u64,
        visit: &mut impl FnMut(Record<'a>) -> Result<(), &'static str>,
    ) -> Result<(), Malformed> {
        let offset = self.at;
        let slot = self.slot(next_slot)?;
        let extent = self.unsigned::<u64>("an edge count is not 63 bits")?;
        if extent == 0 {
            return Err(Malformed { offset, what: "an item has no change" });
        }
        let (count, cleared) = (extent >> 1, extent & 1 == 1);
        if count.checked_mul(min_edge_bytes(width)).is_none_or(|needed| needed > self.left()) {
            return Err(Malformed { offset, what: "an item has more edges than bytes" });
        }
        if cleared {
            visit(Record::Cleared { slot }).map_err(|what| Malformed { offset, what })?;
        }
        for _ in 0..count {
            let offset = self.at;
            let (viewer, stamp) = (self.viewer(width)?, self.stamp(time_ms)?);
            visit(Record::Edge { slot, viewer, stamp }).map_err(|what| Malformed { offset, what })?;
        }
        Ok(())
    }

    fn viewer(&mut self, width: ViewerWidth) -> Result<u128, Malformed> {
        match width {
            ViewerWidth::Bits64 => self.unsigned::<u64>("a viewer is not 64 bits").map(u128::from),
            ViewerWidth::Bits128 => {
                let viewer = self.body[self.at..].first_chunk();
                let viewer = viewer.ok_or(Malformed { offset: self.at, what: "a viewer is cut off" })?;
                self.at += viewer.len();
                Ok(u128::from_le_bytes(*viewer))
            }
        }
    }

    /// What an edge is, with its time in `time_ms`, which has that of the like or unlike before it.
    fn stamp(&mut self, time_ms: &mut u64) -> Result<Option<Stamp>, Malformed> {
        let offset = self.at;
        let state = self.unsigned::<u64>("an edge's state is not 64 bits")?;
        let is_like = match state & ((1 << STATE_BITS) - 1) {
            STATE_LIKE => true,
            STATE_UNLIKE => false,
            STATE_GONE if state == STATE_GONE => return Ok(None),
            STATE_GONE => return Err(Malformed { offset, what: "an edge that is gone has a time" }),
            _ => return Err(Malformed { offset, what: "an edge is in a state that there is not" }),
        };
        let time = time_ms.checked_add_signed(varint::unzigzag(state >> STATE_BITS));
        let time = time.filter(|&time| time <= MAX_TIME_MS);
        *time_ms = time.ok_or(Malformed { offset, what: "an edge has a time that none can have" })?;
        Ok(Some(Stamp::new(*time_ms, is_like)))
    }
}
