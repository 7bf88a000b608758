//! Likes and unlikes: an edge and the count of its item, in one critical section and one epoch.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::hash::KeyState;

use super::table::{Edges, LikeTable};
use super::{LikeEvent, LikeRules};
use crate::edge::Stamp;
use crate::options::CounterOptions;
use crate::shard::edges::Update;
use crate::shard::{Applied, Change, NamespaceId, Note, Refusal, Shard, Shards, Touched, hash_key};

/// What became of an edge, or of all edges of an item, in an epoch. The last of an edge holds. In 32 bytes, because an
/// epoch has one for each like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EdgeChange {
    /// The halves of the viewer's id, which as one number would have to stand at a multiple of 16 bytes.
    viewer: [u64; 2],
    stamp: [u8; Stamp::BYTES],
    kind: Kind,
    /// The item's namespace.
    pub(crate) namespace: NamespaceId,
    /// The item's slot in its table.
    pub(crate) slot: u32,
}

const _: () = assert!(size_of::<EdgeChange>() == 32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Is,
    Gone,
    Cleared,
}

impl EdgeChange {
    #[inline]
    pub(crate) fn new(namespace: NamespaceId, slot: u32, state: EdgeState) -> Self {
        let none = Stamp::new(0, true);
        let (kind, viewer, stamp) = match state {
            EdgeState::Is { viewer, stamp } => (Kind::Is, viewer, stamp),
            EdgeState::Gone { viewer } => (Kind::Gone, viewer, none),
            EdgeState::Cleared => (Kind::Cleared, 0, none),
        };
        let viewer = [viewer as u64, (viewer >> 64) as u64];
        Self { viewer, stamp: stamp.to_bytes(), kind, namespace, slot }
    }

    /// What it is about: its item, and there all viewers before a single one.
    fn subject(&self) -> (NamespaceId, u32, bool, [u64; 2]) {
        (self.namespace, self.slot, self.kind != Kind::Cleared, self.viewer)
    }

    /// What happened.
    #[inline]
    pub(crate) fn state(&self) -> EdgeState {
        let viewer = u128::from(self.viewer[1]) << 64 | u128::from(self.viewer[0]);
        match self.kind {
            Kind::Is => EdgeState::Is { viewer, stamp: Stamp::from_bytes(self.stamp) },
            Kind::Gone => EdgeState::Gone { viewer },
            Kind::Cleared => EdgeState::Cleared,
        }
    }
}

/// Leaves of the changes of edges in an epoch those that hold at its end, in the order of namespaces and slots: of each
/// item first that all edges before were cleared, if they were, and of each viewer the last after that.
pub(crate) fn reduce(changes: &mut Vec<EdgeChange>) {
    // From the newest back, what was before an item was cleared is of no account.
    changes.reverse();
    let mut cleared = BTreeSet::new();
    changes.retain(|change| {
        let item = (change.namespace, change.slot);
        let is_newer = !cleared.contains(&item);
        if change.kind == Kind::Cleared {
            cleared.insert(item);
        }
        is_newer
    });
    // Those of one viewer stay in this order.
    changes.sort_by_key(EdgeChange::subject);
    changes.dedup_by_key(|change| change.subject());
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
    seen_ms: u64,
}

impl Liked {
    /// Whether the viewer's like came or went. That an item is known now, or a time newer, is no change to a caller.
    pub(in crate::shard) fn changed(&self) -> bool {
        self.touched.before.unwrap_or(0) != self.touched.after.unwrap_or(0)
    }
}

/// Slots of a viewer's likes that are visited while a lock is held.
const SLOTS_PER_HOLD: usize = 256;

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
        let applied = self.answer(shard, namespace, word, liked.touched, noted);
        Ok(Applied { changed: liked.changed(), ..applied })
    }

    /// Whether a viewer likes an item.
    #[inline]
    pub(crate) fn has_liked(&self, namespace: NamespaceId, item: &[u8], viewer: u128) -> Result<bool, Refusal> {
        let stamp = self.read_likes(namespace, item, |likes, slot| likes.get(slot, viewer, &self.hasher))?;
        Ok(stamp.is_some_and(Stamp::is_like))
    }

    /// Reads of an item, by its slot, under its shard's lock; `None` when there is no such item.
    #[inline]
    pub(super) fn read_likes<T>(
        &self,
        namespace: NamespaceId,
        item: &[u8],
        read: impl FnOnce(&LikeTable, u32) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let hash = self.hash(item);
        let shard = self.lock(self.stripe_of(hash));
        if self.is_halted() {
            return Err(Refusal::Halted);
        }
        let table = shard.table(namespace)?;
        Ok(table.find(hash, item).and_then(|slot| read(table.likes()?, slot)))
    }

    /// Removes an item with all its edges.
    pub(crate) fn remove_item(&self, namespace: NamespaceId, item: &[u8]) -> Result<Applied, Refusal> {
        let hash = self.hash(item);
        let mut guard = self.lock(self.stripe_of(hash));
        let shard = &mut *guard;
        let word = self.open(shard)?;
        let free = &CounterOptions::default();
        let touched = shard.change(namespace, hash, item, Change::Remove, free, Note::Now, &self.hasher)?;
        let changed = touched.before != touched.after;
        if changed {
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
        let (mut likes, mut noted, mut first) = (0, false, false);
        for stripe in 0..self.count() {
            let mut slots = Vec::new();
            while let Some((_, slot)) = places.next_if(|&(found, _)| found as usize == stripe) {
                slots.push(slot);
            }
            let mut shard = self.lock(stripe);
            self.open(&mut shard)?;
            shard.table(namespace)?;
            slots.extend(shard.open.slots_of(namespace, viewer));
            drop(shard);
            slots.sort_unstable();
            slots.dedup();
            for slots in slots.chunks(SLOTS_PER_HOLD) {
                let mut guard = self.lock(stripe);
                let word = self.open(&mut guard)?;
                for &slot in slots {
                    if let Some(liked) = guard.forget_edge(namespace, slot, viewer, &self.hasher)? {
                        likes += i64::from(liked);
                        noted = true;
                        first |= self.mark_dirty(word);
                    }
                }
            }
        }
        // What is in the open epoch is told when that is sealed.
        self.viewers.forget(namespace, viewer);
        let epoch = if noted { self.open_epoch() } else { self.newest_epoch() };
        Ok(Applied { previous: likes, value: 0, changed: likes > 0, epoch, first })
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
        let likes = table.likes_mut().ok_or(Refusal::NoNamespace)?;
        let oldest_ms = likes.rules.oldest_ms();
        let decide = |before| event.outcome(before, oldest_ms);
        let &LikeEvent { viewer, seen_ms, .. } = event;
        let Update { before, after } = match slot {
            Some(slot) => likes.update(slot, viewer, hasher, decide)?,
            None => Update { before: None, after: decide(None)? },
        };
        let Some(stamp) = after else {
            let touched = Touched { slot, before: value, after: value };
            return Ok(Liked { touched, viewer, before, after, seen_ms });
        };
        let count = value.unwrap_or(0) + i64::from(stamp.is_like()) - i64::from(before.is_some_and(Stamp::is_like));
        let slot = match slot {
            Some(slot) => slot,
            None => {
                let slot = table.insert(hash, item, 0, |key| hash_key(hasher, key)).ok_or(Refusal::TableFull)?;
                table.set_edge(slot, viewer, after, hasher);
                slot
            }
        };
        table.set_value(slot, Some(count));
        let touched = Touched { slot: Some(slot), before: value, after: Some(count) };
        Ok(Liked { touched, viewer, before, after, seen_ms })
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
        self.open.note_edge(EdgeChange::new(namespace, slot, EdgeState::Is { viewer, stamp }));
        if let Ok(Some(likes)) = self.table(namespace).map(|table| table.likes()) {
            likes.rules.see(liked.seen_ms);
        }
    }

    /// Removes the edge of a viewer to the item in a slot, and answers whether it was a like; `None` when there is no
    /// item. One that has forgotten the edge may still have it on the disk, so it is noted in any case.
    fn forget_edge(
        &mut self,
        namespace: NamespaceId,
        slot: u32,
        viewer: u128,
        hasher: &KeyState,
    ) -> Result<Option<bool>, Refusal> {
        let table = self.table_mut(namespace)?;
        let Some(count) = table.value(slot) else { return Ok(None) };
        let liked = table.set_edge(slot, viewer, None, hasher).is_some_and(Stamp::is_like);
        let after = Some(count - i64::from(liked));
        table.set_value(slot, after);
        self.note(namespace, Touched { slot: Some(slot), before: Some(count), after });
        self.open.note_edge(EdgeChange::new(namespace, slot, EdgeState::Gone { viewer }));
        Ok(Some(liked))
    }

    fn clear_edges(&mut self, namespace: NamespaceId, slot: Option<u32>) {
        let (Some(slot), Ok(table)) = (slot, self.table_mut(namespace)) else { return };
        let Some(edges) = table.take_edges(slot) else { return };
        self.open.note_edge(EdgeChange::new(namespace, slot, EdgeState::Cleared));
        self.open.changes.removed.push(RemovedEdges { namespace, slot, edges });
    }
}
