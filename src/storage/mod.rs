//! The seam between the store and the disk.
//!
//! Log, manifest, lock and file snapshots reach the disk only through [`Storage`]. The real file system is
//! [`RealStorage`]; the simulated disk (`sim::SimDisk`, feature `sim`) keeps everything in memory and can fill up,
//! fail and lose power.
//!
//! # What the store relies on
//!
//! - [`StorageFile::sync`] returns `Ok` only when the file's bytes and length survive a power cut.
//! - [`Storage::sync_dir`] returns `Ok` only when the names created, renamed and removed in that directory
//!   before the call survive one.
//! - [`Storage::rename`] replaces the target in one step: a reader, or a power cut, sees the old file or the new.
//! - Bytes that were synced are not changed by a later write to other bytes of the file.
//! - A call that a signal interrupts (EINTR) goes on by itself. The store tries nothing again but for want of room, so
//!   to it [`io::ErrorKind::Interrupted`] is a failure like any other: in the log it stops the store.

use std::fmt::Debug;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

mod real;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use real::RealStorage;

/// Reads a whole file, which must not be longer than `max_bytes`.
pub(crate) fn read_file(storage: &dyn Storage, path: &Path, max_bytes: usize) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let file = storage.open(path).map_err(failed)?;
    let len = file.len().map_err(failed)?;
    let len = usize::try_from(len).ok().filter(|&len| len <= max_bytes);
    let len = len.ok_or_else(|| Error::corrupt(path, max_bytes as u64, "the file is longer than it can be"))?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// A file system, as far as the store needs one.
///
/// Every call may be made from any thread. Paths are those of the store's directory joined with fixed
/// names; nothing is followed outside it.
pub trait Storage: Debug + Send + Sync + 'static {
    /// Creates a directory and its missing parents. One that exists already is not an error.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Creates an empty file for reading and writing; one that exists is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>>;

    /// Renames a file or directory, replacing a file of the new name in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock that the file at `path` stands for, creating the file if it is missing.
    /// Held until the returned guard is dropped or the process ends. `None` when somebody else holds it,
    /// be it in this process.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>>;

    /// Whether paths mean the same files here as for the operating system. sled goes to the operating system by itself,
    /// so only then can it keep snapshots.
    fn is_operating_system(&self) -> bool {
        false
    }
}

/// A file of a [`Storage`]. Offsets and lengths are in bytes.
///
/// There is no cursor, so calls need no exclusive access.
// A file's length is fallible, so `is_empty` would only repeat it.
#[allow(clippy::len_without_is_empty)]
pub trait StorageFile: Debug + Send + Sync {
    /// The file's length.
    fn len(&self) -> io::Result<u64>;

    /// Reads into `buf` from `offset` on, and returns how many bytes were read: fewer than asked for only
    /// at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, extending the file where needed. After an error any part of it
    /// may have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Extends the file with zeros to `len` bytes and reserves the room, so that writing there later does
    /// not find the disk full. A file that is as long already stays as it is. Fails with
    /// [`io::ErrorKind::StorageFull`] when there is no room; the file then has its old length again, so nothing else
    /// may extend it meanwhile.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Cuts the file to `len` bytes. A shorter file stays as it is.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable. Never to be repeated after it failed: what was not
    /// written may have been forgotten, and the next call may answer `Ok` without it.
    fn sync(&self) -> io::Result<()>;
}

/// A held lock; dropping it releases it.
pub trait StorageLock: Debug + Send + Sync {}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the directory. A name that is not UTF-8 is given with replacement characters.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// The length in bytes; 0 for a directory.
    pub len: u64,
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
