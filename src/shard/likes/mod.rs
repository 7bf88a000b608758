//! The edges of a like namespace in one shard, beside the counts of its items: for each item's slot the set of viewers
//! who liked or unliked it.
//!
//! An item's count is its counter's value, and changes under the same lock, by the same call, as the edge that it
//! counts. The two are logged and kept apart, so that each can be checked against the other.

mod change;
mod rows;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod viewers;
mod walk;

use super::Refusal;
use crate::edge::{Stamp, ViewerWidth};
use crate::limits::MAX_TIME_MS;
use crate::sync::{AtomicU64, Ordering};

pub(crate) use change::{EdgeChange, EdgeState, RemovedEdges, reduce};
pub(crate) use sweep::Sweep;
pub(crate) use walk::{Drift, Edge, EdgePlace};

pub(super) use change::Liked;
pub(super) use table::{Edges, LikeTable};
pub(super) use viewers::Viewers;

/// What holds in all shards of a like namespace.
#[derive(Debug)]
pub(crate) struct LikeRules {
    /// How wide its viewers are.
    pub(crate) width: ViewerWidth,
    horizon_ms: u64,
    /// The newest time that counts towards the horizon. Only ever grows. Nothing else hangs on it, and whoever takes a
    /// stripe's lock later reads no smaller one, so that an unlike is never forgotten before it is too old.
    newest_ms: AtomicU64,
}

impl LikeRules {
    pub(crate) fn new(width: ViewerWidth, horizon_ms: u64, newest_ms: u64) -> Self {
        Self { width, horizon_ms, newest_ms: AtomicU64::new(newest_ms) }
    }

    /// The newest time that counts towards the horizon.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.newest_ms.load(Ordering::Relaxed)
    }

    /// Events before this time are too old, and unlikes before it are forgotten.
    pub(crate) fn oldest_ms(&self) -> u64 {
        self.newest_ms().saturating_sub(self.horizon_ms)
    }

    /// Counts a time towards the horizon.
    #[inline]
    pub(crate) fn see(&self, time_ms: u64) {
        if self.newest_ms() < time_ms {
            self.newest_ms.fetch_max(time_ms, Ordering::Relaxed);
        }
    }
}

/// A like or an unlike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LikeEvent {
    pub(crate) viewer: u128,
    pub(crate) liked: bool,
    pub(crate) when: When,
    /// What counts towards the horizon once it is applied.
    pub(crate) seen_ms: u64,
}

/// When an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Now: it takes effect, whatever the clock says now and said before.
    Now(u64),
    /// At a time of its own: it takes effect if it is newer than what it meets.
    At(u64),
}

impl LikeEvent {
    /// What the edge becomes; `None` when it stays as it is.
    fn outcome(&self, before: Option<Stamp>, oldest_ms: u64) -> Result<Option<Stamp>, Refusal> {
        let time_ms = match self.when {
            When::At(time_ms) if time_ms < oldest_ms => return Err(Refusal::TooOld { time_ms, oldest_ms }),
            When::At(time_ms) => {
                let stamp = Stamp::new(time_ms, self.liked);
                return Ok((before < Some(stamp)).then_some(stamp));
            }
            When::Now(_) if before.is_some_and(Stamp::is_like) == self.liked => return Ok(None),
            When::Now(now_ms) => now_ms.max(oldest_ms),
        };
        // At an equal time an unlike wins, so a like has to be later. After an unlike of the last time that there is it
        // cannot be, and the same unlike sent again takes it back.
        let least = before.map_or(0, |before| before.time_ms() + u64::from(self.liked));
        Ok(Some(Stamp::new(time_ms.max(least).min(MAX_TIME_MS), self.liked)))
    }
}
