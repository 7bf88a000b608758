//! What must hold of any bytes that are read as a block, a generation's file, or the list of sled's files.

use std::path::Path;
use std::sync::Arc;

use super::block::repair::repair_block;
use super::block::{BlockBuilder, HEADER_BYTES, MAX_BLOCK_BYTES, MAX_ITEM_BYTES};
use super::file::repair::repair_file;
use super::{Block, FileHome, GenerationMeta, Malformed, SnapshotHome};
use crate::edge::{Content, Stamp, ViewerWidth};
use crate::error::{Error, Result};
use crate::storage::Storage;
use crate::storage::sim::SimDisk;

/// Reads the bytes as a block, and as a generation or a list of files, as they are and with the right checksums.
pub fn blocks(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    match choice % 4 {
        0 => {
            check_block(data);
            let mut repaired = data.to_vec();
            repair_block(&mut repaired, 1, 0);
            check_block(&repaired);
        }
        1 => generation_as_it_is(data),
        2 => repaired_generation(data),
        _ => list_of_files(data),
    }
}

/// A block of several items with edges of viewers of 64 bits, or of 128.
#[must_use]
pub fn block_of_edges(wide: bool) -> Vec<u8> {
    let width = if wide { ViewerWidth::Bits128 } else { ViewerWidth::Bits64 };
    let mut builder = BlockBuilder::new(1);
    for (item, edges) in [(b'a', 1), (b'b', 5), (b'c', 2)] {
        for n in 0..edges {
            let stamp = Stamp::new(1_700_000_000_000 + n, n % 3 > 0);
            let sealed = builder.push_edge(2, width, &[item; 3], u128::from(u64::MAX / (n + 1)), stamp);
            assert!(sealed.is_none(), "a block has room for a few edges");
        }
    }
    builder.finish().unwrap_or_default().to_vec()
}

fn check_block(bytes: &[u8]) {
    let Ok(block) = Block::parse(bytes, 1, 0).map_err(|malformed| is_within(malformed, bytes.len())) else { return };
    assert_eq!(block.len(), bytes.len());
    let Ok(entries) = entries(&block).map_err(|malformed| is_within(malformed, bytes.len())) else { return };
    assert_eq!(entries.len(), block.count() as usize);
    let edges: usize = entries.iter().map(|(_, entry)| entry.edges()).sum();
    if let Content::Edges(width) = block.kind() {
        assert_eq!(block.edges(), Ok(edges as u64));
        assert!(edges * (width.bytes() + Stamp::BYTES) + HEADER_BYTES <= bytes.len());
    }
    if entries.is_empty() {
        return;
    }
    let mut builder = BlockBuilder::new(1);
    // A builder begins a new block before this one is quite full.
    if entries.iter().any(|(key, entry)| entry.push(&mut builder, &block, key)) {
        return assert!(bytes.len() + MAX_ITEM_BYTES > MAX_BLOCK_BYTES);
    }
    assert_eq!(builder.finish(), Some(bytes), "a block has one encoding");
}

fn is_within(malformed: Malformed, len: usize) {
    assert!(malformed.offset <= len as u64, "{malformed:?} of {len}");
}

type Entries = Vec<(Vec<u8>, Entry)>;

/// What a block has of a key.
#[derive(Debug, Clone)]
enum Entry {
    Value(i64),
    Edges(Vec<(u128, Stamp)>),
}

impl Entry {
    fn edges(&self) -> usize {
        match self {
            Self::Value(_) => 0,
            Self::Edges(edges) => edges.len(),
        }
    }

    /// Whether a new block had to begin for it.
    fn push(&self, builder: &mut BlockBuilder, block: &Block<'_>, key: &[u8]) -> bool {
        match (self, block.kind()) {
            (Self::Edges(edges), Content::Edges(width)) => edges
                .iter()
                .any(|&(viewer, stamp)| builder.push_edge(block.namespace(), width, key, viewer, stamp).is_some()),
            (Self::Value(value), Content::Counters) => builder.push(block.namespace(), key, *value).is_some(),
            _ => panic!("a block of one kind has entries of another"),
        }
    }
}

fn entries(block: &Block<'_>) -> Result<Entries, Malformed> {
    let mut entries = Entries::new();
    let mut add = |key: &[u8], entry| {
        assert!((1..=crate::MAX_KEY_BYTES).contains(&key.len()));
        entries.push((key.to_vec(), entry));
        Ok::<_, Malformed>(())
    };
    match block.kind() {
        Content::Counters => {
            assert!(block.for_each_item(|_, _| Ok::<_, Malformed>(())).is_err(), "counters are no edges");
            block.for_each(|key, value| add(key, Entry::Value(value)))?;
        }
        Content::Edges(_) => {
            assert!(block.for_each(|_, _| Ok::<_, Malformed>(())).is_err(), "edges are no counters");
            block.for_each_item(|key, edges| {
                let edges: Vec<_> = edges.collect();
                assert!(!edges.is_empty(), "an item has an edge");
                add(key, Entry::Edges(edges))
            })?;
        }
    }
    Ok(entries)
}

const DIR: &str = "/snapshot";

/// A block as a reader hands it out.
type Found = (u64, u16, Result<Entries, Malformed>);

/// Opens a generation and reads all of it.
fn read(meta: &GenerationMeta, bytes: &[u8]) -> Result<Vec<Found>> {
    let disk = SimDisk::new();
    let path = Path::new(DIR).join(format!("{:020}.snap", meta.number));
    let write = || disk.create_dir_all(Path::new(DIR)).and_then(|()| disk.create(&path));
    write().and_then(|file| file.write_all_at(bytes, 0)).expect("the disk has room");
    let home = FileHome::new(Arc::new(disk), Path::new(DIR).to_owned());
    let read = || {
        let reader = home.open(meta)?;
        let mut found = Vec::new();
        reader.read_blocks(0..meta.blocks, &mut |index, block| {
            found.push((index, block.namespace(), entries(block)));
            Ok(())
        })?;
        Ok(found)
    };
    let found = read();
    match &found {
        Ok(found) => assert_eq!(found.len() as u64, meta.blocks),
        // A file of another length than the meta's is damaged where the shorter of them ends.
        Err(Error::Corrupt { offset, .. }) => assert!(*offset <= bytes.len() as u64),
        Err(Error::UnsupportedVersion { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
    found
}

fn generation_as_it_is(data: &[u8]) {
    let Some((meta, bytes)) = data.split_first_chunk() else { return };
    let Some(meta) = GenerationMeta::decode(meta) else { return };
    assert_eq!(GenerationMeta::decode(&meta.encode()), Some(meta));
    let _ = read(&meta, bytes);
}

/// A generation with the right checksums is read whole; with one byte of it changed it is refused.
fn repaired_generation(data: &[u8]) {
    let Some((&[at_low, at_high, damage, blocks], bytes)) = data.split_first_chunk() else { return };
    let mut bytes = bytes.to_vec();
    let Some(meta) = repair_file(&mut bytes, 3, u64::from(blocks)) else { return };
    let whole = read(&meta, &bytes).expect("a generation that was repaired is read");
    let sound = || whole.iter().filter_map(|(.., entries)| entries.as_ref().ok()).flatten();
    let counters = sound().filter(|(_, entry)| entry.edges() == 0).count();
    let edges: usize = sound().map(|(_, entry)| entry.edges()).sum();
    assert!(counters as u64 <= meta.counters);
    assert_eq!(edges as u64, meta.edges);
    let of_another = GenerationMeta { digest: !meta.digest, ..meta };
    assert!(read(&of_another, &bytes).is_err(), "a file of the same length and another digest is noticed");
    if damage != 0 {
        let at = usize::from(u16::from_le_bytes([at_low, at_high])) % bytes.len();
        bytes[at] ^= damage;
        assert!(read(&meta, &bytes).is_err(), "a changed byte at {at} is noticed");
    }
}

#[cfg(feature = "sled")]
fn list_of_files(data: &[u8]) {
    use super::sums::{Sums, digest};
    let check = |bytes: &[u8]| {
        if let Some(sums) = Sums::decode(bytes, 1) {
            assert_eq!(sums.encode(1), bytes, "a list has one encoding");
            let _ = (digest(bytes, 1), sums.total_len());
        }
    };
    check(data);
    if let Some((covered, _)) = data.split_last_chunk::<4>() {
        let checksum = crc32c::crc32c(covered).to_le_bytes();
        check(&[covered, &checksum].concat());
    }
}

#[cfg(not(feature = "sled"))]
fn list_of_files(_: &[u8]) {}

/// Makes a generation of a whole store right, and answers what the manifest has to say of it.
pub(crate) fn repair_generation(bytes: &mut Vec<u8>, meta: &GenerationMeta) -> Option<GenerationMeta> {
    repair_file(bytes, meta.number, meta.blocks)
}
