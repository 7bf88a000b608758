//! Makes a block of any bytes, so that a fuzzer gets behind the checksum.

use super::{
    COUNT_AT, GENERATION_AT, HEADER_BYTES, INDEX_AT, MAGIC_AT, MAGIC_COUNTERS, NAMESPACE_AT, PAYLOAD_LEN_AT, kind_of,
};

/// Makes everything right that the header says of the block, and leaves the kind, the namespace, the count and the
/// entries. What is of no kind becomes a block of counters. Too few bytes for a header are left as they are.
pub(in crate::snapshot) fn repair_block(bytes: &mut [u8], generation: u64, index: u64) {
    let Some(payload_len) = bytes.len().checked_sub(HEADER_BYTES) else { return };
    if !has_kind(bytes) {
        bytes[MAGIC_AT..GENERATION_AT].copy_from_slice(&MAGIC_COUNTERS);
    }
    bytes[GENERATION_AT..INDEX_AT].copy_from_slice(&generation.to_le_bytes());
    bytes[INDEX_AT..NAMESPACE_AT].copy_from_slice(&index.to_le_bytes());
    bytes[PAYLOAD_LEN_AT..HEADER_BYTES].copy_from_slice(&(payload_len as u32).to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[MAGIC_AT..]);
    bytes[..MAGIC_AT].copy_from_slice(&checksum.to_le_bytes());
}

/// The length that the block at the beginning of the bytes says that it has, or as much of it as is there. `None` where
/// no block can be.
pub(in crate::snapshot) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let payload_len = header[PAYLOAD_LEN_AT..].first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
    Some(HEADER_BYTES.saturating_add(payload_len).min(bytes.len()).min(super::MAX_BLOCK_BYTES))
}

/// How many counters the block at the beginning of the bytes says that it has.
pub(in crate::snapshot) fn claimed_counters(bytes: &[u8]) -> u64 {
    let count = bytes[COUNT_AT..].first_chunk().map_or(0, |count| u64::from(u32::from_le_bytes(*count)));
    if bytes[MAGIC_AT..].starts_with(&MAGIC_COUNTERS) { count } else { 0 }
}

fn has_kind(bytes: &[u8]) -> bool {
    bytes[MAGIC_AT..].first_chunk().is_some_and(|magic| kind_of(*magic).is_some())
}
