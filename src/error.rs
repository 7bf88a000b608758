//! One error for everything the crate can answer.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use crate::limits::{MAX_BATCH_CHANGES, MAX_KEY_BYTES, MAX_TIME_MS};

/// What every fallible call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused or failed.
///
/// The error is cheap to clone, because one failure (a disk that is full, a sync that failed) is the
/// answer to every caller who waits for the same epoch. Sources are kept and reachable through
/// [`std::error::Error::source`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another [`Store`](crate::Store), in this process or another, has the directory open.
    #[error("the store at {} is open elsewhere", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },

    /// The directory holds something, and it is not a store. It was left untouched.
    #[error("{} is not a plaudit store: {what}", path.display())]
    NotAStore {
        /// The directory that was to be opened.
        path: PathBuf,
        /// What was found there.
        what: String,
    },

    /// Bytes on disk are not what was written. Nothing on disk was changed.
    #[error("{} is corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        /// The damaged (or missing) file.
        file: PathBuf,
        /// Where in the file, in bytes from its start.
        offset: u64,
        /// What was found, and what was expected.
        what: String,
    },

    /// The file was written by a newer version of this crate. It was left untouched.
    #[error("{} has format version {found}, and this version reads up to {supported}", file.display())]
    UnsupportedVersion {
        /// The file that names the version.
        file: PathBuf,
        /// The version it names.
        found: u32,
        /// The newest version that this crate reads.
        supported: u32,
    },

    /// The store stopped after a failure that leaves the state of the disk unknown. Changes that were
    /// not acknowledged before may or may not have survived; opening the store again tells which.
    #[error("the store stopped and must be opened again")]
    Poisoned {
        /// The failure that stopped it.
        #[source]
        cause: Arc<Error>,
    },

    /// A thread of the store panicked.
    #[error("the {thread} thread panicked: {what}")]
    Panicked {
        /// Which thread.
        thread: &'static str,
        /// The panic's message.
        what: String,
    },

    /// The operating system gave no thread.
    #[error("cannot start the {thread} thread")]
    Thread {
        /// Which thread.
        thread: &'static str,
        /// The operating system's error.
        #[source]
        source: Arc<io::Error>,
    },

    /// The store was closed. A call that answers this changed nothing; a receipt that does is of a change that may or
    /// may not have become durable.
    #[error("the store is closed")]
    Closed,

    /// The sum does not fit an `i64`. The counter is unchanged and nothing was logged.
    #[error("adding {delta} to {value} at key {} does not fit 64 bits", Printable(key))]
    Overflow {
        /// The counter's key.
        key: Bytes,
        /// Its value.
        value: i64,
        /// What was to be added.
        delta: i64,
    },

    /// The value would leave the namespace's bounds. The counter is unchanged and nothing was logged.
    #[error("value {value} at key {} is outside the bounds {min} to {max}", Printable(key))]
    OutOfBounds {
        /// The counter's key.
        key: Bytes,
        /// The value that was refused.
        value: i64,
        /// The smallest value that the namespace allows.
        min: i64,
        /// The largest value that the namespace allows.
        max: i64,
    },

    /// The like or unlike is older than the namespace's horizon, so whether a newer one has replaced it is no longer
    /// known. Nothing is changed and nothing was logged.
    #[error("time {time_ms} ms is too old for a like of {}, and the oldest allowed is {oldest_ms} ms", Printable(item))]
    TooOld {
        /// The item's key.
        item: Bytes,
        /// The time of the event, in milliseconds since 1970-01-01 UTC.
        time_ms: u64,
        /// The oldest time that would have been taken.
        oldest_ms: u64,
    },

    /// The time of a like or an unlike is beyond [`MAX_TIME_MS`](crate::MAX_TIME_MS). Nothing is changed and nothing
    /// was logged.
    #[error("time {time_ms} ms is too late for a like, and the latest allowed is {} ms", MAX_TIME_MS)]
    TimeTooLate {
        /// The time that was refused, in milliseconds since 1970-01-01 UTC.
        time_ms: u64,
    },

    /// The viewer has more than 64 bits, and the namespace was created with [`ViewerIds::U64`](crate::ViewerIds::U64).
    #[error("viewer {viewer} does not fit 64 bits, and the namespace was created for viewers that do")]
    ViewerTooWide {
        /// The viewer that was refused.
        viewer: u128,
    },

    /// A key must have at least one byte.
    #[error("the key is empty, and a key has 1 to {} bytes", MAX_KEY_BYTES)]
    KeyEmpty,

    /// A key has at most [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES) bytes.
    #[error("the key has {len} bytes, and a key has 1 to {} bytes", MAX_KEY_BYTES)]
    KeyTooLong {
        /// The length of the key that was refused.
        len: usize,
    },

    /// A batch holds at most [`MAX_BATCH_CHANGES`](crate::MAX_BATCH_CHANGES) changes. Nothing was applied.
    #[error("the batch has {changes} changes, and a batch has at most {}", MAX_BATCH_CHANGES)]
    BatchTooLarge {
        /// The number of changes in the batch that was refused.
        changes: usize,
    },

    /// A handle of one store was used in a batch of another. Nothing was applied.
    #[error("namespace {namespace:?} belongs to another store than the batch")]
    ForeignNamespace {
        /// The namespace of the handle.
        namespace: String,
    },

    /// The namespace exists with other options than the ones asked for.
    #[error("namespace {namespace:?} was created with {stored}, and {requested} was asked for")]
    NamespaceOptions {
        /// The namespace's name.
        namespace: String,
        /// The options it was created with.
        stored: String,
        /// The options that were asked for.
        requested: String,
    },

    /// The namespace exists and is of another kind than the one asked for.
    #[error("namespace {namespace:?} was created for {stored}, and {requested} were asked for")]
    NamespaceKind {
        /// The namespace's name.
        namespace: String,
        /// What it was created for: `counters` or `likes`.
        stored: &'static str,
        /// What was asked for.
        requested: &'static str,
    },

    /// The name cannot be a namespace's.
    #[error("{} cannot name a namespace: {expected}", Beginning(name))]
    NamespaceName {
        /// The name that was refused.
        name: String,
        /// What a name must be.
        expected: &'static str,
    },

    /// There is no such namespace, or it was dropped while this handle to it was still held.
    #[error("there is no namespace {name:?}")]
    NoSuchNamespace {
        /// The namespace's name.
        name: String,
    },

    /// The store has created [`MAX_NAMESPACES`](crate::MAX_NAMESPACES) namespaces over its life. A dropped one is not
    /// given back, so namespaces are not for time windows.
    #[error("the store holds at most {limit} namespaces over its life")]
    TooManyNamespaces {
        /// The limit.
        limit: usize,
    },

    /// A shard's table holds as many counters as it can tell apart, which is two billion.
    #[error("namespace {namespace:?} has too many counters in one shard; open the store with more shards")]
    TooManyCounters {
        /// The namespace's name.
        namespace: String,
    },

    /// Nobody else will commit the epoch, so that waiting for it would last for ever: the store is driven by its caller
    /// ([`Driver::Caller`](crate::Driver::Caller)), or the call was made by a waker, on the thread that commits.
    #[error("epoch {epoch} was not committed, and waiting for it here would last for ever")]
    NotDriven {
        /// The epoch that was waited for.
        epoch: u64,
    },

    /// The store has data that this build cannot read, because it was built without the feature.
    #[error("{what} needs the feature {feature:?}")]
    FeatureMissing {
        /// The cargo feature.
        feature: &'static str,
        /// What needs it.
        what: String,
    },

    /// An option has a value outside its limits, or the path of a store is empty. Nothing was opened or created.
    #[error("option {field} is {value}, and {expected} is expected")]
    InvalidOption {
        /// The field of the options, or `path`.
        field: &'static str,
        /// The value that was refused.
        value: String,
        /// What is allowed.
        expected: String,
    },

    /// The disk is full, or a quota or a limit on the size of files is used up (where SIGXFSZ is not ignored, such a
    /// limit kills the process instead). Changes stay in memory, the store retries by itself, and a receipt that
    /// answered this can be waited for again.
    #[error("no space left for {}", path.display())]
    StorageFull {
        /// The file that was to be written.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: Arc<io::Error>,
    },

    /// The process, or the system, has no file descriptor left. Changes stay in memory, and the store retries by
    /// itself.
    #[error("no file descriptor is left for {}", path.display())]
    NoDescriptor {
        /// The file or directory that was to be opened.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: Arc<io::Error>,
    },

    /// An operation on a file failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `sync`, `rename`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Wraps an operating system error, telling a full disk and a want of descriptors from every other failure.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let is_full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let none_left = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        let is_without_descriptor = source.raw_os_error().is_some_and(|code| none_left.contains(&code));
        let (path, source) = (path.to_owned(), Arc::new(source));
        if is_full {
            Self::StorageFull { path, source }
        } else if is_without_descriptor {
            Self::NoDescriptor { path, source }
        } else {
            Self::Io { action, path, source }
        }
    }

    /// Wraps the failure of a sync that must not be tried again, not even for want of room: what was not written may be
    /// forgotten. Only a directory that could not be opened, for want of a descriptor, has not been synced at all.
    pub(crate) fn sync(path: &Path, source: io::Error) -> Self {
        match Self::io("sync", path, source) {
            Self::StorageFull { path, source } => Self::Io { action: "sync", path, source },
            other => other,
        }
    }

    /// The same failure where nobody tries again.
    pub(crate) fn no_longer_temporary(self) -> Self {
        match self {
            Self::StorageFull { path, source } => Self::Io { action: "write", path, source },
            Self::NoDescriptor { path, source } => Self::Io { action: "open", path, source },
            other => other,
        }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, what: what.into() }
    }

    /// Whether room on the disk is all that is missing, so that trying again can succeed.
    #[must_use]
    pub fn is_storage_full(&self) -> bool {
        matches!(self, Self::StorageFull { .. })
    }

    /// Whether all that is missing is something that may come back by itself: room on the disk, or a file descriptor.
    /// Where changes wait for it, they stay in memory, the store goes on trying, and a receipt that answered this can
    /// be waited for again.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::StorageFull { .. } | Self::NoDescriptor { .. })
    }

    /// Whether damage on disk is what stopped the call.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Self::Corrupt { .. })
    }
}

/// What a panic that was caught says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}

/// Shows key bytes as text where they are text, and escaped where not.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A name of any length, in as many characters as fit a line.
struct Beginning<'a>(&'a str);

impl fmt::Display for Beginning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(80) {
            Some((end, _)) => write!(f, "{:?}... ({} bytes)", &self.0[..end], self.0.len()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_of_room_or_of_descriptors_is_temporary() {
        let error = |code: Errno| {
            let source = io::Error::from_raw_os_error(code.raw_os_error());
            Error::io("write", Path::new("log"), source)
        };
        for code in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG, Errno::MFILE, Errno::NFILE] {
            assert!(error(code).is_temporary() && !error(code).no_longer_temporary().is_temporary());
        }
        assert!(!error(Errno::IO).is_temporary());
    }

    #[test]
    fn a_name_of_any_length_fits_a_line() {
        let refused = |name: String| Error::NamespaceName { name, expected: "short" }.to_string();
        assert_eq!(refused("\0".to_owned()), r#""\0" cannot name a namespace: short"#);
        let long = refused("ä".repeat(1_000));
        assert_eq!(long, format!(r#""{}"... (2000 bytes) cannot name a namespace: short"#, "ä".repeat(80)));
    }

    #[test]
    fn a_failed_sync_is_never_temporary_unless_there_was_none() {
        let error = |code: Errno| Error::sync(Path::new("log"), io::Error::from_raw_os_error(code.raw_os_error()));
        for code in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG, Errno::IO] {
            assert!(matches!(error(code), Error::Io { action: "sync", .. }));
        }
        assert!(error(Errno::MFILE).is_temporary());
    }
}
