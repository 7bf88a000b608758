//! The counters of one namespace in one shard: a slab of entries and a hash index of slot numbers.
//!
//! A counter keeps its slot for as long as it exists, so that a snapshot can walk the slab in short steps while
//! it changes, and the log can name a counter by its slot.

use crate::hash::KeyState;

use super::entry::{Entry, SpilledKeys};
use super::index::Index;
use super::likes::{Edges, LikeTable};
use super::slab::Slab;
use crate::edge::Stamp;

/// The index of so many has fewer words than half a hash can tell apart.
const MAX_SLOTS: usize = 1 << 31;

#[derive(Debug, Default)]
pub(super) struct Table {
    index: Index,
    entries: Slab,
    free: Vec<u32>,
    keys: SpilledKeys,
    live: usize,
    /// The edges of the items, in a namespace of likes.
    likes: Option<LikeTable>,
}

impl Table {
    pub(super) fn new(likes: Option<LikeTable>) -> Self {
        Self { likes, ..Self::default() }
    }

    /// The edges of the items; `None` in a namespace of counters.
    #[inline]
    pub(super) fn likes(&self) -> Option<&LikeTable> {
        self.likes.as_ref()
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn likes_mut(&mut self) -> Option<&mut LikeTable> {
        self.likes.as_mut()
    }

    /// Sets or removes the edge of a viewer to the item in a slot, and returns what it was.
    pub(super) fn set_edge(
        &mut self,
        slot: u32,
        viewer: u128,
        stamp: Option<Stamp>,
        hasher: &KeyState,
    ) -> Option<Stamp> {
        self.likes.as_mut()?.set(slot, viewer, stamp, hasher)
    }

    /// Sets several edges to the item in a slot.
    pub(super) fn extend_edges(
        &mut self,
        slot: u32,
        edges: &mut dyn Iterator<Item = (u128, Stamp)>,
        hasher: &KeyState,
    ) {
        if let Some(likes) = &mut self.likes {
            likes.extend(slot, edges, hasher);
        }
    }

    /// Takes all edges of the item in a slot; `None` when it has none.
    pub(super) fn take_edges(&mut self, slot: u32) -> Option<Box<dyn Edges>> {
        self.likes.as_mut()?.take(slot)
    }

    /// The slot of a key that is live, or removed and not released yet.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(hash, |slot| self.entries.get(slot).is_some_and(|entry| self.keys.is_key(entry, key)))
    }

    /// The same with the entry there. Whoever changes its value tells it to [`Table::count`].
    #[inline]
    pub(super) fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<(u32, &mut Entry)> {
        let slot = self.find(hash, key)?;
        Some((slot, self.entries.get_mut(slot)?))
    }

    /// Reads what [`Table::find`] reads first, for the sake of the cache. Means nothing.
    #[inline]
    pub(super) fn read_index(&self, hash: u64) -> u32 {
        self.index.first(hash)
    }

    /// The slot that a key most likely has, without a look at the entry; any where it has none.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> u32 {
        self.index.find(hash, |_| true).unwrap_or(0)
    }

    /// Reads an entry, for the sake of the cache. Means nothing.
    #[inline]
    pub(super) fn read_entry(&self, slot: u32) -> u32 {
        self.entries.get(slot).map_or(0, |entry| entry.mark)
    }

    /// Counts a counter that came to be, or was removed, as one more or one less.
    #[inline]
    pub(super) fn count(&mut self, before: Option<i64>, after: Option<i64>) {
        // Not written while it stays as it is, so that every core can have its own copy of the table's cache line.
        if before.is_some() != after.is_some() {
            self.live = self.live - usize::from(before.is_some()) + usize::from(after.is_some());
        }
    }

    /// The slot of a key, which gets one if it has none. `None` when the table can hold no more.
    pub(super) fn find_or_insert(&mut self, hash: u64, key: &[u8], rehash: impl Fn(&[u8]) -> u64) -> Option<u32> {
        self.find(hash, key).or_else(|| self.insert(hash, key, 0, rehash))
    }

    /// Takes a slot for a key that has none. `None` when the table can hold no more.
    ///
    /// The index may have to grow, which moves every slot number once; `rehash` gives the hash of a key.
    pub(super) fn insert(&mut self, hash: u64, key: &[u8], value: i64, rehash: impl Fn(&[u8]) -> u64) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow_slab(&rehash)?,
        };
        let entry = &mut self.entries[slot];
        self.keys.assign(entry, key);
        entry.value = value;
        self.live += 1;
        self.index.insert(hash, slot);
        Some(slot)
    }

    fn grow_slab(&mut self, rehash: impl Fn(&[u8]) -> u64) -> Option<u32> {
        let len = self.entries.len();
        if len >= MAX_SLOTS {
            return None;
        }
        if len == self.index.capacity() {
            let Self { index, entries, keys, .. } = self;
            index.grow(len, hashes(entries, keys, rehash));
        }
        self.entries.push(Entry::vacant());
        Some(len as u32)
    }

    /// Sets the value in a slot that is in use, or removes the counter while it keeps its slot.
    #[inline]
    pub(super) fn set_value(&mut self, slot: u32, value: Option<i64>) {
        let entry = &mut self.entries[slot];
        let before = entry.live_value();
        entry.set_live_value(value);
        self.count(before, value);
    }

    /// Gives a slot back, with its key. The slot must be in use.
    pub(super) fn release(&mut self, slot: u32, rehash: impl Fn(&[u8]) -> u64) {
        let hash = rehash(self.keys.key(&self.entries[slot]));
        let (entries, keys) = (&self.entries, &self.keys);
        self.index.remove(hash, slot, |slot| rehash(keys.key(&entries[slot])));
        // Whoever has the slot next has no edge.
        drop(self.take_edges(slot));
        let entry = &mut self.entries[slot];
        self.live -= usize::from(entry.is_live());
        self.keys.vacate(entry);
        self.free.push(slot);
    }

    #[inline]
    pub(super) fn value(&self, slot: u32) -> Option<i64> {
        self.entries.get(slot).and_then(Entry::live_value)
    }

    /// The key in a slot; `None` when it is vacant.
    pub(super) fn key(&self, slot: u32) -> Option<&[u8]> {
        let entry = self.entries.get(slot)?;
        (!entry.is_vacant()).then(|| self.keys.key(entry))
    }

    #[inline]
    pub(super) fn mark(&mut self, slot: u32) -> &mut u32 {
        &mut self.entries[slot].mark
    }

    /// Live counters.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Slots that are not vacant.
    pub(super) fn used(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Slots, live or not: what a walk has to pass.
    pub(super) fn slots(&self) -> usize {
        self.entries.len()
    }

    /// Makes room for a known number of further counters at once.
    pub(super) fn reserve(&mut self, counters: usize, rehash: impl Fn(&[u8]) -> u64) {
        let slots = self.entries.len() + counters;
        if slots > self.index.capacity() {
            let Self { index, entries, keys, .. } = self;
            index.rebuild(slots, hashes(entries, keys, rehash));
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes()
            + self.entries.memory_bytes()
            + self.free.capacity() * size_of::<u32>()
            + self.keys.memory_bytes()
            + self.likes.as_ref().map_or(0, LikeTable::memory_bytes)
    }
}

/// Of the keys in all slots, in their order; `None` for a slot that is vacant.
fn hashes(entries: &Slab, keys: &SpilledKeys, rehash: impl Fn(&[u8]) -> u64) -> impl Iterator<Item = Option<u64>> {
    entries.iter().map(move |entry| (!entry.is_vacant()).then(|| rehash(keys.key(entry))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few different hashes, so that many keys share one.
    fn hash(key: &[u8]) -> u64 {
        key.iter().map(|&byte| u64::from(byte)).sum::<u64>() % 7
    }

    #[test]
    fn a_table_answers_as_a_map_does() {
        let mut table = Table::default();
        let mut model = std::collections::BTreeMap::new();
        let mut state = 1u64;
        for step in 0..20_000i64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = format!("{:0>1$}", (state >> 33) % 300, ((state >> 40) % 2 * 30) as usize);
            let slot = table.find(hash(key.as_bytes()), key.as_bytes());
            match (slot, (state >> 50) % 3) {
                (Some(slot), 0) => {
                    table.release(slot, hash);
                    model.remove(&key);
                }
                (Some(slot), 1) => {
                    table.set_value(slot, None);
                    model.insert(key, None);
                }
                (Some(slot), _) => {
                    table.set_value(slot, Some(step));
                    model.insert(key, Some(step));
                }
                (None, _) => {
                    assert!(!model.contains_key(&key));
                    table.insert(hash(key.as_bytes()), key.as_bytes(), step, hash).unwrap();
                    model.insert(key, Some(step));
                }
            }
        }
        assert_eq!(table.len(), model.values().flatten().count());
        for (key, value) in model {
            let slot = table.find(hash(key.as_bytes()), key.as_bytes()).unwrap();
            assert_eq!((table.key(slot), table.value(slot)), (Some(key.as_bytes()), value));
        }
        assert!(table.slots() <= 600, "released slots are used again");
    }
}
