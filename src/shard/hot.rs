//! Counters that many threads add to at once. Each adds to a cell of its own, and what stands in the cells comes into
//! the counter whenever anybody looks at it: whoever takes the shard's lock takes the cells first.
//!
//! While the shard is locked its cells are empty and closed, so that all else knows nothing of them: a read, a change,
//! a batch, a snapshot's walk and the committer find the whole counter in the table. Who meets a closed cell changes
//! the counter itself, and so waits for the lock.
//!
//! # An add is in one of the next two epochs
//!
//! An add marks the open epoch as having changes, as every change does. The committer takes the cells before it
//! advances, so what was added by then is in that epoch. What is added between that and the advance may find the
//! epoch marked already; it is taken when the committer comes to the shard to collect, and marks the next epoch then.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::{Applied, Change, HOT, NUMBER, NamespaceId, Note, Refusal, Shard, Shards, Touched};
use crate::options::{AtBound, CounterOptions};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// What a cell holds at most, either way.
const CELL_LIMIT: u64 = 1 << 40;

const MAX_CELLS: usize = 64;

/// Cells are open only while the value is so far from both ends that all of them together cannot pass one.
const FURTHEST: u64 = i64::MAX as u64 - CELL_LIMIT * MAX_CELLS as u64;

const UNBOUNDED: CounterOptions = CounterOptions { min: i64::MIN, max: i64::MAX, at_bound: AtBound::Reject };

/// A counter's cells.
#[derive(Debug)]
pub(crate) struct Hot {
    namespace: NamespaceId,
    hash: u64,
    key: Box<[u8]>,
    /// Whether an add never has to look at the counter: it can be refused by no bound, and need not be durable when it
    /// returns.
    is_free: bool,
    /// Each lock protects its cell. It is taken alone or under the shard's, one at a time.
    cells: Box<[CachePadded<Mutex<Cell>>]>,
    /// How many handles there are. Whoever adds one has one, or the shard's lock; it falls under that lock.
    handles: AtomicUsize,
    /// Spreads the handles over the cells. Nothing else hangs on it.
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Cell {
    /// The sum of what was added since the cell was taken; `None` when nothing was.
    added: Option<i64>,
    is_open: bool,
}

/// A locked shard, with the cells of its hot counters empty and closed.
pub(super) struct Held<'a>(MutexGuard<'a, Shard>);

impl std::ops::Deref for Held<'_> {
    type Target = Shard;

    #[inline]
    fn deref(&self) -> &Shard {
        &self.0
    }
}

impl std::ops::DerefMut for Held<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Shard {
        &mut self.0
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.0.hot.is_empty() {
            self.0.open_cells();
        }
    }
}

impl Hot {
    fn new(namespace: NamespaceId, hash: u64, key: &[u8], is_free: bool) -> Self {
        let cells = if cfg!(any(loom, shuttle)) {
            2
        } else {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            cpus.next_power_of_two().min(MAX_CELLS)
        };
        let cells = (0..cells).map(|_| CachePadded::default()).collect();
        Self {
            namespace,
            hash,
            key: key.into(),
            is_free,
            cells,
            handles: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn is_of(&self, namespace: NamespaceId) -> bool {
        self.namespace == namespace
    }

    /// Counts one handle more. Each is let go of by [`Shards::drop_hot`].
    pub(crate) fn share(&self) {
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    /// A cell for a handle.
    pub(crate) fn next_cell(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.cells.len()
    }

    /// Closes all cells and takes what is in them.
    fn close(&self) -> Option<i64> {
        let taken = self.cells.iter().filter_map(|cell| {
            let mut cell = cell.lock();
            cell.is_open = false;
            cell.added.take()
        });
        taken.reduce(|one, other| one + other)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.key.len() + size_of_val(&*self.cells)
    }
}

impl Shards {
    #[inline]
    pub(super) fn lock(&self, stripe: usize) -> Held<'_> {
        let mut shard = self.stripes[stripe].lock();
        if !shard.hot.is_empty() {
            self.take_cells(&mut shard);
        }
        Held(shard)
    }

    /// The cells of a counter, for another handle to it. The counter is created when it is absent. With `is_direct` no
    /// add uses the cells.
    pub(crate) fn hot(
        &self,
        namespace: NamespaceId,
        key: &[u8],
        bounds: &CounterOptions,
        is_direct: bool,
    ) -> Result<(Arc<Hot>, Applied), Refusal> {
        let hash = self.hash(key);
        let mut shard = self.lock(self.stripe_of(hash));
        let applied = self.apply_in(&mut shard, namespace, hash, key, Change::Add(0), bounds)?;
        let hot = match shard.hot_of(namespace, key) {
            Some(hot) => Arc::clone(hot),
            None => {
                let is_free = !is_direct && bounds.min == i64::MIN && bounds.max == i64::MAX;
                let hot = Arc::new(Hot::new(namespace, hash, key, is_free));
                shard.hot.push(Arc::clone(&hot));
                self.epoch.fetch_or(HOT, Ordering::AcqRel);
                hot
            }
        };
        hot.share();
        Ok((hot, applied))
    }

    /// Lets go of a handle, after which nobody adds to the cells if it was the last one. Answers whether the committer
    /// may be asleep and has something to do.
    pub(crate) fn drop_hot(&self, hot: &Arc<Hot>) -> bool {
        let mut shard = self.lock(self.stripe_of(hot.hash));
        if hot.handles.fetch_sub(1, Ordering::Relaxed) != 1 {
            return false;
        }
        shard.hot.retain(|held| !Arc::ptr_eq(held, hot));
        self.note_removal(&mut shard, hot)
    }

    /// A counter that was removed while it was hot kept its slot when that epoch was committed. The open one has the
    /// removal again, so that the slot is given back then.
    fn note_removal(&self, shard: &mut Shard, hot: &Hot) -> bool {
        let Ok(table) = shard.table(hot.namespace) else { return false };
        let removed = table.find(hot.hash, &hot.key).filter(|&slot| table.value(slot).is_none());
        match (removed, self.open(shard)) {
            (Some(slot), Ok(word)) => {
                shard.note(hot.namespace, Touched { slot: Some(slot), before: None, after: None });
                self.mark_dirty(word)
            }
            _ => false,
        }
    }

    /// Adds to a cell, and answers whether the committer may be asleep; `None` when the cell does not take it, and the
    /// counter itself must be changed.
    #[inline]
    pub(crate) fn add_hot(&self, hot: &Hot, cell: usize, delta: i64) -> Result<Option<bool>, Refusal> {
        let mut cell = hot.cells[cell].lock();
        if !cell.is_open {
            return Ok(None);
        }
        let word = self.enter()?;
        match cell.added.unwrap_or(0).checked_add(delta) {
            Some(added) if added.unsigned_abs() <= CELL_LIMIT => {
                cell.added = Some(added);
                Ok(Some(self.mark_dirty(word)))
            }
            _ => Ok(None),
        }
    }

    /// The counter's value, and an answer for the epoch that makes all that was added before durable.
    pub(crate) fn look_at_hot(&self, hot: &Hot) -> Result<Applied, Refusal> {
        let mut shard = self.lock(self.stripe_of(hot.hash));
        let word = self.open(&mut shard)?;
        let table = shard.table(hot.namespace)?;
        let slot = table.find(hot.hash, &hot.key);
        let value = slot.and_then(|slot| table.value(slot));
        Ok(self.answer(&mut shard, hot.namespace, word, Touched { slot, before: value, after: value }, false))
    }

    /// Brings everything that was added to any cell before into its counter.
    pub(crate) fn settle(&self) {
        if self.epoch.load(Ordering::Acquire) & HOT != 0 {
            (0..self.count()).for_each(|stripe| drop(self.lock(stripe)));
        }
    }

    #[cold]
    fn take_cells(&self, shard: &mut Shard) {
        let hots = std::mem::take(&mut shard.hot);
        for hot in &hots {
            if let Some(added) = hot.close() {
                self.add_taken(shard, hot, added);
            }
        }
        shard.hot = hots;
    }

    /// Adds to the counter what was in its cells.
    fn add_taken(&self, shard: &mut Shard, hot: &Hot, added: i64) {
        // Also when the store takes no more changes: these were taken before, and the committer collects them.
        let word = self.epoch.load(Ordering::Acquire);
        shard.open_buffer(word & NUMBER);
        let Hot { namespace, hash, key, .. } = hot;
        let added = Change::Add(added);
        let change = shard.change(*namespace, *hash, key, added, &UNBOUNDED, Note::Now, &self.hasher);
        let touched =
            change.expect("a hot counter keeps its slot, and its cells are open while it is far from both ends");
        if touched.before != touched.after {
            // If this is the first of an epoch the committer is awake: it has advanced, and not come to this shard yet.
            self.mark_dirty(word);
        }
    }
}

impl Shard {
    /// Opens the cells of the counters that are far from both ends.
    #[cold]
    fn open_cells(&mut self) {
        for hot in &self.hot {
            let Ok(table) = self.table(hot.namespace) else { continue };
            let value = table.find(hot.hash, &hot.key).and_then(|slot| table.value(slot)).unwrap_or(0);
            let is_open = hot.is_free && value.unsigned_abs() <= FURTHEST;
            hot.cells.iter().for_each(|cell| cell.lock().is_open = is_open);
        }
    }

    /// The cells of a counter; `None` when it has none.
    pub(super) fn hot_of(&self, namespace: NamespaceId, key: &[u8]) -> Option<&Arc<Hot>> {
        self.hot.iter().find(|hot| hot.namespace == namespace && *hot.key == *key)
    }

    pub(super) fn hot_memory_bytes(&self) -> usize {
        self.hot.iter().map(|hot| hot.memory_bytes()).sum()
    }
}
