//! A simulated disk and clock, for testing what survives a crash: of the store, and of the service that uses it.
//!
//! [`SimDisk`] keeps two states of everything: what calls see, and what is on the medium. Only a sync moves the
//! one to the other, so [`SimDisk::power_cut`] can show every disk that a process might find after the power
//! went, down to torn sectors. The disk can also fill up, fail any call, and be damaged. All of it depends on
//! the calls and the seeds alone, so what fails once fails again.
//!
//! # Testing a service
//!
//! A store is opened on it with [`Environment::simulated`](crate::Environment::simulated). No thread runs then: the
//! test commits by [`Store::step`](crate::Store::step) and turns the clock, so it can stop between any two steps, cut
//! the power there, and open what is left.
//!
//! ```
//! use std::time::Duration;
//!
//! use plaudit::storage::sim::{SimClock, SimDisk, Survival};
//! use plaudit::{Environment, Options, SnapshotHome, Stepped, Store};
//!
//! # fn main() -> plaudit::Result<()> {
//! let (disk, clock) = (SimDisk::new(), SimClock::new());
//! let open = |disk: &SimDisk| {
//!     let options = Options { snapshot_home: SnapshotHome::File, ..Options::default() };
//!     Store::open_in(Environment::simulated(disk, &clock), "/store", options)
//! };
//! let store = open(&disk)?;
//! let likes = store.counters("likes")?;
//!
//! let first = likes.add("video-1", 1)?;
//! assert_eq!(store.step(), Stepped::Pause(Duration::from_millis(5))); // The group window is open,
//! clock.advance(Duration::from_millis(5)); // and now it is over.
//! while store.step() == Stepped::Worked {}
//! assert!(first.is_durable());
//! likes.add("video-1", 1)?; // Counted, and not on the disk yet.
//!
//! let after = open(&disk.power_cut(Survival::Nothing, 1))?;
//! assert_eq!(after.counters("likes")?.get("video-1")?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! [`SimDisk::cut_power_at`] cuts inside an operation of a number that the test chooses. A test that goes through all
//! numbers has tried every moment: `examples/crash_test.rs` does it for a small service.
//!
//! # The disk alone
//!
//! ```
//! use std::path::Path;
//!
//! use plaudit::storage::Storage;
//! use plaudit::storage::sim::{SimDisk, Survival};
//!
//! # fn main() -> std::io::Result<()> {
//! let disk = SimDisk::new();
//! let file = disk.create(Path::new("/votes"))?;
//! file.write_all_at(b"12 likes", 0)?;
//! file.sync()?; // The bytes are durable now, the file's name is not.
//!
//! let after = disk.power_cut(Survival::Nothing, 1);
//! assert!(after.files().is_empty());
//!
//! disk.sync_dir(Path::new("/"))?;
//! file.write_all_at(b"13", 0)?;
//! let after = disk.power_cut(Survival::Nothing, 1);
//! assert_eq!(after.read_file(Path::new("/votes"))?, b"12 likes");
//! let after = disk.power_cut(Survival::Everything, 1);
//! assert_eq!(after.read_file(Path::new("/votes"))?, b"13 likes");
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::file::{SimFile, SimLock};
use self::gate::Gate;
use self::names::NodeId;
use self::tree::Tree;
use super::{Entry, Storage, StorageFile, StorageLock};
use crate::sync::{Mutex, MutexGuard};

mod clock;
mod file;
mod gate;
mod image;
mod names;
mod random;
mod survival;
mod tree;

pub use clock::SimClock;
pub use gate::{Fault, Operation};
pub use survival::Survival;

/// A disk in memory. Clones are the same disk.
///
/// It keeps to what [`Storage`] promises and to nothing more: a file's sync does not make its name durable, a
/// directory's sync not the files in it, and names and files reach the medium in any order. A file's length is its
/// cost, holes included; names cost nothing.
///
/// Relative paths start at the root. `..` is taken literally, and there are no links.
#[derive(Clone)]
pub struct SimDisk {
    /// Protects the whole disk: each call is one step. No other lock is taken under it.
    disk: Arc<Mutex<Disk>>,
}

struct Disk {
    tree: Tree,
    gate: Gate,
    locked: BTreeSet<NodeId>,
}

impl SimDisk {
    /// An empty disk without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::holding(Tree::new())
    }

    /// An empty disk with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        let disk = Self::new();
        disk.set_capacity(Some(bytes));
        disk
    }

    /// Limits the bytes of all files together; `None` lifts the limit.
    ///
    /// A write that does not fit leaves the part that does and answers [`io::ErrorKind::StorageFull`]. What is
    /// there already can always be overwritten, also when the limit is below it.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().tree.set_capacity(bytes);
    }

    /// The disk that is found when the power goes now and comes back.
    ///
    /// `survival` says what is left of the operations that were not synced, and `seed` draws the random part of it.
    /// Nothing is locked on the new disk, its operations count from 0, and it has the same capacity, no faults and
    /// no cut ahead. This disk and its open files stay as they are.
    #[must_use]
    pub fn power_cut(&self, survival: Survival, seed: u64) -> Self {
        Self::holding(self.lock().tree.after_power_cut(survival, seed))
    }

    /// The disk that a new process finds when the one that uses this disk is killed now.
    ///
    /// Everything that was written is there, as in the operating system's cache, and what was not synced still is not:
    /// a power cut takes it away like before. Nothing is locked on the new disk, its operations count from 0, and it
    /// has the same capacity, no faults and no cut ahead. This disk and its open files stay as they are.
    #[must_use]
    pub fn process_kill(&self) -> Self {
        Self::holding(self.lock().tree.after_process_kill())
    }

    /// Lets the power go in the operation of this number: it and every later call fail.
    ///
    /// What of the interrupted operation itself took effect is drawn by `survival` and `seed`: with
    /// [`Survival::Prefix`] and [`Survival::Random`], a write may have come any part of the way, and any other
    /// operation may have happened without being acknowledged. [`power_cut`](Self::power_cut) then shows what is
    /// left. A number that has passed already stands for the next operation.
    pub fn cut_power_at(&self, operation: u64, survival: Survival, seed: u64) {
        self.lock().gate.schedule(operation, survival, seed);
    }

    /// Whether the power went as [`cut_power_at`](Self::cut_power_at) asked for.
    #[must_use]
    pub fn is_powered_off(&self) -> bool {
        self.lock().gate.power_is_off()
    }

    /// How many mutating calls there were so far, those that failed included; also the number of the next one. See
    /// [`Operation::is_mutating`].
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().gate.operations()
    }

    /// Makes calls fail, beside the faults that are there already. Where two match, the older one is asked first.
    pub fn fail(&self, fault: Fault) {
        self.lock().gate.add_fault(fault);
    }

    /// How many calls of any kind there were so far, reading ones and failed ones included; also the number of the
    /// next one. Calls after the power went do not count.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().gate.calls()
    }

    /// Makes the calls of these numbers fail, as [`calls`](Self::calls) counts them: `n..=n` is one call, `n..` that
    /// one and all that follow. What a call that fails leaves behind is said at [`Fault`].
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use std::path::Path;
    ///
    /// use plaudit::storage::Storage;
    /// use plaudit::storage::sim::SimDisk;
    ///
    /// let disk = SimDisk::new();
    /// disk.fail_calls(1..=1, ErrorKind::StorageFull);
    /// assert!(disk.create(Path::new("/first")).is_ok());
    /// assert_eq!(disk.create(Path::new("/second")).unwrap_err().kind(), ErrorKind::StorageFull);
    /// assert!(disk.create(Path::new("/third")).is_ok());
    /// ```
    pub fn fail_calls(&self, numbers: impl RangeBounds<u64>, kind: io::ErrorKind) {
        let numbers = (numbers.start_bound().cloned(), numbers.end_bound().cloned());
        self.lock().gate.fail_calls(numbers, kind, false);
    }

    /// Like [`fail_calls`](Self::fail_calls), but the calls are carried out whole, and only their answer is an error.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use std::path::Path;
    ///
    /// use plaudit::storage::Storage;
    /// use plaudit::storage::sim::SimDisk;
    ///
    /// let disk = SimDisk::new();
    /// disk.fail_done_calls(0..=0, ErrorKind::Other);
    /// assert!(disk.create(Path::new("/votes")).is_err());
    /// assert_eq!(disk.files(), [Path::new("/votes")]);
    /// ```
    pub fn fail_done_calls(&self, numbers: impl RangeBounds<u64>, kind: io::ErrorKind) {
        let numbers = (numbers.start_bound().cloned(), numbers.end_bound().cloned());
        self.lock().gate.fail_calls(numbers, kind, true);
    }

    /// Lets all calls succeed again.
    pub fn clear_faults(&self) {
        self.lock().gate.clear_faults();
    }

    /// Flips bit `bit` (0 to 7) of the byte at `offset`, on the medium and as calls see it.
    ///
    /// # Errors
    ///
    /// When there is no such file, byte or bit.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        self.lock().tree.flip_bit(path, offset, bit)
    }

    /// Cuts a file to at most `len` bytes, on the medium and as calls see it.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub fn truncate_file(&self, path: &Path, len: u64) -> io::Result<()> {
        self.lock().tree.cut_file(path, len)
    }

    /// Copies a file over another or to a new name, on the medium and as calls see it. What is unsynced of the one
    /// is unsynced of the other. No capacity is asked for.
    ///
    /// # Errors
    ///
    /// When there is no such file, or no directory to copy it to.
    pub fn copy_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().tree.copy_file(from, to)
    }

    /// Removes a file, on the medium and as calls see it.
    ///
    /// # Errors
    ///
    /// When there is no such file.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().tree.erase_file(path)
    }

    /// The bytes of a file as calls see them. Neither faults nor the power keep this from answering.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it has more bytes than memory.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let disk = self.lock();
        disk.tree.contents(disk.tree.file(path)?)?.to_vec()
    }

    /// The paths of all files as calls see them, from the root, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().tree.files()
    }

    fn holding(tree: Tree) -> Self {
        let disk = Disk { tree, gate: Gate::default(), locked: BTreeSet::new() };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock()
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.lock();
        f.debug_struct("SimDisk")
            .field("operations", &disk.gate.operations())
            .field("files", &disk.tree.files())
            .finish_non_exhaustive()
    }
}

impl Storage for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        let grant = disk.gate.admit(Operation::Create, &[path]);
        let missing = disk.tree.missing_directories(path);
        grant.take_steps(missing, |path| disk.tree.create_directory(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut disk = self.lock();
        disk.gate.admit(Operation::List, &[path]).carry_out(|| disk.tree.list(path))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut disk = self.lock();
        let node = disk.gate.admit(Operation::Create, &[path]).carry_out(|| disk.tree.create_file(path))?;
        Ok(Box::new(SimFile::open(self, &mut disk, node, path)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut disk = self.lock();
        let node = disk.gate.admit(Operation::Open, &[path]).carry_out(|| disk.tree.file(path))?;
        Ok(Box::new(SimFile::open(self, &mut disk, node, path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.gate.admit(Operation::Rename, &[from, to]).carry_out(|| disk.tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.gate.admit(Operation::Remove, &[path]).carry_out(|| {
            disk.tree.file(path)?;
            disk.tree.unlink(path)
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        let grant = disk.gate.admit(Operation::Remove, &[path]);
        let contents = disk.tree.inside_out(path);
        grant.take_steps(contents, |path| disk.tree.unlink(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        disk.gate.admit(Operation::SyncDir, &[path]).carry_out(|| disk.tree.sync_directory(path))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        let mut disk = self.lock();
        disk.gate.admit(Operation::Lock, &[path]).carry_out(|| Ok(()))?;
        let node = match disk.tree.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.tree.create_file(path)?,
            found => found?,
        };
        if !disk.locked.insert(node) {
            return Ok(None);
        }
        disk.tree.add_handle(node);
        Ok(Some(Box::new(SimLock::new(self, node))))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
