//! An embedded counter engine for likes: counts at memory speed, durable within milliseconds, exactly once through any
//! crash.
//!
//! A service links it in. Each like is one cheap change in memory that is on disk a few milliseconds later.
//!
//! ```
//! use plaudit::Store;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! let store = Store::open(path)?;
//!
//! let videos = store.likes("videos")?; // one viewer, one like
//! videos.like("video-1", 7_u64)?; // durable within the group window, 5 ms by default
//! videos.like("video-1", 7_u64)?; // sent again: nothing changes
//! videos.like("video-2", 8_u64)?.wait()?; // durable now
//! assert_eq!(videos.count("video-1")?, 1);
//! assert!(videos.has_liked("video-1", 7_u64)?);
//!
//! let views = store.counters("views")?; // plain counters
//! views.add("video-1", 1)?;
//! assert_eq!(views.top(10)?.len(), 1);
//! store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Likes or counters
//!
//! [`Likes`] know who likes what, and since when: whatever is retried, reordered or sent twice, a viewer counts once,
//! and an item's count is that of its likes. [`Counters`] count anything, by any amount, in a third of the memory or
//! less; that a retry is not counted twice is the caller's care. Both mix in one [`Batch`].
//!
//! # How it works
//!
//! Time is cut into *epochs* of a few milliseconds. Changes are applied in memory, in lock-striped tables. A thread
//! seals each epoch, writes every counter that changed in it once, with its value, and makes that durable with one
//! sync. So the cost of durability grows with the counters that changed, not with the likes. The log is replaced by
//! snapshots as it grows.
//!
//! # What is promised
//!
//! - A change whose receipt was waited for, and everything before a [`Store::sync`] that answered `Ok`, is there
//!   after any crash, exactly once.
//! - A change that was not waited for is there or not, never twice; a [`Batch`] is there whole or not at all.
//! - Damage on disk is an error that names the file and the place, or costs nothing: never another count. One kind
//!   looks like a crash to any log: in a store that was not closed, a last frame that is damaged, and a tail that has
//!   turned into zeros or is as it was earlier, are taken for what was never completed.
//!   [`RecoveryReport::dropped_bytes`] tells of the first.
//! - A full disk loses nothing: changes stay in memory and are retried.
//! - After a failed sync nothing more is acknowledged ([`Error::Poisoned`]); opening again restores what is durable.
//!
//! # What it costs
//!
//! | call | cost |
//! |---|---|
//! | [`Counters::add`], [`get`](Counters::get), `set`, `remove` | one lock of one shard, one hash lookup; no I/O, and no allocation for a counter that exists |
//! | [`HotCounter::add`] | one lock that no other thread takes |
//! | [`Likes::like`], `unlike`, [`has_liked`](Likes::has_liked) | the same, and a lookup of the viewer among the item's: a scan of up to 128, beyond that an index |
//! | [`Likes::likers`] | one lock of one shard, a few microseconds for a page, wherever it begins |
//! | [`Likes::liked_by`], [`liked_among`](Likes::liked_among) | a lookup for each item of the page |
//! | [`Likes::forget_viewer`], [`remove_item`](Likes::remove_item) | linear in the viewer's likes; constant, and the likes in the background |
//! | [`Batch::commit`] | the same for each change; locks all its shards together |
//! | [`Counters::iter`], [`top`](Counters::top), a snapshot | all counters, in lock holds of a few microseconds |
//! | [`Store::open`] | linear in the counters, and in the log since the last snapshot (at most the larger of 64 MiB and the snapshot) |
//! | memory | about 39 bytes for a counter with a key of up to 19 bytes; longer keys add their length and 16 bytes; the room of removed counters is used again, and given back at the next open |
//! | memory of likes | about 39 bytes for an item, 16 to 19 for each of its likes, and about as much for the viewers' side where a viewer has several; one who has a single like takes some 90 |
//! | disk | two snapshots, a third while it is written, and the log between; about 3 bytes of log for each counter changed in an epoch |
//!
//! # What it is not
//!
//! Not a server, not replicated, not a general key-value store. All counters and likes are in memory. Reads see
//! changes that are not durable yet. Unix only. An open store does not survive `fork`: the child has none of its
//! threads and must not use it, but start another program (`exec`), or open a store after the fork.
//!
//! # Features
//!
//! `sled` (default): snapshots live in sled. Without it, in plain files. `sim`: the [simulated disk](storage) for
//! testing crash handling. `cli`: the `plaudit` command. `fuzzing`: what the fuzz targets hold against any bytes; not
//! for use.

#![forbid(unsafe_code)]

#[cfg(not(unix))]
compile_error!("plaudit relies on Unix file locks and directory syncs");

mod batch;
mod clock;
mod commit;
mod compaction;
mod counters;
mod directory;
mod drive;
mod edge;
mod engine;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod likes;
mod limits;
mod log;
mod manifest;
#[cfg(all(test, loom))]
mod models;
mod options;
mod receipt;
mod recovery;
mod reuse;
mod shard;
mod snapshot;
mod stats;
pub mod storage;
mod store;
mod subscription;
mod sync;
mod varint;
mod verify;

pub use batch::Batch;
pub use clock::{Clock, SystemClock};
pub use counters::{Counters, HotCounter, Iter};
pub use edge::{ParseViewerError, Viewer};
pub use engine::{Driver, Environment};
pub use error::{Error, Result};
pub use likes::{EdgeIter, LikedItem, Liker, Likes};
pub use limits::{MAX_BATCH_CHANGES, MAX_KEY_BYTES, MAX_NAMESPACES, MAX_TIME_MS};
pub use options::{AtBound, CounterOptions, Durability, LikeOptions, Options, SnapshotHome, ViewerIds};
pub use receipt::{BatchChanged, BatchReceipt, CompareAndSet, Receipt};
pub use recovery::RecoveryReport;
pub use stats::{LatencySummary, Stats};
pub use store::{Contents, NamespaceInfo, Stepped, Store};
pub use subscription::{CounterChange, Delivery, LikeChange, RemovedItem, SealedEpoch, Subscription};
pub use verify::{GenerationReport, LikesReport, SegmentReport, VerifyReport};

/// The README's examples are run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
