//! Makes a generation's file of any bytes, so that a fuzzer gets behind the checksums.

use super::{HEADER_BYTES, encode_header};
use crate::snapshot::block::repair::{claimed_counters, claimed_len, repair_block};
use crate::snapshot::digest::Digest;
use crate::snapshot::{Block, GenerationMeta, HomeKind};

/// Makes blocks of what follows the header, as many as there are to be or as find room, and an index behind them; and
/// answers the meta of it. `None` when the bytes are too few for a header.
pub(in crate::snapshot) fn repair_file(bytes: &mut Vec<u8>, generation: u64, blocks: u64) -> Option<GenerationMeta> {
    bytes.first_chunk_mut::<HEADER_BYTES>()?.copy_from_slice(&encode_header(generation));
    let (mut end, mut index, mut digest) = (HEADER_BYTES, Vec::new(), Digest::new(generation));
    let (mut found, mut counters, mut edges) = (0, 0, 0);
    while found < blocks {
        let Some(len) = claimed_len(&bytes[end..]) else { break };
        let block = &mut bytes[end..end + len];
        repair_block(block, generation, found);
        let checksum = block.first_chunk().map_or(0, |checksum| u32::from_le_bytes(*checksum));
        counters += claimed_counters(block);
        edges += Block::parse(block, generation, found).and_then(|block| block.edges()).unwrap_or(0);
        index.extend_from_slice(&(len as u32).to_le_bytes());
        index.extend_from_slice(&checksum.to_le_bytes());
        digest.add(checksum, len as u64);
        end += len;
        found += 1;
    }
    bytes.truncate(end);
    bytes.extend_from_slice(&index);
    Some(GenerationMeta {
        number: generation,
        home: HomeKind::File,
        blocks: found,
        counters,
        edges,
        bytes: (end - HEADER_BYTES) as u64,
        disk_bytes: bytes.len() as u64,
        digest: digest.value(),
        files_digest: 0,
    })
}
