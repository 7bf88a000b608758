//! Which store, which namespace: the arguments that the subcommands share, and how they are opened.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use plaudit::{Counters, Error, LikeOptions, Likes, Store, ViewerIds};

use crate::failure::Failure;
use crate::horizon;

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
    /// The namespace; names that start with plaudit. are the command's own, for reading only
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

/// The options of a namespace of likes.
#[derive(clap::Args)]
pub(crate) struct LikeArgs {
    /// Of likes: what the viewers of the namespace are when it is created, numbers of 64 bits (the default) or of 128,
    /// which UUIDs are
    #[arg(long, value_name = "BITS")]
    viewers: Option<ViewersArg>,
    /// Of likes: how long the namespace remembers unlikes when it is created, such as 30d, 12h, 30m, 10s or 500ms;
    /// default 7d
    #[arg(long, value_name = "TIME", value_parser = horizon::parse)]
    horizon: Option<Duration>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ViewersArg {
    U64,
    U128,
}

impl From<ViewersArg> for ViewerIds {
    fn from(viewers: ViewersArg) -> Self {
        match viewers {
            ViewersArg::U64 => Self::U64,
            ViewersArg::U128 => Self::U128,
        }
    }
}

impl LikeArgs {
    /// Refuses them where no namespace of likes is meant.
    pub(crate) fn must_not_be_given(&self) -> Result<(), Failure> {
        if self.viewers.is_none() && self.horizon.is_none() { Ok(()) } else { Err(Failure::OnlyForLikes) }
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

/// The namespace of likes, or a new one. An option that is given must be the one it was created with.
pub(crate) fn likes_or_create(store: &Store, name: &str, args: &LikeArgs) -> Result<Likes, Failure> {
    let defaults = match store.existing_likes(name) {
        Err(Error::NoSuchNamespace { .. }) => LikeOptions::default(),
        found => found?.options(),
    };
    let viewers = args.viewers.map_or(defaults.viewers, ViewerIds::from);
    let options = LikeOptions { viewers, horizon: args.horizon.unwrap_or(defaults.horizon) };
    Ok(store.likes_with(name, options)?)
}

/// A namespace of either kind, for the subcommands that print its values.
pub(crate) enum Values {
    Counters(Counters),
    Likes(Likes),
}

impl Values {
    /// The namespace, which must exist.
    pub(crate) fn of(store: &Store, name: &str) -> Result<Self, Failure> {
        match store.existing_likes(name) {
            Err(Error::NamespaceKind { .. }) => Ok(Self::Counters(store.existing_counters(name)?)),
            likes => Ok(Self::Likes(likes?)),
        }
    }

    pub(crate) fn get_many(&self, keys: &[&[u8]]) -> plaudit::Result<Vec<i64>> {
        match self {
            Self::Counters(counters) => counters.get_many(keys),
            Self::Likes(likes) => Ok(likes.counts(keys)?.into_iter().map(as_value).collect()),
        }
    }

    pub(crate) fn top(&self, n: usize) -> plaudit::Result<Vec<(Bytes, i64)>> {
        match self {
            Self::Counters(counters) => counters.top(n),
            Self::Likes(likes) => Ok(likes.top(n)?.into_iter().map(|(item, count)| (item, as_value(count))).collect()),
        }
    }

    pub(crate) fn all(&self) -> plaudit::Result<Vec<(Bytes, i64)>> {
        match self {
            Self::Counters(counters) => counters.iter().collect(),
            Self::Likes(likes) => likes.iter().map(|one| one.map(|(item, count)| (item, as_value(count)))).collect(),
        }
    }
}

/// The count of an item, which the store keeps as it keeps the value of a counter.
fn as_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
