//! A store's directory: what makes it one, its lock, and its creation.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::manifest::{self, Manifest, ManifestFile};
use crate::storage::{Storage, StorageLock};

/// The paths in a store's directory.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) snapshot: PathBuf,
    pub(crate) lock: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        let join = |name| root.join(name);
        Self { root: root.to_owned(), log: join("log"), snapshot: join("snapshot"), lock: join("LOCK") }
    }
}

/// The store's path from the root, so that a process that goes to another directory keeps its store.
pub(crate) fn absolute(storage: &dyn Storage, path: &Path) -> Result<PathBuf> {
    if path.as_os_str().is_empty() {
        // A setting that was left empty, more likely than the current directory, which has a name: `.`.
        let (value, expected) = ("empty".to_owned(), "the name of a directory".to_owned());
        return Err(Error::InvalidOption { field: "path", value, expected });
    }
    if storage.is_operating_system() {
        std::path::absolute(path).map_err(|error| Error::io("find", path, error))
    } else {
        Ok(path.to_owned())
    }
}

/// Whether there is a store; an error when there is something else. Changes nothing.
pub(crate) fn inspect(storage: &dyn Storage, layout: &Layout) -> Result<bool> {
    let root = &layout.root;
    let not_a_store = |what: String| Error::NotAStore { path: root.clone(), what };
    let entries = match storage.list(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(not_a_store("it is not a directory".to_owned()));
        }
        Err(error) => return Err(Error::io("list", root, error)),
    };
    if entries.iter().any(|entry| entry.name == manifest::FILE_NAME) {
        return Ok(true);
    }
    // What a creation leaves that ended early; anything else is somebody's.
    for entry in entries {
        let foreign = match entry.name.as_str() {
            "LOCK" | manifest::TEMPORARY_NAME if !entry.is_dir => None,
            "log" | "snapshot" if entry.is_dir => {
                let path = root.join(&entry.name);
                let inner = storage.list(&path).map_err(|error| Error::io("list", &path, error))?;
                inner.first().map(|inner| format!("{}/{}", entry.name, inner.name))
            }
            _ => Some(entry.name),
        };
        if let Some(foreign) = foreign {
            return Err(not_a_store(format!("it has no {} and is not empty ({foreign})", manifest::FILE_NAME)));
        }
    }
    Ok(false)
}

/// Takes the store's lock, after making its directory if there is none.
pub(crate) fn take_lock(storage: &dyn Storage, layout: &Layout, exists: bool) -> Result<Box<dyn StorageLock>> {
    let root = &layout.root;
    if !exists {
        storage.create_dir_all(root).map_err(|error| Error::io("create", root, error))?;
    }
    match storage.try_lock(&layout.lock) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(Error::Locked { path: root.clone() }),
        Err(error) => Err(Error::io("lock", &layout.lock, error)),
    }
}

/// Makes an empty store. The manifest comes last: it is what makes the directory a store.
pub(crate) fn create(storage: &Arc<dyn Storage>, layout: &Layout, seed: Option<u64>) -> Result<ManifestFile> {
    for dir in [&layout.log, &layout.snapshot] {
        storage.create_dir_all(dir).map_err(|error| Error::io("create", dir, error))?;
    }
    sync_path(&**storage, &layout.root)?;
    let [store_id, hash_seed] = [1, 2].map(|stream| seed.map_or_else(random_u64, |seed| derive(seed, stream)));
    ManifestFile::create(Arc::clone(storage), &layout.root, Manifest::new(store_id, hash_seed))
}

/// Makes a directory durable with the path to it: any part of the path may be as new as the directory.
fn sync_path(storage: &dyn Storage, dir: &Path) -> Result<()> {
    for (ancestor, distance) in dir.ancestors().zip(0..) {
        match storage.sync_dir(ancestor) {
            // Further up may be what belongs to others, and to file systems that know no such sync.
            Err(error) if distance > 1 && is_refusal(error.kind()) => break,
            synced => synced.map_err(|error| Error::io("sync", ancestor, error))?,
        }
    }
    Ok(())
}

fn is_refusal(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(kind, PermissionDenied | InvalidInput | Unsupported)
}

/// One of the numbers that a seed stands for.
fn derive(seed: u64, stream: u64) -> u64 {
    use std::hash::BuildHasher;
    foldhash::quality::FixedState::with_seed(seed).hash_one(stream)
}

/// Randomness from the operating system, by way of the standard library's hash keys.
fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
