//! plaudit is an embedded counter engine for likes.

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
mod engine;
mod error;
mod limits;
mod log;
mod manifest;
#[cfg(all(test, loom))]
mod models;
mod options;
mod receipt;
mod recovery;
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
pub use counters::{Counters, Iter};
pub use engine::{Driver, Environment};
pub use error::{Error, Result};
pub use limits::{MAX_BATCH_CHANGES, MAX_KEY_BYTES};
pub use options::{AtBound, CounterOptions, Durability, Options, SnapshotHome};
pub use receipt::{BatchChanged, BatchReceipt, CompareAndSet, Receipt};
pub use recovery::RecoveryReport;
pub use stats::{LatencySummary, Stats};
pub use store::{NamespaceInfo, Stepped, Store};
pub use subscription::{CounterChange, Delivery, SealedEpoch, Subscription};
pub use verify::{GenerationReport, SegmentReport, VerifyReport};
