//! Limits that callers meet.

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1_024;

/// The most changes that one [`Batch`](crate::Batch) holds.
pub const MAX_BATCH_CHANGES: usize = 1 << 20;
