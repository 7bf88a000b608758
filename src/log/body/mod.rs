//! The body of an epoch's frame: each changed counter once, with its value at the end of the epoch, and each changed
//! like once, as it is then.
//!
//! ```text
//! body    = group*
//! group   = subject shard (counters | likes)         varints; u32
//! subject = varint: namespace * 4 + kind             u16; kind 0: counters, 1: likes by viewers of 64 bits,
//!                                                    2: likes by viewers of 128 bits
//!
//! counters = n-set  n-named-set  n-removed  n-named-removed          varints; not all zero
//!            set{n-set}  named-set{n-named-set}  removed{n-removed}  named-removed{n-named-removed}
//!
//! set           = gap value
//! named-set     = gap key value
//! removed       = gap
//! named-removed = gap key
//!
//! likes  = n-items item{n-items}                     varint; not zero
//! item   = gap extent edge{n-edges}
//! extent = varint: n-edges * 2 + cleared             not zero; cleared: the edges from before the epoch are gone
//! edge   = viewer state
//! viewer = varint, or 16 bytes little-endian         of 64 bits; of 128 bits
//! state  = varint: time * 4 + kind                   kind 0: like, 1: unlike, 2: gone
//! time   = zigzag; the edge's time less that of the like or unlike before it in the same group, or less 0 for the
//!          first; 0 for an edge that is gone, which has no time
//!
//! gap   = varint; the slot less the one after the slot before it in the same list, or less 0 for the list's first
//! key   = varint length (1 to 1024), then as many bytes
//! value = zigzag varint
//! ```
//!
//! Slots ascend strictly in each list, because a gap cannot say anything else; items are a list too. Varints are those
//! of [`crate::varint`].

use crate::edge::{Content, Stamp, ViewerWidth};
use crate::{reuse, varint};

mod counters;
mod likes;
#[cfg(test)]
mod tests;

/// A change to one counter, or to one item's likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// The counter that the slot is known to be has this value.
    Set {
        /// Its slot in the shard.
        slot: u32,
        /// Its value.
        value: i64,
    },
    /// The slot is this key's from here on, and the counter has this value.
    NamedSet {
        /// Its slot in the shard.
        slot: u32,
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: i64,
    },
    /// The counter that the slot is known to be was removed.
    Removed {
        /// Its slot in the shard.
        slot: u32,
    },
    /// The counter of this key, in this slot, was removed.
    NamedRemoved {
        /// Its slot in the shard.
        slot: u32,
        /// Its key.
        key: &'a [u8],
    },
    /// The item that the slot is known to be lost all edges from before the epoch.
    Cleared {
        /// Its slot in the shard.
        slot: u32,
    },
    /// The item that the slot is known to be has this edge.
    Edge {
        /// Its slot in the shard.
        slot: u32,
        /// Who liked or unliked it.
        viewer: u128,
        /// When, and which of the two; `None` for an edge that is gone.
        stamp: Option<Stamp>,
    },
}

impl Record<'_> {
    /// The slot of the counter or item that changed.
    pub(crate) fn slot(&self) -> u32 {
        match *self {
            Self::Set { slot, .. }
            | Self::NamedSet { slot, .. }
            | Self::Removed { slot }
            | Self::NamedRemoved { slot, .. }
            | Self::Cleared { slot }
            | Self::Edge { slot, .. } => slot,
        }
    }
}

/// What the records of a group are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// The number of the namespace.
    pub(crate) namespace: u16,
    /// The shard of the run that wrote them.
    pub(crate) shard: u32,
    /// Which records there can be: those of edges, or all others.
    pub(crate) kind: Content,
}

/// Builds a body. It keeps its buffers, so that a body costs no allocation once they have grown; but not those that a
/// body far larger than the last one needed.
#[derive(Debug)]
pub(crate) struct BodyEncoder {
    body: Vec<u8>,
    group: Group,
    counters: counters::Lists,
    likes: likes::Items,
}

impl Default for BodyEncoder {
    fn default() -> Self {
        let group = Group { namespace: 0, shard: 0, kind: Content::Counters };
        Self { body: Vec::new(), group, counters: counters::Lists::default(), likes: likes::Items::default() }
    }
}

impl BodyEncoder {
    /// Starts over with an empty body.
    pub(crate) fn clear(&mut self) {
        reuse::clear(&mut self.body);
        self.counters.give_up();
        self.likes.give_up();
    }

    /// Begins the changes of counters of a shard of a namespace.
    pub(crate) fn begin_group(&mut self, namespace: u16, shard: u32) {
        self.counters.clear();
        self.group = Group { namespace, shard, kind: Content::Counters };
    }

    /// Adds a change of a counter. Slots ascend strictly over all records of a group, of whatever kind, and a key has 1
    /// to [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES) bytes. Edges go to [`push_item`](Self::push_item).
    #[inline]
    pub(crate) fn push(&mut self, record: Record<'_>) {
        debug_assert_eq!(self.group.kind, Content::Counters, "a group of counters was begun");
        self.counters.push(record);
    }

    /// Ends the group of counters. One without a change leaves no trace.
    pub(crate) fn end_group(&mut self) {
        if !self.counters.is_empty() {
            put_group(&mut self.body, self.group);
            self.counters.append_to(&mut self.body);
            self.counters.give_up();
        }
    }

    /// Begins the changes of likes of a shard of a namespace.
    pub(crate) fn begin_likes(&mut self, namespace: u16, shard: u32, width: ViewerWidth) {
        self.likes.clear();
        self.group = Group { namespace, shard, kind: Content::Edges(width) };
    }

    /// Adds the changed edges of an item, each viewer's once, and whether those from before the epoch are gone. Slots
    /// ascend strictly, and viewers fit the group's width. An item without a change leaves no trace.
    pub(crate) fn push_item(
        &mut self,
        slot: u32,
        cleared: bool,
        edges: impl IntoIterator<Item = (u128, Option<Stamp>)>,
    ) {
        let Content::Edges(width) = self.group.kind else {
            return debug_assert!(false, "a group of likes was begun");
        };
        self.likes.push(width, slot, cleared, edges);
    }

    /// Ends the group of likes. One without an item leaves no trace.
    pub(crate) fn end_likes(&mut self) {
        if !self.likes.is_empty() {
            put_group(&mut self.body, self.group);
            self.likes.append_to(&mut self.body);
            self.likes.give_up();
        }
    }

    /// The body as of the last group that ended.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.body
    }
}

const KIND_BITS: u32 = 2;
const KIND_COUNTERS: u64 = 0;
const KIND_LIKES_64: u64 = 1;
const KIND_LIKES_128: u64 = 2;

fn put_group(out: &mut Vec<u8>, Group { namespace, shard, kind }: Group) {
    let kind = match kind {
        Content::Counters => KIND_COUNTERS,
        Content::Edges(ViewerWidth::Bits64) => KIND_LIKES_64,
        Content::Edges(ViewerWidth::Bits128) => KIND_LIKES_128,
    };
    varint::put_u64(out, u64::from(namespace) << KIND_BITS | kind);
    varint::put_u64(out, u64::from(shard));
}

/// Why bytes are not a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where, from the body's start.
    pub(crate) offset: usize,
    /// What was found.
    pub(crate) what: &'static str,
}

/// Hands every change of a body to `visit`, with its group. What `visit` refuses makes the body malformed at that
/// record. Nothing is allocated.
pub(crate) fn decode_body<'a>(
    body: &'a [u8],
    mut visit: impl FnMut(Group, Record<'a>) -> Result<(), &'static str>,
) -> Result<(), Malformed> {
    let mut decoder = Decoder { body, at: 0 };
    while decoder.at < body.len() {
        let start = decoder.at;
        let group = decoder.group()?;
        let mut visit = |record| visit(group, record);
        match group.kind {
            Content::Counters => counters::decode(&mut decoder, start, &mut visit)?,
            Content::Edges(width) => likes::decode(&mut decoder, start, width, &mut visit)?,
        }
    }
    Ok(())
}

/// A cursor over a body that never reads past its end.
struct Decoder<'a> {
    body: &'a [u8],
    at: usize,
}

impl Decoder<'_> {
    fn group(&mut self) -> Result<Group, Malformed> {
        let offset = self.at;
        let subject = self.unsigned::<u64>("a namespace is not 16 bits")?;
        let namespace = u16::try_from(subject >> KIND_BITS);
        let namespace = namespace.map_err(|_| Malformed { offset, what: "a namespace is not 16 bits" })?;
        let kind = match subject & ((1 << KIND_BITS) - 1) {
            KIND_COUNTERS => Content::Counters,
            KIND_LIKES_64 => Content::Edges(ViewerWidth::Bits64),
            KIND_LIKES_128 => Content::Edges(ViewerWidth::Bits128),
            _ => return Err(Malformed { offset, what: "a group is of a kind that there is not" }),
        };
        Ok(Group { namespace, shard: self.unsigned("a shard is not 32 bits")?, kind })
    }

    /// The slot that a gap leads to, and in `next_slot` the one after it.
    fn slot(&mut self, next_slot: &mut u64) -> Result<u32, Malformed> {
        let offset = self.at;
        let gap = self.unsigned::<u64>("a slot is not 32 bits")?;
        let slot = next_slot.checked_add(gap).and_then(|slot| u32::try_from(slot).ok());
        let slot = slot.ok_or(Malformed { offset, what: "a slot is not 32 bits" })?;
        *next_slot = u64::from(slot) + 1;
        Ok(slot)
    }

    fn unsigned<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, Malformed> {
        let offset = self.at;
        varint::get_u64(self.body, &mut self.at)
            .and_then(|value| T::try_from(value).ok())
            .ok_or(Malformed { offset, what })
    }

    /// How many bytes are left.
    fn left(&self) -> u64 {
        (self.body.len() - self.at) as u64
    }
}
