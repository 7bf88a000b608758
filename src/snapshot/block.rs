//! A block: some 8 KiB of counters, or of likes, of one namespace, under one checksum.
//!
//! ```text
//! block   := crc32c:u32 magic:4 generation:u64 index:u64 namespace:u16 count:u32 payload_len:u32 payload
//! payload := counter{count} | item{count}
//! counter := key_len:varint key value:zigzag-varint
//! item    := key_len:varint key edges:u16 edge{edges}
//! edge    := viewer stamp:6
//! ```
//!
//! The magic says what the entries are: counters, items with viewers of 8 bytes, or items with viewers of 16 bytes. An
//! item has an edge at least, and another key than the item before it: one that goes on has its key again in the next
//! block.
//!
//! Integers are little-endian. The checksum covers every byte after itself. Generation and index are part
//! of what it covers, so a block that is found in another's place, or in another generation, is noticed.

use std::ops::Range;

use crate::MAX_KEY_BYTES;
use crate::edge::{Content, Stamp, ViewerWidth};
use crate::varint;

#[cfg(feature = "fuzzing")]
pub(super) mod repair;

const MAGIC_COUNTERS: [u8; 4] = *b"PLDB";
const MAGIC_EDGES_64: [u8; 4] = *b"PLE1";
const MAGIC_EDGES_128: [u8; 4] = *b"PLE2";

const MAGIC_AT: usize = size_of::<u32>();
const GENERATION_AT: usize = MAGIC_AT + MAGIC_COUNTERS.len();
const INDEX_AT: usize = GENERATION_AT + size_of::<u64>();
const NAMESPACE_AT: usize = INDEX_AT + size_of::<u64>();
const COUNT_AT: usize = NAMESPACE_AT + size_of::<u16>();
const PAYLOAD_LEN_AT: usize = COUNT_AT + size_of::<u32>();

/// The bytes of a block before its entries.
pub(crate) const HEADER_BYTES: usize = PAYLOAD_LEN_AT + size_of::<u32>();

/// The bytes that a block has at most.
pub(crate) const MAX_BLOCK_BYTES: usize = 8 * 1024;

/// The bytes that a counter takes at least: a key's length, its one byte, a value.
pub(crate) const MIN_ENTRY_BYTES: u64 = 3;

/// The bytes of an item's number of edges.
const EDGES_BYTES: usize = size_of::<u16>();

const KEY_LEN_BYTES: usize = 2;
const MAX_COUNTER_BYTES: usize = KEY_LEN_BYTES + MAX_KEY_BYTES + varint::MAX_BYTES;
pub(super) const MAX_ITEM_BYTES: usize = KEY_LEN_BYTES + MAX_KEY_BYTES + EDGES_BYTES + size_of::<u128>() + Stamp::BYTES;
const _: () = assert!(MAX_KEY_BYTES < 1 << 14, "a key's length takes at most two varint bytes");
const _: () = assert!(HEADER_BYTES + MAX_COUNTER_BYTES <= MAX_BLOCK_BYTES, "any counter fits an empty block");
const _: () = assert!(HEADER_BYTES + MAX_ITEM_BYTES <= MAX_BLOCK_BYTES, "any item of one edge fits an empty block");
const _: () = assert!(MAX_BLOCK_BYTES <= u16::MAX as usize, "as many edges as fit a block can be counted");

const fn magic_of(kind: Content) -> [u8; 4] {
    match kind {
        Content::Counters => MAGIC_COUNTERS,
        Content::Edges(ViewerWidth::Bits64) => MAGIC_EDGES_64,
        Content::Edges(ViewerWidth::Bits128) => MAGIC_EDGES_128,
    }
}

fn kind_of(magic: [u8; 4]) -> Option<Content> {
    match magic {
        MAGIC_COUNTERS => Some(Content::Counters),
        MAGIC_EDGES_64 => Some(Content::Edges(ViewerWidth::Bits64)),
        MAGIC_EDGES_128 => Some(Content::Edges(ViewerWidth::Bits128)),
        _ => None,
    }
}

fn edge_bytes(width: ViewerWidth) -> usize {
    width.bytes() + Stamp::BYTES
}

/// What is wrong with a block, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// In bytes from the start of the block.
    pub(crate) offset: u64,
    /// What was found.
    pub(crate) what: &'static str,
}

/// Packs counters and edges into blocks. Its two buffers are used again for every block.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    generation: u64,
    index: u64,
    namespace: u16,
    kind: Content,
    count: u32,
    /// Where the key of the last item is in the open block; its number of edges is right behind.
    item_key: Range<usize>,
    open: Vec<u8>,
    sealed: Vec<u8>,
}

impl BlockBuilder {
    /// A builder for the blocks of `generation`, the first of which has index 0.
    pub(crate) fn new(generation: u64) -> Self {
        let buffer = || Vec::with_capacity(MAX_BLOCK_BYTES);
        let (open, sealed) = (buffer(), buffer());
        Self { generation, index: 0, namespace: 0, kind: Content::Counters, count: 0, item_key: 0..0, open, sealed }
    }

    /// Adds a counter. When the open block has no room for it, or is of another namespace or kind, that block is
    /// sealed and returned, and the counter is the first of the next one.
    ///
    /// `key` has 1 to [`MAX_KEY_BYTES`] bytes; the store refuses any other long before.
    pub(crate) fn push(&mut self, namespace: u16, key: &[u8], value: i64) -> Option<&[u8]> {
        let full = self.make_room(namespace, Content::Counters, key.len() + varint::MAX_BYTES);
        self.begin_entry(key);
        varint::put_i64(&mut self.open, value);
        full.then_some(self.sealed.as_slice())
    }

    /// Adds an edge of the item of this key, under the rules of [`push`](Self::push). Those of one item that follow one
    /// another share its key. `viewer` fits the width; callers refuse any other long before.
    pub(crate) fn push_edge(
        &mut self,
        namespace: u16,
        width: ViewerWidth,
        key: &[u8],
        viewer: u128,
        stamp: Stamp,
    ) -> Option<&[u8]> {
        debug_assert!(width == ViewerWidth::Bits128 || u64::try_from(viewer).is_ok());
        let kind = Content::Edges(width);
        let goes_on = self.is_open_for(namespace, kind)
            && self.room() >= edge_bytes(width)
            && self.open.get(self.item_key.clone()) == Some(key);
        let full = !goes_on && self.make_room(namespace, kind, key.len() + EDGES_BYTES + edge_bytes(width));
        if !goes_on {
            self.begin_entry(key);
            self.item_key = self.open.len() - key.len()..self.open.len();
            self.open.extend_from_slice(&[0; EDGES_BYTES]);
        }
        if let Some(edges) = self.open[self.item_key.end..].first_chunk_mut() {
            *edges = (u16::from_le_bytes(*edges) + 1).to_le_bytes();
        }
        self.open.extend_from_slice(&viewer.to_le_bytes()[..width.bytes()]);
        self.open.extend_from_slice(&stamp.to_bytes());
        full.then_some(self.sealed.as_slice())
    }

    /// Whether the open block has entries, and others of this namespace and kind belong to them.
    fn is_open_for(&self, namespace: u16, kind: Content) -> bool {
        self.count > 0 && (self.namespace, self.kind) == (namespace, kind)
    }

    fn room(&self) -> usize {
        MAX_BLOCK_BYTES.saturating_sub(self.open.len())
    }

    /// Makes the open block one that has room for an entry of so many bytes beside its key's length. Whether that took
    /// sealing the one before.
    fn make_room(&mut self, namespace: u16, kind: Content, entry_bytes: usize) -> bool {
        let fits = self.is_open_for(namespace, kind) && self.room() >= KEY_LEN_BYTES + entry_bytes;
        let full = self.count > 0 && !fits;
        if full {
            self.seal();
        }
        if self.count == 0 {
            (self.namespace, self.kind) = (namespace, kind);
            self.open.clear();
            self.open.resize(HEADER_BYTES, 0);
        }
        full
    }

    fn begin_entry(&mut self, key: &[u8]) {
        debug_assert!((1..=MAX_KEY_BYTES).contains(&key.len()));
        varint::put_u64(&mut self.open, key.len() as u64);
        self.open.extend_from_slice(key);
        self.count += 1;
    }

    /// Seals and returns the last block; `None` when nothing is left over.
    pub(crate) fn finish(&mut self) -> Option<&[u8]> {
        if self.count == 0 {
            return None;
        }
        self.seal();
        Some(&self.sealed)
    }

    fn seal(&mut self) {
        let payload_len = (self.open.len() - HEADER_BYTES) as u32;
        let block = &mut self.open;
        block[MAGIC_AT..GENERATION_AT].copy_from_slice(&magic_of(self.kind));
        block[GENERATION_AT..INDEX_AT].copy_from_slice(&self.generation.to_le_bytes());
        block[INDEX_AT..NAMESPACE_AT].copy_from_slice(&self.index.to_le_bytes());
        block[NAMESPACE_AT..COUNT_AT].copy_from_slice(&self.namespace.to_le_bytes());
        block[COUNT_AT..PAYLOAD_LEN_AT].copy_from_slice(&self.count.to_le_bytes());
        block[PAYLOAD_LEN_AT..HEADER_BYTES].copy_from_slice(&payload_len.to_le_bytes());
        let checksum = crc32c::crc32c(&block[MAGIC_AT..]);
        block[..MAGIC_AT].copy_from_slice(&checksum.to_le_bytes());
        std::mem::swap(&mut self.open, &mut self.sealed);
        self.index += 1;
        self.count = 0;
    }
}

/// A block whose checksum, generation and index were found right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    namespace: u16,
    kind: Content,
    count: u32,
    checksum: u32,
    payload: &'a [u8],
}

impl<'a> Block<'a> {
    /// Verifies everything about a block but the inside of its entries.
    pub(crate) fn parse(bytes: &'a [u8], generation: u64, index: u64) -> Result<Self, Malformed> {
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or(Malformed::at(bytes.len(), "the block ends early"))?;
        let payload = &bytes[HEADER_BYTES..];
        let checksum = u32::from_le_bytes(field(header, 0));
        if crc32c::crc32c(&bytes[MAGIC_AT..]) != checksum {
            return Err(Malformed::at(0, "the block's checksum does not match"));
        }
        let kind = kind_of(field(header, MAGIC_AT)).ok_or(Malformed::at(MAGIC_AT, "this is not a block"))?;
        if u64::from_le_bytes(field(header, GENERATION_AT)) != generation {
            return Err(Malformed::at(GENERATION_AT, "the block is of another generation"));
        }
        if u64::from_le_bytes(field(header, INDEX_AT)) != index {
            return Err(Malformed::at(INDEX_AT, "the block belongs in another place"));
        }
        if u32::from_le_bytes(field(header, PAYLOAD_LEN_AT)) as usize != payload.len() {
            return Err(Malformed::at(PAYLOAD_LEN_AT, "the block has another length than it says"));
        }
        let namespace = u16::from_le_bytes(field(header, NAMESPACE_AT));
        let count = u32::from_le_bytes(field(header, COUNT_AT));
        Ok(Self { namespace, kind, count, checksum, payload })
    }

    /// The namespace of everything in the block.
    pub(crate) fn namespace(&self) -> u16 {
        self.namespace
    }

    /// What the block holds: [`for_each`](Self::for_each) reads counters, [`for_each_item`](Self::for_each_item) edges.
    pub(crate) fn kind(&self) -> Content {
        self.kind
    }

    /// How many counters, or items, the block says that it holds.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// How many edges the block holds, found by reading it.
    pub(crate) fn edges(&self) -> Result<u64, Malformed> {
        let mut edges = 0;
        self.for_each_item(|_, of_item| {
            edges += of_item.len() as u64;
            Ok::<_, Malformed>(())
        })?;
        Ok(edges)
    }

    /// The checksum over everything else in the block.
    pub(crate) fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The length of the whole block.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Calls `visit` with the key and value of each counter. Stops at the first error, be it of the block or of
    /// `visit`.
    pub(crate) fn for_each<E: From<Malformed>>(
        &self,
        mut visit: impl FnMut(&'a [u8], i64) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.kind != Content::Counters {
            return Err(Malformed::at(MAGIC_AT, "the block has no counters").into());
        }
        self.for_each_entry(next_counter, |(key, value)| visit(key, value))
    }

    /// Calls `visit` with the key and the edges of each item; there is at least one. Stops at the first error, be it of
    /// the block or of `visit`.
    pub(crate) fn for_each_item<E: From<Malformed>>(
        &self,
        mut visit: impl FnMut(&'a [u8], Edges<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Content::Edges(width) = self.kind else {
            return Err(Malformed::at(MAGIC_AT, "the block has no edges").into());
        };
        let mut key_before: &[u8] = &[];
        let next_item = |rest: &mut &'a [u8]| {
            let (key, edges) = next_item(rest, width, key_before)?;
            key_before = key;
            Some((key, edges))
        };
        self.for_each_entry(next_item, |(key, edges)| visit(key, edges))
    }

    /// Calls `visit` with what `next` reads at the beginning of the bytes that it gets, and takes from them.
    fn for_each_entry<T, E: From<Malformed>>(
        &self,
        mut next: impl FnMut(&mut &'a [u8]) -> Option<T>,
        mut visit: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = self.payload;
        for _ in 0..self.count {
            let Some(entry) = next(&mut rest) else {
                return Err(Malformed::at(self.len() - rest.len(), "an entry is malformed").into());
            };
            visit(entry)?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::at(self.len() - rest.len(), "bytes follow the last entry").into())
        }
    }
}

/// The edges of an item in a block: who liked or unliked it, and when.
#[derive(Debug, Clone)]
pub(crate) struct Edges<'a> {
    width: ViewerWidth,
    edges: std::slice::ChunksExact<'a, u8>,
}

impl Iterator for Edges<'_> {
    type Item = (u128, Stamp);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (viewer, stamp) = self.edges.next()?.split_at_checked(self.width.bytes())?;
        let mut wide = [0; size_of::<u128>()];
        wide[..viewer.len()].copy_from_slice(viewer);
        Some((u128::from_le_bytes(wide), Stamp::from_bytes(*stamp.first_chunk()?)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.edges.size_hint()
    }
}

impl ExactSizeIterator for Edges<'_> {}

/// Verifies a block and calls `visit` with the namespace, key and value of each of its counters.
#[cfg(test)]
pub(crate) fn decode_block(
    bytes: &[u8],
    generation: u64,
    index: u64,
    mut visit: impl FnMut(u16, &[u8], i64),
) -> Result<(), Malformed> {
    let block = Block::parse(bytes, generation, index)?;
    block.for_each(|key, value| {
        visit(block.namespace(), key, value);
        Ok(())
    })
}

impl Malformed {
    fn at(offset: usize, what: &'static str) -> Self {
        Self { offset: offset as u64, what }
    }
}

/// `None`, with `rest` where the entry began, when the bytes do not hold a counter.
#[inline]
fn next_counter<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], i64)> {
    let mut at = 0;
    let key = next_key(rest, &mut at)?;
    let value = varint::get_i64(rest, &mut at)?;
    *rest = rest.get(at..)?;
    Some((key, value))
}

/// `None`, with `rest` where the entry began, when the bytes do not hold an item of another key.
fn next_item<'a>(rest: &mut &'a [u8], width: ViewerWidth, key_before: &[u8]) -> Option<(&'a [u8], Edges<'a>)> {
    let mut at = 0;
    let key = next_key(rest, &mut at)?;
    let (count, behind) = rest.get(at..)?.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes(*count)) * edge_bytes(width);
    if len == 0 || key == key_before {
        return None;
    }
    let (edges, behind) = behind.split_at_checked(len)?;
    *rest = behind;
    Some((key, Edges { width, edges: edges.chunks_exact(edge_bytes(width)) }))
}

#[inline]
fn next_key<'a>(rest: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let key_len = usize::try_from(varint::get_u64(rest, at)?).ok()?;
    if key_len == 0 || key_len > MAX_KEY_BYTES {
        return None;
    }
    let key = rest.get(*at..)?.get(..key_len)?;
    *at += key_len;
    Some(key)
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks_of(generation: u64, counters: &[(u16, Vec<u8>, i64)]) -> Vec<Vec<u8>> {
        let mut builder = BlockBuilder::new(generation);
        let mut blocks = Vec::new();
        for (namespace, key, value) in counters {
            blocks.extend(builder.push(*namespace, key, *value).map(<[u8]>::to_vec));
        }
        blocks.extend(builder.finish().map(<[u8]>::to_vec));
        blocks
    }

    #[test]
    fn the_bytes_of_a_block_never_change() {
        let blocks = blocks_of(7, &[(3, b"a".to_vec(), 1), (3, b"bc".to_vec(), -300)]);
        let golden = [
            0x84, 0xf4, 0x4a, 0x3a, b'P', b'L', b'D', b'B', // checksum, magic
            7, 0, 0, 0, 0, 0, 0, 0, // generation
            0, 0, 0, 0, 0, 0, 0, 0, // index
            3, 0, // namespace
            2, 0, 0, 0, // count
            8, 0, 0, 0, // payload length
            1, b'a', 2, // "a" = 1
            2, b'b', b'c', 0xd7, 0x04, // "bc" = -300
        ];
        assert_eq!(blocks, [golden.to_vec()]);
    }

    #[test]
    fn counters_come_back_in_order_and_no_block_is_too_long() {
        let mut counters: Vec<(u16, Vec<u8>, i64)> = Vec::new();
        for i in 0..5_000_u32 {
            let mut key = i.to_be_bytes().to_vec();
            key.resize(1 + (i as usize * 7) % MAX_KEY_BYTES, 0xee);
            let value = [0, i64::MIN, i64::MAX, -1, i64::from(i)][i as usize % 5];
            counters.push(((i / 900) as u16, key, value));
        }
        let blocks = blocks_of(1, &counters);
        let mut found = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            assert!(block.len() <= MAX_BLOCK_BYTES);
            decode_block(block, 1, index as u64, |n, k, v| found.push((n, k.to_vec(), v))).unwrap();
        }
        assert_eq!(found, counters);
    }

    #[test]
    fn every_flipped_bit_every_cut_and_every_other_place_is_noticed() {
        let block = &blocks_of(9, &[(1, b"key".to_vec(), 5), (1, b"other".to_vec(), 1 << 40)])[0];
        for bit in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_block(&damaged, 9, 0, |_, _, _| ()).is_err(), "bit {bit}");
        }
        for len in 0..block.len() {
            assert!(decode_block(&block[..len], 9, 0, |_, _, _| ()).is_err(), "length {len}");
        }
        let place = |generation, index| decode_block(block, generation, index, |_, _, _| ()).unwrap_err().what;
        assert_eq!(place(8, 0), "the block is of another generation");
        assert_eq!(place(9, 1), "the block belongs in another place");
    }

    #[test]
    fn entries_that_do_not_add_up_are_malformed_even_under_a_right_checksum() {
        let reseal = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut block = blocks_of(1, &[(1, b"key".to_vec(), 5)]).remove(0);
            change(&mut block);
            let payload_len = (block.len() - HEADER_BYTES) as u32;
            block[PAYLOAD_LEN_AT..HEADER_BYTES].copy_from_slice(&payload_len.to_le_bytes());
            let checksum = crc32c::crc32c(&block[MAGIC_AT..]);
            block[..MAGIC_AT].copy_from_slice(&checksum.to_le_bytes());
            decode_block(&block, 1, 0, |_, _, _| ())
        };
        assert!(reseal(&|_| ()).is_ok());
        assert!(reseal(&|b| b.push(0)).is_err());
        assert!(reseal(&|b| b[COUNT_AT] = 2).is_err());
        assert!(reseal(&|b| b[COUNT_AT..PAYLOAD_LEN_AT].fill(0xff)).is_err());
        assert!(reseal(&|b| b[HEADER_BYTES] = 0).is_err());
        assert!(reseal(&|b| b[HEADER_BYTES] = 100).is_err());
        assert!(reseal(&|b| b.truncate(HEADER_BYTES + 2)).is_err());
        assert!(reseal(&|b| b[HEADER_BYTES..].fill(0xff)).is_err());
    }

    fn edge_blocks_of(generation: u64, edges: &[Edge]) -> Vec<Vec<u8>> {
        let mut builder = BlockBuilder::new(generation);
        let mut blocks = Vec::new();
        for (namespace, width, key, viewer, stamp) in edges {
            blocks.extend(builder.push_edge(*namespace, *width, key, *viewer, *stamp).map(<[u8]>::to_vec));
        }
        blocks.extend(builder.finish().map(<[u8]>::to_vec));
        blocks
    }

    type Edge = (u16, ViewerWidth, Vec<u8>, u128, Stamp);

    fn decode_edges(bytes: &[u8], generation: u64, index: u64) -> Result<Vec<Edge>, Malformed> {
        let block = Block::parse(bytes, generation, index)?;
        let Content::Edges(width) = block.kind() else { return Err(Malformed::at(0, "not of edges")) };
        let mut found = Vec::new();
        block.for_each_item(|key, edges| {
            found.extend(edges.map(|(viewer, stamp)| (block.namespace(), width, key.to_vec(), viewer, stamp)));
            Ok::<_, Malformed>(())
        })?;
        assert_eq!(block.edges(), Ok(found.len() as u64));
        Ok(found)
    }

    fn two_items(width: ViewerWidth) -> Vec<Edge> {
        let edge = |key: &[u8], viewer, stamp| (3, width, key.to_vec(), viewer, stamp);
        let (like, unlike) = (Stamp::new(256, true), Stamp::new(crate::MAX_TIME_MS, false));
        vec![edge(b"a", 7, like), edge(b"a", u128::from(u64::MAX), unlike), edge(b"bc", 1, like)]
    }

    #[test]
    fn the_bytes_of_a_block_of_edges_never_change() {
        let narrow = [
            0xa3, 0xf3, 0x7c, 0xaa, b'P', b'L', b'E', b'1', // checksum, magic
            7, 0, 0, 0, 0, 0, 0, 0, // generation
            0, 0, 0, 0, 0, 0, 0, 0, // index
            3, 0, // namespace
            2, 0, 0, 0, // items
            51, 0, 0, 0, // payload length
            1, b'a', 2, 0, // "a": two edges
            7, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, // liked at 256
            255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, // unliked at the latest time
            2, b'b', b'c', 1, 0, // "bc": one edge
            1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0,
        ];
        assert_eq!(edge_blocks_of(7, &two_items(ViewerWidth::Bits64)), [narrow.to_vec()]);
        let wide = edge_blocks_of(7, &[(3, ViewerWidth::Bits128, b"a".to_vec(), 1 << 120 | 7, Stamp::new(256, true))]);
        let payload = [1, b'a', 1, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0];
        assert_eq!((&wide[0][MAGIC_AT..GENERATION_AT], &wide[0][HEADER_BYTES..]), (&b"PLE2"[..], &payload[..]));
    }

    #[test]
    fn edges_come_back_in_order_and_an_item_of_many_has_its_key_in_each_block() {
        let mut edges = Vec::new();
        for item in 0..300_u64 {
            let width = if item % 100 < 50 { ViewerWidth::Bits64 } else { ViewerWidth::Bits128 };
            let key = vec![item as u8; 1 + (item as usize * 37) % MAX_KEY_BYTES];
            for n in 0..=(item * item) % 1_300 {
                let narrow = u128::from(u64::MAX - n);
                let viewer = if width == ViewerWidth::Bits64 { narrow } else { narrow << 64 | 5 };
                edges.push(((item / 100) as u16, width, key.clone(), viewer, Stamp::new(n << 30, n % 3 > 0)));
            }
        }
        let blocks = edge_blocks_of(1, &edges);
        let (mut found, mut items) = (Vec::new(), 0);
        for (block, index) in blocks.iter().zip(0..) {
            assert!(block.len() <= MAX_BLOCK_BYTES);
            found.extend(decode_edges(block, 1, index).unwrap());
            items += Block::parse(block, 1, index).unwrap().count();
        }
        assert!(found == edges);
        assert!((300 + blocks.len() as u32 / 2..=300 + blocks.len() as u32).contains(&items), "{items}");
    }

    #[test]
    fn a_block_holds_counters_or_edges_of_one_width_and_one_namespace() {
        let stamp = Stamp::new(1, true);
        let mut builder = BlockBuilder::new(1);
        let [narrow, wide] = [ViewerWidth::Bits64, ViewerWidth::Bits128];
        assert!(builder.push_edge(1, narrow, b"key", 1, stamp).is_none());
        let kind = |block: Option<&[u8]>, index| Block::parse(block.unwrap(), 1, index).unwrap().kind();
        assert_eq!(kind(builder.push_edge(2, narrow, b"key", 1, stamp), 0), Content::Edges(narrow));
        assert_eq!(kind(builder.push_edge(2, wide, b"key", 1, stamp), 1), Content::Edges(narrow));
        assert_eq!(kind(builder.push(2, b"key", 1), 2), Content::Edges(wide));
        assert_eq!(kind(builder.push_edge(2, wide, b"key", 1, stamp), 3), Content::Counters);
        let last = builder.finish().unwrap();
        let block = Block::parse(last, 1, 4).unwrap();
        assert!(block.for_each(|_, _| Ok::<_, Malformed>(())).is_err(), "edges are no counters");
        assert_eq!(block.edges(), Ok(1));
        let counters = blocks_of(1, &[(1, b"key".to_vec(), 5)]).remove(0);
        assert!(Block::parse(&counters, 1, 0).unwrap().edges().is_err(), "counters are no edges");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_block_of_edges_is_noticed() {
        for width in [ViewerWidth::Bits64, ViewerWidth::Bits128] {
            let block = &edge_blocks_of(9, &two_items(width))[0];
            assert_eq!(decode_edges(block, 9, 0), Ok(two_items(width)));
            for bit in 0..block.len() * 8 {
                let mut damaged = block.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(decode_edges(&damaged, 9, 0).is_err(), "bit {bit}");
            }
            for len in 0..block.len() {
                assert!(decode_edges(&block[..len], 9, 0).is_err(), "length {len}");
            }
        }
    }

    #[test]
    fn items_that_do_not_add_up_are_malformed_even_under_a_right_checksum() {
        let reseal = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut block = edge_blocks_of(1, &two_items(ViewerWidth::Bits64)).remove(0);
            change(&mut block);
            let payload_len = (block.len() - HEADER_BYTES) as u32;
            block[PAYLOAD_LEN_AT..HEADER_BYTES].copy_from_slice(&payload_len.to_le_bytes());
            let checksum = crc32c::crc32c(&block[MAGIC_AT..]);
            block[..MAGIC_AT].copy_from_slice(&checksum.to_le_bytes());
            decode_edges(&block, 1, 0).map_err(|malformed| malformed.offset as usize - HEADER_BYTES)
        };
        let (edges_at, second) = (HEADER_BYTES + 2, 2 + EDGES_BYTES + 2 * 14);
        assert_eq!(reseal(&|_| ()), Ok(two_items(ViewerWidth::Bits64)));
        assert_eq!(reseal(&|b| b.push(0)), Err(second + 3 + EDGES_BYTES + 14));
        assert_eq!(reseal(&|b| b[COUNT_AT] = 1), Err(second));
        assert_eq!(reseal(&|b| b[COUNT_AT..PAYLOAD_LEN_AT].fill(0xff)), Err(second + 3 + EDGES_BYTES + 14));
        assert_eq!(reseal(&|b| b[edges_at] = 0), Err(0));
        assert_eq!(reseal(&|b| b[edges_at..edges_at + EDGES_BYTES].fill(0xff)), Err(0));
        assert_eq!(reseal(&|b| b[HEADER_BYTES] = 0), Err(0));
        assert_eq!(reseal(&|b| b.truncate(b.len() - 1)), Err(second));
        assert_eq!(reseal(&|b| b.truncate(HEADER_BYTES + second + 4)), Err(second));
        let twice = [&[1, b'a', 1, 0][..], &[0; 14]].concat();
        assert_eq!(reseal(&|b| b.splice(HEADER_BYTES + second.., twice.clone()).for_each(drop)), Err(second));
    }
}
