//! Listing edges, walking over all of them in short lock holds, loading them at open, and keeping the viewers' side up
//! to date.

use std::ops::Range;

use bytes::Bytes;

use super::viewers::{ItemPlace, Listed, Told};
use super::{EdgeState, RemovedEdges};
use crate::edge::{Stamp, Viewer};
use crate::shard::edges::Position;
use crate::shard::{Changes, Chunk, NamespaceId, Place, Refusal, Shards, hash_key};

/// Edges visited while a lock is held, about: some tens of microseconds.
const EDGES_PER_HOLD: usize = 1_024;

/// Slots visited while a lock is held.
const SLOTS_PER_HOLD: usize = 256;

/// How many likes of a viewer are looked up in their items at a time.
const LIKES_AT_A_TIME: usize = 64;

/// Edges of which the viewers are told at a time, about.
const TOLD_AT_A_TIME: usize = 16 * 1_024;

/// How many groups of stripes the viewers are built in.
const GROUPS: usize = 8;

/// A place in a walk over the edges of a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EdgePlace {
    pub(super) stripe: usize,
    pub(super) slot: usize,
    pub(super) within: Option<Position>,
    pub(super) end: End,
}

/// Where a walk is done with what it is in. What is new since it came there need not be visited, and a walk that is
/// slower than that comes would never end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct End {
    /// How many slots the stripe had.
    slots: Option<usize>,
    /// The last edge that the item had.
    edge: Option<Position>,
}

/// An edge as a walk shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge<'a> {
    slot: u32,
    pub(crate) item: &'a [u8],
    pub(crate) viewer: u128,
    pub(crate) stamp: Stamp,
}

/// An item whose count is not that of its likes, or a viewer who is not the same from both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drift {
    pub(crate) item: Bytes,
    pub(crate) what: String,
}

impl Shards {
    /// Visits some of the edges of a namespace, each with its item, under one short lock hold, and returns where to go
    /// on, or `None` after the last. An edge that is not changed during the whole walk is visited at least once.
    pub(crate) fn visit_edges(
        &self,
        namespace: NamespaceId,
        at: EdgePlace,
        visit: &mut dyn FnMut(Edge<'_>),
    ) -> Result<Option<EdgePlace>, Refusal> {
        if at.stripe >= self.count() {
            return Ok(None);
        }
        let shard = self.lock(at.stripe);
        let table = shard.table(namespace)?;
        let likes = table.likes().ok_or(Refusal::NoNamespace)?;
        let EdgePlace { mut slot, mut within, end: End { slots, edge: mut last }, .. } = at;
        let (slots, mut left) = (slots.unwrap_or_else(|| table.slots()), EDGES_PER_HOLD);
        let end = (slot + SLOTS_PER_HOLD).min(slots);
        while slot < end && left > 0 {
            let (key, edges) = (table.key(slot as u32), likes.edges(slot as u32));
            if let (Some(key), Some(edges)) = (key, edges) {
                within = edges.walk(within, left, &mut |viewer, stamp| {
                    left = left.saturating_sub(1);
                    visit(Edge { slot: slot as u32, item: key, viewer, stamp });
                });
                if within.is_some() {
                    last = last.or_else(|| edges.last());
                    if within <= last {
                        break;
                    }
                }
            }
            (within, last) = (None, None);
            slot += 1;
        }
        let next = if slot < slots {
            EdgePlace { slot, within, end: End { slots: Some(slots), edge: last }, ..at }
        } else {
            EdgePlace { stripe: at.stripe + 1, ..EdgePlace::default() }
        };
        Ok((next.stripe < self.stripes.len()).then_some(next))
    }

    /// The viewers who like an item, newest first, from below a position on: a part of them under one short lock hold,
    /// and where to go on.
    pub(crate) fn newest_likers(
        &self,
        namespace: NamespaceId,
        item: &[u8],
        before: Option<Position>,
        limit: usize,
        out: &mut Vec<(u128, Stamp)>,
    ) -> Result<Option<Position>, Refusal> {
        self.read_likes(namespace, item, |likes, slot| likes.edges(slot)?.newest(before, limit, out))
    }

    /// The items that a viewer likes, newest first and those of one time by their keys, from after `after` on.
    pub(crate) fn newest_liked(
        &self,
        namespace: NamespaceId,
        viewer: u128,
        after: Option<(u64, &[u8])>,
        limit: usize,
    ) -> Result<Vec<(Bytes, u64)>, Refusal> {
        self.lock(0).table(namespace)?;
        if self.is_halted() {
            return Err(Refusal::Halted);
        }
        let mut liked: Vec<(Bytes, u64)> = Vec::new();
        // Above every like of that time: those of one time are in the order of their places here.
        let mut next = after.map(|(time_ms, _)| (Stamp::new(time_ms, false), 0));
        let mut found = Vec::new();
        loop {
            next = self.viewers.newest(namespace, viewer, next, LIKES_AT_A_TIME, &mut found);
            // The last of a page may be one of several of its time, which are to be in order.
            let enough = |time_ms| liked.len() > limit && liked[limit].1 > time_ms;
            if found.first().is_some_and(|(_, stamp)| enough(stamp.time_ms())) {
                break;
            }
            for (place, stamp) in found.drain(..) {
                let is_after = |key: &[u8]| after.is_none_or(|(time_ms, last)| stamp.time_ms() < time_ms || key > last);
                if let Some(key) = self.liked_at(namespace, place, viewer, stamp)?.filter(|key| is_after(key)) {
                    liked.push((key, stamp.time_ms()));
                }
            }
            if next.is_none() {
                break;
            }
        }
        liked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        liked.truncate(limit);
        Ok(liked)
    }

    /// The key of the item in a place, if the viewer likes it, and has since then or later: a place may be another
    /// item's by now, whose like is listed once its epoch is sealed.
    fn liked_at(
        &self,
        namespace: NamespaceId,
        (stripe, slot): ItemPlace,
        viewer: u128,
        listed: Stamp,
    ) -> Result<Option<Bytes>, Refusal> {
        let shard = self.lock(stripe as usize);
        if self.is_halted() {
            return Err(Refusal::Halted);
        }
        let table = shard.table(namespace)?;
        let stamp = table.likes().and_then(|likes| likes.get(slot, viewer, &self.hasher));
        let likes = stamp.is_some_and(|stamp| stamp.is_like() && stamp >= listed);
        Ok(table.key(slot).filter(|_| likes).map(Bytes::copy_from_slice))
    }

    /// Tells the viewers what a collected epoch changed in each shard. For the committer only.
    pub(crate) fn tell_viewers(&self, collected: &[Changes]) {
        let mut told = Vec::new();
        for (stripe, changes) in (0u32..).zip(collected) {
            for namespace in changes.edges.chunk_by(|a, b| a.namespace == b.namespace) {
                let Some(rules) = self.like_rules(namespace[0].namespace) else { continue };
                let expired_ms = rules.oldest_ms();
                told.extend(namespace.iter().filter_map(|change| {
                    let (viewer, stamp) = match change.state() {
                        EdgeState::Is { viewer, stamp } => (viewer, Some(stamp)),
                        EdgeState::Gone { viewer } => (viewer, None),
                        // See `tell_removed`.
                        EdgeState::Cleared => return None,
                    };
                    let place = (stripe, change.slot);
                    Some(Told { namespace: change.namespace, viewer, place, stamp, expired_ms })
                }));
            }
            if told.len() >= TOLD_AT_A_TIME {
                self.viewers.tell(&told);
                told.clear();
            }
        }
        self.viewers.tell(&told);
    }

    /// Tells some of the viewers of an item that was removed, and returns how many, and where to go on. For the
    /// committer only, after [`Shards::tell_viewers`] of the same epoch. The slot may be in use again: an edge that
    /// is there now was made later, and the viewer knows of it or will.
    pub(crate) fn tell_removed(
        &self,
        stripe: usize,
        removed: &RemovedEdges,
        from: Option<Position>,
    ) -> (usize, Option<Position>) {
        let RemovedEdges { namespace, slot, edges } = removed;
        let mut told = Vec::new();
        let next = edges.walk(from, EDGES_PER_HOLD, &mut |viewer, _| {
            let place = (stripe as u32, *slot);
            told.push(Told { namespace: *namespace, viewer, place, stamp: None, expired_ms: 0 });
        });
        let visited = told.len();
        told.retain(|told| self.edge_at(*namespace, stripe, *slot, told.viewer).is_none());
        self.viewers.tell(&told);
        (visited, next)
    }

    fn edge_at(&self, namespace: NamespaceId, stripe: usize, slot: u32, viewer: u128) -> Option<Stamp> {
        let shard = self.lock(stripe);
        shard.table(namespace).ok()?.likes()?.get(slot, viewer, &self.hasher)
    }

    /// Sets edges of an item while the store is being opened: nothing is logged. Its count is not touched; an item that
    /// is new has 0. `None` when its table is full or its namespace has no likes.
    pub(crate) fn load_edges(
        &self,
        namespace: NamespaceId,
        item: &[u8],
        mut edges: impl Iterator<Item = (u128, Stamp)>,
    ) -> Option<Place> {
        let hash = self.hash(item);
        let stripe = self.stripe_of(hash);
        let mut shard = self.lock(stripe);
        let table = shard.table_mut(namespace).ok()?;
        table.likes()?;
        let slot = table.find_or_insert(hash, item, |key| hash_key(&self.hasher, key))?;
        table.extend_edges(slot, &mut edges, &self.hasher);
        Some(Place::new(stripe, slot))
    }

    /// Sets or removes an edge of an item that was loaded.
    pub(crate) fn load_edge_at(&self, namespace: NamespaceId, place: Place, viewer: u128, stamp: Option<Stamp>) {
        if let Ok(table) = self.lock(place.stripe()).table_mut(namespace) {
            table.set_edge(place.slot(), viewer, stamp, &self.hasher);
        }
    }

    /// Removes all edges of an item that was loaded.
    pub(crate) fn load_cleared_at(&self, namespace: NamespaceId, place: Place) {
        if let Ok(table) = self.lock(place.stripe()).table_mut(namespace) {
            table.take_edges(place.slot());
        }
    }

    /// How many likes there are: the sum of the items' counts. Visits every item.
    pub(crate) fn likes(&self, namespace: NamespaceId) -> u64 {
        let (mut likes, mut next) = (0_u64, Some(Chunk::default()));
        while let Some(at) = next {
            // What was read from a disk may be anything before it is recounted.
            let mut add = |_: &[u8], count: i64| likes = likes.saturating_add(count.unsigned_abs());
            next = self.visit(namespace, at, &mut add).unwrap_or(None);
        }
        likes
    }

    /// Whether the viewers' side has exactly the likes that the items have, of which there are so many. While nothing
    /// changes.
    pub(crate) fn compare_sides(&self, namespace: NamespaceId, likes: u64) -> Result<(), Drift> {
        let mut next = Some(EdgePlace::default());
        while let Some(at) = next {
            let mut drift = None;
            let stripe = at.stripe as u32;
            let Ok(found) = self.visit_edges(namespace, at, &mut |Edge { slot, item, viewer, stamp }| {
                if stamp.is_like() && self.viewers.get(namespace, viewer, (stripe, slot)) != Some(stamp) {
                    let what = format!("is liked by {}, whose own list does not say so", Viewer::from(viewer));
                    drift = Some(Drift { item: Bytes::copy_from_slice(item), what });
                }
            }) else {
                return Ok(());
            };
            drift.map_or(Ok(()), Err)?;
            next = found;
        }
        let listed = self.viewers.likes(namespace);
        if listed == likes {
            return Ok(());
        }
        Err(Drift { item: Bytes::new(), what: format!("has {likes} likes and its viewers list {listed}") })
    }

    /// Counts the likes of every item of some shards of a namespace, and compares them with the items' counts. Returns
    /// how many likes there are. While the store is being opened.
    pub(crate) fn recount(&self, namespace: NamespaceId, stripes: Range<usize>) -> Result<u64, Drift> {
        let mut total = 0;
        for stripe in stripes {
            let shard = self.lock(stripe);
            let Ok(table) = shard.table(namespace) else { continue };
            let Some(likes) = table.likes() else { continue };
            for slot in 0..table.slots() as u32 {
                let mut counted = 0;
                if let Some(edges) = likes.edges(slot) {
                    edges.walk(None, usize::MAX, &mut |_, stamp| counted += i64::from(stamp.is_like()));
                }
                let count = table.value(slot).unwrap_or(0);
                if counted != count {
                    let item = Bytes::copy_from_slice(table.key(slot).unwrap_or_default());
                    return Err(Drift { item, what: format!("counts {count} and has {counted} likes") });
                }
                total += counted as u64;
            }
        }
        Ok(total)
    }

    /// Builds the viewers' side of a namespace from the edges of its items, for some stripes of viewers, which have
    /// none yet. While the store is being opened.
    pub(crate) fn list_viewers(&self, namespace: NamespaceId, stripes: Range<usize>) {
        // All edges are looked at once for each group of stripes, so that there is memory for the edges of one group
        // only, beside what becomes of them.
        let group = self.viewers.count().div_ceil(GROUPS);
        for first in stripes.clone().step_by(group) {
            let last = stripes.end.min(first + group);
            let mut listed: Vec<Vec<Listed>> = vec![Vec::new(); last - first];
            // Whoever works beside this begins with another shard.
            for shard in (first..self.count()).chain(0..first) {
                self.each_edge(namespace, shard, &mut |slot, viewer, stamp| {
                    let stripe = self.viewers.stripe(viewer);
                    if (first..last).contains(&stripe) {
                        listed[stripe - first].push(Listed { viewer, place: (shard as u32, slot), stamp });
                    }
                });
            }
            for (stripe, listed) in (first..).zip(&mut listed) {
                self.viewers.fill(namespace, stripe, listed);
            }
        }
    }

    /// Visits all edges of a namespace in a shard.
    fn each_edge(&self, namespace: NamespaceId, stripe: usize, visit: &mut dyn FnMut(u32, u128, Stamp)) {
        let shard = self.lock(stripe);
        let Ok(table) = shard.table(namespace) else { return };
        let Some(likes) = table.likes() else { return };
        for slot in 0..table.slots() as u32 {
            if let Some(edges) = likes.edges(slot) {
                edges.walk(None, usize::MAX, &mut |viewer, stamp| visit(slot, viewer, stamp));
            }
        }
    }
}
