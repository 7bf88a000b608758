//! Open files and held locks of the simulated disk.

use std::io;
use std::path::{Path, PathBuf};

use super::gate::Operation;
use super::names::NodeId;
use super::{Disk, SimDisk};
use crate::storage::{StorageFile, StorageLock};

/// An open file, whatever becomes of its name.
#[derive(Debug)]
pub(super) struct SimFile {
    disk: SimDisk,
    node: NodeId,
    path: PathBuf,
}

impl SimFile {
    /// `locked` is the same disk, which the caller has locked.
    pub(super) fn open(disk: &SimDisk, locked: &mut Disk, node: NodeId, path: &Path) -> Self {
        locked.tree.add_handle(node);
        Self { disk: disk.clone(), node, path: path.to_owned() }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.lock().tree.drop_handle(self.node);
    }
}

impl StorageFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let disk = self.disk.lock();
        disk.gate.check_power()?;
        Ok(disk.tree.contents(self.node)?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        let grant = disk.gate.admit(Operation::Read, &[&self.path]);
        grant.carry_out(|| Ok(disk.tree.contents(self.node)?.read(buf, offset)))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let grant = disk.gate.admit(Operation::Write, &[&self.path]);
        let part = bytes.get(..grant.part_of(bytes.len())).unwrap_or(bytes);
        grant.finish(disk.tree.write(self.node, offset, part))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let grant = disk.gate.admit(Operation::Allocate, &[&self.path]);
        grant.carry_out(|| disk.tree.allocate(self.node, len))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let grant = disk.gate.admit(Operation::Truncate, &[&self.path]);
        grant.carry_out(|| disk.tree.truncate(self.node, len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let grant = disk.gate.admit(Operation::Sync, &[&self.path]);
        if grant.is_faulted() {
            disk.tree.forget_unsynced_bytes(self.node);
        }
        grant.carry_out(|| disk.tree.sync_file(self.node))
    }
}

/// A held lock. It is the file that is locked, so the lock follows a rename.
#[derive(Debug)]
pub(super) struct SimLock {
    disk: SimDisk,
    node: NodeId,
}

impl SimLock {
    pub(super) fn new(disk: &SimDisk, node: NodeId) -> Self {
        Self { disk: disk.clone(), node }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        disk.locked.remove(&self.node);
        disk.tree.drop_handle(self.node);
    }
}

impl StorageLock for SimLock {}
