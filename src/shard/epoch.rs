//! The changes of one epoch in one shard: each changed counter once.

use std::mem::offset_of;

use super::likes::{EdgeChange, EdgeState, RemovedEdges, reduce};
use super::{NamespaceId, Touched};
use crate::reuse;

/// A counter's change over an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    value: i64,
    before: i64,
    /// The counter's slot in its table.
    pub(crate) slot: u32,
    /// The counter's namespace.
    pub(crate) namespace: NamespaceId,
    /// Whether the counter exists at the epoch's end.
    live: bool,
}

const _: () = assert!(size_of::<Pending>() == 24);

impl Pending {
    /// The value at the epoch's end, `None` when the counter was removed.
    pub(crate) fn value(&self) -> Option<i64> {
        self.live.then_some(self.value)
    }

    /// By how much the counter is different from the epoch before; an absent one reads 0.
    pub(crate) fn delta(&self) -> i128 {
        i128::from(self.value().unwrap_or(0)) - i128::from(self.before)
    }
}

/// What an epoch changed in a shard. The order of fields matters: see [`EpochBuffer::HOT_BYTES`].
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Changes {
    /// Each changed counter once, also an item whose edges changed while its count stayed.
    pub(crate) counters: Vec<Pending>,
    /// Of edges, in the order in which they changed. One may be there several times.
    pub(crate) edges: Vec<EdgeChange>,
    /// The edges of items that were removed.
    pub(crate) removed: Vec<RemovedEdges>,
}

impl Changes {
    /// Whether nothing changed. No edge changes without its item.
    pub(super) fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    pub(super) fn clear(&mut self) {
        reuse::clear(&mut self.counters);
        reuse::clear(&mut self.edges);
        // Drained by now, so its room goes with the next epoch that removes fewer.
        reuse::clear(&mut self.removed);
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.counters.capacity() * size_of::<Pending>()
            + self.edges.capacity() * size_of::<EdgeChange>()
            + self.removed.capacity() * size_of::<RemovedEdges>()
    }
}

/// The changes, with a dense list of counters. Each entry of a table holds a position in it as a hint (a sparse set,
/// Briggs and Torczon 1993): the hint is right if and only if the list has the entry's own slot there. So coalescing
/// is one compare and one store, and sealing an epoch has no entry to reset.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct EpochBuffer {
    pub(super) epoch: u64,
    pub(super) changes: Changes,
    /// How many changes of edges there were when they were last reduced to those that hold.
    reduced: usize,
}

/// An epoch that stays open while the disk is full may see one edge change for ever.
const EDGES_KEPT: usize = 1 << 16;

impl EpochBuffer {
    /// How much of it, from its start, a change of a counter reads or writes.
    pub(super) const HOT_BYTES: usize =
        offset_of!(Self, changes) + offset_of!(Changes, counters) + size_of::<Vec<Pending>>();

    /// Of an epoch that has no changes yet.
    pub(super) fn new(epoch: u64, changes: Changes) -> Self {
        Self { epoch, changes, reduced: 0 }
    }

    /// Whether position `mark` is this slot's.
    #[inline]
    pub(super) fn holds(&self, mark: u32, namespace: NamespaceId, slot: u32) -> bool {
        self.changes
            .counters
            .get(mark as usize)
            .is_some_and(|pending| pending.slot == slot && pending.namespace == namespace)
    }

    /// Notes what was done to a counter, whose entry has this mark. A change without a slot is of nothing that is
    /// stored.
    #[inline]
    pub(super) fn note(&mut self, namespace: NamespaceId, touched: Touched, mark: &mut u32) {
        let Some(slot) = touched.slot else { return };
        let (value, live) = (touched.after.unwrap_or(0), touched.after.is_some());
        let counters = &mut self.changes.counters;
        match counters.get_mut(*mark as usize) {
            Some(pending) if pending.slot == slot && pending.namespace == namespace => {
                pending.value = value;
                pending.live = live;
            }
            _ => {
                // Four billion changes of 24 bytes do not fit the memory of one shard.
                *mark = counters.len() as u32;
                let before = touched.before.unwrap_or(0);
                counters.push(Pending { value, before, slot, namespace, live });
            }
        }
    }

    /// Notes what became of an edge.
    #[inline]
    pub(super) fn note_edge(&mut self, change: EdgeChange) {
        let edges = &mut self.changes.edges;
        if edges.len() >= EDGES_KEPT.max(2 * self.reduced) {
            reduce(edges);
            self.reduced = edges.len();
        }
        edges.push(change);
    }

    /// The slots of a namespace where an edge of the viewer changed in this epoch; some may be there several times.
    pub(super) fn slots_of(&self, namespace: NamespaceId, viewer: u128) -> impl Iterator<Item = u32> + '_ {
        let is_of = move |change: &&EdgeChange| {
            change.namespace == namespace
                && matches!(change.state(), EdgeState::Is { viewer: found, .. } if found == viewer)
        };
        self.changes.edges.iter().filter(is_of).map(|change| change.slot)
    }
}
