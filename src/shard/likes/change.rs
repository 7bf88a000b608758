//! Likes and unlikes: an edge and the count of its item, in one critical section and one epoch.

use std::sync::Arc;

use crate::hash::KeyState;

use super::table::Edges;
use super::{LikeEvent, LikeRules};
use crate::edge::Stamp;
use crate::options::CounterOptions;
use crate::shard::{Applied, Change, NamespaceId, Refusal, Shard, Shards, Touched, hash_key};

/// What became of an edge, or of all edges of an item, in an epoch. The last of an edge holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EdgeChange {
    /// The item's slot in its table.
    pub(crate) slot: u32,
    /// The item's namespace.
    pub(crate) namespace: NamespaceId,
    /// What happened.
    pub(crate) state: EdgeState,
}

/// See [`EdgeChange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdgeState {
    /// The viewer's edge is this one now.
    Is { viewer: u128, stamp: Stamp },
    /// The viewer has no edge any more.
    Gone { viewer: u128 },
    /// No viewer has.
    Cleared,
}

/// The edges of an item that was removed. Its viewers do not know yet.
#[derive(Debug)]
pub(crate) struct RemovedEdges {
    pub(crate) namespace: NamespaceId,
    pub(crate) slot: u32,
    pub(crate) edges: Box<dyn Edges>,
}

/// What a like did to a table.
#[derive(Debug, Clone, Copy)]
pub(in crate::shard) struct Liked {
    pub(in crate::shard) touched: Touched,
    pub(in crate::shard) viewer: u128,
    pub(in crate::shard) before: Option<Stamp>,
    /// What the edge became; `None` when it stayed as it was.
    pub(in crate::shard) after: Option<Stamp>,
}

/// An item's count has no bounds but those of its likes.
const NO_BOUNDS: CounterOptions =
    CounterOptions { min: i64::MIN, max: i64::MAX, at_bound: crate::options::AtBound::Reject };

impl Shards {
    /// What holds in all shards of a like namespace; `None` when there is no such namespace.
    pub(crate) fn like_rules(&self, namespace: NamespaceId) -> Option<Arc<LikeRules>> {
        let shard = self.lock(0);
        let likes = shard.table(namespace).ok()?.likes()?;
        Some(Arc::clone(&likes.rules))
    }

    /// Applies a like or an unlike. [`Applied::value`] is the item's count.
    #[inline]
    pub(crate) fn like(&self, namespace: NamespaceId, item: &[u8], event: &LikeEvent) -> Result<Applied, Refusal> {
        let hash = self.hash(item);
        let mut guard = self.lock(self.stripe_of(hash));
        let shard = &mut *guard;
        let word = self.open(shard)?;
        let liked = shard.like(namespace, hash, item, event, &self.hasher)?;
        let noted = liked.after.is_some();
        if noted {
            shard.note_like(namespace, &liked);
        }
        Ok(self.answer(shard, namespace, word, liked.touched, noted))
    }

    /// Whether a viewer likes an item.
    #[inline]
    pub(crate) fn has_liked(&self, namespace: NamespaceId, item: &[u8], viewer: u128) -> Result<bool, Refusal> {
        let hash = self.hash(item);
        let shard = self.lock(self.stripe_of(hash));
        if self.is_halted() {
            return Err(Refusal::Halted);
        }
        let table = shard.table(namespace)?;
        let edges = table.find(hash, item).and_then(|slot| table.likes()?.edges(slot));
        Ok(edges.and_then(|edges| edges.get(viewer, &self.hasher)).is_some_and(Stamp::is_like))
    }

    /// Removes an item with all its edges.
    pub(crate) fn remove_item(&self, namespace: NamespaceId, item: &[u8]) -> Result<Applied, Refusal> {
        let hash = self.hash(item);
        let mut guard = self.lock(self.stripe_of(hash));
        let shard = &mut *guard;
        let word = self.open(shard)?;
        let touched = shard.change(namespace, hash, item, Change::Remove, &NO_BOUNDS, &self.hasher)?;
        let changed = touched.before != touched.after;
        if changed {
            shard.note(namespace, touched);
            shard.clear_edges(namespace, touched.slot);
        }
        Ok(self.answer(shard, namespace, word, touched, changed))
    }

    /// Removes every edge of a viewer, in one epoch, and returns how many likes there were, and an answer for the
    /// epoch. The caller holds the committer, so that the epoch stays open while shard after shard is visited, and
    /// everything that is not in the open epoch is known to the viewers.
    pub(crate) fn forget_viewer(&self, namespace: NamespaceId, viewer: u128) -> Result<Applied, Refusal> {
        let mut places = self.viewers.places(namespace, viewer);
        places.sort_unstable();
        let mut places = places.into_iter().peekable();
        let (mut likes, mut changed, mut first) = (0, false, false);
        for stripe in 0..self.count() {
            let mut guard = self.lock(stripe);
            let shard = &mut *guard;
            let word = self.open(shard)?;
            shard.table(namespace)?;
            let mut slots = Vec::new();
            while let Some((_, slot)) = places.next_if(|&(found, _)| found as usize == stripe) {
                slots.push(slot);
            }
            slots.extend(shard.open.slots_of(namespace, viewer));
            slots.sort_unstable();
            slots.dedup();
            for slot in slots {
                if let Some(stamp) = shard.forget_edge(namespace, slot, viewer, &self.hasher)? {
                    likes += i64::from(stamp.is_like());
                    changed = true;
                    first |= self.mark_dirty(word);
                }
            }
        }
        // What is in the open epoch is told when that is sealed. Anything else that is listed was an unlike that the
        // item has forgotten.
        self.viewers.forget(namespace, viewer);
        let epoch = if changed { self.open_epoch() } else { self.newest_epoch() };
        Ok(Applied { previous: likes, value: 0, changed, epoch, first })
    }
}

impl Shard {
    /// Applies an event to the table alone; the epoch's buffer is the caller's.
    #[inline]
    pub(in crate::shard) fn like(
        &mut self,
        namespace: NamespaceId,
        hash: u64,
        item: &[u8],
        event: &LikeEvent,
        hasher: &KeyState,
    ) -> Result<Liked, Refusal> {
        let table = self.table_mut(namespace)?;
        let slot = table.find(hash, item);
        let value = slot.and_then(|slot| table.value(slot));
        let likes = table.likes().ok_or(Refusal::NoNamespace)?;
        let oldest_ms = likes.rules.oldest_ms();
        let before = slot.and_then(|slot| likes.edges(slot)?.get(event.viewer, hasher));
        let after = event.outcome(before, oldest_ms)?;
        let mut touched = Touched { slot, before: value, after: value };
        if let Some(stamp) = after {
            let is = i64::from(stamp.is_like()) - i64::from(before.is_some_and(Stamp::is_like));
            let count = value.unwrap_or(0) + is;
            let slot = match slot {
                Some(slot) => slot,
                None => table.insert(hash, item, 0, |key| hash_key(hasher, key)).ok_or(Refusal::TableFull)?,
            };
            table.set_value(slot, Some(count));
            table.set_edge(slot, event.viewer, Some(stamp), hasher);
            touched = Touched { slot: Some(slot), before: value, after: Some(count) };
        }
        Ok(Liked { touched, viewer: event.viewer, before, after })
    }

    /// Takes back what [`Shard::like`] did to an edge. The item's count is the caller's.
    pub(in crate::shard) fn undo_like(&mut self, namespace: NamespaceId, liked: &Liked, hasher: &KeyState) {
        if let (Ok(table), Some(slot), Some(_)) = (self.table_mut(namespace), liked.touched.slot, liked.after) {
            table.set_edge(slot, liked.viewer, liked.before, hasher);
        }
    }

    /// Writes what was done to an edge, and the count beside it, into the open epoch's buffer.
    #[inline]
    pub(in crate::shard) fn note_like(&mut self, namespace: NamespaceId, liked: &Liked) {
        self.note(namespace, liked.touched);
        let (viewer, Some(slot), Some(stamp)) = (liked.viewer, liked.touched.slot, liked.after) else { return };
        self.open.changes.edges.push(EdgeChange { slot, namespace, state: EdgeState::Is { viewer, stamp } });
    }

    fn forget_edge(
        &mut self,
        namespace: NamespaceId,
        slot: u32,
        viewer: u128,
        hasher: &KeyState,
    ) -> Result<Option<Stamp>, Refusal> {
        let table = self.table_mut(namespace)?;
        let Some(stamp) = table.set_edge(slot, viewer, None, hasher) else { return Ok(None) };
        let before = table.value(slot);
        let after = before.map(|count| count - i64::from(stamp.is_like()));
        table.set_value(slot, after);
        self.note(namespace, Touched { slot: Some(slot), before, after });
        self.open.changes.edges.push(EdgeChange { slot, namespace, state: EdgeState::Gone { viewer } });
        Ok(Some(stamp))
    }

    fn clear_edges(&mut self, namespace: NamespaceId, slot: Option<u32>) {
        let (Some(slot), Ok(table)) = (slot, self.table_mut(namespace)) else { return };
        let Some(edges) = table.take_edges(slot) else { return };
        self.open.changes.edges.push(EdgeChange { slot, namespace, state: EdgeState::Cleared });
        self.open.changes.removed.push(RemovedEdges { namespace, slot, edges });
    }
}
