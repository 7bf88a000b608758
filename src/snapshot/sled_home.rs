//! The sled home: a generation is a directory with a sled database, keyed by block number.
//!
//! sled 0.34.7 is believed in nothing that matters here:
//!
//! - It flushes its data file without fsync, so every file and directory is synced here. It does fsync when it
//!   opens and closes, and may keep a failure of that to itself; the system tells each open file of a failure
//!   once, so the file that is synced in the end is one that was open before the first block was written.
//! - Opening a database writes to it: the end of the last segment and every free segment are filled with
//!   zeros, and a recovery that got further than the last one writes a `snap.*` file. Reading may merge
//!   small nodes. So a new generation is opened, read whole and closed again *until no file changes any
//!   more*. From then on sled only ever rewrites bytes with the same bytes, in place: a generation is never
//!   modified, needs no room on a full disk, and cannot be torn by a power cut.
//! - Its recovery asserts much of what it reads, and drops data on some damage without a word. So each raw byte
//!   is compared with the generation's checksums ([`Sums`]) before sled sees it, and every block again after.
//! - Panics are caught.
//! - Its threads may hold the database for a moment after it was dropped. Nothing is read, synced, opened or
//!   renamed before they let go of sled's lock on the file.

use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::block::MAX_BLOCK_BYTES;
use super::sums::{self, Sums};
use super::{
    Block, GenerationMeta, GenerationReader, GenerationWriter, HomeKind, Malformed, Shelf, SnapshotHome, Tally,
};
use crate::error::panic_message;
use crate::storage::{Storage, StorageFile};
use crate::sync::{AtomicU64, Ordering, RwLock};
use crate::{Error, Result};

/// sled's data file, which it also locks.
const DATA_FILE: &str = "db";

/// sled keeps what was read in any case; this bounds what it keeps of what was written.
const CACHE_BYTES: u64 = 8 << 20;

/// sled keeps in memory whatever it has seen of a database until that is closed. So one is closed and opened again
/// each time that so many bytes went through it, or a share of all, whatever is more: what closing costs stays in
/// proportion.
const REOPEN_AFTER_BYTES: u64 = 4 << 20;
const REOPEN_SHARE: u64 = 8;

/// How many keys go into the database ahead of their blocks, without a value: as many again as there are, within these.
///
/// sled splits a leaf of more than 16 entries and writes a page whole after 10 changes to it (`Node::should_split`,
/// `PAGE_CONSOLIDATION_THRESHOLD`), so a block that is inserted with its key is written three times. Leaves of keys
/// without a value are small, and once they have split into halves of 8 their blocks come as 8 changes, written once.
const MIN_KEYS_AHEAD: u64 = 16;
const MAX_KEYS_AHEAD: u64 = 1_024;

/// How often a generation is opened and read for its files to come to rest. Measured: 2 to 4 times.
const MAX_SETTLE_PASSES: usize = 16;

/// How long a database that was closed may stay locked by sled's own threads. Measured: a few milliseconds.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(10);

/// A list of files is never longer than this, because a generation has few files: 16 MiB of list stand for 4 TiB.
const MAX_LIST_BYTES: u64 = 16 << 20;

/// Keeps generations in sled.
#[derive(Debug)]
pub(crate) struct SledHome {
    storage: Arc<dyn Storage>,
    shelf: Shelf,
}

impl SledHome {
    /// A home in `dir`, which is created with the first generation. sled goes to the real file system by
    /// itself, so `storage` must be that too.
    pub(crate) fn new(storage: Arc<dyn Storage>, dir: PathBuf) -> Self {
        Self { storage, shelf: Shelf { dir } }
    }
}

impl SnapshotHome for SledHome {
    fn create(&self, number: u64) -> Result<Box<dyn GenerationWriter>> {
        let storage = Arc::clone(&self.storage);
        let shelf = self.shelf.clone();
        shelf.remove(&*storage, number)?;
        let path = shelf.temporary(number);
        storage.create_dir_all(&path).map_err(|e| Error::io("create", &path, e))?;
        let tally = Tally::new(number);
        let mut writer =
            SledWriter { storage, shelf, number, path, database: None, since_open: 0, keys: 0, data: None, tally };
        writer.database = Some(Database::open(&writer.path).map_err(|e| e.while_writing(&writer.path))?);
        let data = writer.path.join(DATA_FILE);
        writer.data = Some(writer.storage.open(&data).map_err(|e| Error::io("open", &data, e))?);
        Ok(Box::new(writer))
    }

    fn open(&self, meta: &GenerationMeta) -> Result<Box<dyn GenerationReader>> {
        let path = self.shelf.directory(meta.number);
        let sums = read_sums(&*self.storage, &path, meta)?;
        sums.verify(&*self.storage, &path)?;
        if meta.disk_bytes.saturating_sub(sums.total_len()) > MAX_LIST_BYTES {
            return Err(Error::corrupt(&path, 0, format!("the files have not the {} bytes written", meta.disk_bytes)));
        }
        Ok(Box::new(SledReader::open(&self.storage, path, meta.number, meta.blocks)?))
    }

    fn list(&self) -> Result<Vec<u64>> {
        self.shelf.list(&*self.storage)
    }

    fn remove(&self, number: u64) -> Result<()> {
        self.shelf.remove(&*self.storage, number)
    }
}

#[derive(Debug)]
struct SledWriter {
    storage: Arc<dyn Storage>,
    shelf: Shelf,
    number: u64,
    /// The temporary directory; empty when there is none to remove any more.
    path: PathBuf,
    database: Option<Database>,
    /// Bytes of blocks that went into the database since it was opened.
    since_open: u64,
    /// Keys that are in the database, those of blocks that are still to come included.
    keys: u64,
    /// sled's data file, open since before anything was written to it, so that its sync tells of every failure.
    data: Option<Box<dyn StorageFile>>,
    tally: Tally,
}

impl GenerationWriter for SledWriter {
    fn write_block(&mut self, bytes: &[u8]) -> Result<()> {
        let index = self.tally.blocks;
        let refused = |malformed: Malformed| Error::corrupt(&self.path, 0, malformed.what);
        let block = Block::parse(bytes, self.number, index).map_err(refused)?;
        self.tally.add(&block).map_err(refused)?;
        if index == self.keys {
            self.keys += index.clamp(MIN_KEYS_AHEAD, MAX_KEYS_AHEAD);
            self.on_each(index..self.keys, |db, key| db.insert(key, &[]))?;
        }
        self.on_each(index..index + 1, |db, key| db.insert(key, bytes))?;
        self.since_open += bytes.len() as u64;
        if self.since_open >= REOPEN_AFTER_BYTES.max(self.tally.bytes / REOPEN_SHARE) {
            self.close_database()?;
            self.database = Some(Database::open(&self.path).map_err(|failure| failure.while_writing(&self.path))?);
            self.since_open = 0;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<GenerationMeta> {
        self.on_each(self.tally.blocks..self.keys, |db, key| db.remove(key))?;
        self.close_database()?;
        let sums = self.settle()?;
        let list = sums.encode(self.number);
        self.write_list(&list)?;
        self.sync(&sums)?;
        self.shelf.publish(&*self.storage, &self.path, &self.shelf.directory(self.number))?;
        self.path = PathBuf::new();
        Ok(GenerationMeta {
            number: self.number,
            home: HomeKind::Sled,
            blocks: self.tally.blocks,
            counters: self.tally.counters,
            edges: self.tally.edges,
            bytes: self.tally.bytes,
            disk_bytes: sums.total_len() + list.len() as u64,
            digest: self.tally.digest.value(),
            files_digest: sums::digest(&list, self.number),
        })
    }
}

impl SledWriter {
    fn on_each<T>(&self, keys: Range<u64>, act: impl Fn(&sled::Db, [u8; 8]) -> sled::Result<T>) -> Result<()> {
        let Some(database) = &self.database else { return Err(Error::Closed) };
        let result = database.call(|db| keys.map(u64::to_be_bytes).try_for_each(|key| act(db, key).map(drop)));
        result.map_err(|failure| failure.while_writing(&self.path))
    }

    /// Closes the database, and waits until nothing of sled's has it any more.
    fn close_database(&mut self) -> Result<()> {
        let Some(database) = self.database.take() else { return Err(Error::Closed) };
        let closed = database.call(|db| db.flush().map(drop)).and_then(|()| database.close());
        closed.map_err(|failure| failure.while_writing(&self.path))?;
        wait_until_unlocked(&*self.storage, &self.path)
    }

    /// Opens, verifies and closes the database until doing so changes none of its files.
    fn settle(&self) -> Result<Sums> {
        let mut before = Sums::of(&*self.storage, &self.path)?;
        for _ in 0..MAX_SETTLE_PASSES {
            let reader = SledReader::open(&self.storage, self.path.clone(), self.number, self.tally.blocks)?;
            self.tally.verify(self.number, &reader, &self.path)?;
            reader.close().map_err(|failure| failure.while_writing(&self.path))?;
            wait_until_unlocked(&*self.storage, &self.path)?;
            let after = Sums::of(&*self.storage, &self.path)?;
            if after == before {
                return Ok(after);
            }
            before = after;
        }
        let what = format!("sled still changes its files when opened for the {MAX_SETTLE_PASSES}th time");
        Err(Error::io("settle", &self.path, io::Error::other(what)))
    }

    fn write_list(&self, list: &[u8]) -> Result<()> {
        let path = self.path.join(sums::FILE_NAME);
        let file = self.storage.create(&path).map_err(|e| Error::io("create", &path, e))?;
        file.write_all_at(list, 0).map_err(|e| Error::io("write", &path, e))
    }

    fn sync(&self, sums: &Sums) -> Result<()> {
        for name in sums.names().chain([sums::FILE_NAME]) {
            let path = self.path.join(name);
            let synced = match &self.data {
                Some(data) if name == DATA_FILE => data.sync(),
                _ => self.storage.open(&path).map_err(|e| Error::io("open", &path, e))?.sync(),
            };
            synced.map_err(|e| Error::io("sync", &path, e))?;
        }
        let entries = self.storage.list(&self.path).map_err(|e| Error::io("list", &self.path, e))?;
        let inner = entries.iter().filter(|entry| entry.is_dir).map(|entry| self.path.join(&entry.name));
        for path in inner.chain([self.path.clone()]) {
            self.storage.sync_dir(&path).map_err(|e| Error::io("sync", &path, e))?;
        }
        Ok(())
    }
}

impl Drop for SledWriter {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        drop(self.database.take());
        if let Err(error) = self.storage.remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "an unfinished snapshot could not be removed");
        }
    }
}

#[derive(Debug)]
struct SledReader {
    storage: Arc<dyn Storage>,
    /// Read by all threads together, and taken by the one that opens the database anew; why it could not, if so.
    database: RwLock<Result<Database>>,
    /// Blocks read since the database was opened.
    since_open: AtomicU64,
    path: PathBuf,
    generation: u64,
    blocks: u64,
}

impl SledReader {
    /// Opens a database whose files were verified, or have just been written.
    fn open(storage: &Arc<dyn Storage>, path: PathBuf, generation: u64, blocks: u64) -> Result<Self> {
        let database = Self::open_database(&**storage, &path)?;
        let (storage, database) = (Arc::clone(storage), RwLock::new(Ok(database)));
        Ok(Self { storage, database, since_open: AtomicU64::new(0), path, generation, blocks })
    }

    fn open_database(storage: &dyn Storage, path: &Path) -> Result<Database> {
        wait_until_unlocked(storage, path)?;
        remove_unfinished(storage, path)?;
        Database::open(path).map_err(|failure| failure.while_reading(path))
    }

    fn close(self) -> Result<(), Failure> {
        self.database.into_inner().map_or(Ok(()), Database::close)
    }

    /// A block as it was written, if it is there.
    fn get(&self, index: u64) -> Result<Option<sled::IVec>> {
        let database = self.database.read();
        let open = database.as_ref().map_err(Error::clone)?;
        let found = open.call(|db| db.get(index.to_be_bytes()));
        drop(database);
        let found = found.map_err(|failure| failure.while_reading(&self.path))?;
        let seen = self.since_open.fetch_add(1, Ordering::Relaxed) + 1;
        if seen == (REOPEN_AFTER_BYTES / MAX_BLOCK_BYTES as u64).max(self.blocks / REOPEN_SHARE) {
            self.reopen()?;
        }
        Ok(found)
    }

    fn reopen(&self) -> Result<()> {
        let mut database = self.database.write();
        let closed = std::mem::replace(&mut *database, Err(Error::Closed)).map(Database::close);
        *database = closed.and_then(|closed| {
            closed.map_err(|failure| failure.while_reading(&self.path))?;
            Self::open_database(&*self.storage, &self.path)
        });
        self.since_open.store(0, Ordering::Relaxed);
        database.as_ref().map(|_| ()).map_err(Error::clone)
    }
}

impl GenerationReader for SledReader {
    fn read_blocks(&self, range: Range<u64>, visit: &mut dyn FnMut(u64, &Block<'_>) -> Result<()>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let missing = |index| Error::corrupt(&self.path, 0, format!("block {index} is missing"));
        if range.end > self.blocks {
            return Err(missing(self.blocks));
        }
        for index in range {
            // Looking each block up is quicker than sled's iterator, and holds a third less in memory.
            let bytes = self.get(index)?.ok_or_else(|| missing(index))?;
            let block = Block::parse(&bytes, self.generation, index).map_err(|m| self.corrupt_block(index, m))?;
            visit(index, &block)?;
        }
        Ok(())
    }

    fn corrupt_block(&self, index: u64, malformed: Malformed) -> Error {
        // Where in its file sled put the block is not known; the offset is the one in the block.
        Error::corrupt(&self.path, malformed.offset, format!("block {index}: {}", malformed.what))
    }
}

/// An open sled database, which does not panic.
struct Database(Option<sled::Db>);

impl Database {
    fn open(path: &Path) -> Result<Self, Failure> {
        let config = sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .use_compression(false);
        guarded(|| config.open()).map(|db| Self(Some(db)))
    }

    fn call<T>(&self, act: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, Failure> {
        match &self.0 {
            Some(db) => guarded(|| act(db)),
            None => Err(Failure::Sled(sled::Error::ReportableBug("the database is closed".to_owned()))),
        }
    }

    /// Closes the database, during which sled writes and syncs, and tells when it panicked over that.
    fn close(mut self) -> Result<(), Failure> {
        self.release()
    }

    fn release(&mut self) -> Result<(), Failure> {
        let db = self.0.take();
        guarded(|| {
            drop(db);
            Ok(())
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(failure) = self.release() {
            tracing::warn!(?failure, "sled failed while it closed a snapshot");
        }
    }
}

impl fmt::Debug for Database {
    // sled's own Debug prints every key and value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

/// How a call into sled went wrong.
#[derive(Debug)]
enum Failure {
    Sled(sled::Error),
    Panic(String),
}

impl Failure {
    fn while_writing(self, path: &Path) -> Error {
        match self {
            Self::Sled(sled::Error::Io(error)) => Error::io("write", path, error),
            Self::Sled(error) => Error::io("write", path, io::Error::other(error)),
            Self::Panic(what) => Error::io("write", path, io::Error::other(format!("sled panicked: {what}"))),
        }
    }

    fn while_reading(self, path: &Path) -> Error {
        match self {
            Self::Sled(sled::Error::Io(error)) => Error::io("read", path, error),
            Self::Sled(error) => Error::corrupt(path, 0, format!("sled: {error}")),
            Self::Panic(what) => Error::corrupt(path, 0, format!("sled panicked: {what}")),
        }
    }
}

/// Calls into sled.
fn guarded<T>(act: impl FnOnce() -> sled::Result<T>) -> Result<T, Failure> {
    // What a panic may have left half-done is only ever dropped.
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(result) => result.map_err(Failure::Sled),
        Err(panic) => Err(Failure::Panic(panic_message(&*panic))),
    }
}

/// Waits for sled's own threads to let go of a database that was closed.
fn wait_until_unlocked(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let path = dir.join(DATA_FILE);
    let started = Instant::now();
    while storage.try_lock(&path).map_err(|e| Error::io("lock", &path, e))?.is_none() {
        if started.elapsed() > MAX_LOCK_WAIT {
            return Err(Error::Locked { path });
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Removes what sled left of a file that it did not finish, which its next open would trip over.
fn remove_unfinished(storage: &dyn Storage, dir: &Path) -> Result<()> {
    let entries = storage.list(dir).map_err(|e| Error::io("list", dir, e))?;
    for entry in entries.iter().filter(|entry| !entry.is_dir && sums::is_unfinished(&entry.name)) {
        let path = dir.join(&entry.name);
        storage.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
    }
    Ok(())
}

/// The list of the generation's files, once it is known to be the one that was written.
fn read_sums(storage: &dyn Storage, dir: &Path, meta: &GenerationMeta) -> Result<Sums> {
    let path = dir.join(sums::FILE_NAME);
    let file = match storage.open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::corrupt(&path, 0, "the file is missing")),
        opened => opened.map_err(|e| Error::io("open", &path, e))?,
    };
    let len = file.len().map_err(|e| Error::io("read", &path, e))?.min(MAX_LIST_BYTES);
    let mut list = vec![0; len as usize];
    let read = file.read_at(&mut list, 0).map_err(|e| Error::io("read", &path, e))?;
    list.truncate(read);
    let sums = Sums::decode(&list, meta.number).filter(|_| sums::digest(&list, meta.number) == meta.files_digest);
    sums.ok_or_else(|| Error::corrupt(&path, 0, "the list of the snapshot's files is not the one that was written"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::snapshot::tests;
    use crate::storage::RealStorage;

    #[test]
    fn a_panic_of_sled_is_an_error() {
        let panics = || guarded(|| -> sled::Result<()> { panic!("segment {} was torn", 3) });
        let reading = panics().unwrap_err().while_reading(Path::new("dir"));
        assert!(reading.is_corrupt());
        assert_eq!(reading.to_string(), "dir is corrupt at byte 0: sled panicked: segment 3 was torn");
        let writing = panics().unwrap_err().while_writing(Path::new("dir"));
        assert!(matches!(writing, Error::Io { action: "write", .. }));
    }

    #[test]
    fn damage_that_reached_sled_would_still_not_be_believed() {
        let dir = tempfile::TempDir::new().unwrap();
        let home = SledHome::new(Arc::new(RealStorage::new()), dir.path().to_owned());
        let meta = tests::write(&home, 1, 20_000);
        let files = tests::files_of(dir.path());
        let path = home.shelf.directory(1);
        let data = path.join(DATA_FILE);
        let mut refused = 0;
        for i in 0..100 {
            let mut damaged = files[&data].clone();
            let at = i * 7919 % damaged.len();
            damaged[at] ^= 0x10;
            fs::write(&data, &damaged).unwrap();
            let read = SledReader::open(&home.storage, path.clone(), 1, meta.blocks);
            refused += usize::from(read.and_then(|reader| tests::check_blocks(&reader, &meta)).is_err());
            wait_until_unlocked(&*home.storage, &path).unwrap();
            tests::restore(dir.path(), &files);
        }
        assert!(refused > 0, "no damage hit a block");
    }

    #[test]
    fn a_generation_that_is_still_open_is_waited_for() {
        let dir = tempfile::TempDir::new().unwrap();
        let home = SledHome::new(Arc::new(RealStorage::new()), dir.path().to_owned());
        let meta = tests::write(&home, 1, 100);
        let reader = home.open(&meta).unwrap();
        thread::scope(|scope| {
            let second = scope.spawn(|| home.open(&meta).unwrap());
            thread::sleep(Duration::from_millis(50));
            assert!(!second.is_finished());
            drop(reader);
            drop(second.join().unwrap());
        });
    }

    #[test]
    fn a_database_is_little_more_than_its_blocks() {
        let dir = tempfile::TempDir::new().unwrap();
        let home = SledHome::new(Arc::new(RealStorage::new()), dir.path().to_owned());
        let meta = tests::write(&home, 1, 400_000);
        // 1.18 times; with each key laid just before its block, 2.4 times.
        assert!(meta.disk_bytes < meta.bytes * 13 / 10, "{} bytes on the disk for {}", meta.disk_bytes, meta.bytes);
    }
}
