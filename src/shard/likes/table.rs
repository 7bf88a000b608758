//! The edges of a namespace's items in one shard, by the items' slots.

use std::fmt::Debug;
use std::sync::Arc;

use crate::hash::KeyState;

use super::LikeRules;
use crate::edge::{Stamp, ViewerWidth};
use crate::shard::edges::{EdgeSet, Position, Update};

/// A set of edges, whatever the width of its ids. See [`EdgeSet`].
pub(crate) trait Edges: Debug + Send {
    fn set(&mut self, id: u128, stamp: Stamp, expired_ms: u64, hasher: &KeyState) -> Option<Stamp>;
    fn extend(&mut self, edges: &mut dyn Iterator<Item = (u128, Stamp)>, hasher: &KeyState);
    fn remove(&mut self, id: u128, hasher: &KeyState) -> Option<Stamp>;
    fn newest(&self, before: Option<Position>, limit: usize, out: &mut Vec<(u128, Stamp)>) -> Option<Position>;
    fn walk(&self, from: Option<Position>, budget: usize, visit: &mut dyn FnMut(u128, Stamp)) -> Option<Position>;
    fn last(&self) -> Option<Position>;
}

impl<const N: usize> Edges for EdgeSet<N> {
    fn set(&mut self, id: u128, stamp: Stamp, expired_ms: u64, hasher: &KeyState) -> Option<Stamp> {
        self.set(id, stamp, expired_ms, hasher)
    }

    fn extend(&mut self, edges: &mut dyn Iterator<Item = (u128, Stamp)>, hasher: &KeyState) {
        self.extend(edges, hasher);
    }

    fn remove(&mut self, id: u128, hasher: &KeyState) -> Option<Stamp> {
        self.remove(id, hasher)
    }

    fn newest(&self, before: Option<Position>, limit: usize, out: &mut Vec<(u128, Stamp)>) -> Option<Position> {
        self.newest(before, limit, out)
    }

    fn walk(&self, from: Option<Position>, budget: usize, visit: &mut dyn FnMut(u128, Stamp)) -> Option<Position> {
        self.walk(from, budget, visit)
    }

    fn last(&self) -> Option<Position> {
        self.last()
    }
}

const _: () = assert!(ViewerWidth::Bits64.bytes() == 8 && ViewerWidth::Bits128.bytes() == 16);

/// The edges of all items of a like namespace in one shard.
#[derive(Debug)]
pub(in crate::shard) struct LikeTable {
    pub(super) rules: Arc<LikeRules>,
    sets: Sets,
}

/// By slot, as far as any item has had an edge.
#[derive(Debug)]
enum Sets {
    Bits64(Vec<EdgeSet<8>>),
    Bits128(Vec<EdgeSet<16>>),
}

impl LikeTable {
    pub(in crate::shard) fn new(rules: Arc<LikeRules>) -> Self {
        let sets = match rules.width {
            ViewerWidth::Bits64 => Sets::Bits64(Vec::new()),
            ViewerWidth::Bits128 => Sets::Bits128(Vec::new()),
        };
        Self { rules, sets }
    }

    /// The edges of a slot's item; `None` when there never were any.
    #[inline]
    pub(super) fn edges(&self, slot: u32) -> Option<&dyn Edges> {
        match &self.sets {
            Sets::Bits64(sets) => sets.get(slot as usize).map(|set| set as &dyn Edges),
            Sets::Bits128(sets) => sets.get(slot as usize).map(|set| set as &dyn Edges),
        }
    }

    /// The stamp of the edge of a viewer to a slot's item.
    #[inline]
    pub(super) fn get(&self, slot: u32, viewer: u128, hasher: &KeyState) -> Option<Stamp> {
        match &self.sets {
            Sets::Bits64(sets) => sets.get(slot as usize)?.get(viewer, hasher),
            Sets::Bits128(sets) => sets.get(slot as usize)?.get(viewer, hasher),
        }
    }

    /// Reads what [`LikeTable::get`] reads first, for the sake of the cache. Means nothing.
    #[inline]
    pub(in crate::shard) fn read(&self, slot: u32, viewer: u128, hasher: &KeyState) -> u32 {
        match &self.sets {
            Sets::Bits64(sets) => sets.get(slot as usize).map_or(0, |set| set.read(viewer, hasher)),
            Sets::Bits128(sets) => sets.get(slot as usize).map_or(0, |set| set.read(viewer, hasher)),
        }
    }

    /// Lets `decide` choose what the edge of a viewer to a slot's item becomes. See [`EdgeSet::update`].
    #[inline]
    pub(in crate::shard) fn update<E>(
        &mut self,
        slot: u32,
        viewer: u128,
        hasher: &KeyState,
        decide: impl FnOnce(Option<Stamp>) -> Result<Option<Stamp>, E>,
    ) -> Result<Update, E> {
        let oldest_ms = self.rules.oldest_ms();
        match &mut self.sets {
            Sets::Bits64(sets) => at(sets, slot).update(viewer, oldest_ms, hasher, decide),
            Sets::Bits128(sets) => at(sets, slot).update(viewer, oldest_ms, hasher, decide),
        }
    }

    /// Sets or removes the edge of a viewer to a slot's item, and returns what it was.
    pub(in crate::shard) fn set(
        &mut self,
        slot: u32,
        viewer: u128,
        stamp: Option<Stamp>,
        hasher: &KeyState,
    ) -> Option<Stamp> {
        let oldest_ms = self.rules.oldest_ms();
        let edges = self.at(slot);
        match stamp {
            Some(stamp) => edges.set(viewer, stamp, oldest_ms, hasher),
            None => edges.remove(viewer, hasher),
        }
    }

    /// Sets several edges to a slot's item.
    pub(in crate::shard) fn extend(
        &mut self,
        slot: u32,
        edges: &mut dyn Iterator<Item = (u128, Stamp)>,
        hasher: &KeyState,
    ) {
        self.at(slot).extend(edges, hasher);
    }

    fn at(&mut self, slot: u32) -> &mut dyn Edges {
        match &mut self.sets {
            Sets::Bits64(sets) => at(sets, slot),
            Sets::Bits128(sets) => at(sets, slot),
        }
    }

    /// Drops expired unlikes of a slot's item. See [`EdgeSet::sweep`].
    pub(super) fn sweep(
        &mut self,
        slot: u32,
        from: Option<Position>,
        budget: usize,
        expired_ms: u64,
        hasher: &KeyState,
    ) -> Option<Position> {
        match &mut self.sets {
            Sets::Bits64(sets) => sets.get_mut(slot as usize)?.sweep(from, budget, expired_ms, hasher),
            Sets::Bits128(sets) => sets.get_mut(slot as usize)?.sweep(from, budget, expired_ms, hasher),
        }
    }

    /// How many edges a slot's item has, likes and unlikes.
    pub(super) fn len(&self, slot: u32) -> usize {
        match &self.sets {
            Sets::Bits64(sets) => sets.get(slot as usize).map_or(0, EdgeSet::len),
            Sets::Bits128(sets) => sets.get(slot as usize).map_or(0, EdgeSet::len),
        }
    }

    /// Takes all edges from a slot.
    pub(in crate::shard) fn take(&mut self, slot: u32) -> Option<Box<dyn Edges>> {
        match &mut self.sets {
            Sets::Bits64(sets) => take(sets, slot),
            Sets::Bits128(sets) => take(sets, slot),
        }
    }

    /// Bytes of memory that the edges take.
    pub(in crate::shard) fn memory_bytes(&self) -> usize {
        match &self.sets {
            Sets::Bits64(sets) => memory_bytes(sets),
            Sets::Bits128(sets) => memory_bytes(sets),
        }
    }
}

#[inline]
fn at<const N: usize>(sets: &mut Vec<EdgeSet<N>>, slot: u32) -> &mut EdgeSet<N> {
    let slot = slot as usize;
    if slot >= sets.len() {
        grow(sets, slot);
    }
    &mut sets[slot]
}

#[cold]
fn grow<const N: usize>(sets: &mut Vec<EdgeSet<N>>, slot: usize) {
    let len = sets.len();
    // An eighth at a time: doubling would leave up to half of them unused.
    if slot >= sets.capacity() {
        sets.reserve_exact((slot + 1 - len).max(len / 8).max(16));
    }
    sets.resize_with(slot + 1, EdgeSet::default);
}

fn take<const N: usize>(sets: &mut [EdgeSet<N>], slot: u32) -> Option<Box<dyn Edges>> {
    let set = std::mem::take(sets.get_mut(slot as usize)?);
    (!set.is_empty()).then(|| Box::new(set) as Box<dyn Edges>)
}

fn memory_bytes<const N: usize>(sets: &Vec<EdgeSet<N>>) -> usize {
    let inner: usize = sets.iter().map(EdgeSet::memory_bytes).sum();
    inner + sets.capacity() * size_of::<EdgeSet<N>>()
}
