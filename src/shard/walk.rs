//! Visiting counters in short lock holds, loading them at open, and what the committer needs of the tables.

use bytes::{BufMut, BytesMut};

use super::{NamespaceId, Refusal, Shards, hash_key};

/// Slots visited while a lock is held: a few microseconds.
const SLOTS_PER_HOLD: usize = 256;

/// A place in a walk over a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Chunk {
    stripe: usize,
    slot: usize,
    /// How many slots the stripe had when the walk came to it. Those that are new since need not be visited, and a walk
    /// that is slower than they come would never end.
    slots: Option<usize>,
}

/// A counter's place, as the log's replay remembers it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    stripe: u32,
    slot: u32,
}

impl Place {
    pub(super) fn new(stripe: usize, slot: u32) -> Self {
        Self { stripe: stripe as u32, slot }
    }

    pub(super) fn stripe(self) -> usize {
        self.stripe as usize
    }

    pub(super) fn slot(self) -> u32 {
        self.slot
    }
}

impl Shards {
    /// Visits the live counters in the next few slots of a namespace, under one short lock hold, and returns where to
    /// go on, or `None` after the last.
    ///
    /// A counter that exists during the whole walk is visited exactly once, because it keeps its slot.
    pub(crate) fn visit(
        &self,
        namespace: NamespaceId,
        at: Chunk,
        visit: &mut dyn FnMut(&[u8], i64),
    ) -> Result<Option<Chunk>, Refusal> {
        if at.stripe >= self.count() {
            return Ok(None);
        }
        let shard = self.lock(at.stripe);
        let table = shard.table(namespace)?;
        let slots = at.slots.unwrap_or_else(|| table.slots());
        let end = (at.slot + SLOTS_PER_HOLD).min(slots);
        for slot in at.slot..end {
            let slot = slot as u32;
            if let (Some(key), Some(value)) = (table.key(slot), table.value(slot)) {
                visit(key, value);
            }
        }
        let next = if end < slots {
            Chunk { slot: end, slots: Some(slots), ..at }
        } else {
            Chunk { stripe: at.stripe + 1, ..Chunk::default() }
        };
        Ok((next.stripe < self.stripes.len()).then_some(next))
    }

    /// Appends the keys in these slots to `arena`, and the end of each to `ends`. A slot of a collected epoch keeps its
    /// key until [`Shards::release_removed`]. `false` when the namespace was dropped.
    pub(crate) fn copy_keys(
        &self,
        stripe: usize,
        namespace: NamespaceId,
        slots: &[u32],
        arena: &mut BytesMut,
        ends: &mut Vec<usize>,
    ) -> bool {
        for slots in slots.chunks(SLOTS_PER_HOLD) {
            let shard = self.lock(stripe);
            let Ok(table) = shard.table(namespace) else { return false };
            for &slot in slots {
                arena.put_slice(table.key(slot).unwrap_or_default());
                ends.push(arena.len());
            }
        }
        true
    }

    /// Gives back the slots of removed counters, once the log names the removal. A slot that is in use again, or
    /// whose counter was changed in the open epoch, stays: that epoch brings it here again. So does that of a hot
    /// counter, which may come back in a way that no full table can refuse: [`Shards::drop_hot`] brings it here again.
    pub(crate) fn release_removed(&self, stripe: usize, namespace: NamespaceId, slots: impl Iterator<Item = u32>) {
        let mut slots = slots.peekable();
        while slots.peek().is_some() {
            let mut shard = self.lock(stripe);
            for slot in slots.by_ref().take(SLOTS_PER_HOLD) {
                let is_pending = shard.is_pending(namespace, slot);
                let Ok(table) = shard.table(namespace) else { return };
                let is_hot = table.key(slot).is_some_and(|key| shard.hot_of(namespace, key).is_some());
                let Ok(table) = shard.table_mut(namespace) else { return };
                if !is_pending && !is_hot && table.value(slot).is_none() && table.key(slot).is_some() {
                    table.release(slot, |key| hash_key(&self.hasher, key));
                }
            }
        }
    }

    /// Makes room for a known number of counters of a namespace.
    pub(crate) fn reserve(&self, namespace: NamespaceId, counters: usize) {
        // Counts per shard scatter by the square root of their mean.
        let mean = counters / self.stripes.len();
        let counters = mean + 4 * mean.isqrt() + 1;
        for stripe in 0..self.count() {
            if let Ok(table) = self.lock(stripe).table_mut(namespace) {
                table.reserve(counters, |key| hash_key(&self.hasher, key));
            }
        }
    }

    /// Sets a counter while the store is being opened: nothing is logged. `None` when its table is full or its
    /// namespace unknown.
    pub(crate) fn load(&self, namespace: NamespaceId, key: &[u8], value: Option<i64>) -> Option<Place> {
        let hash = self.hash(key);
        let stripe = self.stripe_of(hash);
        let mut shard = self.lock(stripe);
        let table = shard.table_mut(namespace).ok()?;
        let slot = match table.find(hash, key) {
            Some(slot) => slot,
            None => table.insert(hash, key, 0, |key| hash_key(&self.hasher, key))?,
        };
        table.set_value(slot, value);
        Some(Place::new(stripe, slot))
    }

    /// Sets a counter at a place that [`Shards::load`] returned. A removed one keeps its slot until
    /// [`Shards::release_loaded`].
    pub(crate) fn load_at(&self, namespace: NamespaceId, place: Place, value: Option<i64>) {
        if let Ok(table) = self.lock(place.stripe()).table_mut(namespace) {
            table.set_value(place.slot, value);
        }
    }

    /// Gives back the slot of a counter that was removed while the store was being opened, if it still is.
    pub(crate) fn release_loaded(&self, namespace: NamespaceId, place: Place) {
        self.release_removed(place.stripe(), namespace, std::iter::once(place.slot));
    }
}
