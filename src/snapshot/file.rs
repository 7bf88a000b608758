//! The plain-file home: a generation is one file, written and read through the storage seam.
//!
//! ```text
//! file   := header block* index
//! header := magic:8 version:u32 generation:u64 crc32c:u32
//! index  := (len:u32 checksum:u32){one for each block, in order}
//! ```
//!
//! Integers are little-endian. The header's checksum covers the bytes before it. The index repeats the
//! checksum that each block begins with, and the digest in the [`GenerationMeta`] covers the index: so the
//! index can be believed before a block is read, reading can start at any block, and a block is believed
//! only if it is the one that was written there. The file needs no footer, because the meta says how long
//! it is and how many blocks it has.

use std::mem;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{HEADER_BYTES as BLOCK_HEADER_BYTES, MAX_BLOCK_BYTES};
use super::digest::Digest;
use super::{
    Block, GenerationMeta, GenerationReader, GenerationWriter, HomeKind, Malformed, Shelf, SnapshotHome, Tally,
};
use crate::storage::{Storage, StorageFile};
use crate::{Error, Result};

#[cfg(feature = "fuzzing")]
pub(super) mod repair;

const MAGIC: [u8; 8] = *b"PLDTSNAP";
const VERSION: u32 = 1;

const VERSION_AT: usize = MAGIC.len();
const GENERATION_AT: usize = VERSION_AT + size_of::<u32>();
const CHECKSUM_AT: usize = GENERATION_AT + size_of::<u64>();
const HEADER_BYTES: usize = CHECKSUM_AT + size_of::<u32>();

const INDEX_ENTRY_BYTES: usize = 2 * size_of::<u32>();

/// How much is written and read at once.
const CHUNK_BYTES: usize = 1 << 20;
const _: () = assert!(MAX_BLOCK_BYTES <= CHUNK_BYTES);

/// Keeps generations as plain files.
#[derive(Debug)]
pub(crate) struct FileHome {
    storage: Arc<dyn Storage>,
    shelf: Shelf,
}

impl FileHome {
    /// A home in `dir`, which is created with the first generation.
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: PathBuf) -> Self {
        Self { storage, shelf: Shelf { dir } }
    }
}

impl SnapshotHome for FileHome {
    fn create(&self, number: u64) -> Result<Box<dyn GenerationWriter>> {
        let storage = Arc::clone(&self.storage);
        let shelf = self.shelf.clone();
        storage.create_dir_all(&shelf.dir).map_err(|e| Error::io("create", &shelf.dir, e))?;
        shelf.remove(&*storage, number)?;
        let path = shelf.temporary(number);
        let file = storage.create(&path).map_err(|e| Error::io("create", &path, e))?;
        let mut buffer = Vec::with_capacity(CHUNK_BYTES + MAX_BLOCK_BYTES);
        buffer.extend_from_slice(&encode_header(number));
        let tally = Tally::new(number);
        Ok(Box::new(FileWriter { storage, shelf, number, path, file, buffer, written: 0, index: Vec::new(), tally }))
    }

    fn open(&self, meta: &GenerationMeta) -> Result<Box<dyn GenerationReader>> {
        Ok(Box::new(FileReader::open(&*self.storage, self.shelf.file(meta.number), meta)?))
    }

    fn list(&self) -> Result<Vec<u64>> {
        self.shelf.list(&*self.storage)
    }

    fn remove(&self, number: u64) -> Result<()> {
        self.shelf.remove(&*self.storage, number)
    }
}

#[derive(Debug)]
struct FileWriter {
    storage: Arc<dyn Storage>,
    shelf: Shelf,
    number: u64,
    /// The temporary file; empty when there is none to remove any more.
    path: PathBuf,
    file: Box<dyn StorageFile>,
    buffer: Vec<u8>,
    written: u64,
    index: Vec<u8>,
    tally: Tally,
}

impl GenerationWriter for FileWriter {
    fn write_block(&mut self, bytes: &[u8]) -> Result<()> {
        let refused = |malformed: Malformed| Error::corrupt(&self.path, self.written, malformed.what);
        let block = Block::parse(bytes, self.number, self.tally.blocks).map_err(refused)?;
        self.tally.add(&block).map_err(refused)?;
        self.index.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.index.extend_from_slice(&block.checksum().to_le_bytes());
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES { self.write_buffer() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<GenerationMeta> {
        let index = mem::take(&mut self.index);
        self.buffer.extend_from_slice(&index);
        self.write_buffer()?;
        self.file.sync().map_err(|e| Error::io("sync", &self.path, e))?;
        let meta = GenerationMeta {
            number: self.number,
            home: HomeKind::File,
            blocks: self.tally.blocks,
            counters: self.tally.counters,
            edges: self.tally.edges,
            bytes: self.tally.bytes,
            disk_bytes: self.written,
            digest: self.tally.digest.value(),
            files_digest: 0,
        };
        let reader = FileReader::open(&*self.storage, self.path.clone(), &meta)?;
        self.tally.verify(self.number, &reader, &self.path)?;
        self.shelf.publish(&*self.storage, &self.path, &self.shelf.file(self.number))?;
        self.path = PathBuf::new();
        Ok(meta)
    }
}

impl FileWriter {
    fn write_buffer(&mut self) -> Result<()> {
        self.file.write_all_at(&self.buffer, self.written).map_err(|e| Error::io("write", &self.path, e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = self.storage.remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished snapshot could not be removed");
        }
    }
}

#[derive(Debug)]
struct FileReader {
    path: PathBuf,
    file: Box<dyn StorageFile>,
    generation: u64,
    /// Where each block begins, and after them where the last one ends.
    offsets: Vec<u64>,
    checksums: Vec<u32>,
}

impl FileReader {
    fn open(storage: &dyn Storage, path: PathBuf, meta: &GenerationMeta) -> Result<Self> {
        let file = match storage.open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::corrupt(&path, 0, "the snapshot's file is missing"));
            }
            opened => opened.map_err(|e| Error::io("open", &path, e))?,
        };
        let len = file.len().map_err(|e| Error::io("read", &path, e))?;
        if len != meta.disk_bytes {
            let what = format!("the file has {len} bytes, and {} were written", meta.disk_bytes);
            return Err(Error::corrupt(&path, len.min(meta.disk_bytes), what));
        }
        let mut header = [0; HEADER_BYTES];
        read_exact(&*file, &path, &mut header, 0)?;
        check_header(&header, meta.number, &path)?;

        let index_len = meta.blocks.checked_mul(INDEX_ENTRY_BYTES as u64);
        let index_at = index_len.and_then(|index_len| len.checked_sub(index_len));
        let (Some(index_len), Some(index_at)) = (index_len, index_at) else {
            return Err(Error::corrupt(&path, len, "the file is too short for its index"));
        };
        let index_len = usize::try_from(index_len)
            .map_err(|_| Error::corrupt(&path, index_at, "the index is larger than memory"))?;
        let mut index = vec![0; index_len];
        read_exact(&*file, &path, &mut index, index_at)?;
        let (offsets, checksums) =
            decode_index(&index, index_at, meta).map_err(|what| Error::corrupt(&path, index_at, what))?;
        Ok(Self { path, file, generation: meta.number, offsets, checksums })
    }

    fn blocks(&self) -> u64 {
        self.checksums.len() as u64
    }

    /// The end of the longest run of blocks from `start` on that fits a chunk: one block at least.
    fn chunk_end(&self, start: usize, end: usize) -> usize {
        let limit = self.offsets[start] + CHUNK_BYTES as u64;
        (start + 1..=end).take_while(|&i| self.offsets[i] <= limit).last().unwrap_or(start + 1)
    }

    fn visit_block(
        &self,
        bytes: &[u8],
        index: usize,
        visit: &mut dyn FnMut(u64, &Block<'_>) -> Result<()>,
    ) -> Result<()> {
        let number = index as u64;
        let block =
            Block::parse(bytes, self.generation, number).map_err(|malformed| self.corrupt_block(number, malformed))?;
        if block.checksum() != self.checksums[index] {
            return Err(Error::corrupt(&self.path, self.offsets[index], "the block is not the one that was written"));
        }
        visit(number, &block)
    }
}

impl GenerationReader for FileReader {
    fn read_blocks(&self, range: Range<u64>, visit: &mut dyn FnMut(u64, &Block<'_>) -> Result<()>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        if range.end > self.blocks() {
            return Err(Error::corrupt(&self.path, 0, format!("block {} is missing", self.blocks())));
        }
        // Both fit, because there are no more blocks than entries in a vector.
        let (mut start, end) = (range.start as usize, range.end as usize);
        let mut buffer = Vec::new();
        while start < end {
            let chunk_end = self.chunk_end(start, end);
            let base = self.offsets[start];
            buffer.resize((self.offsets[chunk_end] - base) as usize, 0);
            read_exact(&*self.file, &self.path, &mut buffer, base)?;
            for index in start..chunk_end {
                let within = (self.offsets[index] - base) as usize..(self.offsets[index + 1] - base) as usize;
                self.visit_block(&buffer[within], index, visit)?;
            }
            start = chunk_end;
        }
        Ok(())
    }

    fn corrupt_block(&self, index: u64, malformed: Malformed) -> Error {
        let base = usize::try_from(index).ok().and_then(|index| self.offsets.get(index)).copied().unwrap_or(0);
        Error::corrupt(&self.path, base + malformed.offset, format!("block {index}: {}", malformed.what))
    }
}

fn encode_header(generation: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..VERSION_AT].copy_from_slice(&MAGIC);
    header[VERSION_AT..GENERATION_AT].copy_from_slice(&VERSION.to_le_bytes());
    header[GENERATION_AT..CHECKSUM_AT].copy_from_slice(&generation.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..CHECKSUM_AT]);
    header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn check_header(header: &[u8; HEADER_BYTES], generation: u64, path: &Path) -> Result<()> {
    let expected = encode_header(generation);
    if *header == expected {
        return Ok(());
    }
    let checksum = crc32c::crc32c(&header[..CHECKSUM_AT]).to_le_bytes();
    let version = header[VERSION_AT..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if header[..VERSION_AT] == MAGIC && header[CHECKSUM_AT..] == checksum && version > VERSION {
        return Err(Error::UnsupportedVersion { file: path.to_owned(), found: version, supported: VERSION });
    }
    let offset = header.iter().zip(&expected).take_while(|(found, expected)| found == expected).count();
    Err(Error::corrupt(path, offset as u64, format!("this is not the header of snapshot {generation}")))
}

/// The offsets (with the end of the last block behind them) and checksums of the blocks before `index_at`.
fn decode_index(index: &[u8], index_at: u64, meta: &GenerationMeta) -> Result<(Vec<u64>, Vec<u32>), &'static str> {
    let (entries, _) = index.as_chunks::<INDEX_ENTRY_BYTES>();
    let mut offsets = Vec::with_capacity(entries.len() + 1);
    let mut checksums = Vec::with_capacity(entries.len());
    let mut digest = Digest::new(meta.number);
    let mut end = HEADER_BYTES as u64;
    for &[a, b, c, d, e, f, g, h] in entries {
        let (len, checksum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
        if !(BLOCK_HEADER_BYTES..=MAX_BLOCK_BYTES).contains(&(len as usize)) {
            return Err("the index names a block of an impossible length");
        }
        digest.add(checksum, u64::from(len));
        offsets.push(end);
        checksums.push(checksum);
        end += u64::from(len);
    }
    offsets.push(end);
    if digest.value() != meta.digest {
        Err("the index does not match the snapshot's digest")
    } else if end != index_at {
        Err("the blocks do not end where the index begins")
    } else {
        Ok((offsets, checksums))
    }
}

fn read_exact(file: &dyn StorageFile, path: &Path, buffer: &mut [u8], offset: u64) -> Result<()> {
    let read = file.read_at(buffer, offset).map_err(|e| Error::io("read", path, e))?;
    if read == buffer.len() { Ok(()) } else { Err(Error::corrupt(path, offset + read as u64, "the file ends early")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_header_never_change() {
        let golden = [
            b'P', b'L', b'D', b'T', b'S', b'N', b'A', b'P', // magic
            1, 0, 0, 0, // version
            7, 0, 0, 0, 0, 0, 0, 0, // generation
            0xe0, 0x0f, 0x31, 0x6f, // checksum
        ];
        assert_eq!(encode_header(7), golden);
    }

    #[test]
    fn a_header_of_a_newer_version_is_not_called_damage() {
        let mut header = encode_header(7);
        header[VERSION_AT] = 2;
        let path = Path::new("file");
        assert!(matches!(check_header(&header, 7, path), Err(Error::Corrupt { offset: 8, .. })));
        let checksum = crc32c::crc32c(&header[..CHECKSUM_AT]);
        header[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        let refused = check_header(&header, 7, path);
        assert!(matches!(refused, Err(Error::UnsupportedVersion { found: 2, supported: VERSION, .. })));
    }

    #[test]
    fn counts_that_the_file_cannot_hold_are_refused_before_anything_is_allocated() {
        let dir = tempfile::TempDir::new().unwrap();
        let home = FileHome::new(Arc::new(crate::storage::RealStorage::new()), dir.path().to_owned());
        let meta = home.create(1).unwrap().finish().unwrap();
        for blocks in [1, 1 << 40, u64::MAX / 8, u64::MAX] {
            assert!(home.open(&GenerationMeta { blocks, ..meta }).unwrap_err().is_corrupt());
        }
    }
}
