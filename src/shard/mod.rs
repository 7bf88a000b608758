//! The counters in memory, lock-striped, and the epochs that their changes belong to. Knows nothing of disks.
//!
//! # The epoch protocol
//!
//! One atomic holds the number of the open epoch. A change reads it *while it holds its shard's lock*, writes its
//! value into the table and into the shard's buffer of that epoch: one slot per changed counter, holding its
//! newest value. When the shard's buffer is of an older epoch, the change first sets it aside as sealed, which
//! moves a pointer. A batch takes all its locks and then reads the epoch once, so that it is in one epoch, whole.
//!
//! [`Shards::advance`] opens the next epoch. [`Shards::collect`] then visits every shard under its lock and takes the
//! buffer of the epoch before: after that visit no change can enter it, because whoever takes the lock later reads
//! the advanced number. So a shard holds at most one sealed and one open buffer, and nothing stops the world.
//!
//! # Locks and atomics
//!
//! - `stripes[n]`: a mutex around the shard's tables and buffers. Several are taken together only by
//!   [`Shards::apply_batch`], in ascending order. It is taken by [`Shards::lock`] alone, for the sake of hot counters.
//! - `epoch`: one word with the open epoch's number, whether that epoch has changes, whether changes are refused, and
//!   whether there was a hot counter. Changes read it, and the first of an epoch marks it, under a stripe's lock.
//!   Only the committer advances it, which clears the mark in the same step: a mark can never be lost or be taken for
//!   another epoch's.

mod batch;
mod change;
mod edges;
mod entry;
mod epoch;
mod hot;
mod index;
mod likes;
mod slab;
mod table;
#[cfg(test)]
mod tests;
mod walk;
mod words;

use std::hash::{BuildHasher, Hasher};
use std::mem::offset_of;
use std::sync::Arc;

use crate::hash::KeyState;
use crossbeam::utils::CachePadded;

use crate::options::CounterOptions;
use crate::sync::{AtomicU64, Mutex, Ordering};

pub(crate) use batch::{BatchChange, BatchOutcome, Operation};
pub(crate) use change::{Change, Refusal};
pub(crate) use edges::Position;
pub(crate) use epoch::{Changes, Pending};
pub(crate) use hot::Hot;
pub(crate) use likes::{
    Drift, Edge, EdgeChange, EdgePlace, EdgeState, LikeEvent, LikeRules, RemovedEdges, Sweep, When, reduce,
};
pub(crate) use walk::{At, Chunk, Load, Place};

use change::evaluate;
use epoch::EpochBuffer;
use likes::{LikeTable, Viewers};
use table::Table;

/// The number of a namespace. Never used twice in a store's life.
pub(crate) type NamespaceId = u16;

/// Set in the epoch word when the store takes no more changes.
const HALTED: u64 = 1 << 63;

/// Set in the epoch word when the open epoch has changes.
const DIRTY: u64 = 1 << 62;

/// Set in the epoch word once there was a hot counter.
const HOT: u64 = 1 << 61;

/// The epoch's number in the epoch word.
const NUMBER: u64 = HOT - 1;

/// No store gets so far: one epoch in each microsecond makes it 36,000 years. What is beyond was not counted.
pub(crate) const LAST_EPOCH: u64 = NUMBER / 2;

/// The index of a table uses the hash's low half and a few bits above that; the shard is chosen by bits near the top,
/// below so many.
const BITS_ABOVE_STRIPE: u32 = 7;

/// All counters of a store.
#[derive(Debug)]
pub(crate) struct Shards {
    stripes: Box<[CachePadded<Mutex<Shard>>]>,
    epoch: CachePadded<AtomicU64>,
    viewers: Viewers,
    hasher: KeyState,
    /// Where in a hash the number of its shard is.
    stripe_shift: u32,
}

/// What one lock protects. In this order, because the cores hand the cache lines that are written to each other: the
/// lock and all that a change of a counter writes of the shard are in the first. Of the others it only reads, whether
/// there are hot counters.
#[derive(Debug, Default)]
#[repr(C)]
struct Shard {
    /// By namespace number; `None` where this shard has no counter of it yet or it was dropped.
    tables: Vec<Option<Box<Table>>>,
    open: EpochBuffer,
    sealed: Option<EpochBuffer>,
    /// Empty lists with room, for the next epoch.
    spare: Changes,
    /// The cells of hot counters, empty and closed while the shard is locked.
    hot: Vec<Arc<Hot>>,
}

const CACHE_LINE: usize = 64;

// The lock is the word before.
const _: () = assert!(size_of::<u64>() + offset_of!(Shard, open) + EpochBuffer::HOT_BYTES <= CACHE_LINE);

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The value before, 0 for an absent counter.
    pub(crate) previous: i64,
    /// The value now, 0 for an absent counter.
    pub(crate) value: i64,
    /// Whether anything is different now.
    pub(crate) changed: bool,
    /// The epoch whose durability makes what was seen and done durable.
    pub(crate) epoch: u64,
    /// Whether the open epoch had no changes before, so that the committer may be asleep.
    pub(crate) first: bool,
}

impl Shards {
    /// Empty shards in epoch 1. `seed` keeps key hashes from being predictable, and stays the same
    /// over a store's life, so that a snapshot's order suits the shards it is loaded into.
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        let hasher = || KeyState::with_seed(seed);
        Self {
            stripes: (0..count).map(|_| CachePadded::new(Mutex::new(Shard::default()))).collect(),
            epoch: CachePadded::new(AtomicU64::new(1)),
            viewers: Viewers::new(count, hasher()),
            hasher: hasher(),
            stripe_shift: u64::BITS - BITS_ABOVE_STRIPE - count.trailing_zeros(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.stripes.len()
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u64 {
        hash_key(&self.hasher, key)
    }

    #[inline]
    fn stripe_of(&self, hash: u64) -> usize {
        // The count is a power of two; the mask keeps the index in range for the compiler too.
        ((hash >> self.stripe_shift) as usize) & (self.stripes.len() - 1)
    }

    /// Applies one change to one counter.
    #[inline]
    pub(crate) fn apply(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        change: Change,
        bounds: &CounterOptions,
    ) -> Result<Applied, Refusal> {
        let hash = self.hash(key);
        let mut shard = self.lock(self.stripe_of(hash));
        self.apply_in(&mut shard, namespace, hash, key, change, bounds)
    }

    /// The same in a shard that is locked.
    #[inline]
    fn apply_in(
        &self,
        shard: &mut Shard,
        namespace: NamespaceId,
        hash: u64,
        key: &[u8],
        change: Change,
        bounds: &CounterOptions,
    ) -> Result<Applied, Refusal> {
        let word = self.open(shard)?;
        let touched = shard.change(namespace, hash, key, change, bounds, Note::Now, &self.hasher)?;
        Ok(self.answer(shard, namespace, word, touched, touched.before != touched.after))
    }

    /// Opens a shard's buffer of the open epoch, and returns the epoch word. Under the shard's lock.
    #[inline]
    fn open(&self, shard: &mut Shard) -> Result<u64, Refusal> {
        let word = self.enter()?;
        shard.open_buffer(word & NUMBER);
        Ok(word)
    }

    /// What a change did, as its caller is told. `noted`: whether the open epoch has something of it.
    #[inline]
    fn answer(&self, shard: &mut Shard, namespace: NamespaceId, word: u64, touched: Touched, noted: bool) -> Applied {
        let Touched { slot, before, after } = touched;
        // What was only seen is older than the open epoch, unless that has it too; the one before may still be on
        // its way to the disk.
        let newest = noted || slot.is_some_and(|slot| shard.is_pending(namespace, slot));
        let epoch = if newest { word & NUMBER } else { (word & NUMBER) - 1 };
        let first = noted && self.mark_dirty(word);
        let changed = before != after;
        Applied { previous: before.unwrap_or(0), value: after.unwrap_or(0), changed, epoch, first }
    }

    /// The epoch word, unless changes are refused. Read under a stripe's lock.
    #[inline]
    fn enter(&self) -> Result<u64, Refusal> {
        let word = self.epoch.load(Ordering::Acquire);
        if word & HALTED == 0 { Ok(word) } else { Err(Refusal::Halted) }
    }

    /// Notes that the epoch of `word` has changes; `true` for the first to say so. When it is another epoch by now, the
    /// committer has advanced and takes the change anyway.
    #[inline]
    fn mark_dirty(&self, word: u64) -> bool {
        word & DIRTY == 0 && self.mark_first(word)
    }

    #[cold]
    fn mark_first(&self, word: u64) -> bool {
        let mut found = word;
        while found & DIRTY == 0 && found & NUMBER == word & NUMBER {
            match self.epoch.compare_exchange(found, found | DIRTY, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                // A halt came in between, which is no reason to forget the change.
                Err(now) => found = now,
            }
        }
        false
    }

    /// A counter's value, `None` when it is absent.
    #[inline]
    pub(crate) fn get(&self, namespace: NamespaceId, key: &[u8]) -> Result<Option<i64>, Refusal> {
        let hash = self.hash(key);
        let shard = self.lock(self.stripe_of(hash));
        if self.is_halted() {
            return Err(Refusal::Halted);
        }
        let table = shard.table(namespace)?;
        Ok(table.find(hash, key).and_then(|slot| table.value(slot)))
    }

    /// The open epoch's number.
    pub(crate) fn open_epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire) & NUMBER
    }

    /// The newest epoch that has changes or had its turn: when it is durable, everything done so far is.
    pub(crate) fn newest_epoch(&self) -> u64 {
        let word = self.epoch.load(Ordering::Acquire);
        if word & DIRTY == 0 { (word & NUMBER) - 1 } else { word & NUMBER }
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.epoch.load(Ordering::Acquire) & HALTED != 0
    }

    /// Whether the open epoch has changes.
    pub(crate) fn is_dirty(&self) -> bool {
        self.epoch.load(Ordering::Acquire) & DIRTY != 0
    }

    /// Refuses every later change. Those that hold a lock now may still finish; the next [`Shards::advance`] and
    /// [`Shards::collect`] catch them.
    pub(crate) fn halt(&self) {
        self.epoch.fetch_or(HALTED, Ordering::AcqRel);
    }

    /// Takes changes again. Whoever calls it makes sure that nobody else halted for good.
    pub(crate) fn resume(&self) {
        self.epoch.fetch_and(!HALTED, Ordering::AcqRel);
    }

    /// Chooses the first epoch, while nothing but the opening of the store uses the shards. At least 1, so that there
    /// is an epoch before.
    pub(crate) fn start_at(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Opens the next epoch and returns the one before, which [`Shards::collect`] must take before the next call.
    /// Called by the committer only; changes and halts may come in between, and only touch the other bits.
    pub(crate) fn advance(&self) -> u64 {
        let mut word = self.epoch.load(Ordering::Acquire);
        loop {
            let next = (word & (HALTED | HOT)) | ((word & NUMBER) + 1);
            match self.epoch.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return word & NUMBER,
                Err(found) => word = found,
            }
        }
    }

    /// Takes every change of `epoch` and before. `out[n]` becomes what shard `n` had; the buffers in it are used
    /// again. Returns the number of changed counters.
    pub(crate) fn collect(&self, epoch: u64, out: &mut [Changes]) -> usize {
        let mut changes = 0;
        for (stripe, out) in out.iter_mut().enumerate() {
            out.clear();
            self.lock(stripe).take_sealed(epoch, out);
            changes += out.counters.len();
        }
        changes
    }

    /// Gives a namespace its place in every shard, one of likes with its rules. Its counters are those that are added
    /// after. The place may be taken by one that had the same number and, for want of room, did not come to be.
    pub(crate) fn add_namespace(&self, namespace: NamespaceId, rules: Option<LikeRules>) {
        let rules = rules.map(Arc::new);
        if let Some(rules) = &rules {
            self.viewers.add_namespace(namespace, rules.width);
        }
        for stripe in 0..self.count() {
            let mut shard = self.lock(stripe);
            let index = usize::from(namespace);
            if shard.tables.len() <= index {
                shard.tables.resize_with(index + 1, || None);
            }
            shard.tables[index] = Some(Box::new(Table::new(rules.clone().map(LikeTable::new))));
        }
    }

    /// Forgets a namespace with all its counters, and their changes that are not collected yet.
    pub(crate) fn drop_namespace(&self, namespace: NamespaceId) {
        for stripe in 0..self.count() {
            let table = {
                let mut shard = self.lock(stripe);
                // Their cells are closed, and stay so.
                shard.hot.retain(|hot| !hot.is_of(namespace));
                shard.tables.get_mut(usize::from(namespace)).and_then(Option::take)
            };
            // Outside the lock: giving back a large table takes long.
            drop(table);
        }
        self.viewers.drop_namespace(namespace);
    }

    /// Live counters of a namespace.
    pub(crate) fn len(&self, namespace: NamespaceId) -> Result<usize, Refusal> {
        let mut len = 0;
        for stripe in 0..self.count() {
            len += self.lock(stripe).table(namespace)?.len();
        }
        Ok(len)
    }

    /// Live counters of all namespaces, and the bytes of memory that they, the edges of items and the epoch buffers
    /// take.
    pub(crate) fn counters_and_memory(&self) -> (u64, u64) {
        let (mut counters, mut bytes) = (0, self.stripes.len() * size_of::<CachePadded<Mutex<Shard>>>());
        for stripe in 0..self.count() {
            let shard = self.lock(stripe);
            for table in shard.tables.iter().flatten() {
                counters += table.len();
                bytes += size_of::<Table>() + table.memory_bytes();
            }
            let sealed = shard.sealed.as_ref().map_or(0, |sealed| sealed.changes.memory_bytes());
            bytes += shard.open.changes.memory_bytes() + sealed + shard.spare.memory_bytes();
            bytes += shard.tables.capacity() * size_of::<Option<Box<Table>>>() + shard.hot_memory_bytes();
        }
        (counters as u64, bytes as u64)
    }

    /// Bytes of memory that the viewers' side of likes takes.
    pub(crate) fn viewers_memory_bytes(&self) -> u64 {
        self.viewers.memory_bytes() as u64
    }
}

#[inline]
fn hash_key(hasher: &KeyState, key: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key);
    state.finish()
}

#[inline]
fn table_mut(tables: &mut [Option<Box<Table>>], namespace: NamespaceId) -> Result<&mut Table, Refusal> {
    tables.get_mut(usize::from(namespace)).and_then(Option::as_deref_mut).ok_or(Refusal::NoNamespace)
}

/// When a change is noted in the epoch's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Note {
    Now,
    /// Once its whole batch is applied, by the caller.
    Later,
}

/// What a change did to a table. `slot` is `None` when the key has none, before and after.
#[derive(Debug, Clone, Copy)]
struct Touched {
    slot: Option<u32>,
    before: Option<i64>,
    after: Option<i64>,
}

impl Shard {
    #[inline]
    fn table(&self, namespace: NamespaceId) -> Result<&Table, Refusal> {
        self.tables.get(usize::from(namespace)).and_then(Option::as_deref).ok_or(Refusal::NoNamespace)
    }

    #[inline]
    fn table_mut(&mut self, namespace: NamespaceId) -> Result<&mut Table, Refusal> {
        table_mut(&mut self.tables, namespace)
    }

    /// Applies a change to the table, and notes it in the epoch's buffer. A slot is resolved once for all of that,
    /// because that is a good part of what an add costs.
    #[inline]
    #[allow(clippy::too_many_arguments, reason = "all of them are what one change consists of")]
    fn change(
        &mut self,
        namespace: NamespaceId,
        hash: u64,
        key: &[u8],
        change: Change,
        bounds: &CounterOptions,
        note: Note,
        hasher: &KeyState,
    ) -> Result<Touched, Refusal> {
        let Self { tables, open, .. } = self;
        let table = table_mut(tables, namespace)?;
        let Some((slot, entry)) = table.find_mut(hash, key) else {
            let after = evaluate(None, change, bounds)?;
            let mut touched = Touched { slot: None, before: None, after };
            if let Some(value) = after {
                let slot = table.insert(hash, key, value, |key| hash_key(hasher, key)).ok_or(Refusal::TableFull)?;
                touched.slot = Some(slot);
                if note == Note::Now {
                    open.note(namespace, touched, table.mark(slot));
                }
            }
            return Ok(touched);
        };
        let before = entry.live_value();
        let after = evaluate(before, change, bounds)?;
        let touched = Touched { slot: Some(slot), before, after };
        if before != after {
            entry.set_live_value(after);
            if note == Note::Now {
                open.note(namespace, touched, &mut entry.mark);
            }
            table.count(before, after);
        }
        Ok(touched)
    }

    /// Makes `epoch` the open one. The buffer of an older epoch is sealed.
    #[inline]
    fn open_buffer(&mut self, epoch: u64) {
        if self.open.epoch != epoch {
            self.turn_over(epoch);
        }
    }

    #[cold]
    fn turn_over(&mut self, epoch: u64) {
        if !self.open.changes.is_empty() {
            let next = EpochBuffer::new(epoch, std::mem::take(&mut self.spare));
            self.sealed = Some(std::mem::replace(&mut self.open, next));
        }
        self.open.epoch = epoch;
    }

    /// Writes what was done to a counter into the open epoch's buffer.
    #[inline]
    fn note(&mut self, namespace: NamespaceId, touched: Touched) {
        if let (Ok(table), Some(slot)) = (table_mut(&mut self.tables, namespace), touched.slot) {
            self.open.note(namespace, touched, table.mark(slot));
        }
    }

    /// Moves the changes of `epoch` and before into `out`, which is empty.
    fn take_sealed(&mut self, epoch: u64, out: &mut Changes) {
        if let Some(sealed) = self.sealed.take() {
            self.spare = std::mem::replace(out, sealed.changes);
        } else if self.open.epoch <= epoch {
            let empty = EpochBuffer::new(self.open.epoch, std::mem::take(out));
            *out = std::mem::replace(&mut self.open, empty).changes;
        }
    }

    /// Whether the open epoch has a change of this slot.
    fn is_pending(&mut self, namespace: NamespaceId, slot: u32) -> bool {
        let Ok(table) = self.table_mut(namespace) else { return false };
        let mark = *table.mark(slot);
        self.open.holds(mark, namespace, slot)
    }
}
