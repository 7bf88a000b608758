//! Which store, which namespace: the arguments that the subcommands share, and how they are opened.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use plaudit::{Counters, Error, Store};

use crate::failure::Failure;

/// `--store`, for every subcommand that needs one.
#[derive(clap::Args)]
pub(crate) struct StoreArg {
    /// The store's directory; it must be writable, also for reading, and not be open elsewhere
    #[arg(long, value_name = "DIR")]
    pub(crate) store: PathBuf,
}

/// `--namespace`, for every subcommand that works on one.
#[derive(clap::Args)]
pub(crate) struct NamespaceArg {
    /// The namespace of the counters; names that start with plaudit. are the command's own, for reading only
    #[arg(long, value_name = "NS")]
    pub(crate) namespace: String,
}

/// What the names of the command's own namespaces begin with.
const OWN_NAMES: &str = "plaudit.";

impl NamespaceArg {
    /// The name, for a subcommand that counts in the namespace. What the command keeps for itself is not for that.
    pub(crate) fn for_counting(&self) -> Result<&str, Failure> {
        match self.namespace.as_str() {
            own if own.starts_with(OWN_NAMES) => {
                Err(Failure::OwnNamespace { namespace: own.to_owned(), prefix: OWN_NAMES })
            }
            name => Ok(name),
        }
    }
}

impl StoreArg {
    /// Opens the store and creates it when it is missing.
    pub(crate) fn open_or_create(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.store)?)
    }

    /// Opens the store, and creates nothing in a directory whose name was mistyped.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        self.require()?;
        Ok(Store::open(&self.store)?)
    }

    /// Whether there is something to open. What it is, the library tells.
    pub(crate) fn require(&self) -> Result<(), Failure> {
        if holds_anything(&self.store)? { Ok(()) } else { Err(Failure::NoStore { path: self.store.clone() }) }
    }
}

/// Whether the directory exists and has an entry, the lock file apart: a process that was killed before it
/// created anything else leaves just that.
pub(crate) fn holds_anything(dir: &Path) -> Result<bool, Failure> {
    let cannot_read = |error| Failure::file("read", dir.display().to_string(), error);
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(cannot_read(error)),
        Ok(entries) => {
            for entry in entries {
                if entry.map_err(cannot_read)?.file_name() != OsStr::new("LOCK") {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// The namespace with whatever options it was created with, or a new one with the default options.
pub(crate) fn counters_or_create(store: &Store, name: &str) -> Result<Counters, Failure> {
    match store.existing_counters(name) {
        Err(Error::NoSuchNamespace { .. }) => Ok(store.counters(name)?),
        found => Ok(found?),
    }
}
