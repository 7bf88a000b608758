//! Visiting counters in short lock holds, loading them at open, and what the committer needs of the tables.

use std::hint::black_box;
use std::num::NonZeroU32;

use bytes::{BufMut, BytesMut};

use super::batch::Routed;
use super::{NamespaceId, Refusal, Shard, Shards, hash_key};

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
    /// Its number and one, so that an `Option<Place>` takes no more than a place.
    stripe: NonZeroU32,
    slot: u32,
}

const _: () = assert!(size_of::<Option<Place>>() == 8);

impl Place {
    pub(super) fn new(stripe: usize, slot: u32) -> Self {
        Self { stripe: NonZeroU32::MIN.saturating_add(stripe as u32), slot }
    }

    pub(super) fn stripe(self) -> usize {
        self.stripe.get() as usize - 1
    }

    pub(super) fn slot(self) -> u32 {
        self.slot
    }
}

/// A counter's value, to be set while the store is being opened: nothing is logged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) namespace: NamespaceId,
    pub(crate) at: At<'a>,
    /// `None` removes it.
    pub(crate) value: Option<i64>,
}

/// Which counter is set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At<'a> {
    /// The one of this key, which comes to be if there is none.
    Key(&'a [u8]),
    /// The one that was loaded there.
    Place(Place),
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
        let slot = table.find_or_insert(hash, key, |key| hash_key(&self.hasher, key))?;
        table.set_value(slot, value);
        Some(Place::new(stripe, slot))
    }

    /// Sets counters as [`Shards::load`] does, those of one shard in their order and under one lock hold; `places`
    /// becomes where they are. What is needed of a shard is read from memory side by side. A removed counter keeps its
    /// slot until [`Shards::release_loaded`]. `false` when a table is full or a namespace unknown.
    pub(crate) fn load_all(&self, loads: &[Load<'_>], places: &mut Vec<Option<Place>>) -> bool {
        places.clear();
        places.resize(loads.len(), None);
        let route = |(load, index): (&Load<'_>, u32)| match load.at {
            At::Key(key) => {
                let hash = self.hash(key);
                Routed { stripe: self.stripe_of(hash) as u32, index, hash }
            }
            At::Place(place) => Routed { stripe: place.stripe() as u32, index, hash: 0 },
        };
        let mut routed: Vec<Routed> = loads.iter().zip(0..).map(route).collect();
        // The log has them by its shards, which are those of now unless the number of shards was changed.
        routed.sort_unstable_by_key(|routed| (routed.stripe, routed.index));
        for run in routed.chunk_by(|one, other| one.stripe == other.stripe) {
            let mut shard = self.lock(run[0].stripe as usize);
            fetch(&shard, loads, run);
            for routed in run {
                let load = &loads[routed.index as usize];
                let Ok(table) = shard.table_mut(load.namespace) else { return false };
                let slot = match load.at {
                    At::Key(key) => table.find_or_insert(routed.hash, key, |key| hash_key(&self.hasher, key)),
                    At::Place(place) => Some(place.slot),
                };
                let Some(slot) = slot else { return false };
                table.set_value(slot, load.value);
                places[routed.index as usize] = Some(Place::new(routed.stripe as usize, slot));
            }
        }
        true
    }

    /// Gives back the slot of a counter that was removed while the store was being opened, if it still is.
    pub(crate) fn release_loaded(&self, namespace: NamespaceId, place: Place) {
        self.release_removed(place.stripe(), namespace, std::iter::once(place.slot));
    }
}

/// Brings what these loads of one shard will read into the cache, as [`Shards::apply_batch`] does.
fn fetch(shard: &Shard, loads: &[Load<'_>], run: &[Routed]) {
    let tables = || {
        let table = |routed: &Routed| {
            let load = &loads[routed.index as usize];
            Some((shard.table(load.namespace).ok()?, load.at, routed.hash))
        };
        run.iter().filter_map(table)
    };
    let mut read = 0;
    for (table, at, hash) in tables() {
        if let At::Key(_) = at {
            read ^= table.read_index(hash);
        }
    }
    for (table, at, hash) in tables() {
        read ^= table.read_entry(match at {
            At::Key(_) => table.guess(hash),
            At::Place(place) => place.slot,
        });
    }
    // Nothing is done with it, but the reads must not be left out.
    black_box(read);
}
