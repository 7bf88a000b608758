//! The viewers' side of likes: for each viewer the items that they liked. It is derived from the items' edges: nothing
//! of it is on disk, and it is built when a store is opened.
//!
//! Only the committer changes it, with what an epoch changed, when that is sealed. So it lags behind the edges by less
//! than an epoch, and whoever lists from it looks each edge up in its item.

use std::collections::{BTreeMap, HashMap};

use crate::hash::KeyState;
use crossbeam::utils::CachePadded;

use crate::edge::Stamp;
use crate::shard::NamespaceId;
use crate::shard::edges::{EdgeSet, Position};
use crate::sync::Mutex;

/// A shard's number takes 16 bits, a slot 32.
const PLACE_BYTES: usize = 6;

const SLOT_BITS: u32 = 32;

/// An item's shard and slot.
pub(crate) type ItemPlace = (u32, u32);

/// The viewers of all namespaces.
///
/// A stripe's lock protects the viewers whose hash it is. It is taken while no other lock is held.
#[derive(Debug)]
pub(crate) struct Viewers {
    stripes: Box<[CachePadded<Mutex<Stripe>>]>,
    hasher: KeyState,
}

#[derive(Debug, Default)]
struct Stripe {
    namespaces: BTreeMap<NamespaceId, Table>,
}

/// For each viewer the items, and the stamp of each.
type Table = HashMap<u128, EdgeSet<PLACE_BYTES>, KeyState>;

impl Viewers {
    /// `count` is a power of two.
    pub(in crate::shard) fn new(count: usize, hasher: KeyState) -> Self {
        Self { stripes: (0..count).map(|_| CachePadded::default()).collect(), hasher }
    }

    pub(in crate::shard) fn add_namespace(&self, namespace: NamespaceId) {
        for stripe in &self.stripes {
            stripe.lock().namespaces.entry(namespace).or_insert_with(|| Table::with_hasher(self.hasher.clone()));
        }
    }

    pub(in crate::shard) fn drop_namespace(&self, namespace: NamespaceId) {
        for stripe in &self.stripes {
            let table = stripe.lock().namespaces.remove(&namespace);
            // Outside the lock: giving back a large table takes long.
            drop(table);
        }
    }

    fn stripe(&self, viewer: u128) -> &Mutex<Stripe> {
        use std::hash::BuildHasher;
        // The upper half: a table's own buckets are chosen by the lower bits and the uppermost seven.
        let hash = self.hasher.hash_one(viewer) >> 32;
        &self.stripes[hash as usize & (self.stripes.len() - 1)]
    }

    /// Notes what a viewer's edge to an item became. A namespace that was dropped is passed over.
    pub(super) fn set(
        &self,
        namespace: NamespaceId,
        viewer: u128,
        place: ItemPlace,
        stamp: Option<Stamp>,
        expired_ms: u64,
    ) {
        let mut stripe = self.stripe(viewer).lock();
        let Some(table) = stripe.namespaces.get_mut(&namespace) else { return };
        match stamp {
            Some(stamp) => {
                table.entry(viewer).or_default().set(id(place), stamp, expired_ms, &self.hasher);
            }
            None => {
                let Some(items) = table.get_mut(&viewer) else { return };
                items.remove(id(place), &self.hasher);
                if items.is_empty() {
                    table.remove(&viewer);
                }
            }
        }
    }

    /// The items that a viewer liked, newest first, from below a position on; and where to go on.
    pub(super) fn newest(
        &self,
        namespace: NamespaceId,
        viewer: u128,
        before: Option<Position>,
        limit: usize,
        out: &mut Vec<(ItemPlace, Stamp)>,
    ) -> Option<Position> {
        let mut found = Vec::new();
        let stripe = self.stripe(viewer).lock();
        let next = stripe.namespaces.get(&namespace)?.get(&viewer)?.newest(before, limit, &mut found);
        out.extend(found.into_iter().map(|(id, stamp)| (place(id), stamp)));
        next
    }

    /// The items that a viewer has an edge to, whether a like or an unlike.
    pub(super) fn places(&self, namespace: NamespaceId, viewer: u128) -> Vec<ItemPlace> {
        let stripe = self.stripe(viewer).lock();
        let mut places = Vec::new();
        if let Some(items) = stripe.namespaces.get(&namespace).and_then(|table| table.get(&viewer)) {
            items.walk(None, usize::MAX, &mut |id, _| places.push(place(id)));
        }
        places
    }

    /// Forgets a viewer with everything that is listed.
    pub(super) fn forget(&self, namespace: NamespaceId, viewer: u128) {
        let mut stripe = self.stripe(viewer).lock();
        let items = stripe.namespaces.get_mut(&namespace).and_then(|table| table.remove(&viewer));
        drop(stripe);
        drop(items);
    }

    /// The stamp of an edge as the viewer's side has it.
    pub(super) fn get(&self, namespace: NamespaceId, viewer: u128, place: ItemPlace) -> Option<Stamp> {
        let stripe = self.stripe(viewer).lock();
        stripe.namespaces.get(&namespace)?.get(&viewer)?.get(id(place), &self.hasher)
    }

    /// How many likes the viewers of a namespace have.
    pub(super) fn likes(&self, namespace: NamespaceId) -> u64 {
        let mut likes = 0;
        for stripe in &self.stripes {
            let stripe = stripe.lock();
            for items in stripe.namespaces.get(&namespace).into_iter().flat_map(HashMap::values) {
                items.walk(None, usize::MAX, &mut |_, stamp| likes += u64::from(stamp.is_like()));
            }
        }
        likes
    }

    /// Bytes of memory that the viewers' side takes.
    pub(in crate::shard) fn memory_bytes(&self) -> usize {
        // A table has room for an eighth more than it says, and a byte of control for each place.
        let of_table = |table: &Table| {
            let places = table.capacity() + table.capacity() / 7;
            let sets: usize = table.values().map(EdgeSet::memory_bytes).sum();
            places * (size_of::<(u128, EdgeSet<PLACE_BYTES>)>() + 1) + sets
        };
        let of_stripe = |stripe: &CachePadded<Mutex<Stripe>>| -> usize {
            size_of::<CachePadded<Mutex<Stripe>>>() + stripe.lock().namespaces.values().map(of_table).sum::<usize>()
        };
        self.stripes.iter().map(of_stripe).sum()
    }
}

fn id((stripe, slot): ItemPlace) -> u128 {
    u128::from(stripe) << SLOT_BITS | u128::from(slot)
}

fn place(id: u128) -> ItemPlace {
    ((id >> SLOT_BITS) as u32, id as u32)
}
