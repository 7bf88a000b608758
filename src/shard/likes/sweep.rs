//! Giving back the memory of unlikes from before the horizon, in short lock holds, while changes go on.
//!
//! An edge or a viewer is looked at elsewhere only when somebody changes it or what stands beside it. So unlikes of
//! viewers who never come back would stay for as long as the store is open. Nothing is logged of what is dropped, and
//! no caller can tell: an event that would have met such an unlike is refused, or gets a later time.

use super::EdgePlace;
use super::rows::{EDGES_PER_HOLD, RowPlace};
use crate::shard::{NamespaceId, Refusal, Shards};

/// Slots that are looked at while a lock is held, with at most about as many edges as in rows.
const SLOTS_PER_HOLD: usize = 256;

/// A sweep over a namespace of likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sweep {
    /// The same for both sides, so that a viewer loses sight of no unlike that an item remembers. Read before the first
    /// lock is taken: whoever takes one later reads no older horizon.
    expired_ms: u64,
    at: At,
}

/// The items first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Items(EdgePlace),
    Viewers { stripe: usize, place: RowPlace },
}

impl Sweep {
    fn viewers(self, stripe: usize, place: RowPlace) -> Self {
        Self { at: At::Viewers { stripe, place }, ..self }
    }
}

impl Shards {
    /// A sweep that drops what is too old now.
    pub(crate) fn begin_sweep(&self, namespace: NamespaceId) -> Option<Sweep> {
        let expired_ms = self.like_rules(namespace)?.oldest_ms();
        Some(Sweep { expired_ms, at: At::Items(EdgePlace::default()) })
    }

    /// Drops some of the unlikes that are too old, from the items' edges and then from the viewers' lists, under one
    /// short lock hold, and returns how to go on, `None` after the last.
    pub(crate) fn sweep(&self, namespace: NamespaceId, sweep: Sweep) -> Result<Option<Sweep>, Refusal> {
        match sweep.at {
            At::Items(at) => {
                let next = self.sweep_items(namespace, at, sweep.expired_ms)?;
                let next = next.map(|at| Sweep { at: At::Items(at), ..sweep });
                Ok(Some(next.unwrap_or_else(|| sweep.viewers(0, RowPlace::START))))
            }
            At::Viewers { stripe, .. } if stripe >= self.viewers.count() => Ok(None),
            At::Viewers { stripe, place } => {
                let next = self.viewers.sweep(namespace, stripe, place, sweep.expired_ms);
                let next = next.map(|place| sweep.viewers(stripe, place));
                Ok(Some(next.unwrap_or_else(|| sweep.viewers(stripe + 1, RowPlace::START))))
            }
        }
    }

    fn sweep_items(
        &self,
        namespace: NamespaceId,
        at: EdgePlace,
        expired_ms: u64,
    ) -> Result<Option<EdgePlace>, Refusal> {
        if at.stripe >= self.count() {
            return Ok(None);
        }
        let mut shard = self.lock(at.stripe);
        let table = shard.table_mut(namespace)?;
        let slots = table.slots();
        let likes = table.likes_mut().ok_or(Refusal::NoNamespace)?;
        let (mut slot, mut within, mut left) = (at.slot, at.within, EDGES_PER_HOLD);
        let end = (slot + SLOTS_PER_HOLD).min(slots);
        while slot < end && left > 0 {
            let looked_at = likes.len(slot as u32).min(left);
            within = likes.sweep(slot as u32, within, left, expired_ms, &self.hasher);
            if within.is_some() {
                break;
            }
            left -= looked_at;
            slot += 1;
        }
        let next = if slot < slots {
            EdgePlace { slot, within, ..at }
        } else {
            EdgePlace { stripe: at.stripe + 1, ..EdgePlace::default() }
        };
        Ok(Some(next))
    }
}
