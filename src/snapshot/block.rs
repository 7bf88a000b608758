//! A block: some 8 KiB of counters of one namespace, under one checksum.
//!
//! ```text
//! block   := crc32c:u32 magic:4 generation:u64 index:u64 namespace:u16 count:u32 payload_len:u32 payload
//! payload := entry{count}
//! entry   := key_len:varint key value:zigzag-varint
//! ```
//!
//! Integers are little-endian. The checksum covers every byte after itself. Generation and index are part
//! of what it covers, so a block that is found in another's place, or in another generation, is noticed.

use crate::MAX_KEY_BYTES;
use crate::varint;

#[cfg(feature = "fuzzing")]
pub(super) mod repair;

const MAGIC: [u8; 4] = *b"PLDB";

const MAGIC_AT: usize = size_of::<u32>();
const GENERATION_AT: usize = MAGIC_AT + MAGIC.len();
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

const MAX_ENTRY_BYTES: usize = 2 + MAX_KEY_BYTES + varint::MAX_BYTES;
const _: () = assert!(MAX_KEY_BYTES < 1 << 14, "a key's length takes at most two varint bytes");
const _: () = assert!(HEADER_BYTES + MAX_ENTRY_BYTES <= MAX_BLOCK_BYTES, "any counter fits an empty block");

/// What is wrong with a block, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// In bytes from the start of the block.
    pub(crate) offset: u64,
    /// What was found.
    pub(crate) what: &'static str,
}

/// Packs counters into blocks. Its two buffers are used again for every block.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    generation: u64,
    index: u64,
    namespace: u16,
    count: u32,
    open: Vec<u8>,
    sealed: Vec<u8>,
}

impl BlockBuilder {
    /// A builder for the blocks of `generation`, the first of which has index 0.
    pub(crate) fn new(generation: u64) -> Self {
        let buffer = || Vec::with_capacity(MAX_BLOCK_BYTES);
        Self { generation, index: 0, namespace: 0, count: 0, open: buffer(), sealed: buffer() }
    }

    /// Adds a counter. When the open block has no room for it, or is of another namespace, that block is
    /// sealed and returned, and the counter is the first of the next one.
    ///
    /// `key` has 1 to [`MAX_KEY_BYTES`] bytes; the store refuses any other long before.
    pub(crate) fn push(&mut self, namespace: u16, key: &[u8], value: i64) -> Option<&[u8]> {
        debug_assert!((1..=MAX_KEY_BYTES).contains(&key.len()));
        let room = MAX_BLOCK_BYTES.saturating_sub(self.open.len());
        let full = self.count > 0 && (namespace != self.namespace || room < 2 + key.len() + varint::MAX_BYTES);
        if full {
            self.seal();
        }
        if self.count == 0 {
            self.namespace = namespace;
            self.open.clear();
            self.open.resize(HEADER_BYTES, 0);
        }
        varint::put_u64(&mut self.open, key.len() as u64);
        self.open.extend_from_slice(key);
        varint::put_i64(&mut self.open, value);
        self.count += 1;
        full.then_some(self.sealed.as_slice())
    }

    /// Seals and returns the last block; `None` when no counter is left over.
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
        block[MAGIC_AT..GENERATION_AT].copy_from_slice(&MAGIC);
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
        if field::<{ MAGIC.len() }>(header, MAGIC_AT) != MAGIC {
            return Err(Malformed::at(MAGIC_AT, "this is not a block"));
        }
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
        Ok(Self { namespace, count, checksum, payload })
    }

    /// The namespace of every counter in the block.
    pub(crate) fn namespace(&self) -> u16 {
        self.namespace
    }

    /// How many counters the block holds.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The checksum over everything else in the block.
    pub(crate) fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The length of the whole block.
    pub(crate) fn len(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Calls `visit` with each key and value. Stops at the first error, be it of the block or of `visit`.
    pub(crate) fn for_each<E: From<Malformed>>(
        &self,
        mut visit: impl FnMut(&'a [u8], i64) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = self.payload;
        for _ in 0..self.count {
            let Some((key, value)) = next_entry(&mut rest) else {
                return Err(Malformed::at(self.len() - rest.len(), "an entry is malformed").into());
            };
            visit(key, value)?;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::at(self.len() - rest.len(), "bytes follow the last entry").into())
        }
    }
}

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

/// `None`, with `rest` where the entry began, when the bytes do not hold one.
#[inline]
fn next_entry<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], i64)> {
    let mut at = 0;
    let key_len = usize::try_from(varint::get_u64(rest, &mut at)?).ok()?;
    if key_len == 0 || key_len > MAX_KEY_BYTES {
        return None;
    }
    let key = rest.get(at..)?.get(..key_len)?;
    at += key_len;
    let value = varint::get_i64(rest, &mut at)?;
    *rest = rest.get(at..)?;
    Some((key, value))
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
}
