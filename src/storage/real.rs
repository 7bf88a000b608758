//! The real file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Entry, Storage, StorageFile, StorageLock};

/// The operating system's files. Unix is the supported platform.
#[derive(Debug, Clone, Default)]
pub struct RealStorage {
    _private: (),
}

impl RealStorage {
    /// The file system that the process sees.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Storage for RealStorage {
    fn is_operating_system(&self) -> bool {
        true
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in fs::read_dir(or_here(path))? {
            let found = found?;
            let metadata = match found.metadata() {
                Ok(metadata) => metadata,
                // Removed since the directory was read, so it is not an entry any more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let is_dir = metadata.is_dir();
            let len = if is_dir { 0 } else { metadata.len() };
            entries.push(Entry { name: found.file_name().to_string_lossy().into_owned(), is_dir, len });
        }
        Ok(entries)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(Box::new(RealFile { file, refusal: None }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let (file, refusal) = open_or_read_only(OpenOptions::new().read(true).write(true), path)?;
        Ok(Box::new(RealFile { file, refusal }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(or_here(path))?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        let (file, _) =
            open_or_read_only(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealLock { file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// Opens as asked, or for reading alone where writing is refused, so that a store on a read-only medium or
/// of another user can still be verified. Also answers why writing was refused.
fn open_or_read_only(options: &OpenOptions, path: &Path) -> io::Result<(File, Option<io::ErrorKind>)> {
    match options.open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            let refusal = Some(error.kind());
            // The refusal says more than the second failure, which may be that a file to be created is missing.
            File::open(path).map(|file| (file, refusal)).map_err(|_| error)
        }
        opened => Ok((opened?, None)),
    }
}

/// The parent of a relative path of one name is the empty path, which no system call accepts.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    /// Why the file is open for reading alone.
    refusal: Option<io::ErrorKind>,
}

impl RealFile {
    /// The reason is worth more than the system's answer to a write, which is that the descriptor is bad.
    fn check_writable(&self) -> io::Result<()> {
        self.refusal.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl StorageFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut rest, mut position, mut read) = (buf, offset, 0);
        while !rest.is_empty() {
            match self.file.read_at(rest, position) {
                Ok(0) => break,
                Ok(count) => {
                    rest = rest.get_mut(count..).unwrap_or_default();
                    position = position.saturating_add(count as u64);
                    read += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        // Continues after an interrupt and answers `WriteZero` when the system takes no more bytes.
        self.file.write_all_at(bytes, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let before = self.len()?;
        // Also because the call on Apple's systems would cut a longer file.
        if len <= before {
            return Ok(());
        }
        match rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
            Ok(()) => Ok(()),
            // Without support for reserving room there is only the length, and a later write may find the disk full.
            Err(Errno::OPNOTSUPP) => self.file.set_len(len),
            Err(error) => {
                // The system reserves piece by piece and keeps the pieces that it got. Giving them back is worth
                // trying; what the caller must learn is the first error.
                let _ = self.file.set_len(before);
                Err(error.into())
            }
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        if len < self.len()? { self.file.set_len(len) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync leaves out the times only: POSIX has it write whatever metadata is needed to read the data
        // back, a changed length among them. (On Apple's systems std issues F_FULLFSYNC here.)
        self.file.sync_data()
    }
}

#[derive(Debug)]
struct RealLock {
    file: File,
}

impl StorageLock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is starting at this moment has a copy of the
        // descriptor until it runs its own program, and the lock would last until then.
        let _ = self.file.unlock();
    }
}
