//! The raw files of a sled generation, and their checksums.
//!
//! sled's recovery trusts what it reads: damage can make it panic, allocate without bound, or drop data and
//! answer `Ok`. So no byte reaches sled before it was compared with this list, which is kept beside sled's
//! files and is itself covered by the digest in the [`GenerationMeta`](super::GenerationMeta).
//!
//! ```text
//! list  := magic:8 version:u32 generation:u64 files:u32 file{files} crc32c:u32
//! file  := name_len:u16 name len:u64 crc32c:u32{one for each started MiB of the file}
//! ```
//!
//! Integers are little-endian; the last checksum covers every byte before it. Names are relative to the
//! generation's directory, with `/` between their parts, and sorted.

use std::path::Path;
use std::thread;

use super::digest::Digest;
use crate::storage::Storage;
use crate::sync::{AtomicU64, Ordering};
use crate::{Error, Result};

/// The list's own name in the generation's directory; sled ignores it.
pub(super) const FILE_NAME: &str = "SUMS";

const MAGIC: [u8; 8] = *b"PLDTSUMS";
const VERSION: u32 = 1;

/// The part of a file that one checksum covers. Also the unit in which threads share the reading.
const CHUNK_BYTES: u64 = 1 << 20;

/// A file of fewer chunks is read before a second thread would have started.
const MIN_SHARED_CHUNKS: u64 = 8;

/// sled has one directory within its own; deeper ones are not its.
const MAX_DEPTH: usize = 2;

/// Names, lengths and checksums of files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sums {
    files: Vec<FileSums>,
}

#[derive(Debug, PartialEq, Eq)]
struct FileSums {
    name: String,
    len: u64,
    chunks: Vec<u32>,
}

impl Sums {
    /// Reads every file of `dir` but the list itself and what sled itself calls unfinished.
    pub(super) fn of(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        list(storage, dir, "", 1, &mut |name, len| {
            files.push(FileSums { name, len, chunks: Vec::new() });
        })?;
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for file in &mut files {
            file.chunks = checksums(storage, &dir.join(&file.name), file.len)?;
        }
        Ok(Self { files })
    }

    /// The length of all files together.
    pub(super) fn total_len(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// Refuses a directory whose files are not these, naming the file and the place.
    pub(super) fn verify(&self, storage: &dyn Storage, dir: &Path) -> Result<()> {
        let mut found = Vec::new();
        list(storage, dir, "", 1, &mut |name, len| found.push((name, len)))?;
        for file in &self.files {
            let path = dir.join(&file.name);
            match found.iter().find(|(name, _)| *name == file.name) {
                None => return Err(Error::corrupt(&path, 0, "the file is missing")),
                Some(&(_, len)) if len != file.len => {
                    let what = format!("the file has {len} bytes, and {} were written", file.len);
                    return Err(Error::corrupt(&path, len.min(file.len), what));
                }
                Some(_) => {}
            }
        }
        if let Some((name, _)) = found.iter().find(|(name, _)| self.files.iter().all(|file| file.name != *name)) {
            return Err(Error::corrupt(&dir.join(name), 0, "the file is not part of the snapshot"));
        }
        for file in &self.files {
            let path = dir.join(&file.name);
            let chunks = checksums(storage, &path, file.len)?;
            if let Some(at) = (0..file.chunks.len()).find(|&i| chunks.get(i) != file.chunks.get(i)) {
                let what = format!("one of the {CHUNK_BYTES} bytes from here on is not what was written");
                return Err(Error::corrupt(&path, at as u64 * CHUNK_BYTES, what));
            }
        }
        Ok(())
    }

    pub(super) fn encode(&self, generation: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&generation.to_le_bytes());
        bytes.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            bytes.extend_from_slice(&(file.name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(file.name.as_bytes());
            bytes.extend_from_slice(&file.len.to_le_bytes());
            file.chunks.iter().for_each(|chunk| bytes.extend_from_slice(&chunk.to_le_bytes()));
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` when the bytes are not a list of `generation`.
    pub(super) fn decode(bytes: &[u8], generation: u64) -> Option<Self> {
        let (mut rest, checksum) = bytes.split_last_chunk()?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let rest = &mut rest;
        let right = take(rest)? == MAGIC
            && u32::from_le_bytes(take(rest)?) == VERSION
            && u64::from_le_bytes(take(rest)?) == generation;
        if !right {
            return None;
        }
        let count = u32::from_le_bytes(take(rest)?);
        let mut files = Vec::new();
        for _ in 0..count {
            let name_len = usize::from(u16::from_le_bytes(take(rest)?));
            let (name, after) = rest.split_at_checked(name_len)?;
            *rest = after;
            let len = u64::from_le_bytes(take(rest)?);
            let chunk_bytes = usize::try_from(len.div_ceil(CHUNK_BYTES)).ok()?.checked_mul(size_of::<u32>())?;
            let (chunks, after) = rest.split_at_checked(chunk_bytes)?;
            *rest = after;
            let chunks = chunks.as_chunks().0.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect();
            files.push(FileSums { name: std::str::from_utf8(name).ok()?.to_owned(), len, chunks });
        }
        rest.is_empty().then_some(Self { files })
    }
}

/// What the meta keeps of an encoded list.
pub(super) fn digest(encoded: &[u8], generation: u64) -> u64 {
    let mut digest = Digest::new(generation);
    for chunk in encoded.chunks(64) {
        digest.add(crc32c::crc32c(chunk), chunk.len() as u64);
    }
    digest.value()
}

/// Whether sled left the file behind while writing it; its next open would trip over it.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with("snap.") && name.ends_with(".generating")
}

fn list(
    storage: &dyn Storage,
    dir: &Path,
    prefix: &str,
    depth: usize,
    found: &mut dyn FnMut(String, u64),
) -> Result<()> {
    let inner = dir.join(prefix);
    for entry in storage.list(&inner).map_err(|e| Error::io("list", &inner, e))? {
        let name = format!("{prefix}{}", entry.name);
        if entry.is_dir && depth < MAX_DEPTH {
            list(storage, dir, &format!("{name}/"), depth + 1, found)?;
        } else if name != FILE_NAME && !is_unfinished(&name) {
            found(name, entry.len);
        }
    }
    Ok(())
}

/// The checksum of each chunk of a file of `len` bytes, read by two threads when there is much of it.
fn checksums(storage: &dyn Storage, path: &Path, len: u64) -> Result<Vec<u32>> {
    let chunks = len.div_ceil(CHUNK_BYTES);
    let file = storage.open(path).map_err(|e| Error::io("open", path, e))?;
    let next = AtomicU64::new(0);
    let work = || {
        let mut sums = Vec::new();
        let mut buffer = vec![0; len.min(CHUNK_BYTES) as usize];
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                return Ok(sums);
            }
            let at = chunk * CHUNK_BYTES;
            let part = &mut buffer[..(len - at).min(CHUNK_BYTES) as usize];
            let read = file.read_at(part, at).map_err(|e| Error::io("read", path, e))?;
            if read < part.len() {
                return Err(Error::corrupt(path, at + read as u64, "the file ends early"));
            }
            sums.push((chunk, crc32c::crc32c(part)));
        }
    };
    let mut sums = thread::scope(|scope| {
        let helper =
            (chunks > MIN_SHARED_CHUNKS).then(|| thread::Builder::new().spawn_scoped(scope, work).ok()).flatten();
        let mut sums = work()?;
        if let Some(helper) = helper {
            let theirs = helper.join().map_err(|_| Error::Panicked {
                thread: "snapshot checksum",
                what: "see the message on standard error".to_owned(),
            })?;
            sums.append(&mut theirs?);
        }
        Ok::<_, Error>(sums)
    })?;
    sums.sort_unstable_by_key(|&(chunk, _)| chunk);
    Ok(sums.into_iter().map(|(_, sum)| sum).collect())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> Sums {
        let file = |name: &str, len, chunks: &[u32]| FileSums { name: name.to_owned(), len, chunks: chunks.to_vec() };
        Sums { files: vec![file("blobs/1", 0, &[]), file("db", CHUNK_BYTES + 1, &[1, 2])] }
    }

    #[test]
    fn the_bytes_of_a_list_never_change() {
        let file = FileSums { name: "db".to_owned(), len: 3, chunks: vec![0x0403_0201] };
        let golden = [
            b'P', b'L', b'D', b'T', b'S', b'U', b'M', b'S', // magic
            1, 0, 0, 0, // version
            4, 0, 0, 0, 0, 0, 0, 0, // generation
            1, 0, 0, 0, // files
            2, 0, b'd', b'b', // name
            3, 0, 0, 0, 0, 0, 0, 0, // length
            1, 2, 3, 4, // the checksum of its only chunk
            0x3c, 0x0c, 0x17, 0xda, // checksum
        ];
        let list = Sums { files: vec![file] }.encode(4);
        assert_eq!(list, golden);
        assert_eq!(digest(&list, 4), 0x160e_3c71_e601_ddca);
    }

    #[test]
    fn the_list_comes_back() {
        let bytes = sums().encode(4);
        assert_eq!(Sums::decode(&bytes, 4), Some(sums()));
        assert_eq!(Sums::decode(&bytes, 5), None);
    }

    #[test]
    fn a_damaged_list_is_refused_and_has_another_digest() {
        let bytes = sums().encode(4);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Sums::decode(&damaged, 4), None, "bit {bit}");
            assert_ne!(digest(&damaged, 4), digest(&bytes, 4), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Sums::decode(&bytes[..len], 4), None, "length {len}");
        }
    }

    #[test]
    fn lengths_that_the_list_cannot_hold_are_refused_before_anything_is_allocated() {
        let mut files = sums();
        files.files[1].len = u64::MAX;
        assert_eq!(Sums::decode(&files.encode(4), 4), None);
    }
}
