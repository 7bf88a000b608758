//! Snapshot generations: immutable sets of checksummed blocks, each holding every counter and like of a moment.
//!
//! A generation is written once, in order, under a temporary name; synced; read back and compared with
//! what was written; and renamed into place. Only then does the caller name it in the MANIFEST, together
//! with its [`GenerationMeta`]. What is on disk is believed only as far as it agrees with that.
//!
//! ```text
//! <store>/snapshot/<20 digits>/       a generation in sled
//! <store>/snapshot/<20 digits>.snap   a generation in one plain file
//! <store>/snapshot/<20 digits>.tmp    either of them, not finished
//! ```

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::edge::Content;
use crate::options;
use crate::storage::Storage;
use crate::{Error, Result};

pub(crate) mod block;
mod digest;
mod file;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
#[cfg(feature = "sled")]
mod sled_home;
#[cfg(feature = "sled")]
mod sums;
#[cfg(test)]
mod tests;

pub(crate) use self::block::{Block, BlockBuilder, Malformed};
pub(crate) use self::file::FileHome;
#[cfg(feature = "sled")]
pub(crate) use self::sled_home::SledHome;

use self::digest::Digest;

/// Where generations are kept.
pub(crate) trait SnapshotHome: Debug + Send + Sync {
    /// Starts generation `number` under its temporary name. Whatever bears the number already is a
    /// leftover of a run that ended before the MANIFEST named it, and is removed first.
    fn create(&self, number: u64) -> Result<Box<dyn GenerationWriter>>;

    /// Opens a finished generation. Damage is [`Error::Corrupt`], here or from the reader, and nothing on
    /// disk is changed by finding it.
    fn open(&self, meta: &GenerationMeta) -> Result<Box<dyn GenerationReader>>;

    /// The numbers, in order, of all generations of which anything is there, finished or not, in this or
    /// another home.
    fn list(&self) -> Result<Vec<u64>>;

    /// Removes all there is of a generation, finished or not, in this or another home. None is fine.
    fn remove(&self, number: u64) -> Result<()>;
}

/// Writes one generation. Dropped before [`finish`](Self::finish) returned `Ok`, it removes what it wrote.
pub(crate) trait GenerationWriter: Debug + Send {
    /// Appends a block, as a [`BlockBuilder`] of the same generation yields them.
    fn write_block(&mut self, block: &[u8]) -> Result<()>;

    /// Makes the generation durable, reads it back, compares, and gives it its name.
    fn finish(self: Box<Self>) -> Result<GenerationMeta>;
}

/// Reads one generation. Threads that read ranges apart do not wait for one another.
pub(crate) trait GenerationReader: Debug + Send + Sync {
    /// Visits the blocks of `range` in order, each verified. A block that is damaged or missing is
    /// [`Error::Corrupt`], and so is a range that the generation does not have.
    fn read_blocks(&self, range: Range<u64>, visit: &mut dyn FnMut(u64, &Block<'_>) -> Result<()>) -> Result<()>;

    /// The error for a block that turned out malformed inside.
    fn corrupt_block(&self, index: u64, malformed: Malformed) -> Error;
}

/// What a generation is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum HomeKind {
    /// One plain file.
    File = 0,
    /// A sled database.
    Sled = 1,
}

/// What must be found when a generation is opened. The MANIFEST keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GenerationMeta {
    /// The generation's number, which is its name and is part of each of its blocks.
    pub(crate) number: u64,
    /// What it is kept in.
    pub(crate) home: HomeKind,
    /// The number of blocks.
    pub(crate) blocks: u64,
    /// The number of counters in them, among them the counts of items.
    pub(crate) counters: u64,
    /// The number of edges in them.
    pub(crate) edges: u64,
    /// The length of all blocks together.
    pub(crate) bytes: u64,
    /// The length of all files together.
    pub(crate) disk_bytes: u64,
    /// Over the checksum and length of each block, in order.
    pub(crate) digest: u64,
    /// Over the home's own files: 0 where the blocks are all there is.
    pub(crate) files_digest: u64,
}

const META_WORDS: usize = 8;

impl GenerationMeta {
    /// The length of an encoded meta.
    pub(crate) const ENCODED_BYTES: usize = META_WORDS * size_of::<u64>() + size_of::<u8>();

    /// Little-endian: number, blocks, counters, edges, bytes, disk bytes, digest, files digest, each `u64`; home `u8`.
    pub(crate) fn encode(&self) -> [u8; Self::ENCODED_BYTES] {
        let sizes = [self.blocks, self.counters, self.edges, self.bytes, self.disk_bytes];
        let [blocks, counters, edges, bytes, disk_bytes] = sizes;
        let words = [self.number, blocks, counters, edges, bytes, disk_bytes, self.digest, self.files_digest];
        let mut bytes = [0; Self::ENCODED_BYTES];
        for (field, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(words) {
            field.copy_from_slice(&word.to_le_bytes());
        }
        bytes[Self::ENCODED_BYTES - 1] = self.home as u8;
        bytes
    }

    /// `None` when the home is one that this version does not know.
    pub(crate) fn decode(bytes: &[u8; Self::ENCODED_BYTES]) -> Option<Self> {
        let mut words = [0; META_WORDS];
        for (word, field) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*field);
        }
        let [number, blocks, counters, edges, bytes_in_blocks, disk_bytes, digest, files_digest] = words;
        let home = match bytes[Self::ENCODED_BYTES - 1] {
            0 => HomeKind::File,
            1 => HomeKind::Sled,
            _ => return None,
        };
        Some(Self { number, home, blocks, counters, edges, bytes: bytes_in_blocks, disk_bytes, digest, files_digest })
    }
}

/// The homes of a store's generations: new ones go to one of them, old ones are read from wherever they are.
#[derive(Debug)]
pub(crate) struct Homes {
    file: FileHome,
    #[cfg(feature = "sled")]
    sled: SledHome,
    preferred: options::SnapshotHome,
}

impl Homes {
    pub(crate) fn new(storage: &Arc<dyn Storage>, dir: &Path, preferred: options::SnapshotHome) -> Self {
        Self {
            file: FileHome::new(Arc::clone(storage), dir.to_owned()),
            #[cfg(feature = "sled")]
            sled: SledHome::new(Arc::clone(storage), dir.to_owned()),
            preferred,
        }
    }

    /// Starts a generation, in the preferred home.
    pub(crate) fn create(&self, number: u64) -> Result<Box<dyn GenerationWriter>> {
        match self.preferred {
            options::SnapshotHome::File => self.file.create(number),
            #[cfg(feature = "sled")]
            options::SnapshotHome::Sled => self.sled.create(number),
        }
    }

    /// Opens a generation, in the home that it was written to.
    pub(crate) fn open(&self, meta: &GenerationMeta) -> Result<Box<dyn GenerationReader>> {
        match meta.home {
            HomeKind::File => self.file.open(meta),
            #[cfg(feature = "sled")]
            HomeKind::Sled => self.sled.open(meta),
            #[cfg(not(feature = "sled"))]
            HomeKind::Sled => {
                Err(Error::FeatureMissing { feature: "sled", what: format!("snapshot generation {}", meta.number) })
            }
        }
    }

    /// The numbers of all generations of which anything is there.
    pub(crate) fn list(&self) -> Result<Vec<u64>> {
        self.file.list()
    }

    /// Removes all there is of a generation.
    pub(crate) fn remove(&self, number: u64) -> Result<()> {
        self.file.remove(number)
    }
}

/// Adds up the blocks of a generation, while they are written and again while they are read back.
#[derive(Debug, PartialEq, Eq)]
struct Tally {
    blocks: u64,
    counters: u64,
    edges: u64,
    bytes: u64,
    digest: Digest,
}

impl Tally {
    fn new(generation: u64) -> Self {
        Self { blocks: 0, counters: 0, edges: 0, bytes: 0, digest: Digest::new(generation) }
    }

    fn add(&mut self, block: &Block<'_>) -> Result<(), Malformed> {
        match block.kind() {
            Content::Counters => self.counters += u64::from(block.count()),
            Content::Edges(_) => self.edges += block.edges()?,
        }
        self.blocks += 1;
        self.bytes += block.len() as u64;
        self.digest.add(block.checksum(), block.len() as u64);
        Ok(())
    }

    /// Reads all of a generation, and refuses it when it is not what this tally counted.
    fn verify(&self, generation: u64, reader: &dyn GenerationReader, path: &Path) -> Result<()> {
        let mut found = Self::new(generation);
        reader.read_blocks(0..self.blocks, &mut |index, block| {
            found.add(block).map_err(|malformed| reader.corrupt_block(index, malformed))
        })?;
        if found == *self { Ok(()) } else { Err(Error::corrupt(path, 0, "not what was written is read back")) }
    }
}

/// The directory of the generations, and the names in it.
#[derive(Debug, Clone)]
struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    fn temporary(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:020}.tmp"))
    }

    fn file(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:020}.snap"))
    }

    #[cfg(feature = "sled")]
    fn directory(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:020}"))
    }

    fn list(&self, storage: &dyn Storage) -> Result<Vec<u64>> {
        let entries = match storage.list(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|e| Error::io("list", &self.dir, e))?,
        };
        let mut numbers: Vec<u64> = entries.iter().filter_map(|entry| number_of(&entry.name)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn remove(&self, storage: &dyn Storage, number: u64) -> Result<()> {
        let entries = match storage.list(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(|e| Error::io("list", &self.dir, e))?,
        };
        for entry in entries.iter().filter(|entry| number_of(&entry.name) == Some(number)) {
            let path = self.dir.join(&entry.name);
            let removed = if entry.is_dir { storage.remove_dir_all(&path) } else { storage.remove_file(&path) };
            removed.map_err(|e| Error::io("remove", &path, e))?;
        }
        Ok(())
    }

    /// Gives a finished and synced generation its name, durably.
    fn publish(&self, storage: &dyn Storage, temporary: &Path, finished: &Path) -> Result<()> {
        storage.rename(temporary, finished).map_err(|e| Error::io("rename", temporary, e))?;
        // The directory itself may be as new as what is in it, where a backup left out what was empty.
        for dir in [Some(self.dir.as_path()), self.dir.parent()].into_iter().flatten() {
            storage.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
        }
        Ok(())
    }
}

/// The generation that a name in the directory belongs to; `None` for any other name.
fn number_of(name: &str) -> Option<u64> {
    let (digits, suffix) = name.split_at_checked(20)?;
    let ours = matches!(suffix, "" | ".snap" | ".tmp") && digits.bytes().all(|b| b.is_ascii_digit());
    if ours { digits.parse().ok() } else { None }
}
