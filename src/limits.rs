//! Limits that callers meet.

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1_024;

/// The most changes that one [`Batch`](crate::Batch) holds.
pub const MAX_BATCH_CHANGES: usize = 1 << 20;

/// The latest time of a like, in milliseconds since 1970-01-01 UTC: in the year 6429.
pub const MAX_TIME_MS: u64 = (1 << 47) - 1;

/// The most namespaces that one store creates over its life, those that were dropped since included.
pub const MAX_NAMESPACES: usize = 1 << 16;
