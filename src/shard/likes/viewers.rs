//! The viewers' side of likes: for each viewer the items that they liked. It is derived from the items' edges: nothing
//! of it is on disk, and it is built when a store is opened.
//!
//! Only the committer changes it, with what an epoch changed, when that is sealed. So it lags behind the edges by less
//! than an epoch, and whoever lists from it looks each edge up in its item. A sweep drops from it what nobody lists.

use std::hint::black_box;

use crate::hash::KeyState;
use crossbeam::utils::CachePadded;

use super::rows::{RowPlace, Rows, hash_viewer};
use crate::edge::{Stamp, ViewerWidth};
use crate::shard::edges::Position;
use crate::shard::{BITS_ABOVE_STRIPE, NamespaceId};
use crate::sync::{Mutex, MutexGuard};

/// A shard's number takes 16 bits, a slot 32.
pub(super) const PLACE_BYTES: usize = 6;

const SLOT_BITS: u32 = 32;

/// Edges that are changed while a lock is held: some tens of microseconds.
const EDGES_PER_HOLD: usize = 128;

/// An item's shard and slot.
pub(crate) type ItemPlace = (u32, u32);

/// What a viewer's edge to an item became.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) namespace: NamespaceId,
    pub(super) viewer: u128,
    pub(super) place: ItemPlace,
    pub(super) stamp: Option<Stamp>,
    /// Before this time an unlike need not be remembered.
    pub(super) expired_ms: u64,
}

/// The viewers of all namespaces.
///
/// A stripe's lock protects the viewers whose hash it is. No other stripe's is taken while it is held, and none of a
/// shard.
#[derive(Debug)]
pub(crate) struct Viewers {
    stripes: Box<[CachePadded<Mutex<Stripe>>]>,
    hasher: KeyState,
}

/// An edge as a viewer's list has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) viewer: u128,
    pub(super) place: ItemPlace,
    pub(super) stamp: Stamp,
}

impl Viewers {
    /// `count` is a power of two.
    pub(in crate::shard) fn new(count: usize, hasher: KeyState) -> Self {
        Self { stripes: (0..count).map(|_| CachePadded::default()).collect(), hasher }
    }

    pub(in crate::shard) fn add_namespace(&self, namespace: NamespaceId, width: ViewerWidth) {
        let index = usize::from(namespace);
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            if stripe.0.len() <= index {
                stripe.0.resize_with(index + 1, || None);
            }
            stripe.0[index] = Some(Box::new(Rows::new(width)));
        }
    }

    pub(in crate::shard) fn drop_namespace(&self, namespace: NamespaceId) {
        for stripe in &self.stripes {
            let rows = stripe.lock().0.get_mut(usize::from(namespace)).and_then(Option::take);
            // Outside the lock: giving back a large table takes long.
            drop(rows);
        }
    }

    #[inline]
    fn hash(&self, viewer: u128) -> u64 {
        hash_viewer(&self.hasher, viewer)
    }

    /// The stripe of a hash, by the bits by which shards are chosen too.
    #[inline]
    fn stripe_of(&self, hash: u64) -> usize {
        (hash >> (64 - BITS_ABOVE_STRIPE - self.stripes.len().trailing_zeros())) as usize & (self.stripes.len() - 1)
    }

    fn lock(&self, hash: u64) -> MutexGuard<'_, Stripe> {
        self.stripes[self.stripe_of(hash)].lock()
    }

    /// Notes what edges became, those of a viewer in their order. A namespace that was dropped is passed over.
    pub(super) fn tell(&self, told: &[Told]) {
        // Stripe by stripe: a lock for each edge would cost more than the change. Both numbers in one sort fastest.
        let hashes: Vec<u64> = told.iter().map(|told| self.hash(told.viewer)).collect();
        let stripes = hashes.iter().map(|&hash| (self.stripe_of(hash) as u64) << 32);
        let mut order: Vec<u64> = stripes.zip(0..).map(|(stripe, place)| stripe | place).collect();
        order.sort_unstable();
        for run in order.chunk_by(|a, b| a >> 32 == b >> 32) {
            for piece in run.chunks(EDGES_PER_HOLD) {
                let mut stripe = self.stripes[(piece[0] >> 32) as usize].lock();
                let edges = || piece.iter().map(|&ordered| ordered as u32 as usize);
                stripe.fetch(edges().map(|at| (hashes[at], &told[at])));
                edges().for_each(|at| stripe.set(hashes[at], &told[at], &self.hasher));
            }
        }
    }

    /// How many stripes there are.
    pub(super) fn count(&self) -> usize {
        self.stripes.len()
    }

    /// The stripe of a viewer.
    #[inline]
    pub(super) fn stripe(&self, viewer: u128) -> usize {
        self.stripe_of(self.hash(viewer))
    }

    /// Lists everything that the viewers of a stripe have, who have nothing yet.
    pub(super) fn fill(&self, namespace: NamespaceId, stripe: usize, edges: &mut [Listed]) {
        edges.sort_unstable_by_key(|listed| listed.viewer);
        let of_viewers = || edges.chunk_by(|a, b| a.viewer == b.viewer);
        let mut stripe = self.stripes[stripe].lock();
        let Some(rows) = stripe.rows_mut(namespace) else { return };
        rows.reserve(of_viewers().count(), &self.hasher);
        for edges in of_viewers() {
            let viewer = edges[0].viewer;
            let items = rows.entry(self.hash(viewer), viewer, &self.hasher);
            items.extend(edges.iter().map(|listed| (id(listed.place), listed.stamp)), &self.hasher);
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
        let (mut found, hash) = (Vec::new(), self.hash(viewer));
        let stripe = self.lock(hash);
        let next = stripe.rows(namespace)?.get(hash, viewer)?.newest(before, limit, &mut found);
        out.extend(found.into_iter().map(|(id, stamp)| (place(id), stamp)));
        next
    }

    /// The items that a viewer has an edge to, whether a like or an unlike.
    pub(super) fn places(&self, namespace: NamespaceId, viewer: u128) -> Vec<ItemPlace> {
        let (mut places, hash) = (Vec::new(), self.hash(viewer));
        let stripe = self.lock(hash);
        if let Some(items) = stripe.rows(namespace).and_then(|rows| rows.get(hash, viewer)) {
            items.walk(None, usize::MAX, &mut |id, _| places.push(place(id)));
        }
        places
    }

    /// Forgets a viewer with everything that is listed.
    pub(super) fn forget(&self, namespace: NamespaceId, viewer: u128) {
        let hash = self.hash(viewer);
        let mut stripe = self.lock(hash);
        let items = stripe.rows_mut(namespace).and_then(|rows| rows.remove(hash, viewer, &self.hasher));
        drop(stripe);
        drop(items);
    }

    /// Drops expired unlikes of some viewers of a stripe, and viewers who have nothing else; returns where to go on.
    pub(super) fn sweep(
        &self,
        namespace: NamespaceId,
        stripe: usize,
        place: RowPlace,
        expired_ms: u64,
    ) -> Option<RowPlace> {
        self.stripes[stripe].lock().rows_mut(namespace)?.sweep(place, expired_ms, &self.hasher)
    }

    /// The stamp of an edge as the viewer's side has it.
    pub(super) fn get(&self, namespace: NamespaceId, viewer: u128, place: ItemPlace) -> Option<Stamp> {
        let hash = self.hash(viewer);
        self.lock(hash).rows(namespace)?.get(hash, viewer)?.get(id(place), &self.hasher)
    }

    /// How many likes the viewers of a namespace have.
    pub(super) fn likes(&self, namespace: NamespaceId) -> u64 {
        let mut likes = 0;
        for stripe in &self.stripes {
            let stripe = stripe.lock();
            let Some(rows) = stripe.rows(namespace) else { continue };
            rows.for_each(|items| {
                items.walk(None, usize::MAX, &mut |_, stamp| likes += u64::from(stamp.is_like()));
            });
        }
        likes
    }

    /// Bytes of memory that the viewers' side takes.
    pub(in crate::shard) fn memory_bytes(&self) -> usize {
        let of_stripe = |stripe: &CachePadded<Mutex<Stripe>>| {
            let Stripe(rows) = &*stripe.lock();
            let of_rows: usize = rows.iter().flatten().map(|rows| rows.memory_bytes()).sum();
            size_of::<CachePadded<Mutex<Stripe>>>() + rows.capacity() * size_of::<Option<Box<Rows>>>() + of_rows
        };
        self.stripes.iter().map(of_stripe).sum()
    }
}

/// By namespace number.
#[derive(Debug, Default)]
struct Stripe(Vec<Option<Box<Rows>>>);

impl Stripe {
    #[inline]
    fn rows(&self, namespace: NamespaceId) -> Option<&Rows> {
        self.0.get(usize::from(namespace))?.as_deref()
    }

    #[inline]
    fn rows_mut(&mut self, namespace: NamespaceId) -> Option<&mut Rows> {
        self.0.get_mut(usize::from(namespace))?.as_deref_mut()
    }

    /// Looks at what is about to be changed, so that the processor fetches it from memory side by side. To change one
    /// after the other without that is to wait for each.
    #[inline]
    fn fetch<'a>(&self, told: impl Iterator<Item = (u64, &'a Told)>) {
        let newest = |(hash, told): (u64, &Told)| self.rows(told.namespace)?.get(hash, told.viewer)?.peek();
        black_box(told.filter_map(newest).max());
    }

    fn set(&mut self, hash: u64, told: &Told, hasher: &KeyState) {
        let &Told { namespace, viewer, place, stamp, expired_ms } = told;
        let Some(rows) = self.rows_mut(namespace) else { return };
        let Some(stamp) = stamp else {
            if let Some(items) = rows.get_mut(hash, viewer) {
                items.remove(id(place), hasher);
                if items.is_empty() {
                    rows.remove(hash, viewer, hasher);
                }
            }
            return;
        };
        rows.entry(hash, viewer, hasher).set(id(place), stamp, expired_ms, hasher);
    }
}

fn id((stripe, slot): ItemPlace) -> u128 {
    u128::from(stripe) << SLOT_BITS | u128::from(slot)
}

fn place(id: u128) -> ItemPlace {
    ((id >> SLOT_BITS) as u32, id as u32)
}
