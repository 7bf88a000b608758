//! The store: opens, hands out namespaces and batches, syncs, compacts, closes.

use std::path::Path;
use std::sync::Arc;

use crate::batch::Batch;
use crate::commit::Step;
use crate::counters::Counters;
use crate::directory::absolute;
use crate::engine::{Engine, Environment};
use crate::error::Result;
use crate::likes::Likes;
use crate::manifest::{Namespace, NamespaceKind};
use crate::options::{CounterOptions, LikeOptions, Options};
use crate::recovery::RecoveryReport;
use crate::stats::Stats;
use crate::subscription::Subscription;
use crate::verify::{VerifyReport, verify};

/// An open store of counters and likes.
///
/// Cloning is cheap, and clones share the store. It stays open until [`close`](Self::close), or until the last clone,
/// [`Counters`] and [`Batch`] is dropped, which closes it too but can report no error.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

/// A namespace as [`Store::namespaces`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespaceInfo {
    /// Its name.
    pub name: String,
    /// What it is of, with the options it was created with.
    pub contents: Contents,
    /// How many counters it has, or items.
    pub counters: u64,
    /// How many likes it has. 0 for counters.
    pub likes: u64,
}

/// What a namespace is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contents {
    /// Counters.
    Counters(CounterOptions),
    /// Likes.
    Likes(LikeOptions),
}

/// What a step of the committer did, for whoever drives it by [`Store::step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stepped {
    /// Something was done, and there may be more to do.
    Worked,
    /// Nothing is to be done before a change is made, or before a `sync` in manual durability.
    Idle,
    /// Nothing is to be done before this much time has passed on the clock: the rest of a group window, or of the pause
    /// that a full disk is given.
    Pause(std::time::Duration),
    /// The store has stopped.
    Stopped,
}

impl Store {
    /// Opens the store in a directory with the default [`Options`], creating it when the directory is missing or empty.
    ///
    /// # Errors
    ///
    /// See [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Options::default())
    }

    /// Opens the store in a directory, creating it when the directory is missing or empty.
    ///
    /// Loads the newest snapshot and replays the log after it. [`recovery`](Self::recovery) tells what was found.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`](crate::Error::Locked) when it is open elsewhere,
    /// [`Error::NotAStore`](crate::Error::NotAStore),
    /// [`Error::UnsupportedVersion`](crate::Error::UnsupportedVersion), [`Error::Corrupt`](crate::Error::Corrupt),
    /// [`Error::InvalidOption`](crate::Error::InvalidOption),
    /// [`Error::FeatureMissing`](crate::Error::FeatureMissing), [`Error::Thread`](crate::Error::Thread), and
    /// [`Error::Io`](crate::Error::Io). Whatever fails, the counts in the directory are what they were; after what is
    /// found by reading ([`Error::Corrupt`](crate::Error::Corrupt), an unknown version, what is no store) no file has
    /// changed.
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::open_in(Environment::default(), path, options)
    }

    /// Opens a store on a disk and a clock of the caller's choice.
    ///
    /// # Errors
    ///
    /// See [`open_with`](Self::open_with).
    pub fn open_in(environment: Environment, path: impl AsRef<Path>, options: Options) -> Result<Self> {
        let path = absolute(&*environment.storage, path.as_ref())?;
        let engine = Engine::open(environment, &path, &options)?;
        Ok(Self { engine: Arc::new(engine) })
    }

    /// A handle to the namespace `name` with the default [`CounterOptions`]; it is created, durably, when missing.
    ///
    /// # Errors
    ///
    /// See [`counters_with`](Self::counters_with).
    pub fn counters(&self, name: &str) -> Result<Counters> {
        self.counters_with(name, CounterOptions::default())
    }

    /// A handle to the namespace `name`; it is created, durably, when missing. A name is 1 to 255 bytes without
    /// control characters. Creating one costs two syncs; opening one that exists is a lookup, which waits while
    /// another is being created. One takes about 140 bytes in each shard, 36 KB with 256. A store creates at most
    /// [`MAX_NAMESPACES`](crate::MAX_NAMESPACES), 65,536, over its whole life, dropped ones included.
    ///
    /// # Errors
    ///
    /// [`Error::NamespaceOptions`](crate::Error::NamespaceOptions) when it exists with other options,
    /// [`Error::NamespaceKind`](crate::Error::NamespaceKind) when it is one of likes,
    /// [`Error::NamespaceName`](crate::Error::NamespaceName), [`Error::InvalidOption`](crate::Error::InvalidOption),
    /// [`Error::StorageFull`](crate::Error::StorageFull),
    /// [`Error::TooManyNamespaces`](crate::Error::TooManyNamespaces).
    pub fn counters_with(&self, name: &str, options: CounterOptions) -> Result<Counters> {
        let namespace = self.engine.open_namespace(name, NamespaceKind::Counters(options))?;
        Ok(Counters::new(Arc::clone(&self.engine), namespace))
    }

    /// A handle to a namespace of counters that exists, whatever its options.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNamespace`](crate::Error::NoSuchNamespace), and
    /// [`Error::NamespaceKind`](crate::Error::NamespaceKind) when it is one of likes.
    pub fn existing_counters(&self, name: &str) -> Result<Counters> {
        let namespace = self.engine.existing_namespace(name)?;
        namespace.check_is_of_counters()?;
        Ok(Counters::new(Arc::clone(&self.engine), namespace))
    }

    /// A handle to the namespace of likes `name` with the default [`LikeOptions`]; it is created, durably, when
    /// missing.
    ///
    /// # Errors
    ///
    /// See [`likes_with`](Self::likes_with).
    pub fn likes(&self, name: &str) -> Result<Likes> {
        self.likes_with(name, LikeOptions::default())
    }

    /// A handle to the namespace of likes `name`; it is created, durably, when missing. Names and costs are as for
    /// [`counters_with`](Self::counters_with).
    ///
    /// # Errors
    ///
    /// As for [`counters_with`](Self::counters_with).
    pub fn likes_with(&self, name: &str, options: LikeOptions) -> Result<Likes> {
        let namespace = self.engine.open_namespace(name, NamespaceKind::Likes { options, newest_ms: 0 })?;
        Likes::new(Arc::clone(&self.engine), namespace)
    }

    /// A handle to a namespace of likes that exists, whatever its options.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNamespace`](crate::Error::NoSuchNamespace), and
    /// [`Error::NamespaceKind`](crate::Error::NamespaceKind) when it is one of counters.
    pub fn existing_likes(&self, name: &str) -> Result<Likes> {
        Likes::new(Arc::clone(&self.engine), self.engine.existing_namespace(name)?)
    }

    /// All namespaces, by name. Adds up the counts of every item of likes.
    #[must_use]
    pub fn namespaces(&self) -> Vec<NamespaceInfo> {
        let info = |namespace: Namespace| NamespaceInfo {
            name: namespace.name.to_string(),
            contents: match namespace.kind {
                NamespaceKind::Counters(options) => Contents::Counters(options),
                NamespaceKind::Likes { options, .. } => Contents::Likes(options),
            },
            counters: self.engine.shards().len(namespace.id).unwrap_or(0) as u64,
            likes: if namespace.viewers().is_some() { self.engine.shards().likes(namespace.id) } else { 0 },
        };
        self.engine.namespaces().into_iter().map(info).collect()
    }

    /// Removes a namespace with all its counters, durably. Its handles answer
    /// [`Error::NoSuchNamespace`](crate::Error::NoSuchNamespace) from then on. Subscriptions are not told. It
    /// still counts among the [`MAX_NAMESPACES`](crate::MAX_NAMESPACES) that a store creates over its life.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNamespace`](crate::Error::NoSuchNamespace), [`Error::StorageFull`](crate::Error::StorageFull).
    pub fn drop_namespace(&self, name: &str) -> Result<()> {
        self.engine.drop_namespace(name)
    }

    /// An empty batch.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.engine))
    }

    /// Blocks until every change made before the call is durable. Does not wait for the group window.
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`](crate::Error::StorageFull) while changes wait for room on the disk,
    /// [`Error::Poisoned`](crate::Error::Poisoned), [`Error::Closed`](crate::Error::Closed).
    pub fn sync(&self) -> Result<()> {
        self.engine.sync()
    }

    /// The last epoch that is durable: a receipt is when its epoch is at most this. Costs one atomic read.
    #[must_use]
    pub fn durable_epoch(&self) -> u64 {
        self.engine.group().durable_epoch()
    }

    /// Writes a snapshot of all counters now and drops the log that it covers. Changes go on meanwhile.
    ///
    /// The store does so by itself when the log has grown ([`Options::compaction_threshold_bytes`]).
    ///
    /// # Errors
    ///
    /// [`Error::StorageFull`](crate::Error::StorageFull) and [`Error::Io`](crate::Error::Io). No count is in danger:
    /// the log still has everything.
    pub fn compact(&self) -> Result<()> {
        self.engine.compact()
    }

    /// Whether the log has outgrown the last snapshot, so that the store would compact by itself if it is driven by
    /// threads. For whoever drives it. Blocks while a compaction runs.
    #[must_use]
    pub fn is_compaction_due(&self) -> bool {
        self.engine.is_compaction_due()
    }

    /// Does the next step of the committer on the calling thread. For a store with
    /// [`Driver::Caller`](crate::Driver::Caller); harmless for others.
    pub fn step(&self) -> Stepped {
        match self.engine.step() {
            Step::Again => Stepped::Worked,
            Step::Idle => Stepped::Idle,
            Step::Gather(rest) | Step::Retry(rest) => Stepped::Pause(rest),
            Step::Stopped => Stepped::Stopped,
        }
    }

    /// Figures about the store. Visits every shard and lists the log's directory, so do not call it for every request.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// What opening the store found, restored and dropped.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        self.engine.report()
    }

    /// Subscribes to sealed epochs, from the next one on: for each, every changed counter with its delta and its value,
    /// delivered once it is durable.
    ///
    /// `capacity` is how many changes the subscription's queue holds. An epoch that does not fit is missed, and the
    /// subscription says so ([`Delivery::Missed`](crate::Delivery::Missed)). With 0 none fits: the subscriber learns
    /// which epochs there were, and not what changed in them.
    #[must_use]
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.engine.subscribe(capacity)
    }

    /// Reads every block of every generation and every frame of the log of a store that is not open, and reports what
    /// is there.
    ///
    /// What the store has on disk stays as it is, but the store is locked meanwhile, and its `LOCK` is created where it
    /// is missing. A generation in sled cannot be read without being opened for writing: that needs the permission to
    /// write, sets the time of its data file, and removes what sled may have left of a file that it did not finish.
    /// With generations in plain files ([`SnapshotHome::File`](crate::SnapshotHome::File)), a store on a read-only
    /// medium can be verified.
    ///
    /// # Errors
    ///
    /// As for [`open_with`](Self::open_with), but that damage in generations and segments is in the report.
    pub fn verify(path: impl AsRef<Path>) -> Result<VerifyReport> {
        verify(Environment::default(), path.as_ref())
    }

    /// [`verify`](Self::verify) on a disk of the caller's choice.
    ///
    /// # Errors
    ///
    /// See [`verify`](Self::verify).
    pub fn verify_in(environment: Environment, path: impl AsRef<Path>) -> Result<VerifyReport> {
        verify(environment, path.as_ref())
    }

    /// Closes the store for all its clones and handles, which answer [`Error::Closed`](crate::Error::Closed) from then
    /// on. Makes everything durable, marks the log as cleanly closed, and gives the directory free.
    ///
    /// # Errors
    ///
    /// After an error that is [temporary](crate::Error::is_temporary), such as
    /// [`Error::StorageFull`](crate::Error::StorageFull), the store is still open, for other clones and handles, and
    /// tries on; a call of theirs that came at the same moment may have been answered
    /// [`Error::Closed`](crate::Error::Closed), and changed nothing. After any other, such as
    /// [`Error::Poisoned`](crate::Error::Poisoned), it is closed, and what was not durable before may be lost.
    ///
    /// This handle is given up in any case: whoever means to try again keeps a clone. Without any other handle the
    /// store closes after such an error too, and what was not durable is lost.
    ///
    /// Closing a store that a clone has closed is no error, and waits until that is done. A compaction that runs is
    /// given up; when it is just verifying its snapshot, that is waited for.
    pub fn close(self) -> Result<()> {
        self.engine.close()
    }
}
